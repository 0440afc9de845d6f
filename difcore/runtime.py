"""What computations run on: device, precision, threads and cells at a time, resolved once by asking the machine.

"auto" is a GPU where there is one, and bfloat16 only where the machine says that it computes in it and a timed probe of
the real operations finds it worth while. ``DIFCORE_DEVICE`` and ``DIFCORE_PRECISION`` say what "auto" is instead.
In float32 on the CPU the filter runs on ncnn where that is here, faster, and gives the same (``DIFCORE_ENGINE``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from difcore.files import atomic_json, only_writer, read_json, sha256_bytes
from difcore.fingerprints.detector import Detector, filter_for
from difcore.fingerprints.priors import IN_CHANNELS, build_prior
from difcore.images.scenes import scene
from difcore.machine.cache import keep, optional_folder
from difcore.machine.convolution import conv_relu
from difcore.machine.devices import channels_last, device_name, exact, processor_facts, processor_name, to_batch
from difcore.machine.winograd import TORCH, Chain, installed
from difcore.residuals.denoisers import Denoiser, load_denoiser

WORTH_WHILE = 1.3  # times faster that bfloat16 has to be, to be chosen
ENGINE_GAIN, ENGINE_ERROR = 1.15, 1e-6  # times faster that ncnn has to be; how far its residuals may lie from torch's
PRECISIONS = ("float32", "bfloat16")
DEVICES = "cpu, cuda, cuda:N or mps"
DEVICE_VARIABLE, PRECISION_VARIABLE, ASKED = "DIFCORE_DEVICE", "DIFCORE_PRECISION", "asked for"
ENGINE_VARIABLE = "DIFCORE_ENGINE"  # auto, torch or ncnn
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
    engine: str = TORCH  # of the filter in float32 on the CPU: torch, or ncnn with its version

    @property
    def bfloat16(self) -> bool:
        """Whether the precision is bfloat16: what plans and filters take."""
        return self.precision == "bfloat16"

    def wanted(self) -> bool | None:
        """What a fingerprint's filter runs in; None, where the probe chose bfloat16: what it was fitted in."""
        return None if self.bfloat16 and self.method not in (ASKED, PRECISION_VARIABLE) else self.bfloat16

    def denoiser(self, name: str | Path, limit: float | None = None) -> Denoiser:
        """The residual filter of a name as it runs here: on this device, in this precision, by this engine."""
        return load_denoiser(name, self.device, self.bfloat16, limit, self.engine)

    def denoiser_of(self, detectors: Sequence[Detector], name: str | Path | None = None) -> Denoiser:
        """The filter that detectors were fitted with (``filter_for``), as it runs here."""
        return filter_for(detectors, name, self.device, self.wanted(), self.engine)

    def facts(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)

    def numbers(self) -> tuple[str, str, str]:
        """What of it changes numbers: the kind of device, the precision and the engine, for the keys of caches."""
        return (self.device.partition(":")[0], self.precision, self.engine)

    def check(self) -> None:
        """Raise ValueError, in one line, where this machine cannot run it: a worker of a cluster, perhaps."""
        check_device(self.device)
        if self.bfloat16 and not supports_bfloat16(self.device):
            name = device_name(self.device)
            raise ValueError(f"{name} cannot compute in bfloat16; use --precision float32, or auto")
        if self.engine != TORCH and self.engine != installed():
            raise ValueError(f"there is no {self.engine} here; set {ENGINE_VARIABLE}=torch")


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
    count, ratio, engine = torch.get_num_threads(), None, chosen_engine(device)
    if precision == "auto" and not supports_bfloat16(device):
        precision, method = "float32", "no bfloat16 here"
    elif precision == "auto":
        ratio, method = probed_ratio(device, count, engine), "probe"
        precision = PRECISIONS[ratio >= WORTH_WHILE]
    else:
        ratio = probed_ratio(device, count, engine, ask=False)
    workers = joblib.effective_n_jobs(workers or 1)
    found = Runtime(device, precision, count, workers, device_name(device), ratio, method, engine)
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


def chosen_engine(device: str) -> str:
    """What computes the filter in float32: ``TORCH``, or the other one where it is here and the probe is for it."""
    asked = os.environ.get(ENGINE_VARIABLE) or "auto"
    other = "" if asked == TORCH else installed()
    if asked not in ("auto", TORCH, "ncnn") or (asked == "ncnn" and not other):
        raise ValueError(f"unknown engine {asked!r} ({ENGINE_VARIABLE}); choose auto, torch or, where installed, ncnn")
    if device != "cpu" or not other:
        return TORCH
    # One answer for a machine, whatever the threads: all processes of a run compute the same numbers.
    gain = ENGINE_GAIN if asked == "ncnn" else kept_probe(other, {}, partial(probe_engine, other))
    return other if gain >= ENGINE_GAIN else TORCH


def probed_ratio(device: str, threads: int, engine: str, ask: bool = True) -> Any:
    """``probe``, made once for a machine, a device, a number of threads and an engine; None if not ``ask``."""
    told = {"device": device_name(device), "kind": torch.device(device).type, "threads": threads, "engine": engine}
    return kept_probe("bfloat16", told, partial(probe, device, engine) if ask else None)


def kept_probe(name: str, told: dict[str, Any], measure: Callable[[], float] | None) -> Any:
    """What was measured once, by one process, for a processor, torch's version and ``told``; else None, or measured."""
    told = {"processor": processor_name(), "torch": torch.__version__, **told}
    # Virtual machines call different processors by one name: what they can do tells them apart.
    file = f"{name}-{sha256_bytes(repr((told, processor_facts().get('flags'))).encode())[:16]}.json"
    folder = optional_folder("probes")
    locked = folder is not None and measure is not None and os.access(folder, os.W_OK)
    with only_writer(folder, wait=True) if folder and locked else nullcontext():
        ratio = read_json(folder / file).get("ratio") if folder else None
        if isinstance(ratio, int | float) or measure is None:
            return ratio
        ratio = round(measure(), 3)
        if folder:
            keep(partial(atomic_json, folder / file, {**told, "ratio": ratio}))
    return ratio


def probe_engine(engine: str) -> float:
    """Time of the filter by torch over its time by ``engine``, on one thread; 0 where residuals differ, or it fails."""
    threads = torch.get_num_threads()
    image = to_batch(np.stack([scene(0, PROBE_SIZE)]))
    plain, quick = (partial(load_denoiser(engine=name), image) for name in (TORCH, engine))
    try:
        torch.set_num_threads(1)
        same = float((plain() - quick()).abs().max()) <= ENGINE_ERROR
        return gain_of(lambda other: quick() if other else plain(), "cpu", PROBE_SECONDS) if same else 0.0
    except RuntimeError:
        return 0.0
    finally:
        torch.set_num_threads(threads)


@exact
def probe(device: str, engine: str = TORCH) -> float:
    """Time in float32, with its 24 bits, over time in bfloat16: of the filter's layers or a fit's step.

    The one that gains less counts: a run spends its time in both, and what is chosen must not slow down either.
    """
    works = filter_layers(device, engine), prior_step(device)
    return min(gain_of(work, device, PROBE_SECONDS / len(works)) for work in works)


def gain_of(work: Callable[[bool], object], device: str, most: float) -> float:
    """Time of ``work(False)`` over that of ``work(True)``: the best of each, of rounds of both in about ``most`` s."""
    rounds = [[timed(work, other, device) for other in (True, False)]]  # the first call of a kernel also prepares it
    started = time.perf_counter()
    while len(rounds) < ROUNDS + 1 and (len(rounds) < 2 or time.perf_counter() - started < most):
        rounds.append([timed(work, other, device) for other in (True, False)])
    quick, plain = map(min, zip(*rounds[1:], strict=True))
    return plain / quick


def timed(work: Callable[[bool], object], other: bool, device: str) -> float:
    """Wall-clock seconds of one call, waiting for the GPU."""
    on_gpu = torch.device(device).type == "cuda"
    wait: Callable[[], object] = partial(torch.cuda.synchronize, device) if on_gpu else lambda: None
    wait()
    started = time.perf_counter()
    work(other)
    wait()
    return time.perf_counter() - started


def filter_layers(device: str, engine: str = TORCH) -> Callable[[bool], object]:
    """A few of DnCNN's middle layers on one image, as ``FoldedDnCNN`` runs them; ``engine``: in float32."""
    drawn = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn).to(device, memory_format=torch.channels_last)

    image, weight, bias = random(1, 64, PROBE_SIZE, PROBE_SIZE), random(64, 64, 3, 3) / 24, torch.zeros(64).to(device)
    chain = None if engine == TORCH else Chain([(weight, bias)] * LAYERS, [1] * LAYERS)

    @torch.inference_mode()
    def work(bfloat16: bool) -> Tensor:
        if chain and not bfloat16:
            return chain(image)
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
