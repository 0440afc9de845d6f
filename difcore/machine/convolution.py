"""Convolution and ReLU in one pass over memory where oneDNN offers it, with the same numbers elsewhere."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 1) -> Tensor:
    """relu(conv3x3(x)), in one pass over memory where oneDNN offers it (CPU), in two elsewhere."""
    if x.device.type == "cpu" and has_fused_convolution(x.dtype):  # as torch.compile fuses it: a tenth faster
        return fused_convolution(x, weight, bias, padding)
    return F.conv2d(x, weight, bias, padding=padding).relu_()


@cache
def has_fused_convolution(dtype: torch.dtype) -> bool:
    """Whether the fused operator runs here in ``dtype``: tried once, as it is private and may refuse bfloat16."""
    x, weight = torch.ones(1, 2, 3, 3, dtype=dtype), torch.ones(2, 2, 3, 3, dtype=dtype)
    try:
        with torch.inference_mode():
            return torch.backends.mkldnn.is_available() and fused_convolution(x, weight, None).shape == x.shape
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


def fused_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 1) -> Tensor:
    """relu(conv3x3(x)) by oneDNN."""
    edges, ones = [padding, padding], [1, 1]
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, edges, ones, ones, 1, "relu", [], "")
