"""Photographs of three kinds made of one folder: as they are, made smaller, and seen by a camera's colour mosaic.

What a filter leaves of a photograph depends on how it was made: blocks of JPEG, a lattice of 2 px where a camera's own
pixels are seen, neither where it was made smaller. A null of one kind says little of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from difcore.images.crops import centre_crop, decode
from difcore.images.scenes import bayer_camera

SHORT, SMALLEST = 272, 340  # px, of the short side: what photographs are made, and what those left out are under


def smaller(files: Sequence[Path], short: int = SHORT, smallest: int = SMALLEST) -> Iterator[tuple[Path, np.ndarray]]:
    """Each photograph at a short side of ``short`` px (Lanczos), whole; those under ``smallest`` are left out."""
    for path in files:
        image = Image.fromarray(decode(path))
        if min(image.size) >= smallest:
            scale = short / min(image.size)
            width, height = (max(short, round(side * scale)) for side in image.size)
            yield path, np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def lossless(files: Sequence[Path], crop: int = 256) -> dict[Path, np.ndarray]:
    """Centres of the smaller photographs, uint8 (crop, crop, 3) each, not encoded again."""
    return {path: centre_crop(image, crop) for path, image in smaller(files)}


def demosaiced(files: Sequence[Path], crop: int = 256) -> dict[Path, np.ndarray]:
    """Crops of the smaller photographs through ``scenes.bayer_camera``, at a random phase of its mosaic."""
    crops = {}
    for k, (path, image) in enumerate(smaller(files)):
        rng = np.random.default_rng(k)
        seen = bayer_camera(centre_crop(image, crop + 2).astype(np.float32) / 255, rng)
        y, x = rng.integers(2, size=2)
        crops[path] = seen[y : y + crop, x : x + crop]
    return crops
