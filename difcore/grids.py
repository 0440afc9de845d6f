"""How much of a pattern is a periodic grid, as up-sampling leaves it."""

from __future__ import annotations

import numpy as np


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
