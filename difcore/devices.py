"""What a GPU is given in another way than the CPU: memory, precision, optimisers; and weights drawn by a seed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from inspect import signature
from typing import ParamSpec, TypeVar

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


def built(build: Callable[[], Module], seed: int) -> tuple[Module, torch.Generator]:
    """``build()`` with weights drawn by ``seed``, and a CPU generator that goes on from there.

    Layers draw their first weights from torch's one generator. It is lent the seed and given back as it was, by one
    thread at a time, so that no fit depends on what else is drawn in its process, nor changes it.
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

    The flags are the process's: the first to enter, of all threads, sets them, and the last to leave puts them back.
    On other devices nothing happens.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    convolution, product = torch.backends.cudnn, torch.backends.cuda.matmul
    with COUNTING:
        if FLAGS_BEFORE:
            FLAGS_BEFORE.append(FLAGS_BEFORE[0])
        else:
            FLAGS_BEFORE.append((convolution.allow_tf32, product.allow_tf32))
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
