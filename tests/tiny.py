"""Small images, networks and filters that the tests share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from difcore.files import sha256_bytes
from difcore.residuals.denoisers import Denoiser, DnCNN, FoldedDnCNN


def noise_images(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Independent uint8 pixels around mid-grey, (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    return np.clip(np.round(128 + 20 * rng.standard_normal((count, size, size, 3))), 0, 255).astype(np.uint8)


def textures(count: int, size: int = 128, seed: int = 0) -> list[np.ndarray]:
    """Colour pictures with shapes of every scale and a sensor's noise, each another, uint8 (size, size, 3)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        layers = [gaussian_filter(rng.standard_normal((size, size, 3)), (s, s, 0.5)) * s * 90 for s in (2, 6, 20)]
        image = 128 + sum(layers) + 3 * rng.standard_normal((size, size, 3))
        found.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    return found


def gradients(count: int = 4, size: int = 48) -> list[np.ndarray]:
    """Images of slow colour gradients, in which noise is easy to tell."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size][..., None] / size
    slopes = rng.uniform(-60, 60, (count, 2, 3))
    return [(rng.uniform(60, 190, 3) + y * a + x * b).clip(0, 255).astype(np.uint8) for a, b in slopes]


def grid(size: int = 32, period: int = 4, seed: int = 0) -> np.ndarray:
    """A pattern of a period, (3, size, size) float32, standard deviation about 1: what deconvolutions leave."""
    cell = np.random.default_rng(seed).standard_normal((3, period, period))
    return np.tile(cell, (1, size // period, size // period)).astype(np.float32)


def with_pattern(images: np.ndarray, pattern: np.ndarray, strength: float) -> np.ndarray:
    """uint8 images (N, H, W, 3) plus ``strength`` grey levels of a pattern (3, H, W)."""
    return np.clip(np.round(images + strength * pattern.transpose(1, 2, 0)), 0, 255).astype(np.uint8)


def write_images(folder: Path, images: Iterable[np.ndarray], prefix: str = "") -> list[Path]:
    """Write each image as a PNG; the files, in the images' order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, image in enumerate(images):
        paths.append(folder / f"{prefix}{k:03d}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def random_dncnn(depth: int = 4, features: int = 6, seed: int = 0) -> DnCNN:
    """A DnCNN in eval mode whose last layer and batch-norm statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    model = DnCNN(depth, features)
    nn.init.normal_(model.last.weight, std=0.2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


def random_denoiser(seed: int = 0, size: int = 32) -> Denoiser:
    """A tiny DnCNN with a bias of ``size`` px that is not zero."""
    bias = torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed)) / 100
    return Denoiser("random", FoldedDnCNN(random_dncnn(seed=seed)), bias, sha256_bytes(f"random {seed}".encode()))


class CountingFilter:
    """Half of its input, and a count of the images it was given."""

    def __init__(self, factor: float = 0.5) -> None:
        self.images, self.factor = 0, factor

    def __call__(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.factor * x


def counting_denoiser(name: str = "counting", factor: float = 0.5) -> tuple[Denoiser, CountingFilter]:
    """A denoiser without bias and padding, and the filter that counts for it."""
    count = CountingFilter(factor)
    return Denoiser(name, count, None, sha256_bytes(name.encode())), count
