"""Notebook 05: train a residual filter, measure it beside the shipped ones, and ask how strong it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from difcore.experiments.claiming import decide
from difcore.files import DATA_DIR, sha256_bytes
from difcore.images.crops import read_crop, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images
from difcore.images.scenes import scene
from difcore.paper import WITH_IMAGES
from difcore.records.claims import Claim
from difcore.residuals.denoiser_training import TrainingPlan, export_snapshot, psnr, train_dncnn
from difcore.residuals.denoisers import SHIPPED, Denoiser, load_denoiser

SIGMAS = (5, 10, 15)


@dataclass(frozen=True)
class DenoiserRun:
    """PSNR (dB), losses (over (10/255)^2), an example (clean, noisy, residual), F_DnCNN and hash of each filter."""

    psnr: pd.DataFrame
    losses: list[float]
    example: tuple[np.ndarray, np.ndarray, np.ndarray]
    biases: dict[str, np.ndarray]
    weights: dict[str, str]


def training_images(photos: Path | str | None, scenes: int, scene_size: int, seed: int = 0) -> list[np.ndarray]:
    """All readable images of a folder, or ``scenes`` procedural ones; FolderError or ImageError if there is none."""
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


def psnr_table(denoisers: Mapping[str, Denoiser], images: Sequence[np.ndarray], seed: int = 0) -> pd.DataFrame:
    """PSNR in dB at sigma = 5, 10, 15 of each denoiser (without its bias) on clean images, tidy."""
    return pd.DataFrame(
        {"denoiser": name, "sigma": sigma, "psnr": psnr(d.filter, images, sigma, seed), "n": len(images), "seed": seed}
        for name, d in denoisers.items()
        for sigma in SIGMAS
    )


def recorded_agreement() -> pd.DataFrame:
    """Agreement along the trainings behind the shipped weights, as ``scripts/denoiser_agreement.py`` measured it."""
    return pd.read_csv(DATA_DIR / "denoiser_agreement.csv")


def agreement_frame(table: pd.DataFrame) -> pd.DataFrame:
    """A table of ``agreement_along`` as one value per row: denoiser, step, quantity, series, value."""
    series = {f"auc_{g}": ("auc", g) for g in WITH_IMAGES} | {f"psnr_{s}": ("psnr", f"σ = {s}") for s in SIGMAS}
    parts = [
        table[["denoiser", "step"]].assign(quantity=quantity, series=name, value=table[column])
        for column, (quantity, name) in series.items()
    ]
    return pd.concat(parts, ignore_index=True)


def denoiser_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``05_train_denoiser``: training raises PSNR; agreement with the published fingerprints need not rise."""
    claims = []
    for label, rows in table.groupby("denoiser", sort=False):
        rows = rows.sort_values("step")
        best, last = rows.loc[rows.mean_auc.idxmax()], rows.iloc[-1]
        trend = spearmanr(rows.psnr_10, rows.mean_auc) if len(rows) > 2 else None
        rho, p = (float(trend.statistic), float(trend.pvalue)) if trend else (np.nan, 1.0)
        claims.append(
            decide(
                f"{label}: a stronger filter agrees better with the published fingerprints",
                "not tested (weights trained for 2000 epochs, not public)",
                f"rank correlation of PSNR and mean AUC {rho:+.2f} over {len(rows)} snapshots; mean AUC "
                f"{best.mean_auc:.3f} at step {best.step} ({best.psnr_10:.1f} dB at sigma 10), "
                f"{last.mean_auc:.3f} at step {last.step} ({last.psnr_10:.1f} dB)",
                rho > 0,
                1.0 if np.isnan(p) else p,
                "the agreement falls as the PSNR rises",
                "the snapshots",
            )
        )
    return claims
