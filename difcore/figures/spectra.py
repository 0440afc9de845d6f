"""Views of patterns as pure arrays: a channel, a displayable image, the Fourier spectrum, local correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

CHANNELS = ("RGB", "R", "G", "B", "mean")


def as_pattern(pattern: ArrayLike) -> np.ndarray:
    """``pattern`` as float64 (3, H, W); a leading axis of length 1 is dropped.

    Raises
    ------
    ValueError
        For any other shape.
    """
    values = np.asarray(pattern, np.float64)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3 or values.shape[0] != 3:
        raise ValueError(f"a pattern has shape (3, H, W), got {values.shape}")
    return values


def select_channel(pattern: ArrayLike, channel: str = "RGB") -> np.ndarray:
    """The chosen channels of a pattern (3, H, W): all three, one, or their mean, as (K, H, W) with K = 3 or 1.

    Raises
    ------
    ValueError
        If ``channel`` is none of "RGB", "R", "G", "B", "mean".
    """
    values = as_pattern(pattern)
    if channel not in CHANNELS:
        raise ValueError(f"unknown channel {channel!r}; choose from {', '.join(CHANNELS)}")
    if channel == "RGB":
        return values
    return values.mean(0, keepdims=True) if channel == "mean" else values[["RGB".index(channel)]]


def fourier_magnitude(pattern: ArrayLike, power: float = 4.0, channel: str | None = None) -> np.ndarray:
    """Spectrum of a pattern for looking at: mean-free, |FFT2|, log, min-max to [0, 1], shifted, raised to ``power``.

    With c running over the chosen channels and p_c made mean-free,

        S = (minmax(log mean_c |FFT2(p_c)|)) ** power

    which is the spectrum of the gray-image experiment. Each channel loses its own mean, so a colour cast leaves no
    peak, and the zero frequency, which is then empty, gets the smallest value of the others.

    Parameters
    ----------
    pattern : array (3, H, W)
    power : float
        4 in the official code; 1 shows the noise floor too, larger values only the strongest peaks.
    channel : {None, "RGB", "R", "G", "B", "mean"}
        None and "RGB" average the three magnitudes; "mean" is the spectrum of the channels' mean.

    Returns
    -------
    ndarray (H, W)
        In [0, 1], zero frequency at [H // 2, W // 2]. All zeros for a constant pattern.

    Raises
    ------
    ValueError
        If the shape, the channel or the power (not positive) is wrong.
    """
    if not power > 0:
        raise ValueError(f"the power of a spectrum must be positive, got {power}")
    values = select_channel(pattern, channel or "RGB")
    free = values - values.mean((1, 2), keepdims=True)
    if np.abs(free).max() <= 1e-12 * max(1e-300, np.abs(values).max()):  # rounding only
        return np.zeros(values.shape[1:])
    magnitude = np.abs(np.fft.fft2(free)).mean(0)
    magnitude = np.maximum(magnitude, magnitude.max() * 1e-12)  # what is below is rounding
    magnitude[0, 0] = magnitude.ravel()[1:].min()
    log = np.log(magnitude)
    spread = log.max() - log.min()
    scaled = (log - log.min()) / spread if spread > 0 else np.zeros_like(log)
    return np.fft.fftshift(scaled) ** power


def fingerprint_image(pattern: ArrayLike, channel: str = "RGB", percentile: float = 1.0) -> np.ndarray:
    """A pattern stretched to [0, 1] for display: from ``percentile`` to 100 - ``percentile`` of its values, clipped.

    Parameters
    ----------
    pattern : array (3, H, W)
    channel : {"RGB", "R", "G", "B", "mean"}
    percentile : float
        In [0, 50); the same limits for all channels, so that hues survive.

    Returns
    -------
    ndarray (H, W, 3) for "RGB", else (H, W)
        0.5 everywhere for a constant pattern.
    """
    values = select_channel(pattern, channel)
    low, high = np.percentile(values, [percentile, 100 - percentile])
    if high <= low:  # nearly all values are equal: fall back to the full range
        low, high = values.min(), values.max()
    image = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    return image.transpose(1, 2, 0) if channel == "RGB" else image[0]


def centre_zoom(pattern: ArrayLike, crop: int | None) -> np.ndarray:
    """Central ``crop`` px of (3, H, W); all of it when ``crop`` is None or not smaller."""
    values = as_pattern(pattern)
    if crop is None:
        return values
    height, width = values.shape[1:]
    top, left = max(0, (height - crop) // 2), max(0, (width - crop) // 2)
    return values[:, top : top + crop, left : left + crop]


def radial_power(pattern: ArrayLike, bins: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of a pattern on rings of equal spatial frequency.

    Parameters
    ----------
    pattern : array (3, H, W)
    bins : int
        Rings between 0 and sqrt(1/2) cycles/px, the corner of the spectrum; empty rings are left out.

    Returns
    -------
    frequency, power : ndarray (K,), ndarray (K,)
        Ring centres in cycles/px; mean of |FFT2|^2 / (H W), so that white noise of variance v gives v everywhere.
    """
    values = as_pattern(pattern)
    free = values - values.mean((1, 2), keepdims=True)
    height, width = values.shape[1:]
    power = (np.abs(np.fft.fft2(free)) ** 2).mean(0) / (height * width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    edges = np.linspace(0, 0.5**0.5 + 1e-9, bins + 1)
    ring = np.digitize(radius.ravel()[1:], edges) - 1  # [1:] leaves the zero frequency out
    count = np.bincount(ring, minlength=bins)
    total = np.bincount(ring, power.ravel()[1:], minlength=bins)
    full = count > 0
    return (edges[:-1] + edges[1:])[full] / 2, total[full] / count[full]


def local_correlation(residual: ArrayLike, pattern: ArrayLike, block: int = 16) -> np.ndarray:
    """Where a correlation comes from: a map (H // block, W // block) whose mean is rho(residual, pattern).

    Both are standardised over all C*H*W values; the map is their product, averaged over channels and blocks. The
    mean is exact when ``block`` divides both sides; otherwise the right and bottom rest is left out.

    Raises
    ------
    ValueError
        If the shapes differ, or the block is larger than the pattern.
    """
    a, b = as_pattern(residual), as_pattern(pattern)
    if a.shape != b.shape:
        raise ValueError(f"residual {a.shape} and fingerprint {b.shape} differ in shape")
    rows, columns = a.shape[1] // block, a.shape[2] // block
    if not rows or not columns:
        raise ValueError(f"a block of {block} px is larger than the pattern of {a.shape[1]} x {a.shape[2]} px")
    a, b = a - a.mean(), b - b.mean()
    scale = a.std() * b.std()
    product = (a * b).mean(0) / scale if scale > 0 else np.zeros(a.shape[1:])
    return product[: rows * block, : columns * block].reshape(rows, block, columns, block).mean((1, 3))
