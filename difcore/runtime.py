"""What computations run on: device, precision, threads and cells at a time, resolved once by asking the machine.

"auto" is a GPU where there is one, and bfloat16 only where the machine says that it computes in it and a timed probe
of the real operations finds it worth while: emulated, it is up to twenty times slower than float32. The environment
variables ``DIFCORE_DEVICE`` and ``DIFCORE_PRECISION`` say what "auto" is instead.

How much faster a device is in bfloat16, measured on the operations that a run spends its time in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
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

PROBE_SECONDS = 2.0  # for all of a probe; it is cut short where the machine is slow
ROUNDS = 5  # of a probe, each of both precisions one after the other
LAYERS = 3  # of the filter's middle ones
PROBE_SIZE = 128  # px, of the filter's layers
PRIOR_SIZE = 64  # px, of the step of the prior


@exact
def probe(device: str) -> float:
    """Time in float32 over time in bfloat16: of the filter's middle layers or of a fit's step, whichever gains less.

    float32 has its 24 bits, as in a run.

    The worse counts, since a run spends its time in both, in shares that depend on its parameters: what is chosen
    must not slow down either.
    """
    started = time.perf_counter()
    ratios: list[float] = []
    for work in (filter_layers(device), prior_step(device)):
        quick = partial(timed, work, True, device)
        plain = partial(timed, work, False, device)
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


DEVICE_VARIABLE, PRECISION_VARIABLE = "DIFCORE_DEVICE", "DIFCORE_PRECISION"
ASKED = "asked for"
WORTH_WHILE = 1.3  # times faster that bfloat16 has to be, to be chosen
PRECISIONS = ("float32", "bfloat16")
DEVICES = "cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Runtime:
    """What a computation runs on; plain values, so that it can go to other processes and into records.

    Attributes
    ----------
    device : str
        As torch calls it.
    precision : {"float32", "bfloat16"}
        Of the filter's middle layers and of networks that are trained. Images, losses and weights stay in float32.
    threads : int
        torch's, on the CPU.
    workers : int
        Cells of a grid at a time.
    processor : str
        Name of the CPU, or of the GPU that ``device`` is.
    ratio : float or None
        Time in float32 over time in bfloat16, as last probed on this machine; None: not probed.
    method : str
        How the precision was found.
    """

    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1
    workers: int = 1
    processor: str = ""
    ratio: float | None = None
    method: str = "not asked"

    @property
    def bfloat16(self) -> bool:
        """Whether the precision is bfloat16: what plans and filters take."""
        return self.precision == "bfloat16"

    def wanted(self) -> bool | None:
        """What a fingerprint's filter runs in: None leaves it to what the fingerprint was fitted in.

        That is where the probe found bfloat16 worth while. Else it is ``bfloat16``: what the user said, or float32.
        """
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
        if self.bfloat16:
            check_bfloat16(self.device)


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
    device, _ = named(DEVICE_VARIABLE, device)
    precision, method = named(PRECISION_VARIABLE, precision)
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r} ({method}); choose auto, {' or '.join(PRECISIONS)}")
    device = best_device() if device == "auto" else device
    check_device(device)
    if precision == "bfloat16":
        check_bfloat16(device)
    count = torch.get_num_threads()
    found = partial(
        Runtime, device, threads=count, workers=joblib.effective_n_jobs(workers or 1), processor=device_name(device)
    )
    if precision != "auto":
        return found(precision=precision, ratio=known_ratio(device, count), method=method)
    if not supports_bfloat16(device):
        return found(precision="float32", method="no bfloat16 here")
    ratio = probed_ratio(device, count)
    return found(precision="bfloat16" if ratio >= WORTH_WHILE else "float32", ratio=ratio, method="probe")


def named(variable: str, value: str) -> tuple[str, str]:
    """``value`` and ``ASKED``, or, if it is "auto", what an environment variable says instead and its name."""
    return (value, ASKED) if value != "auto" else (os.environ.get(variable) or "auto", variable)


def best_device() -> str:
    """A GPU where there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise ValueError, in one line, unless ``device`` is one that is here."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; choose {DEVICES}") from error
    if wanted.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"unknown device {device!r}; choose {DEVICES}")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (wanted.index or 0) >= here[wanted.type]:
        raise ValueError(f"there is no device {device!r} here; use --device cpu")


def check_bfloat16(device: str) -> None:
    """Raise ValueError, in one line, unless ``device`` computes in bfloat16."""
    if not supports_bfloat16(device):
        raise ValueError(f"{device_name(device)} cannot compute in bfloat16; use --precision float32, or auto")


def supports_bfloat16(device: str) -> bool:
    """Whether the machine says that ``device`` computes in bfloat16; on Apple's GPUs it is not used."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # The question is private, and may go: then it counts as answered with no.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return kind == "cpu" and ask is not None and bool(ask())


def probed_ratio(device: str, threads: int) -> float:
    """``probe``, made once for a processor, a version of torch, a number of threads and a device, then kept."""
    if (known := known_ratio(device, threads)) is not None:
        return known
    ratio = round(probe(device), 3)
    if (folder := optional_folder("probes")) is not None:
        facts = {"processor": device_name(device), "torch": torch.__version__, "threads": threads, "ratio": ratio}
        keep(partial(atomic_json, folder / probe_file(device, threads), facts))
    return ratio


def known_ratio(device: str, threads: int) -> float | None:
    """What a probe found earlier; None if there was none."""
    folder = optional_folder("probes")
    ratio = read_json(folder / probe_file(device, threads)).get("ratio") if folder else None
    return float(ratio) if isinstance(ratio, int | float) else None


def probe_file(device: str, threads: int) -> Path:
    """Name of the file that keeps a probe."""
    kind = torch.device(device).type
    # Virtual machines call different processors by one name: what they can do tells them apart.
    facts = (device_name(device), processor_facts().get("flags"), torch.__version__, threads, kind)
    return Path(f"bfloat16-{sha256_bytes(repr(facts).encode())[:16]}.json")
