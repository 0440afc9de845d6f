"""The periodic grid in a pattern, as up-sampling leaves it: its share, and the pattern's parts with and without it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def grid_share(pattern: np.ndarray, period: int) -> float:
    """Share in [0, 1] of the mean-free energy of ``pattern`` (3, H, W) that a grid of ``period`` px explains.

    By Parseval: the energy of the pattern averaged over all its period x period cells, over the whole energy. White
    noise gives about period^2 / (H W), a perfect grid 1.
    """
    x = pattern - pattern.mean((1, 2), keepdims=True)
    channels, height, width = x.shape
    rows, columns = height // period, width // period
    cells = x[:, : rows * period, : columns * period].reshape(channels, rows, period, columns, period)
    cell = cells.mean((1, 3))
    whole = float((cells**2).mean())
    return float((cell**2).mean() / whole) if whole > 0 else 0.0


def lattice_shares(residuals: np.ndarray) -> np.ndarray:
    """Share of each residual (N, 3, H, W) that a lattice of 2 px explains, as a colour filter mosaic's, (N,)."""
    return np.array([grid_share(np.asarray(residual, np.float32), 2) for residual in residuals])


def periodic_part(x: Tensor, period: int) -> Tensor:
    """The grid in ``x`` (..., H, W): each pixel becomes the mean of all pixels of its phase.

    G(y, x) = mean of X(y', x') over y' = y, x' = x (mod period): the orthogonal projection onto the patterns of that
    period, so X - G is what no grid of that period explains. Sides need not be multiples of it.

    Raises
    ------
    ValueError
        If ``period`` is below 1 or above a side.
    """
    height, width = x.shape[-2:]
    if not 1 <= period <= min(height, width):
        raise ValueError(f"a period of {period} px does not fit {height} x {width} px")

    def spread(side: int) -> Tensor:  # (side, side): averages over the pixels of one phase
        phase = torch.arange(side, device=x.device) % period
        same = (phase[:, None] == phase).to(x.dtype)
        return same / same.sum(1, keepdim=True)

    return spread(height) @ x @ spread(width)


def zero_mean(x: Tensor) -> Tensor:
    """``x`` (..., H, W) with the mean of every row and every column removed.

    Z = X - row means - column means + mean. Camera fingerprints are cleaned so of what all cameras of a model, all
    colour filter mosaics and all JPEG decoders share (Chen, Fridrich, Goljan and Lukas 2008, sec. III-D).
    """
    return x - x.mean(-1, keepdim=True) - x.mean(-2, keepdim=True) + x.mean((-2, -1), keepdim=True)
