"""The augmentation of Wang et al. 2020, "CNN-generated images are surprisingly easy to spot... for now"."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from difcore.images import through_jpeg

SIGMA = (0.0, 3.0)  # px, of the blur
QUALITY = (30, 100)  # of the JPEG


def augment(image: np.ndarray, crop: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """One training view of an image: maybe blurred, maybe compressed, randomly cropped and mirrored.

    In Wang20's order: with ``probability`` a Gaussian blur, sigma ~ U(0, 3) px; with the same probability,
    independently, JPEG of a quality from 30 to 100; then the crop (so that the grid of the JPEG blocks lies anywhere
    in it); then a mirror image in half of the cases. Wang20 draw Pillow or OpenCV for the JPEG; here it is Pillow.

    Parameters
    ----------
    image : uint8 (H, W, 3)
    crop : int
        Side of the view in px, at most H and W.
    probability : float
        Wang20 publish models for 0.1 and 0.5.

    Returns
    -------
    uint8 (crop, crop, 3)
    """
    if rng.random() < probability:
        sigma = rng.uniform(*SIGMA)
        image = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)).round().clip(0, 255).astype(np.uint8)
    if rng.random() < probability:
        image = through_jpeg(np.ascontiguousarray(image), int(rng.integers(QUALITY[0], QUALITY[1] + 1)))
    top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
    view = image[top : top + crop, left : left + crop]
    return view[:, ::-1] if rng.random() < 0.5 else view
