"""How strong should the residual filter be? PSNR and agreement with the published fingerprints, along the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from difcore.bias import border_profile
from difcore.denoiser_training import mean_residual, psnr
from difcore.denoisers import LIMIT, Denoiser, DnCNN, FoldedDnCNN
from difcore.experiments.published import agreement, score_release
from difcore.files import DATA_DIR, sha256_bytes, sha256_file
from difcore.paper import WITH_IMAGES

SIGMAS = (5, 10, 15)
RECORDED = DATA_DIR / "denoiser_agreement.csv"


def snapshot_denoiser(snapshot: Path | str, images: Sequence[np.ndarray], bfloat16: bool = False) -> Denoiser:
    """The residual filter of a training snapshot, with F_DnCNN measured on ``images``, limited."""
    state = torch.load(snapshot, map_location="cpu", weights_only=True)
    features = state["last.weight"].shape[1]
    depth = 2 + sum(key.startswith("middle.") and value.ndim == 4 for key, value in state.items())
    model = DnCNN(depth, features)
    model.load_state_dict(state)
    filter_ = FoldedDnCNN(model.eval(), bfloat16=bfloat16)
    bias = border_profile(mean_residual(filter_, images))
    digest = sha256_bytes(f"{sha256_file(snapshot)} {bfloat16} {LIMIT}".encode(), bias.numpy().tobytes())
    return Denoiser(Path(snapshot).stem, filter_, bias, digest, limit=LIMIT)


def psnr_table(denoisers: Mapping[str, Denoiser], images: Sequence[np.ndarray], seed: int = 0) -> pd.DataFrame:
    """PSNR in dB at sigma = 5, 10, 15 of each denoiser (without its bias) on clean images.

    Columns: denoiser, sigma, psnr, n, seed.
    """
    return pd.DataFrame(
        {"denoiser": name, "sigma": sigma, "psnr": psnr(d.filter, images, sigma, seed), "n": len(images), "seed": seed}
        for name, d in denoisers.items()
        for sigma in SIGMAS
    )


def agreement_along(
    snapshots: Mapping[int, Denoiser],
    release: Path | str,
    clean: Sequence[np.ndarray],
    label: str,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """One row per training step: label, step, psnr_5, psnr_10, psnr_15, and all of ``published.agreement``."""
    rows = []
    for step, denoiser in tqdm(snapshots.items(), desc=f"agreement ({label})", disable=not progress):
        psnrs = {f"psnr_{s}": psnr(denoiser.filter, clean, s, seed) for s in SIGMAS}
        rows.append({"denoiser": label, "step": step, **psnrs, **agreement(score_release(release, denoiser))})
    return pd.DataFrame(rows)


def recorded_agreement() -> pd.DataFrame:
    """Agreement along the trainings behind the shipped weights, as ``scripts/denoiser_agreement.py`` measured it."""
    return pd.read_csv(RECORDED)


def agreement_frame(table: pd.DataFrame) -> pd.DataFrame:
    """A table of ``agreement_along`` as one value per row: denoiser, step, quantity, series, value."""
    series = {f"auc_{g}": ("auc", g) for g in WITH_IMAGES} | {f"psnr_{s}": ("psnr", f"σ = {s}") for s in SIGMAS}
    parts = [
        table[["denoiser", "step"]].assign(quantity=quantity, series=name, value=table[column])
        for column, (quantity, name) in series.items()
    ]
    return pd.concat(parts, ignore_index=True)
