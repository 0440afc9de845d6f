"""Traces of resizing in an image's pixels.

Interpolated pixels are weighted sums of their neighbours, with weights that repeat. So the size of the second
difference goes up and down with a period that the scale decides (Gallagher 2005; Mahdian & Saic 2008), and an image
that was enlarged has nothing left near the highest frequencies. Enlarged by 1.1 or 1.3: nearly every image is told;
by 2: about half of the photographs; shrunk by .9: half; shrunk by more: hardly any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from difcore.conditions import CUT, spectral_cut
from difcore.images import centre_crop

SIDE = 512  # px looked at, at most
SMALLEST = 64  # px
PEAK = 6.0  # of the period's line above the median of its neighbours; 2 % of lossless images exceed it


@dataclass(frozen=True)
class ResamplingTrace:
    """What is seen in one image.

    Attributes
    ----------
    peak : float
        Strongest line in the spectrum of the mean second difference, in medians of its neighbourhood.
    frequency : float
        Where it is, in cycles per px.
    cut : float
        ``conditions.spectral_cut``, dB.
    """

    peak: float
    frequency: float
    cut: float

    @property
    def periodic(self) -> bool:
        """Whether the second difference has a period, as after an enlargement."""
        return self.peak > PEAK

    @property
    def cut_off(self) -> bool:
        """Whether the highest frequencies are empty: enlarged by two or more, or smooth by the generator itself.

        Of 150 images of Stable Diffusion 2.1 this holds for 21 %.
        """
        return self.cut < CUT


def resampling_trace(image: NDArray[np.uint8]) -> ResamplingTrace | None:
    """Look for both traces, along rows and along columns; None if ``image`` (H, W, 3) is below ``SMALLEST`` px.

    Lines at multiples of 1/8 cycles/px are left out: JPEG blocks and the up-sampling of generators are there.
    """
    side = min(SIDE, *image.shape[:2]) // 8 * 8
    if side < SMALLEST:
        return None
    pixels = centre_crop(image, side)
    green = pixels[..., 1].astype(float)
    found = [_line(plane) for plane in (green, green.T)]
    peak, frequency = max(found)
    return ResamplingTrace(peak, frequency, spectral_cut(pixels))


def _line(plane: NDArray[np.float64]) -> tuple[float, float]:
    second = np.abs(2 * plane[:, 1:-1] - plane[:, :-2] - plane[:, 2:])
    profile = np.minimum(second, 4 * second.mean() + 1e-9).mean(0)  # an edge counts little more than a texture
    size = len(profile) // 8 * 8
    profile = profile[:size] - profile[:size].mean()
    spectrum = np.abs(np.fft.rfft(profile * np.hanning(size)))
    frequency = np.arange(len(spectrum)) / size
    around = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(spectrum, 10, mode="reflect"), 21), axis=1)
    off_grid = np.abs(frequency * 8 - np.round(frequency * 8)) > 2.5 * 8 / size
    ratio = np.where(off_grid & (frequency > 0.06), spectrum / np.maximum(around, 1e-9), 0)
    best = int(ratio.argmax())
    return float(ratio[best]), float(frequency[best])
