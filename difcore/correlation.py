"""Correlation of residuals with fingerprints, and the threshold-free decision. Pure tensors in, pure tensors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from difcore.tensors import as_tensor, upload

Array = Tensor | np.ndarray
CHUNK = 2**24  # values standardised at a time: 64 MiB in float32, whatever the number of images
FLAT = 1e-6  # a spread below this part of a sample's length is rounding: the sample is constant


def standardise(x: Array) -> Tensor:
    """Each sample flattened, made mean-free and of unit length: (N, ...) to (N, D) float32.

    A constant sample has no direction and becomes all zeros, so that it correlates with nothing.
    """
    flat = as_tensor(x).flatten(1).float()
    constant = FLAT * flat.norm(dim=1, keepdim=True)
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return torch.where(norm <= constant, 0, flat / norm.clamp_min(torch.finfo(torch.float32).tiny))


def limited(x: Tensor, limit: float) -> Tensor:
    """Each sample with its values held within ``limit`` times its root mean square: (N, ...) to (N, ...).

    x -> min(max(x, -c s), c s) with s = sqrt(mean x^2). A residual has heavy tails: edges that the filter took for
    noise, a hundred times a fingerprint's strength. Their products dominate the variance of a correlation and carry
    nothing of the fingerprint; a limiter before the correlator is the robust detector of a weak known pattern in such
    noise (Huber's). Small c tends to the correlation with the sign of x, c -> infinity to the plain one.

    Raises
    ------
    ValueError
        If ``limit`` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"a limit must be positive, got {limit}")
    bound = limit * x.float().square().mean(tuple(range(1, x.ndim)), keepdim=True).sqrt().to(x.dtype)
    return torch.clamp(x, -bound, bound)


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
    """(mu_real, mu_fake): mean correlation of each class. ``fake`` is boolean, same length as ``rho``.

    Raises
    ------
    ValueError
        If a class is empty.
    """
    rho, fake = torch.as_tensor(rho).float(), torch.as_tensor(fake).bool()
    if bool(fake.all()) or not bool(fake.any()):
        raise ValueError("both real and fake correlations are needed to find the two centres")
    return float(rho[~fake].mean()), float(rho[fake].mean())


def nearest_centre(rho: Array, mu_real: float, mu_fake: float) -> Tensor:
    """True where ``rho`` is nearer to ``mu_fake`` than to ``mu_real``: the paper's decision, free of a threshold."""
    rho = torch.as_tensor(rho)
    return (rho - mu_fake).abs() < (rho - mu_real).abs()


def leave_one_out_decisions(rho: Array, fake: Array) -> Tensor:
    """Nearest-centre decisions with both centres refitted, for each image, on all the other images.

    Raises
    ------
    ValueError
        If a class has fewer than two images.
    """
    rho, fake = torch.as_tensor(rho).double(), torch.as_tensor(fake).bool()
    if min(int(fake.sum()), int((~fake).sum())) < 2:
        raise ValueError("leave-one-out needs at least two images of each class")
    out = torch.empty_like(fake)
    for k in range(len(rho)):
        keep = torch.arange(len(rho)) != k
        out[k] = nearest_centre(rho[k], *centres(rho[keep], fake[keep]))
    return out


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
    done: dict[int, Tensor] = {}

    def rho(residuals: Array) -> Tensor:
        if id(residuals) not in done:
            done[id(residuals)] = ncc(patterns, residuals)
        return done[id(residuals)]

    return [rho(r) for r in real], [rho(f) for f in fake]
