"""Fitting a detector to images of two classes: which are trained on, what the others say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from difcore.files import sha256_bytes
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan, fit_marra18, fit_restarted
from difcore.fingerprints.null import null_of, reals_of
from difcore.fingerprints.verdicts import contents
from difcore.images.crops import Skipped
from difcore.machine.devices import device_name
from difcore.residuals.denoisers import LIMIT, Denoiser, load_denoiser
from difcore.residuals.sets import ResidualSet, Source, residuals_of
from difcore.stats import Detection, detection

PATTERNS = ("dif", "marra18")  # the paper's: one pattern per generator, to be saved, shown and compared
FITTED = (*PATTERNS, "marra18-zm")  # the same, and what goes beyond the paper: of folders of one's own
HELD_OUT = "held-out reals"  # the kind of the null of one's own fingerprint


@dataclass(frozen=True)
class FitOptions:
    """Which images a detector is fitted to.

    Attributes
    ----------
    train : int or None
        N_S: images of each class to train on, drawn with the plan's seed; the rest is held out. None: three quarters.
    hold_out : bool
        Whether to hold images out if ``train`` is None; else all are trained on, and nothing is measured.
    crop : int
        Side of the centre crop of native pixels, px.
    jpeg : int or None
        Give both classes this last encoding.
    """

    train: int | None = None
    hold_out: bool = True
    crop: int = 256
    jpeg: int | None = None


@dataclass(frozen=True)
class Report:
    """What a fit says besides its detector: detection on images it never saw (None without any of a class), the
    correlations of those, by "real" and "fake", and what was skipped."""

    held_out: Detection | None
    rho: dict[str, np.ndarray]
    skipped: tuple[Skipped, ...]


def check_method(method: str, known: Sequence[str]) -> None:
    """Raise ValueError unless ``method`` is one of ``known``."""
    if method not in known:
        raise ValueError(f"unknown method {method!r}; choose from {', '.join(known)}")


def fitted(
    real: Source,
    generated: Source,
    denoiser: Denoiser | None,
    plan: DifPlan | None,
    options: FitOptions | None,
    method: str,
    name: str,
    progress: bool,
) -> Detector:
    """``Detector.fit``."""
    check_method(method, FITTED)
    plan, options = plan or DifPlan(), options or FitOptions()
    denoiser = denoiser or load_denoiser(limit=LIMIT)
    sets = unique_pair(real, generated, denoiser, options.crop, options.jpeg, progress)
    rng = np.random.default_rng(plan.seed)
    drawn, rest = {}, {}
    for label, images in sets.items():
        share = math.ceil(0.75 * len(images)) if options.hold_out else len(images)
        chosen, others = split(len(images), share if options.train is None else options.train, rng)
        drawn[label], rest[label] = images.take(chosen), images.take(others)
    found = fit_pattern(method, drawn["real"].values, drawn["fake"].values, denoiser, plan, name, progress)
    rho = {label: found.rho(part.values).numpy() for label, part in rest.items() if len(part)}
    null = null_of({HELD_OUT: rho["real"]}) if "real" in rho else None
    return replace(
        found,
        metadata={**found.metadata, "jpeg": options.jpeg},
        null=null,
        fakes=reals_of(rho.get("fake", ())),
        trained=frozenset(digest for part in drawn.values() for digest in contents(part.hashes)),
        null_images=frozenset(contents(rest["real"].hashes)) if null else frozenset(),
        report=Report(
            detection(rho["real"], rho["fake"], found.threshold) if len(rho) == 2 else None,
            rho,
            tuple(chain(*(images.skipped for images in sets.values()))),
        ),
    )


def fit_pattern(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    name: str = "",
    progress: bool = False,
) -> Detector:
    """Detector of residuals (N, 3, H, W) by one of ``FITTED``, on the filter's device; without null."""
    if method == "dif":
        found = fit_restarted(real, fake, plan, name, denoiser.device, progress)
    else:
        found = fit_marra18(real, fake, name, clean=method == "marra18-zm")
    ran_on = {"precision": "bfloat16" if plan.bfloat16 else "float32", "device": denoiser.device}
    facts = {**found.metadata, **ran_on, "processor": device_name(denoiser.device)}
    return replace(found, metadata=facts).recording(denoiser)


def split(n: int, train: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random disjoint indices (train, rest) of ``n`` images, ascending; ValueError if they are too few."""
    if train > n:
        raise ValueError(f"asked for {train} training images, only {n} are usable")
    order = rng.permutation(n)
    return np.sort(order[:train]), np.sort(order[train:])


def draw(hashes: Sequence[str], train: int | None, seed: int) -> list[int]:
    """Indices of the training images (None: half): the first in an order by the seed and their content alone.

    So a set of images shared by several generators is divided in the same way for each.
    """
    count = len(hashes) // 2 if train is None else train
    if count > len(hashes):
        raise ValueError(f"asked for {count} training images, only {len(hashes)} are usable")
    return sorted(range(len(hashes)), key=lambda i: sha256_bytes(f"{seed}:{hashes[i]}".encode()))[:count]


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
    """Residuals of both classes, {"real": ..., "fake": ...}, without repeated images; ValueError if they share one."""
    sources = {"real": real, "fake": fake}
    pair = {label: unique(residuals_of(x, denoiser, crop, jpeg, progress=progress)) for label, x in sources.items()}
    if shared := set(pair["real"].hashes) & set(pair["fake"].hashes):
        raise ValueError(f"{len(shared)} images are in both the real and the fake folder")
    return pair
