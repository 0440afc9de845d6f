"""What a GPU is given in another way than the CPU, images as tensors, weights drawn by a seed, the processor's name."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, partial, wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Given = ParamSpec("Given")
Result = TypeVar("Result")
Device = torch.device | str
BUILDING = threading.Lock()
TF32 = False  # of all float32 work on GPUs, see ``true_float32``
COUNTING = threading.Lock()
FLAGS_BEFORE: list[tuple[bool, bool]] = []  # an entry for each ``true_float32`` that is open, in any thread
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, as in malloc.h
KEPT, LARGEST = 128 * 2**20, 32 * 2**20  # bytes


def built(build: Callable[[], Module], seed: int) -> tuple[Module, torch.Generator]:
    """``build()`` with weights drawn by ``seed``, and a CPU generator that goes on from there.

    Layers draw their weights from torch's one generator: it is lent the seed, to one thread at a time, and put back.
    """
    with BUILDING, torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators for good
        module = build()
        generator = torch.Generator()
        generator.set_state(torch.default_generator.get_state())
    return module, generator


def normal_on(device: Device, seed: int, on_cpu: torch.Generator) -> Callable[..., Tensor]:
    """``torch.randn`` on ``device``: there by a generator of the device's own, seeded; on the CPU by ``on_cpu``."""
    device = torch.device(device)
    own = on_cpu if device.type == "cpu" else torch.Generator(device).manual_seed(seed)
    return partial(torch.randn, generator=own, device=device)


def free_bytes(device: Device) -> int:
    """Memory that a GPU has left, in bytes; 0 for devices that do not say."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return 0


def mixed(device: Device, bfloat16: bool) -> AbstractContextManager[object]:
    """Within, operators on ``device`` that can run in bfloat16 do, if ``bfloat16``."""
    return torch.autocast(torch.device(device).type, torch.bfloat16) if bfloat16 else nullcontext()


def has_fused(device: Device) -> bool:
    """Whether Adam has a one-kernel step on ``device`` in every version of torch that difcore runs on."""
    return torch.device(device).type in ("cpu", "cuda")


@contextmanager
def true_float32(device: Device) -> Iterator[None]:
    """Within, float32 on CUDA has its 24 bits: convolutions in TF32, torch's default, keep 11, coarser than a residual.

    The flags are the process's: the first of all threads to enter sets them, the last to leave puts them back.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    convolution, product = torch.backends.cudnn, torch.backends.cuda.matmul
    with COUNTING:
        FLAGS_BEFORE.append(FLAGS_BEFORE[0] if FLAGS_BEFORE else (convolution.allow_tf32, product.allow_tf32))
        convolution.allow_tf32 = product.allow_tf32 = TF32
    try:
        yield
    finally:
        with COUNTING:
            before = FLAGS_BEFORE.pop()
            if not FLAGS_BEFORE:
                convolution.allow_tf32, product.allow_tf32 = before


def exact(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """``function``, run within ``true_float32`` of its argument ``device``."""
    parameters = signature(function)

    @wraps(function)
    def run(*args: Given.args, **named: Given.kwargs) -> Result:
        given = parameters.bind(*args, **named)
        given.apply_defaults()
        with true_float32(given.arguments["device"]):
            return function(*args, **named)

    return run


def as_tensor(x: Tensor | np.ndarray) -> Tensor:
    """``x`` as a tensor over the same memory; a read-only array is copied, because torch warns of those."""
    return torch.as_tensor(x.copy() if isinstance(x, np.ndarray) and not x.flags.writeable else x)


def upload(values: Tensor | np.ndarray, device: Device) -> Tensor:
    """``values`` on ``device``, their type kept; from pinned memory to CUDA, so that the CPU need not wait."""
    device, tensor = torch.device(device), as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_batch(images: np.ndarray, device: Device = "cpu") -> Tensor:
    """uint8 images (N, H, W, 3), or one, sent as bytes: float32 (N, 3, H, W) in [0, 1], channels-last in memory."""
    batch = upload(np.ascontiguousarray(images if images.ndim == 4 else images[None]), device)
    return batch.permute(0, 3, 1, 2).float() / 255


def channels_last(module: Module, device: str = "cpu") -> Module:
    """The module on ``device``, its convolutions' weights stored channels-last."""
    return module.to(torch.device(device)).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 128 MiB that it freed; whether it does.

    A layer's activations are 20 MB. glibc would return and ask again for such a block at each layer, and the system
    zero its pages: a twentieth of a residual's time. Blocks above 32 MiB are returned as ever.
    """
    with suppress(OSError, AttributeError, TypeError):  # no such library, or no such function in it
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))
    return False


def processor_facts() -> dict[str, str]:
    """What /proc/cpuinfo says of the first core; empty where there is none."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        pairs = (line.partition(":") for line in text.splitlines())
        return {name.strip().lower(): value.strip() for name, _, value in pairs}
    return {}


@cache
def processor_name() -> str:
    """The CPU's model as the system calls it ("AMD EPYC 7B13", say); its architecture where the system does not say."""
    facts = processor_facts()
    return facts.get("model name") or facts.get("hardware") or platform.processor() or platform.machine() or "unknown"


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else processor_name()
