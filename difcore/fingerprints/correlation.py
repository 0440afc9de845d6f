"""Correlation of residuals with fingerprints, the threshold-free decision, and the grid in a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from difcore.machine.devices import as_tensor, upload

Array = Tensor | np.ndarray
CHUNK = 2**24  # values standardised at a time: 64 MiB in float32, whatever the number of images
FLAT = 1e-6  # a spread below this part of a sample's length is rounding: the sample is constant


def standardise(x: Array) -> Tensor:
    """Each sample flattened, made mean-free and of unit length, (N, ...) to (N, D) float32; zeros if it is constant."""
    flat = as_tensor(x).flatten(1).float()
    constant = FLAT * flat.norm(dim=1, keepdim=True)
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return torch.where(norm <= constant, 0, flat / norm.clamp_min(torch.finfo(torch.float32).tiny))


def ncc(a: Array, b: Array) -> Tensor:
    """Zero-lag normalised cross-correlation of every a with every b: (A, ...) and (B, ...) to (A, B) in [-1, 1].

    rho(a, b) = sum (a - mean a)(b - mean b) / (|a - mean a| |b - mean b|) over all C*H*W values: Pearson's r.
    One matrix product per chunk of ``b``, which may be float16 and memory-mapped.

    Raises
    ------
    ValueError
        If the samples differ in shape.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"cannot correlate samples of shape {tuple(a.shape[1:])} with {tuple(b.shape[1:])}")
    left = standardise(a)
    if not len(b):
        return left.new_zeros(len(left), 0)
    return torch.cat([left @ standardise(upload(part, left.device)).T for part in chunks(b)], 1).clamp(-1, 1)


def chunks(x: Array) -> Iterator[Array]:
    """Consecutive slices of ``x`` along its first axis, of about ``CHUNK`` values each."""
    step = max(1, CHUNK // max(1, int(np.prod(x.shape[1:]))))
    return (x[k : k + step] for k in range(0, len(x), step))


def centres(rho: Array, fake: Array) -> tuple[float, float]:
    """(mu_real, mu_fake): mean correlation of each class; ``fake`` is boolean. ValueError if a class is empty."""
    rho, fake = torch.as_tensor(rho).float(), torch.as_tensor(fake).bool()
    if bool(fake.all()) or not bool(fake.any()):
        raise ValueError("both real and fake correlations are needed to find the two centres")
    return float(rho[~fake].mean()), float(rho[fake].mean())


def nearest_centre(rho: Array, mu_real: float, mu_fake: float) -> Tensor:
    """True where ``rho`` is nearer to ``mu_fake`` than to ``mu_real``: the paper's decision, free of a threshold."""
    rho = torch.as_tensor(rho)
    return (rho - mu_fake).abs() < (rho - mu_real).abs()


def leave_one_out_decisions(rho: Array, fake: Array) -> Tensor:
    """Nearest-centre decisions with both centres refitted, for each image, on the others; at least two of a class."""
    rho, fake = torch.as_tensor(rho).double(), torch.as_tensor(fake).bool()
    if min(int(fake.sum()), int((~fake).sum())) < 2:
        raise ValueError("leave-one-out needs at least two images of each class")
    others = ~torch.eye(len(rho), dtype=torch.bool)
    return torch.stack([nearest_centre(rho[k], *centres(rho[o], fake[o])) for k, o in enumerate(others)])


def cross_detection(patterns: Array, real: Sequence[Array], fake: Sequence[Array]) -> tuple[list[Tensor], list[Tensor]]:
    """Correlations of G fingerprints with T test sets, each residual read once.

    Parameters
    ----------
    patterns : (G, 3, H, W)
    real, fake : T residual sets (N_t, 3, H, W) each

    Returns
    -------
    (list of (G, N_t), list of (G, N_t))
        Row g of element t: rho of fingerprint g with the reals (fakes) of test set t. Sets that are the same object
        are correlated once.
    """
    done = {id(residuals): ncc(patterns, residuals) for residuals in {id(x): x for x in (*real, *fake)}.values()}
    return [done[id(x)] for x in real], [done[id(x)] for x in fake]


def grid_share(pattern: np.ndarray, period: int) -> float:
    """Share of the energy of ``pattern`` (C, H, W) that a grid of ``period`` px explains.

    By Parseval: the energy of the pattern averaged over all its period x period cells, over the whole energy. White
    noise gives about period^2 / (H W), a perfect grid 1.
    """
    x = pattern - pattern.mean((1, 2), keepdims=True)
    channels, height, width = x.shape
    rows, columns = height // period, width // period
    cells = x[:, : rows * period, : columns * period].reshape(channels, rows, period, columns, period)
    whole = float((cells**2).mean())
    return float((cells.mean((1, 3)) ** 2).mean() / whole) if whole > 0 else 0.0


def lattice_shares(residuals: np.ndarray) -> np.ndarray:
    """Share of each residual (N, 3, H, W) that a lattice of 2 px explains, as a colour filter mosaic's, (N,)."""
    return np.array([grid_share(np.asarray(residual, np.float32), 2) for residual in residuals])


def periodic_part(x: Tensor, period: int) -> Tensor:
    """The grid in ``x`` (..., H, W): each pixel becomes the mean of all pixels of its phase.

    G(y, x) = mean of X(y', x') over y' = y, x' = x (mod period): the orthogonal projection onto the patterns of that
    period, so X - G is what no grid of that period explains. Sides need not be multiples of it.
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
