"""What happens to images on their way: the literature's grid of operations, a seeded chain of them, delivery tiers."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian

from difcore.images.crops import through_jpeg

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]
LARGEST = 1080  # px, of the chain's centre crop


def through_webp(image: Pixels, quality: int) -> Pixels:
    """``image`` encoded as lossy WebP and decoded again."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality)
    return np.array(Image.open(buffer, formats=["WEBP"]).convert("RGB"))


def resized(image: Pixels, scale: float) -> Pixels:
    """``image`` made larger or smaller, bicubic."""
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def blurred(image: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of ``sigma`` px."""
    return np.asarray(np.rint(gaussian(image, sigma, channel_axis=2, preserve_range=True)), np.uint8)


def noisy(image: Pixels, rng: np.random.Generator, sigma: float) -> Pixels:
    """White Gaussian noise of ``sigma``, in units of the full range."""
    noise = 255 * sigma * rng.standard_normal(image.shape, np.float32)
    return np.asarray(np.clip(np.rint(image + noise), 0, 255), np.uint8)


def shifted(image: Pixels, by: int) -> Pixels:
    """What is left of ``image`` where its centre is so many px further down and to the right."""
    return image[2 * by :, 2 * by :]


def delivered(image: Pixels, longest: int, quality: int) -> Pixels:
    """As a service passes it on: at most ``longest`` px a side, JPEG."""
    small = Image.fromarray(image)
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return through_jpeg(np.array(small), quality)


def chain(image: Pixels, rng: np.random.Generator, sides: tuple[int, int] = (256, 512)) -> Pixels:
    """AI-GenBench's chain (Pellegrini et al. 2025), each step by chance: what it draws depends on ``rng`` alone.

    Centre crop to at most 1080 px; grey, p = .1; JPEG of quality 50 to 100, p = .5; noise of .015 to .075, p = .3;
    JPEG, p = .2; random resized crop (.08 to 1 of the area) to a side within ``sides``, p = .25; JPEG, p = .1.
    """
    height, width = (min(side, LARGEST) for side in image.shape[:2])
    top, left = ((a - b) // 2 for a, b in zip(image.shape[:2], (height, width), strict=True))
    image = image[top : top + height, left : left + width]
    if rng.random() < 0.1:
        image = np.repeat(np.array(Image.fromarray(image).convert("L"))[..., None], 3, 2)
    image = through_jpeg(image, int(rng.integers(50, 101))) if rng.random() < 0.5 else image
    image = noisy(image, rng, rng.uniform(0.015, 0.075)) if rng.random() < 0.3 else image
    image = through_jpeg(image, int(rng.integers(50, 101))) if rng.random() < 0.2 else image
    if rng.random() < 0.25:
        share, ratio = rng.uniform(0.08, 1), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        rows, columns = (max(8, min(round((height * width * share * r) ** 0.5), side))
                         for r, side in ((1 / ratio, height), (ratio, width)))  # fmt: skip
        y, x = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        side = int(rng.integers(sides[0], sides[1] + 1))
        part = Image.fromarray(np.ascontiguousarray(image[y : y + rows, x : x + columns]))
        image = np.array(part.resize((side, side), Image.Resampling.BICUBIC))
    return through_jpeg(image, int(rng.integers(50, 101))) if rng.random() < 0.1 else image


def changes(crop: int) -> dict[str, Change]:
    """Operations by name; the sides of the chain's crops are one to two times ``crop``, as 256 to 512 are of 256 px."""
    plain: dict[str, Callable[[Pixels], Pixels]] = {"none": np.asarray}
    plain |= {f"JPEG {q}": partial(through_jpeg, quality=q) for q in (100, 95, 90, 80, 70, 60, 50)}
    plain |= {f"WebP {q}": partial(through_webp, quality=q) for q in (90, 75)}
    plain |= {f"resize {scale:g}": partial(resized, scale=scale) for scale in (0.5, 0.75, 0.9, 1.1, 1.5, 2)}
    plain |= {f"blur {sigma:g}": partial(blurred, sigma=sigma) for sigma in (0.5, 1, 2)}
    plain |= {f"offset {by}": partial(shifted, by=by) for by in (1, 2, 4, 7, 8, 16, 31)}
    plain |= {f"tier {px} px, q{q}": partial(delivered, longest=px, quality=q) for px, q in ((768, 60), (512, 40))}
    found: dict[str, Change] = {name: partial(_without_chance, change) for name, change in plain.items()}
    found |= {f"noise {sigma:g}": partial(noisy, sigma=sigma) for sigma in (0.01, 0.03, 0.05)}
    return found | {"AI-GenBench's chain": partial(chain, sides=(crop, 2 * crop))}


def _without_chance(change: Callable[[Pixels], Pixels], image: Pixels, rng: np.random.Generator) -> Pixels:
    return change(image)
