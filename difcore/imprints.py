"""What the audit keeps of one image, so that hundreds of large ones need not be in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from difcore.content import perceptual_hash, thumbnail
from difcore.decoding import ImageError
from difcore.images import centre_crop, decode
from difcore.leakage import Trace, trace
from difcore.resampling import ResamplingTrace, resampling_trace
from difcore.residuals import sha256_pixels
from difcore.watermark import Bits, quantised, read_bits

CROP = 256  # px, of residuals
LOOKED_AT = 1024  # px, of windows that identify a picture


@dataclass(frozen=True)
class Imprint:
    """What is known of one image; the last five are empty after a quick look.

    Attributes
    ----------
    path : Path
    crop : uint8 (H, W, 3)
        The centre, at most ``CROP`` px a side.
    bits : (H // 8, W // 8)
        ``watermark.read_bits`` of the whole image.
    quantised : float
        ``watermark.quantised`` of the whole image.
    content : str
        SHA-256 of the pixels.
    windows : frozenset of int
        ``leakage.trace`` of the centre.
    layout : bool (64,) or None
        ``content.perceptual_hash``.
    thumbnail : float (192,)
        ``content.thumbnail``.
    trace : ResamplingTrace or None
    """

    path: Path
    crop: NDArray[np.uint8]
    bits: Bits
    quantised: float
    content: str = ""
    windows: Trace = frozenset()
    layout: NDArray[np.bool_] | None = None
    thumbnail: NDArray[np.float64] | None = None
    trace: ResamplingTrace | None = None


def imprint(path: Path, quick: bool = False) -> Imprint | None:
    """The imprint of an image file; None if it cannot be read. ``quick`` leaves out contents and resampling."""
    try:
        image = decode(path)
    except ImageError:
        return None
    found = Imprint(path, middle(image, CROP).copy(), read_bits(image), quantised(image))
    if quick:
        return found
    windows, layout = trace(middle(image, LOOKED_AT)), perceptual_hash(image)
    rest = (sha256_pixels(image), windows, layout, thumbnail(image), resampling_trace(image))
    return Imprint(path, found.crop, found.bits, found.quantised, *rest)


def middle(image: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """View of the central square of ``image``, as large as it is but at most ``most`` px a side."""
    return centre_crop(image, min(most, *image.shape[:2]))


def readable(found: Sequence[Imprint | None]) -> list[Imprint]:
    """Those of images that could be read."""
    return [one for one in found if one is not None]
