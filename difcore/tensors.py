"""Images as tensors, and the memory layout that convolutions are fastest in."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def as_tensor(x: Tensor | np.ndarray) -> Tensor:
    """``x`` as a tensor over the same memory; a read-only array is copied, because torch warns of those."""
    return torch.as_tensor(x.copy() if isinstance(x, np.ndarray) and not x.flags.writeable else x)


def to_batch(images: np.ndarray) -> Tensor:
    """uint8 images (N, H, W, 3), or one of them, as float32 (N, 3, H, W) in [0, 1], channels-last in memory."""
    batch = as_tensor(np.ascontiguousarray(images if images.ndim == 4 else images[None]))
    return batch.permute(0, 3, 1, 2).float() / 255


def channels_last(module: Module, device: str = "cpu") -> Module:
    """The module on ``device``, its convolutions' weights stored channels-last."""
    return module.to(torch.device(device)).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
