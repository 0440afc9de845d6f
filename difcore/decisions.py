"""What fingerprints say of an image: ranked by z, decided at a stated rate of false alarms, or not at all and why.

An image is "generated" by a fingerprint's generator where a real one would correlate as much with a probability below
the rate, corrected by Holm for the number of fingerprints that were asked about it. "No match" is no proof that it is
real. "Undecided" and "not applicable" come with their reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from difcore.conditions import Condition
from difcore.correlation import nearest_centre
from difcore.fingerprints import Fingerprint, contents
from difcore.null import FEW, Null, holm

GENERATED, NO_MATCH, UNDECIDED, NOT_APPLICABLE = "generated", "no match", "undecided", "not applicable"
FALSE_ALARM = 0.01
NO_NULL = "no null"  # in a fingerprint's metadata: why the reals that were given make none
DEMOSAICED = "demosaiced photographs"  # a kind of reals that only counts for images with a lattice
# Share of a residual that a lattice of period 2 explains: the least of the shipped null's demosaiced photographs, and
# more than any of its lossless ones (the greatest: 0.00033).
LATTICE = 0.0004
COLUMNS = ("image", "fingerprint", "rho", "z", "p", "p_holm", "nearest_centre", "verdict", "reason")


def not_applicable(fingerprint: Fingerprint, condition: Condition, rho: float, unfit: str) -> str:
    """Why the fingerprint says nothing of the image; empty if it does. ``unfit``: why it says nothing of any."""
    if condition.constant or rho == 0:
        return "constant image"
    return unfit or ("in training set" if contents([condition.content])[0] in fingerprint.trained else "")


def undecided(fingerprint: Fingerprint, condition: Condition, asked: int, rate: float, jpeg: bool) -> str:
    """Why an image that was not called generated may be so nevertheless; empty if nothing speaks for that."""
    if fingerprint.null is None:
        return f"no null: {fingerprint.metadata.get(NO_NULL, 'give --reals')}"
    if fingerprint.null.smallest * asked > rate:
        return f"{fingerprint.null.n} reals cannot vouch for it"
    if fingerprint.foreign and (jpeg or condition.jpeg_quality is not None):
        return "JPEG last: does not survive"
    return "made larger" if condition.resampled else ""


def judge(
    fingerprints: Mapping[str, Fingerprint],
    rho: np.ndarray,
    images: Sequence[str],
    conditions: Sequence[Condition],
    rate: float = FALSE_ALARM,
    unfit: Mapping[str, str] | None = None,
    jpeg: bool = False,
    lattices: np.ndarray | None = None,
) -> pd.DataFrame:
    """Every image against every fingerprint, best match (highest z) first for each image, not applicable ones last.

    Parameters
    ----------
    fingerprints : K by name
    rho : (K, N)
    images, conditions : N
    rate : float
        Of false alarms per image, over all fingerprints together.
    unfit : mapping of name to reason
        Fingerprints that do not apply to any of the images.
    jpeg : bool
        Whether the images were re-encoded as JPEG just now.
    lattices : (N,) or None
        Share of each residual that a lattice of period 2 explains; below ``LATTICE`` the image is no demosaiced
        photograph, and their probability does not count. None: it counts for all.

    Returns
    -------
    DataFrame
        image; fingerprint; rho; z, standard deviations above the reals (demosaiced ones aside: it says whose, not
        whether); p, probability of a false alarm, and p_holm,
        the same over all fingerprints that apply (NaN without a null); nearest_centre, "generated" or "real", the
        paper's decision; verdict; reason.

    Raises
    ------
    ValueError
        For a rate that is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a false-alarm rate lies between 0 and 1, got {rate}")
    known = list(fingerprints.items())
    z, p, plain, margin = (np.full(rho.shape, np.nan) for _ in range(4))
    for k, (_, f) in enumerate(known):
        margin[k] = (rho[k] - f.mu_real) / (f.mu_fake - f.mu_real or 1)
        if f.null is not None:
            ordinary = f.null.without(DEMOSAICED)
            z[k], plain[k], p[k] = ordinary.z(rho[k]), ordinary.p(rho[k]), false_alarm(f.null, rho[k], lattices)
    rows = []
    for i, (image, condition) in enumerate(zip(images, conditions, strict=True)):
        mute = [not_applicable(f, condition, rho[k, i], (unfit or {}).get(n, "")) for k, (n, f) in enumerate(known)]
        asked = np.array([not reason for reason in mute]) & ~np.isnan(p[:, i])
        adjusted, ordinary_only = (np.full(len(known), np.nan) for _ in range(2))
        adjusted[asked], ordinary_only[asked] = holm(p[asked, i]), holm(plain[asked, i])
        for k in ranking(z[:, i], margin[:, i], [bool(reason) for reason in mute]):
            name, f = known[k]
            near = "generated" if bool(nearest_centre(rho[k, i], f.mu_real, f.mu_fake)) else "real"
            verdict, reason = GENERATED, mute[k]
            if reason:
                verdict = NOT_APPLICABLE
            elif not adjusted[k] <= rate:
                reason = "a camera's mosaic may do so" if ordinary_only[k] <= rate else ""
                reason = reason or undecided(f, condition, int(asked.sum()), rate, jpeg)
                verdict = UNDECIDED if reason else NO_MATCH
            rows.append((image, name, float(rho[k, i]), z[k, i], p[k, i], adjusted[k], near, verdict, reason))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def false_alarm(null: Null, rho: np.ndarray, lattices: np.ndarray | None = None) -> np.ndarray:
    """Probability that a real image correlates as much, (N,), demosaiced ones counted as ``judge`` says."""
    mosaic = np.full(rho.shape, True) if lattices is None else lattices >= LATTICE
    return np.where(mosaic, null.p(rho), null.without(DEMOSAICED).p(rho))


def ranking(z: np.ndarray, margin: np.ndarray, mute: Sequence[bool]) -> list[int]:
    """Indices from the highest z down; then those without a null and so without z, by margin; ``mute`` ones last."""
    return sorted(range(len(z)), key=lambda k: (mute[k], np.isnan(z[k]), -np.nan_to_num(z[k]), -margin[k]))


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on one image from those of all fingerprints: the first of these that any of them says."""
    return next((v for v in (GENERATED, UNDECIDED, NO_MATCH) if v in set(verdicts)), NOT_APPLICABLE)


def null_warnings(fingerprints: Mapping[Path, Fingerprint] | Mapping[str, Fingerprint], rate: float) -> list[str]:
    """Where a rate of false alarms cannot be stated, or rests on little."""
    found = []
    for path, fingerprint in fingerprints.items():
        null = fingerprint.null
        if null is None:
            cause = fingerprint.metadata.get(NO_NULL)
            advice = f"{cause}; give others" if cause else "give --reals, real images"
            found.append(f"{path} has no null, so no rate of false alarms can be stated: {advice}")
        elif few := [f"{reals.n} {kind}" for kind, reals in null.kinds.items() if reals.n < FEW]:
            found.append(f"{path}: its null is of {', '.join(few)} only, taken for normally distributed; give --reals")
        if null is not None and null.smallest > rate:
            found.append(f"{path}: {null.n} reals cannot vouch for a rate of {rate:g}")
    return found
