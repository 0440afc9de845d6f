"""F_DnCNN, the filter's own bias: what is left of it without sampling noise, and its form at other crop sizes."""

from __future__ import annotations

import torch
from torch import Tensor

BORDER = 32  # px from the edge beyond which a stack of 17 3x3 convolutions no longer sees it (17), with a margin


def border_profile(bias: Tensor, border: int = BORDER) -> Tensor:
    """The part of a measured F_DnCNN (3, H, W) that the filter can have: a constant, and a profile along each edge.

    F(y, x) = c + p_top(y) + p_bottom(y) + p_left(x) + p_right(x), p = 0 beyond ``border`` px: a filter that is
    shift-invariant up to its zero padding has no other bias. The mean residual of n images also holds what these
    images left, of standard deviation sd(R) / sqrt(n) per pixel. Subtracting that from every residual gives all of
    them something in common, which correlates more with the quieter ones; for n = 360 that is 1 / 360, a quarter of
    what a fingerprint correlates. The paper subtracts the mean itself (A.2), of 1024 images.

    Sizes up to ``2 * border`` are returned as they are: no pixel is out of the border's reach.
    """
    height, width = bias.shape[1:]
    if min(height, width) <= 2 * border:
        return bias
    constant = bias[:, border:-border, border:-border].mean((1, 2), keepdim=True)
    rows = bias[:, :, border:-border].mean(2, keepdim=True) - constant  # (3, H, 1)
    columns = bias[:, border:-border].mean(1, keepdim=True) - constant  # (3, 1, W)
    rows[:, border:-border], columns[:, :, border:-border] = 0, 0
    return constant + rows + columns


def bias_for_size(bias: Tensor, height: int, width: int) -> Tensor:
    """F_DnCNN for a crop of another size than it was measured at, (3, height, width).

    The bias is a border pattern plus a constant: far from the border the filter is shift-invariant. A smaller size
    keeps the four corners and drops middle rows and columns; a larger one inserts, in the middle, the mean of the rows
    (columns) that do not see the border.
    """
    for axis, size in ((1, height), (2, width)):
        stored = bias.shape[axis]
        first = bias.narrow(axis, 0, min((size + 1) // 2, (stored + 1) // 2))
        tail = min(size // 2, stored // 2)
        last = bias.narrow(axis, stored - tail, tail)
        extra = size - first.shape[axis] - tail
        inner = bias.narrow(axis, BORDER, stored - 2 * BORDER) if stored > 2 * BORDER else bias
        middle = inner.mean(axis, keepdim=True).expand(*(extra if a == axis else n for a, n in enumerate(bias.shape)))
        bias = torch.cat([first, middle, last], axis)
    return bias
