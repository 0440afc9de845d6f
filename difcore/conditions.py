"""What can be told cheaply of an image that takes a fingerprint's word from it: constant, JPEG last, made larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difcore.audit import audit_folder
from difcore.images import read_crop
from difcore.residuals import sha256_pixels

FLAT = 0.95  # share of pixels like their neighbours from which a crop is constant but for a few
LOW, HIGH, CUT = (0.2, 0.3), 0.4, -22.0  # bands in cycles per px, and dB between them


@dataclass(frozen=True)
class Condition:
    """What is known of one image.

    Attributes
    ----------
    flat : float
        Share of the crop's pixels that are as their right and lower neighbours.
    cut : float
        Power in the spectrum's highest band over that of the middle one, dB; 0 where there is no power.
    jpeg_quality : int or None
        IJG quality of the file, the nearest one; None if the file is not JPEG.
    content : str
        ``sha256_pixels`` of the crop.
    """

    flat: float
    cut: float
    jpeg_quality: int | None
    content: str

    @property
    def constant(self) -> bool:
        """Whether the crop shows next to nothing; a letterboxed image may, though all of it does not."""
        return self.flat >= FLAT

    @property
    def resampled(self) -> bool:
        """Whether the spectrum is cut off: the image was made larger.

        Of 100 images each of five clean generators, of TAEF2 and of JPEG photographs, and of 68 lossless ones, two of
        SD 2.1 are below -22 dB and no other (at -18 dB: a fifth of SD 2.1's, whose images are soft). Of 60 photographs
        made larger by 1.5 or 2 with Lanczos three in four are, made twice as large with bicubic or bilinear half; by a
        quarter, or by half with softer kernels, none. What was made smaller cannot be told in this way.
        """
        return not self.constant and self.cut < CUT


def conditions_of(files: Sequence[Path], crop: int) -> list[Condition]:
    """Of readable image files of at least ``crop`` px a side."""
    audit = audit_folder(list(files)).files.set_index("path")["jpeg_quality"]
    known = audit[~audit.index.duplicated()]
    found = []
    for path in files:
        pixels, quality = read_crop(path, crop), known.get(str(path), np.nan)
        jpeg = None if np.isnan(quality) else int(quality)
        found.append(Condition(flat_share(pixels), spectral_cut(pixels), jpeg, sha256_pixels(pixels)))
    return found


def flat_share(pixels: np.ndarray) -> float:
    """Share of the pixels of uint8 (H, W, 3) that equal both their right and their lower neighbour, 0 to 1."""
    same = (pixels[:-1, :-1] == pixels[1:, :-1]) & (pixels[:-1, :-1] == pixels[:-1, 1:])
    return float(same.all(-1).mean())


def spectral_cut(pixels: np.ndarray) -> float:
    """Mean power above .4 cycles per px over that between .2 and .3, in dB, of uint8 (H, W, 3); 0 without any.

    Frequencies are the larger of the two directions': what was made larger by s has next to nothing above 1 / (2 s).
    A Hann window keeps the border out.
    """
    image = pixels.astype(np.float32) - pixels.mean((0, 1), dtype=np.float32)
    window = np.hanning(pixels.shape[0])[:, None, None] * np.hanning(pixels.shape[1])[None, :, None]
    power = (np.abs(np.fft.fft2(image * window, axes=(0, 1))) ** 2).mean(-1)
    f = np.maximum(*np.abs(np.meshgrid(*(np.fft.fftfreq(n) for n in power.shape), indexing="ij")))
    high, low = power[f > HIGH].mean(), power[(f > LOW[0]) & (f < LOW[1])].mean()
    return float(10 * np.log10(high / low)) if high > 0 and low > 0 else 0.0
