"""Images as tensors, and the memory that convolutions are fastest in."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, as in malloc.h
KEPT, LARGEST = 128 * 2**20, 32 * 2**20  # bytes


def as_tensor(x: Tensor | np.ndarray) -> Tensor:
    """``x`` as a tensor over the same memory; a read-only array is copied, because torch warns of those."""
    return torch.as_tensor(x.copy() if isinstance(x, np.ndarray) and not x.flags.writeable else x)


def upload(values: Tensor | np.ndarray, device: torch.device | str) -> Tensor:
    """``values`` on ``device``, their type kept: what is converted there is sent small. From pinned memory to CUDA, so
    that the copy goes on while the CPU does something else.
    """
    device, tensor = torch.device(device), as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_batch(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 images (N, H, W, 3), or one of them, as float32 (N, 3, H, W) in [0, 1], channels-last in memory.

    They are sent as bytes and converted on ``device``.
    """
    batch = upload(np.ascontiguousarray(images if images.ndim == 4 else images[None]), device)
    return batch.permute(0, 3, 1, 2).float() / 255


def channels_last(module: Module, device: str = "cpu") -> Module:
    """The module on ``device``, its convolutions' weights stored channels-last."""
    return module.to(torch.device(device)).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 128 MiB that it freed, instead of giving them back to the system; True if it does.

    A layer's activations of one image of 256 px are 20 MB. By default glibc returns such blocks and asks for them
    again at the next layer, and the system zeroes every page anew: a twentieth of the time of a residual. Blocks above
    32 MiB are returned as ever. Nothing happens where the C library is not glibc.
    """
    with suppress(OSError, AttributeError, TypeError):  # no such library, or no such function in it
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))
    return False
