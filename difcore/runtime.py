"""What computations run on: device, precision, threads and cells at a time, resolved once by asking the machine.

"auto" is a GPU where there is one, and bfloat16 only where the machine says that it computes in it and a timed probe of
the real operations finds it worth while. ``DIFCORE_DEVICE`` and ``DIFCORE_PRECISION`` say what "auto" is instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import joblib
import torch
from torch import Tensor

from difcore.files import atomic_json, read_json, sha256_bytes
from difcore.fingerprints.priors import IN_CHANNELS, build_prior
from difcore.machine.cache import keep, optional_folder
from difcore.machine.convolution import conv_relu
from difcore.machine.devices import channels_last, device_name, exact, processor_facts

WORTH_WHILE = 1.3  # times faster that bfloat16 has to be, to be chosen
PRECISIONS = ("float32", "bfloat16")
DEVICES = "cpu, cuda, cuda:N or mps"
DEVICE_VARIABLE, PRECISION_VARIABLE, ASKED = "DIFCORE_DEVICE", "DIFCORE_PRECISION", "asked for"
PROBE_SECONDS, ROUNDS = 2.0, 5  # of a probe at most; each round takes both precisions one after the other
LAYERS, PROBE_SIZE, PRIOR_SIZE = 3, 128, 64  # of the filter's middle ones; px of these; px of the prior's step


@dataclass(frozen=True)
class Runtime:
    """What a computation runs on; plain values, so that it can go to other processes and into records."""

    device: str = "cpu"  # as torch calls it
    precision: str = "float32"  # of the filter's middle layers and trained networks; images, losses, weights: float32
    threads: int = 1  # torch's, on the CPU
    workers: int = 1  # cells of a grid at a time
    processor: str = ""  # name of the CPU, or of the GPU that ``device`` is
    ratio: float | None = None  # time in float32 over time in bfloat16, as last probed on this machine
    method: str = "not asked"  # how the precision was found

    @property
    def bfloat16(self) -> bool:
        """Whether the precision is bfloat16: what plans and filters take."""
        return self.precision == "bfloat16"

    def wanted(self) -> bool | None:
        """What a fingerprint's filter runs in; None, where the probe chose bfloat16: what it was fitted in."""
        return None if self.bfloat16 and self.method not in (ASKED, PRECISION_VARIABLE) else self.bfloat16

    def facts(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)

    def numbers(self) -> tuple[str, str]:
        """What of it changes numbers: the kind of device and the precision, for the keys of caches."""
        return (self.device.partition(":")[0], self.precision)

    def check(self) -> None:
        """Raise ValueError, in one line, where this machine cannot run it: a worker of a cluster, perhaps."""
        check_device(self.device)
        if self.bfloat16 and not supports_bfloat16(self.device):
            name = device_name(self.device)
            raise ValueError(f"{name} cannot compute in bfloat16; use --precision float32, or auto")


def resolve(device: str = "auto", precision: str = "auto", threads: int = 0, workers: int = 1) -> Runtime:
    """What to run on, asked of the machine where it is not said.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}
    precision : {"auto", "float32", "bfloat16"}
    threads : int
        For torch on the CPU, set for this process; 0: as torch has them, which ``OMP_NUM_THREADS`` sets.
    workers : int
        Cells at a time; -1: one per core.

    Raises
    ------
    ValueError
        If there is no such device, if it cannot compute in the precision, or for another word; one line.
    """
    if threads:
        torch.set_num_threads(threads)
    device = device if device != "auto" else os.environ.get(DEVICE_VARIABLE) or "auto"
    method = ASKED if precision != "auto" else PRECISION_VARIABLE
    precision = precision if precision != "auto" else os.environ.get(PRECISION_VARIABLE) or "auto"
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r} ({method}); choose auto, {' or '.join(PRECISIONS)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    check_device(device)
    count, ratio = torch.get_num_threads(), None
    if precision == "auto" and not supports_bfloat16(device):
        precision, method = "float32", "no bfloat16 here"
    elif precision == "auto":
        ratio, method = probed_ratio(device, count), "probe"
        precision = PRECISIONS[ratio >= WORTH_WHILE]
    else:
        ratio = probed_ratio(device, count, ask=False)
    workers = joblib.effective_n_jobs(workers or 1)
    found = Runtime(device, precision, count, workers, device_name(device), ratio, method)
    found.check()
    return found


def check_device(device: str) -> None:
    """Raise ValueError, in one line, unless ``device`` is one that is here."""
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; choose {DEVICES}") from error
    if wanted.type not in here:
        raise ValueError(f"unknown device {device!r}; choose {DEVICES}")
    if (wanted.index or 0) >= here[wanted.type]:
        raise ValueError(f"there is no device {device!r} here; use --device cpu")


def supports_bfloat16(device: str) -> bool:
    """Whether the machine says that ``device`` computes in bfloat16; on Apple's GPUs it is not used."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # The question is private, and may go: then it counts as answered with no.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return kind == "cpu" and ask is not None and bool(ask())


def probed_ratio(device: str, threads: int, ask: bool = True) -> Any:
    """``probe``, made once for a processor, torch's version, a number of threads and a device; None if not ``ask``."""
    # Virtual machines call different processors by one name: what they can do tells them apart.
    told = (device_name(device), processor_facts().get("flags"), torch.__version__, threads, torch.device(device).type)
    name, folder = f"bfloat16-{sha256_bytes(repr(told).encode())[:16]}.json", optional_folder("probes")
    ratio = read_json(folder / name).get("ratio") if folder else None
    if isinstance(ratio, int | float) or not ask:
        return ratio
    ratio = round(probe(device), 3)
    if folder:
        facts = {"processor": told[0], "torch": torch.__version__, "threads": threads, "ratio": ratio}
        keep(partial(atomic_json, folder / name, facts))
    return ratio


@exact
def probe(device: str) -> float:
    """Time in float32, with its 24 bits, over time in bfloat16: of the filter's layers or a fit's step.

    The one that gains less counts: a run spends its time in both, and what is chosen must not slow down either.
    """
    started = time.perf_counter()
    ratios: list[float] = []
    for work in (filter_layers(device), prior_step(device)):
        quick, plain = (partial(timed, work, rounded, device) for rounded in (True, False))
        quick(), plain()  # the first call of a kernel also prepares it
        found: list[float] = []
        share = PROBE_SECONDS * (len(ratios) + 1) / 2
        while len(found) < ROUNDS and (not found or time.perf_counter() - started < share):
            found.append(plain() / quick())
        ratios.append(median(found))
    return min(ratios)


def timed(work: Callable[[bool], object], bfloat16: bool, device: str) -> float:
    """Wall-clock seconds of one call, waiting for the GPU."""
    on_gpu = torch.device(device).type == "cuda"
    wait: Callable[[], object] = partial(torch.cuda.synchronize, device) if on_gpu else lambda: None
    wait()
    started = time.perf_counter()
    work(bfloat16)
    wait()
    return time.perf_counter() - started


def filter_layers(device: str) -> Callable[[bool], object]:
    """A few of DnCNN's middle layers on one image, as ``FoldedDnCNN`` runs them."""
    drawn = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn).to(device, memory_format=torch.channels_last)

    image, weight, bias = random(1, 64, PROBE_SIZE, PROBE_SIZE), random(64, 64, 3, 3) / 24, torch.zeros(64).to(device)

    @torch.inference_mode()
    def work(bfloat16: bool) -> Tensor:
        h, w, b = (x.bfloat16() if bfloat16 else x for x in (image, weight, bias))
        for _ in range(LAYERS):
            h = conv_relu(h, w, b)
        return h

    return work


def prior_step(device: str) -> Callable[[bool], object]:
    """A forward and a backward pass of the U-Net on a small image, as ``fit_dif`` runs them."""
    with torch.random.fork_rng(devices=[]):  # draws of whoever asks stay what they are
        model = channels_last(build_prior("unet"), device).train()
    z = torch.zeros(1, IN_CHANNELS, PRIOR_SIZE, PRIOR_SIZE).to(device, memory_format=torch.channels_last)

    def work(bfloat16: bool) -> None:
        with torch.autocast(z.device.type, torch.bfloat16, enabled=bfloat16):
            image = model(z)
        image.float().square().mean().backward()
        model.zero_grad()

    return work
