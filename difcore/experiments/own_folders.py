"""Fit, evaluate, detect and cross-detect on folders of images: what the command line does, as functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from difcore.detectors.methods import FITTED, check_method, fit_pattern
from difcore.files import sha256_bytes
from difcore.fingerprints.correlation import cross_detection, lattice_shares
from difcore.fingerprints.detector import Fingerprint, contents
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.null import null_of
from difcore.images.crops import Skipped, find_generators
from difcore.residuals.denoisers import Denoiser
from difcore.residuals.sets import ResidualSet, Source, residuals_of
from difcore.stats import Detection, as_row, detection

HELD_OUT = "held-out reals"  # the kind of the null of one's own fingerprint
IN_TRAINING = "in training set: the fingerprint was fitted to this image"
IN_NULL = "in the null: real images are judged by this one"


@dataclass(frozen=True)
class FitResult:
    """A fingerprint with its null, how it does on images it never saw, and what was skipped.

    Without reals held out there is neither a null nor a detection, without fakes no detection.
    """

    fingerprint: Fingerprint
    held_out: Detection | None
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Evaluated:
    """How a fingerprint does on two folders.

    Attributes
    ----------
    detection : Detection
        By the fingerprint's own centres.
    rho, lattices : dict of "real", "fake" to ndarray (N,)
        Correlations, and the share of each residual that a lattice of 2 px explains (``decisions.judge``).
    skipped : tuple of Skipped
        Also what is not counted: what it was fitted to (``IN_TRAINING``), what its null is of (``IN_NULL``).
    """

    detection: Detection
    rho: dict[str, np.ndarray]
    lattices: dict[str, np.ndarray]
    skipped: tuple[Skipped, ...]

    def count(self, reason: str) -> int:
        """How many were skipped for this reason."""
        return sum(entry.reason == reason for entry in self.skipped)


def split(n: int, train: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random disjoint indices (train, rest) of ``n`` images, ascending.

    Raises
    ------
    ValueError
        If fewer than ``train`` images are there.
    """
    if train > n:
        raise ValueError(f"asked for {train} training images, only {n} are usable")
    order = rng.permutation(n)
    return np.sort(order[:train]), np.sort(order[train:])


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
    """Without repeated images, which are among the skipped then: a copy in both train and test would be a leak."""
    first: dict[str, str] = {}
    kept, copies = [], []
    for k, (digest, name) in enumerate(zip(residuals.hashes, residuals.names, strict=True)):
        if digest in first:
            copies.append(Skipped(Path(name), f"copy: of {first[digest]}"))
        else:
            first[digest] = name
            kept.append(k)
    return replace(residuals.take(kept), skipped=(*residuals.skipped, *copies)) if copies else residuals


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
    hold_out: bool = True,
) -> FitResult:
    """Fit a fingerprint to two folders, and measure it on the images not drawn for training; their reals are its null.

    Parameters
    ----------
    train : int or None
        N_S: images of each class to train on, drawn with ``plan.seed``; the rest is held out. None: three quarters.
    jpeg : int or None
        Give both classes this last encoding.
    hold_out : bool
        Whether to hold images out if ``train`` is None; otherwise all are trained on, and nothing is measured.

    Raises
    ------
    FolderError, ImageError, ValueError
        Folders without images, no usable image, an unknown method, too few images, an image in both classes.
    """
    check_method(method, FITTED)
    sets = unique_pair(real, fake, denoiser, crop, jpeg, progress)
    rng = np.random.default_rng(plan.seed)
    share = 0.75 if hold_out else 1
    counts = {label: math.ceil(share * len(s)) if train is None else train for label, s in sets.items()}
    index = {label: split(len(s), counts[label], rng) for label, s in sets.items()}
    drawn, rest = ({label: sets[label].take(index[label][k]) for label in sets} for k in (0, 1))
    x = {label: part.values for label, part in drawn.items()}
    fingerprint = fit_pattern(method, x["real"], x["fake"], denoiser, plan, name, device, progress)
    trained = frozenset(digest for part in drawn.values() for digest in contents(part.hashes))
    rho = {label: fingerprint.scores(part.values) for label, part in rest.items() if len(part)}
    held_out = detection(rho["real"], rho["fake"], fingerprint.threshold) if len(rho) == 2 else None
    null = null_of({HELD_OUT: rho["real"]}) if "real" in rho else None
    null_images = frozenset(contents(rest["real"].hashes)) if null else frozenset()
    metadata = {**fingerprint.metadata, "jpeg": jpeg}
    fingerprint = replace(fingerprint, metadata=metadata, null=null, trained=trained, null_images=null_images)
    return FitResult(fingerprint, held_out, tuple(chain(*(s.skipped for s in sets.values()))))


def evaluate_folders(
    fingerprint: Fingerprint,
    real: Path | str | Sequence[Path],
    fake: Path | str | Sequence[Path],
    denoiser: Denoiser,
    jpeg: int | None = None,
    progress: bool = False,
) -> Evaluated:
    """Detection on two folders with the fingerprint's own centres.

    Images that the fingerprint was fitted to, and those that its null is of, whatever file they are in, are not
    counted: they are among the skipped.

    Raises
    ------
    FolderError, ImageError, ValueError
        Folders without images, no usable image, none of a class that is neither a training image nor in the null.
    """
    rho, lattices, skipped = {}, {}, []
    for label, source in (("real", real), ("fake", fake)):
        residuals = residuals_of(source, denoiser, fingerprint.crop, jpeg, progress=progress)
        unseen, seen = unseen_part(residuals, fingerprint)
        skipped += [*residuals.skipped, *seen]
        if not len(unseen):
            where = "the training set" + (" or the null" if any(s.reason == IN_NULL for s in seen) else "")
            raise ValueError(f"all {len(seen)} {label} images are in {where} of {fingerprint.name}: give others")
        rho[label], lattices[label] = fingerprint.scores(unseen.values).numpy(), lattice_shares(unseen.values)
    found = detection(rho["real"], rho["fake"], fingerprint.threshold)
    return Evaluated(found, rho, lattices, tuple(skipped))


def unseen_part(residuals: ResidualSet, fingerprint: Fingerprint) -> tuple[ResidualSet, list[Skipped]]:
    """Without the images that the fingerprint was fitted to or that its null is of; those, with the reason."""
    known = dict.fromkeys(fingerprint.null_images, IN_NULL) | dict.fromkeys(fingerprint.trained, IN_TRAINING)
    if not known:
        return residuals, []
    seen = [known.get(digest) for digest in contents(residuals.hashes)]
    dropped = [Skipped(Path(name), reason) for name, reason in zip(residuals.names, seen, strict=True) if reason]
    return residuals.take([k for k, reason in enumerate(seen) if not reason]), dropped


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
