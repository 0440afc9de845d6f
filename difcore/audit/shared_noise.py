"""Do images of one class share more of their residuals than a generator leaves in them?

A generator's fingerprint is faint: two of its images correlate by the square of what one of them correlates with the
fingerprint, some .0002, and the pattern repeats with the period of its up-sampling. Images made from the same starting
noise, or given the same mark, share a pattern that is stronger and repeats nowhere. A fit to such images learns that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from difcore.fingerprints.correlation import ncc, standardise
from difcore.images.crops import centre_crop
from difcore.machine.devices import to_batch
from difcore.residuals.denoisers import LIMIT, gaussian_high_pass, limited

PERIODS = (8, 16, 32, 64)  # px; up-sampling grids of generators, or multiples of them
FINGERPRINT = 0.0156  # the strongest mean correlation of fakes with a published fingerprint (GLIDE's)
LINKED = 0.03  # mean correlation of the pairs of a group; of glid3xl's groups of one seed it is .06


@dataclass(frozen=True)
class SharedResidual:
    """What the residuals of a set of images have in common."""

    pairs: NDArray[np.float64]  # (N (N - 1) / 2,) correlation of each pair, rows and columns made mean-free
    mean: float
    error: float  # standard error of the mean, by leaving out one image at a time
    repeating: float  # part of the mean, 0..1, still there when one of the pair is shifted by a period of up-sampling
    groups: NDArray[np.int64]  # (N,) number of each image's group of linked images

    @property
    def placed(self) -> float:
        """The part of the mean that belongs to one place: starting noise, a mark, or the same contents."""
        return self.mean * (1 - self.repeating)

    def in_groups(self) -> float:
        """Share of the images that have another one linked to them."""
        return float((np.bincount(self.groups)[self.groups] > 1).mean())

    def sizes(self) -> list[int]:
        """Images in each group, the largest first."""
        return sorted((int(size) for size in np.bincount(self.groups) if size), reverse=True)


def high_passed(crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Residuals (N, 3, side, side) that are compared: high-pass, limited, rows and columns mean-free.

    Centre crops of the smallest side, 256 px at most. An edge near the picture's frame, and the lines that a JPEG's
    blocks or a frame leave, would otherwise correlate more than any noise.
    """
    side = min(256, *(min(crop.shape[:2]) for crop in crops)) // 8 * 8
    found = torch.cat([limited(gaussian_high_pass(to_batch(centre_crop(crop, side))), LIMIT) for crop in crops])
    return found - found.mean(2, keepdim=True) - found.mean(3, keepdim=True) + found.mean((2, 3), keepdim=True)


def shared_residual(images: Sequence[NDArray[np.uint8]]) -> SharedResidual | None:
    """Compare the residuals of images uint8 (H, W, 3) pair by pair."""
    images = [image for image in images if min(image.shape[:2]) >= 64]
    residuals = high_passed(images) if len(images) > 2 else torch.zeros(0, 3, 8, 8)
    residuals = residuals[standardise(residuals).any(1)]
    if len(residuals) < 3:
        return None
    rho = ncc(residuals, residuals).double().numpy()
    n = len(rho)
    sums = rho.sum(1) - rho.diagonal()
    mean = sums.sum() / (n * (n - 1))
    without = (sums.sum() - 2 * sums) / ((n - 1) * (n - 2))  # the mean of the pairs that lack one image
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    groups = fcluster(linkage(squareform(1 - (rho + rho.T) / 2, checks=False), "average"), 1 - LINKED, "distance")
    pairs = rho[np.triu_indices(n, 1)]
    return SharedResidual(pairs, float(mean), error, repeating(residuals), groups.astype(np.int64))


def repeating(residuals: torch.Tensor) -> float:
    """Correlation between different images at shifts by a period, over that without a shift; 0..1.

    The mean over all pairs of the correlation at shift d is the inverse Fourier transform of
    (|sum_i F_i|^2 - sum_i |F_i|^2) / (n (n - 1)), F_i the transform of the standardised residual i. Of the periods,
    the one with the highest value counts, averaged over shifts to the side, down, and both.
    """
    n, side = len(residuals), residuals.shape[-1]
    total, power = torch.zeros(1), torch.zeros(1)
    for one in residuals:
        spectrum = torch.fft.rfft2(standardise(one[None]).reshape(one.shape))
        total, power = total + spectrum, power + spectrum.abs().square()
    common = (total.abs().square() - power).sum(0) / (n * (n - 1))
    at = torch.fft.irfft2(common, s=(side, side)) * side**2
    if at[0, 0] <= 0:
        return 0.0
    means = [(at[p, 0] + at[0, p] + at[p, p] + at[p, -p]) / 4 for p in PERIODS if 2 * p <= side]
    return float((max(means) / at[0, 0]).clamp(0, 1))
