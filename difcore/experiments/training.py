"""Train a residual filter on one's own photographs or on scenes, and measure it beside the shipped ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from difcore.denoiser_training import TrainingPlan, export_snapshot, train_dncnn
from difcore.denoisers import SHIPPED, load_denoiser
from difcore.experiments.denoising import psnr_table
from difcore.files import sha256_bytes
from difcore.images import ImageError, list_images, read_crop
from difcore.residuals import sha256_pixels
from difcore.scenes import scene


@dataclass(frozen=True)
class DenoiserRun:
    """What a training leaves.

    Attributes
    ----------
    psnr : DataFrame
        denoiser, sigma, psnr (dB), n, seed, images.
    losses : list of float
        Per step: mean squared error over (10/255)^2.
    example : (clean, noisy, residual)
        float32 (3, H, W) each, noise of sigma 10/255.
    biases, weights : dict
        F_DnCNN and hash of each filter.
    """

    psnr: pd.DataFrame
    losses: list[float]
    example: tuple[np.ndarray, np.ndarray, np.ndarray]
    biases: dict[str, np.ndarray]
    weights: dict[str, str]


def training_images(photos: Path | str | None, scenes: int, scene_size: int, seed: int = 0) -> list[np.ndarray]:
    """All readable images of a folder, or ``scenes`` procedural ones; uint8 (H, W, 3) each.

    Raises
    ------
    FolderError, ImageError
        If the folder holds none that can be read.
    """
    if not photos:
        return [scene(10_000 * (seed + 1) + k, scene_size) for k in range(scenes)]
    images = []
    for path in list_images(photos):
        try:
            images.append(read_crop(path, None))
        except ImageError as error:
            tqdm.write(f"skipped {path.name}: {error}")
    if not images:
        raise ImageError(f"no image in {photos} could be read")
    return images


def train_and_measure(
    images: Sequence[np.ndarray],
    plan: TrainingPlan,
    folder: Path | str,
    bias_size: int = 256,
    device: str = "cpu",
    progress: bool = True,
) -> DenoiserRun:
    """Train DnCNN-S, store it as ``folder``/dncnn.safetensors, measure its PSNR on held-out scenes beside the shipped.

    Resumes from ``folder``/training/<hash of plan and images>, so that other images or another plan start anew. The
    scenes of the measurement are none of those ``training_images`` makes.
    """
    folder = Path(folder)
    run = sha256_bytes(repr(plan).encode(), *(sha256_pixels(image).encode() for image in images))
    training = folder / "training" / run[:12]
    snapshot = train_dncnn(images, plan, training, (), 50, device, progress)
    losses = torch.load(training / "checkpoint.pt", map_location="cpu", weights_only=True)["losses"]
    path = export_snapshot(snapshot, images, folder / "dncnn.safetensors", plan, {"data": "own training"}, bias_size)
    filters = {"this run": load_denoiser(path)}
    filters |= {name: load_denoiser(name) for name, shipped in SHIPPED.items() if shipped.is_file()}
    test = [scene(90_000_000 + k, 96) for k in range(8)]
    clean = np.moveaxis(test[0], -1, 0).astype(np.float32) / 255
    noise = np.random.default_rng(plan.seed).standard_normal(clean.shape).astype(np.float32) * 10 / 255
    residual = filters["this run"].filter(torch.from_numpy(clean + noise)[None])[0].numpy()
    biases = {name: d.bias.float().numpy() for name, d in filters.items() if d.bias is not None}
    table = psnr_table(filters, test, plan.seed).assign(images="held-out scenes (demo)")
    return DenoiserRun(table, losses, (clean, clean + noise, residual), biases, {n: d.hash for n, d in filters.items()})
