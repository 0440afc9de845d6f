"""Views of patterns (3, H, W) as pure arrays: a displayable image, the Fourier spectrum, local correlation."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import maximum_filter
from scipy.stats import binned_statistic

CHANNELS = ("RGB", "R", "G", "B", "mean")
GRIDS = (2, 4, 8, 16)  # px: factors of up-sampling, and of blocks of JPEG


def as_pattern(pattern: ArrayLike, channel: str = "RGB") -> np.ndarray:
    """All three channels of a pattern, one, or their mean, as float64 (3, H, W) or (1, H, W)."""
    values = np.asarray(pattern, np.float64)
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    if values.ndim != 3 or values.shape[0] != 3:
        raise ValueError(f"a pattern has shape (3, H, W), got {values.shape}")
    if channel not in CHANNELS:
        raise ValueError(f"unknown channel {channel!r}; choose from {', '.join(CHANNELS)}")
    if channel == "RGB":
        return values
    return values.mean(0, keepdims=True) if channel == "mean" else values[["RGB".index(channel)]]


def fourier_magnitude(pattern: ArrayLike, power: float = 4.0, channel: str = "RGB") -> np.ndarray:
    """Spectrum of a pattern for looking at, as the paper's figures show it.

    With c running over the chosen channels and p_c made mean-free, so that a colour cast leaves no peak,

        S = (minmax(log mean_c |FFT2(p_c)|)) ** power

    The zero frequency, which is then empty, gets the smallest value of the others.

    Parameters
    ----------
    pattern : array (3, H, W)
    power : float
        Positive: 4 in the official code; 1 shows the noise floor too, larger values only the strongest peaks.
    channel : {"RGB", "R", "G", "B", "mean"}
        "RGB" averages the three magnitudes; "mean" is the spectrum of the channels' mean.

    Returns
    -------
    ndarray (H, W)
        In [0, 1], zero frequency at [H // 2, W // 2]. All zeros for a constant pattern.
    """
    if not power > 0:
        raise ValueError(f"the power of a spectrum must be positive, got {power}")
    values = as_pattern(pattern, channel)
    free = values - values.mean((1, 2), keepdims=True)
    if np.abs(free).max() <= 1e-12 * max(1e-300, np.abs(values).max()):  # rounding only
        return np.zeros(values.shape[1:])
    magnitude = np.abs(np.fft.fft2(free)).mean(0)
    magnitude = np.maximum(magnitude, magnitude.max() * 1e-12)  # what is below is rounding
    magnitude[0, 0] = magnitude.ravel()[1:].min()
    log = np.log(magnitude)
    return np.fft.fftshift((log - log.min()) / max(float(np.ptp(log)), 1e-300)) ** power


def fingerprint_image(pattern: ArrayLike, channel: str = "RGB", crop: int | None = None) -> np.ndarray:
    """The central ``crop`` px of a pattern from its 1st to its 99th percentile as [0, 1], .5 where it is constant.

    The limits are the same for all channels, so that hues survive: (H, W, 3) for "RGB", else (H, W).
    """
    values = as_pattern(pattern, channel)
    if crop:
        top, left = (max(0, (side - crop) // 2) for side in values.shape[1:])
        values = values[:, top : top + crop, left : left + crop]
    low, high = np.percentile(values, [1, 99])
    if high <= low:  # nearly all values are equal: fall back to the full range
        low, high = values.min(), values.max()
    image = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    return image.transpose(1, 2, 0) if channel == "RGB" else image[0]


def radial_power(pattern: ArrayLike, bins: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Centres of rings of equal frequency (cycles/px, to sqrt(1/2)) and the mean of |FFT2|^2 / (H W) on each.

    White noise of variance v gives v everywhere; empty rings and the zero frequency are left out.
    """
    power = (np.abs(np.fft.fft2(as_pattern(pattern))) ** 2).mean(0)
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, power.shape), indexing="ij"))
    values = power.ravel()[1:] / power.size
    ring = binned_statistic(radius.ravel()[1:], values, bins=bins, range=(0, 0.5**0.5 + 1e-9))
    full = np.isfinite(ring.statistic)
    return (ring.bin_edges[:-1] + ring.bin_edges[1:])[full] / 2, ring.statistic[full]


def local_correlation(residual: ArrayLike, pattern: ArrayLike, block: int = 16) -> np.ndarray:
    """Where a correlation comes from: a map (H // block, W // block) whose mean is rho(residual, pattern).

    The product of both, standardised, averaged over channels and blocks; what is left over at right and bottom is not
    counted.
    """
    a, b = as_pattern(residual), as_pattern(pattern)
    if a.shape != b.shape or block > min(a.shape[1:]):
        raise ValueError(f"residual {a.shape}, fingerprint {b.shape} and a block of {block} px do not fit")
    a, b = a - a.mean(), b - b.mean()
    scale = a.std() * b.std()
    product = (a * b).mean(0) / scale if scale > 0 else np.zeros(a.shape[1:])
    rows, columns = (side // block for side in product.shape)
    return product[: rows * block, : columns * block].reshape(rows, block, columns, block).mean((1, 3))


def spectral_peaks(pattern: ArrayLike, channel: str = "RGB", most: int = 6) -> pd.DataFrame:
    """The regular part of a pattern (3, H, W): lines of its spectrum that white noise would not have.

    A peak is the largest of its 3 x 3 neighbours and stands so far above the mean level in dB of its ring of equal
    frequency that of 20 patterns of white noise one has a line like it: of n bins of exponentially distributed power
    the largest exceeds ln(20 n) times the mean with a probability of 1 / 20, and the geometric mean is exp(-.577) of
    it. Frequencies below .03 cycles per px are the picture's, and left out.

    Returns
    -------
    DataFrame
        The ``most`` highest, one of each conjugate pair: ``fy``, ``fx`` in cycles per px, [0, .5] and (-.5, .5];
        ``period`` in px, ``height`` in dB above its ring; ``grid``, the least of 2, 4, 8, 16 px whose lattice
        of up-sampling has this line, 0 for none.
    """
    values = as_pattern(pattern, channel)
    power = (np.abs(np.fft.fft2(values - values.mean((1, 2), keepdims=True))) ** 2).mean(0)
    fy, fx = (np.where(f == -0.5, 0.5, f) for f in np.meshgrid(*map(np.fft.fftfreq, power.shape), indexing="ij"))
    radius = np.hypot(fy, fx)
    ring = np.minimum((radius * 90).astype(int), 63)
    level = 10 * np.log10(np.maximum(power, max(power.max(), 1e-300) * 1e-12))
    height = level - (np.bincount(ring.ravel(), level.ravel()) / np.maximum(np.bincount(ring.ravel()), 1))[ring]
    half = ((fy > 0) & ((fy < 0.5) | (fx >= 0))) | ((fy == 0) & (fx > 0))
    least = 10 * np.log10(np.log(20 * power.size / 2) * np.exp(np.euler_gamma))
    peak = half & (radius >= 0.03) & (height > least) & (power == maximum_filter(power, 3, mode="wrap"))
    rows, columns = np.nonzero(peak)
    found = pd.DataFrame({"fy": fy[rows, columns], "fx": fx[rows, columns], "height": height[rows, columns]})
    found.insert(2, "period", 1 / np.hypot(found.fy, found.fx))
    found["grid"] = 0
    for side in GRIDS[::-1]:
        on = np.abs(found[["fy", "fx"]] * side - (found[["fy", "fx"]] * side).round()).max(axis=1) < 1e-9
        found.loc[on, "grid"] = side
    return found.nlargest(most, "height").reset_index(drop=True)


def rho_by_frequency(residual: ArrayLike, pattern: ArrayLike) -> dict[str, float]:
    """A correlation by what carries it: parts that add up to rho(residual, pattern), both (3, H, W).

    By Parseval rho = sum_f Re(conj A B) / (H W |a| |b|), a and b without their means. A lattice of up-sampling of p px
    has the frequencies k / p; those of 2 px are not counted again with 4. "colour": the channels' means; "rest": no
    lattice's.
    """
    a, b = (x - x.mean() for x in (as_pattern(residual), as_pattern(pattern)))
    scale = a[0].size * np.linalg.norm(a) * np.linalg.norm(b)
    cross = (np.fft.fft2(a).conj() * np.fft.fft2(b)).real.sum(0) / (scale or 1.0)
    left, parts = np.ones(cross.shape, bool), {"colour": float(cross[0, 0])}
    left[0, 0] = False
    rows, columns = (np.arange(side)[:, None] for side in cross.shape)
    for period in GRIDS:
        on = left & (rows * period % cross.shape[0] == 0) & (columns.T * period % cross.shape[1] == 0)
        parts[f"{period} px"] = float(cross[on].sum())
        left &= ~on
    return {**parts, "rest": float(cross[left].sum())}


def lag_correlation(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """rho(a, b shifted round) for all shifts, (H, W) of two patterns (3, H, W); no shift at [H // 2, W // 2].

    Both are standardised over all values as in ``ncc``, so that the centre is their rho.
    """
    x, y = (v - v.mean() for v in (as_pattern(a), as_pattern(b)))
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    cross = np.fft.ifft2((np.fft.fft2(x) * np.fft.fft2(y).conj()).sum(0)).real
    return np.fft.fftshift(cross / scale if scale > 0 else np.zeros(cross.shape))
