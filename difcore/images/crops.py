"""Images as the paper uses them: centre crops of native pixels, never resized, never padded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from difcore.files import sha256_bytes
from difcore.images.decoding import ImageError, centre_offset, open_image, to_rgb


@dataclass(frozen=True)
class Skipped:
    """An image left out, and why."""

    path: Path
    reason: str


def read_crop(
    source: Path | str | NDArray[np.uint8], crop: int | None = 256, jpeg: int | None = None
) -> NDArray[np.uint8]:
    """Centre crop of native pixels, 8-bit RGB by the rules in ``difcore.images.decoding``.

    Safe to call from several threads. Decodes once, and not at all if the header says the image is too small.

    Parameters
    ----------
    source : path, or ndarray (H, W, 3) uint8
        An array stands for an image already decoded.
    crop : int or None
        Side in pixels; None keeps the whole image.
    jpeg : int or None
        Re-encode the crop as JPEG of this quality and decode it again, so that both classes have the same last
        encoding: the format-matched control.

    Returns
    -------
    ndarray (crop, crop, 3) uint8
        RGB, 0..255; a copy, contiguous.

    Raises
    ------
    ImageError
        If the image is smaller than the crop, unreadable, truncated, too large or of samples without a rule. Pillow
        hides truncation while other code has set its global ``LOAD_TRUNCATED_IMAGES``; that is left as found.
    ValueError
        If ``crop`` is below 1 or ``jpeg`` not in 1..100.
    """
    if crop is not None and crop < 1:
        raise ValueError(f"the crop must be at least 1 px, got {crop}")
    check_quality(jpeg)
    if isinstance(source, np.ndarray):
        pixels = np.array(source if crop is None else centre_crop(source, crop))
    else:
        with open_image(source) as image:
            check_size(image.height, image.width, crop or 1)
            pixels = to_rgb(image, crop)
    return pixels if jpeg is None else through_jpeg(pixels, jpeg)


def decode(path: Path | str) -> NDArray[np.uint8]:
    """The whole image, uint8 (H, W, 3): ``read_crop`` without a crop."""
    return read_crop(path, crop=None)


def centre_crop(array: NDArray[Any], crop: int) -> NDArray[Any]:
    """View (crop, crop, ...) of ``array`` (H, W, ...), from ``centre_offset``; ImageError if it is too small."""
    height, width = array.shape[:2]
    check_size(height, width, crop)
    top, left = centre_offset(height, crop), centre_offset(width, crop)
    return array[top : top + crop, left : left + crop]


def centre_crops(images: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """View (N, crop, crop, 3) of the centres of uint8 images (N, H, W, 3); ValueError for other arrays."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (N, H, W, 3), got {images.dtype} {images.shape}")
    return centre_crop(images.transpose(1, 2, 0, 3), crop).transpose(2, 0, 1, 3)


def check_classes(real: NDArray[np.uint8], fake: NDArray[np.uint8]) -> None:
    """Raise ValueError unless both are uint8 (N >= 2, H, W, 3) with images of one size."""
    for label, x in (("real", real), ("fake", fake)):
        if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8:
            raise ValueError(f"{label} images must be uint8 (N, H, W, 3), got {x.dtype} {x.shape}")
        if len(x) < 2:
            raise ValueError(f"a fit needs at least 2 {label} images, got {len(x)}")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real and fake images differ in size: {real.shape[1:3]}, {fake.shape[1:3]}")


def check_size(height: int, width: int, crop: int) -> None:
    """Raise ImageError if a crop of ``crop`` px does not fit."""
    if min(height, width) < crop:
        raise ImageError(f"too small: {width}x{height} px for a crop of {crop} px")


def check_quality(jpeg: int | None) -> None:
    """Raise ValueError unless ``jpeg`` is None or a JPEG quality, 1 to 100."""
    if jpeg is not None and not 1 <= jpeg <= 100:
        raise ValueError(f"JPEG quality must be in 1..100, got {jpeg}")


def through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """``pixels`` (H, W, 3) uint8 encoded as baseline JPEG (IJG quality 1 to 100, 4:2:0) and decoded again."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer, formats=["JPEG"]))


def usable_crops(paths: Iterable[Path], crop: int, most: int | None = None) -> dict[Path, NDArray[np.uint8]]:
    """Centre crops of the first ``most`` images (None: all) that have one; what cannot be used is passed over."""
    found: dict[Path, NDArray[np.uint8]] = {}
    for path in paths:
        if len(found) == most:
            break
        with suppress(ImageError):
            found[path] = read_crop(path, crop)
    return found


def skip_report(skipped: Sequence[Skipped], total: int) -> str:
    """One line that counts the images left out of ``total``, by kind of reason; empty if none was."""
    if not skipped:
        return ""
    kinds = [entry.reason.partition(":")[0] for entry in skipped]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds), key=lambda k: (-kinds.count(k), k)))
    return f"skipped {len(skipped)} of {total} images: {counts}"


def sha256_pixels(image: np.ndarray) -> str:
    """Hash of an image's shape and pixels."""
    return sha256_bytes(str(image.shape).encode(), np.ascontiguousarray(image).data)
