"""Images against fingerprints: residuals, correlations, nulls, verdicts: what ``difcore detect`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from difcore.fingerprints.correlation import lattice_shares, ncc
from difcore.fingerprints.detector import Fingerprint, contents, same_filter
from difcore.fingerprints.null import null_of
from difcore.fingerprints.published import with_null
from difcore.fingerprints.verdicts import FALSE_ALARM, NO_NULL, conditions_of, judge
from difcore.images.crops import Skipped
from difcore.residuals.denoisers import Denoiser
from difcore.residuals.sets import ResidualSet, residuals_of

GIVEN = "given reals"


@dataclass(frozen=True)
class Judged:
    """Every image against every fingerprint.

    Attributes
    ----------
    table : DataFrame
        As ``decisions.judge``.
    fingerprints : dict of name to Fingerprint
        With the nulls that the verdicts rest on.
    skipped : tuple of Skipped
    """

    table: pd.DataFrame
    fingerprints: dict[str, Fingerprint]
    skipped: tuple[Skipped, ...]


def detect_images(
    fingerprints: Sequence[Fingerprint],
    images: Sequence[Path],
    denoiser: Denoiser,
    jpeg: int | None = None,
    progress: bool = False,
    rate: float = FALSE_ALARM,
    reals: Sequence[Path] = (),
) -> Judged:
    """Judge image files by fingerprints, each with its own null, the shipped one, or that of ``reals``.

    Parameters
    ----------
    rate : float
        Of false alarms per image.
    reals : sequence of path
        Real images of the kind in question; they take the place of any null. Those that a fingerprint was fitted to do
        not count for it.

    Raises
    ------
    ImageError, ValueError
        No usable image or real; fingerprints of different crops or without names of their own.
    """
    crops = {f.crop for f in fingerprints}
    if len(crops) != 1:
        raise ValueError(f"fingerprints of different sizes cannot be compared: {sorted(crops)} px")
    known = {f.name or str(k): f for k, f in enumerate(fingerprints)}
    if len(known) < len(fingerprints):
        raise ValueError(f"fingerprints need names of their own, got {[f.name for f in fingerprints]}")
    known = with_nulls(known, denoiser, jpeg, reals, progress)
    residuals = residuals_of(list(images), denoiser, crops.pop(), jpeg, progress=progress)
    conditions = conditions_of([Path(name) for name in residuals.names], fingerprints[0].crop)
    unfit = {name: reason for name, f in known.items() if (reason := why_unfit(f, denoiser, jpeg))}
    rho = correlations(known, residuals)
    lattices = lattice_shares(residuals.values)
    table = judge(known, rho, residuals.names, conditions, rate, unfit, jpeg is not None, lattices)
    return Judged(table, known, residuals.skipped)


def with_nulls(
    fingerprints: Mapping[str, Fingerprint],
    denoiser: Denoiser,
    jpeg: int | None = None,
    reals: Sequence[Path] = (),
    progress: bool = False,
) -> dict[str, Fingerprint]:
    """The fingerprints of one crop with the null of ``reals``; without any, with their own or the shipped one."""
    if not reals:
        return {name: with_null(f, denoiser) for name, f in fingerprints.items()}
    crop = next(iter(fingerprints.values())).crop
    residuals = residuals_of(list(reals), denoiser, crop, jpeg, progress=progress)
    rho, pictures = correlations(fingerprints, residuals), np.array(contents(residuals.hashes))
    out = {}
    for k, (name, fingerprint) in enumerate(fingerprints.items()):
        unseen = ~np.isin(pictures, list(fingerprint.trained))
        null, images = null_of({GIVEN: rho[k, unseen]}), frozenset(pictures[unseen].tolist())
        out[name] = replace(fingerprint, null=null, null_images=images if null else frozenset())
        if null is None:
            cause = f"of the {len(unseen)} usable reals given, {(~unseen).sum()} are in its training set"
            out[name] = replace(out[name], metadata={**fingerprint.metadata, NO_NULL: cause})
    return out


def correlations(fingerprints: Mapping[str, Fingerprint], residuals: ResidualSet) -> np.ndarray:
    """rho of every fingerprint with every residual, (K, N) float64."""
    return ncc(torch.stack([f.pattern for f in fingerprints.values()]), residuals.values).double().numpy()


def why_unfit(fingerprint: Fingerprint, denoiser: Denoiser, jpeg: int | None) -> str:
    """Why a fingerprint says nothing of residuals of this filter and encoding; empty if it does."""
    if not same_filter(fingerprint, denoiser):
        return f"fitted with filter {fingerprint.metadata.get('denoiser')}"
    fitted = fingerprint.metadata.get("jpeg")
    return "" if fitted in (None, jpeg) else f"fitted on JPEG q{fitted}: give --jpeg {fitted}"
