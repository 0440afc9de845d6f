"""Fit, evaluate, detect and cross-detect on folders of images: what the command line does, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from difcore.correlation import cross_detection
from difcore.denoisers import Denoiser
from difcore.files import sha256_bytes
from difcore.fingerprints import Fingerprint
from difcore.fit import DifPlan
from difcore.images import Skipped, find_generators
from difcore.methods import FITTED, check_method, fit_pattern
from difcore.residuals import ResidualSet, Source, residuals_of
from difcore.stats import Detection, as_row, detection


@dataclass(frozen=True)
class FitResult:
    """A fingerprint, how it does on images it never saw (None if none were held out), and what was skipped."""

    fingerprint: Fingerprint
    held_out: Detection | None
    skipped: tuple[Skipped, ...]


def split(n: int, train: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random disjoint indices (train, rest) of ``n`` images; ``train`` None takes all.

    Raises
    ------
    ValueError
        If fewer than ``train`` images are there.
    """
    if train is not None and train > n:
        raise ValueError(f"asked for {train} training images, only {n} are usable")
    order = rng.permutation(n)
    return order[:train], order[train:] if train is not None else order[:0]


def draw(hashes: Sequence[str], train: int | None, seed: int) -> list[int]:
    """Indices of the training images: those first in an order that depends on the seed and their content alone.

    So a set of images shared by several generators is divided in the same way for each. Half, if ``train`` is None.
    """
    count = len(hashes) // 2 if train is None else train
    if count > len(hashes):
        raise ValueError(f"asked for {count} training images, only {len(hashes)} are usable")
    return sorted(range(len(hashes)), key=lambda i: sha256_bytes(f"{seed}:{hashes[i]}".encode()))[:count]


def untrained(residuals: ResidualSet, trained: set[str]) -> np.ndarray:
    """Residuals of the images whose hash is not in ``trained``, (N, 3, H, W)."""
    return residuals.take([i for i, digest in enumerate(residuals.hashes) if digest not in trained]).values


def unique(residuals: ResidualSet) -> ResidualSet:
    """Without repeated images: a copy in both train and test would be a leak."""
    _, first = np.unique(np.array(residuals.hashes), return_index=True)
    if len(first) == len(residuals):
        return residuals
    return replace(residuals.take(np.sort(first)), skipped=residuals.skipped)


def unique_pair(
    real: Source, fake: Source, denoiser: Denoiser, crop: int, jpeg: int | None = None, progress: bool = False
) -> dict[str, ResidualSet]:
    """Residuals of both classes, {"real": ..., "fake": ...}, without repeated images.

    Raises
    ------
    FolderError, ImageError, ValueError
        Folders without images, no usable image, an image in both classes.
    """
    sources = {"real": real, "fake": fake}
    pair = {label: unique(residuals_of(x, denoiser, crop, jpeg, progress=progress)) for label, x in sources.items()}
    if shared := set(pair["real"].hashes) & set(pair["fake"].hashes):
        raise ValueError(f"{len(shared)} images are in both the real and the fake folder")
    return pair


def fit_folders(
    real: Path | str | Sequence[Path],
    fake: Path | str | Sequence[Path],
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    method: str = "dif",
    train: int | None = None,
    crop: int = 256,
    jpeg: int | None = None,
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> FitResult:
    """Fit a fingerprint to two folders, and measure it on the images not drawn for training.

    Parameters
    ----------
    train : int or None
        N_S: images of each class to train on, drawn with ``plan.seed``; the rest is held out. None: train on all.
    jpeg : int or None
        Give both classes this last encoding.

    Raises
    ------
    FolderError, ImageError, ValueError
        Folders without images, no usable image, an unknown method, too few images, an image in both classes.
    """
    check_method(method, FITTED)
    sets = unique_pair(real, fake, denoiser, crop, jpeg, progress)
    rng = np.random.default_rng(plan.seed)
    index = {label: split(len(s), train, rng) for label, s in sets.items()}
    x = {label: sets[label].values[np.sort(index[label][0])] for label in sets}
    fingerprint = fit_pattern(method, x["real"], x["fake"], denoiser, plan, name, device, progress)
    fingerprint = replace(fingerprint, metadata={**fingerprint.metadata, "jpeg": jpeg})
    rest = {label: np.sort(index[label][1]) for label in sets}
    held_out = None
    if all(len(r) for r in rest.values()):
        rho = {label: fingerprint.scores(sets[label].values[rest[label]]) for label in sets}
        held_out = detection(rho["real"], rho["fake"], fingerprint.threshold)
    return FitResult(fingerprint, held_out, tuple(chain(*(s.skipped for s in sets.values()))))


def evaluate_folders(
    fingerprint: Fingerprint,
    real: Path | str | Sequence[Path],
    fake: Path | str | Sequence[Path],
    denoiser: Denoiser,
    jpeg: int | None = None,
    progress: bool = False,
) -> tuple[Detection, dict[str, np.ndarray], tuple[Skipped, ...]]:
    """Detection on two folders with the fingerprint's own centres, the correlations of each class, what was skipped."""
    sets = {
        label: residuals_of(source, denoiser, fingerprint.crop, jpeg, progress=progress)
        for label, source in (("real", real), ("fake", fake))
    }
    rho = {label: fingerprint.scores(s.values).numpy() for label, s in sets.items()}
    result = detection(rho["real"], rho["fake"], fingerprint.threshold)
    return result, rho, tuple(chain(*(s.skipped for s in sets.values())))


def detect_images(
    fingerprints: Sequence[Fingerprint],
    images: Sequence[Path],
    denoiser: Denoiser,
    jpeg: int | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, tuple[Skipped, ...]]:
    """Each image against each fingerprint, best match first for each image.

    Returns
    -------
    table : image, fingerprint, rho, threshold, margin, generated
        ``margin``: rho on a scale where 0 is mu_real and 1 mu_fake, comparable between fingerprints; generated if
        above 1/2.
    skipped

    Raises
    ------
    ValueError
        If the fingerprints were fitted at different crops.
    """
    crops = {f.crop for f in fingerprints}
    if len(crops) != 1:
        raise ValueError(f"fingerprints of different sizes cannot be compared: {sorted(crops)} px")
    residuals = residuals_of(list(images), denoiser, crops.pop(), jpeg, progress=progress)
    tables = []
    for k, fingerprint in enumerate(fingerprints):
        rho = fingerprint.scores(residuals.values).numpy()
        gap = fingerprint.mu_fake - fingerprint.mu_real
        margin = (rho - fingerprint.mu_real) / gap if gap else np.zeros_like(rho)
        table = pd.DataFrame({"image": residuals.names, "fingerprint": fingerprint.name or str(k), "rho": rho})
        generated = fingerprint.decide(residuals.values).numpy()
        tables.append(table.assign(threshold=fingerprint.threshold, margin=margin, generated=generated))
    table = pd.concat(tables, ignore_index=True)
    order = table.assign(rank=table.image.map({name: k for k, name in enumerate(residuals.names)}))
    order = order.sort_values(["rank", "margin"], ascending=[True, False]).drop(columns="rank")
    return order.reset_index(drop=True), residuals.skipped


def cross_detect(
    root: Path | str,
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    method: str = "dif",
    train: int | None = None,
    crop: int = 256,
    jpeg: int | None = None,
    device: str = "cpu",
    progress: bool = False,
    recursive: bool = False,
) -> tuple[pd.DataFrame, dict[str, Fingerprint], tuple[Skipped, ...]]:
    """Fit a fingerprint to each generator under ``root`` and test it on every other's images, none of them trained on.

    Half of each class trains, unless ``train`` says how many. Returns the tidy table (train, test, accuracy, auc,
    intervals, n_real, n_fake, seed), the fingerprints by name, and what was skipped.

    Raises
    ------
    FolderError, ImageError, ValueError
        As ``find_generators`` and ``fit_folders``; also if a class has no image left to test on.
    """
    check_method(method, FITTED)
    sets = {
        found.name: unique_pair(
            found.real_images(recursive), found.fake_images(recursive), denoiser, crop, jpeg, progress
        )
        for found in find_generators(root, recursive)
    }
    skipped = tuple(chain(*(images.skipped for pair in sets.values() for images in pair.values())))
    drawn = {name: {k: draw(x.hashes, train, plan.seed) for k, x in pair.items()} for name, pair in sets.items()}
    # A real image may be in several generators' folders: what any fingerprint was trained on, no test may contain.
    trained = {sets[name][k].hashes[i] for name, pair in drawn.items() for k, index in pair.items() for i in index}
    tests = {name: {label: untrained(x, trained) for label, x in pair.items()} for name, pair in sets.items()}
    if empty := [f"{name} ({label})" for name, pair in tests.items() for label, x in pair.items() if not len(x)]:
        raise ValueError(f"too few images: none left to test on of {', '.join(empty)}")
    patterns = {}
    for name, pair in sets.items():
        real, fake = (pair[label].values[drawn[name][label]] for label in ("real", "fake"))
        patterns[name] = fit_pattern(method, real, fake, denoiser, plan, name, device, progress)
    stack = torch.stack([p.pattern for p in patterns.values()])
    rho_real, rho_fake = cross_detection(stack, *([t[label] for t in tests.values()] for label in ("real", "fake")))
    rows: list[Mapping[str, object]] = []
    for j, test in enumerate(tests):
        for i, (name, fingerprint) in enumerate(patterns.items()):
            result = detection(rho_real[j][i], rho_fake[j][i], fingerprint.threshold)
            rows.append({"train": name, "test": test, **as_row(result), "seed": plan.seed})
    return pd.DataFrame(rows), patterns, skipped
