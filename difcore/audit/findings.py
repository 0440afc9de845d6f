"""Confounds: what else than their generator do the generated images have in common that the real ones have not?

A sample of both classes is read once; the checks in ``difcore.audit.findings`` say what is found, and what to do.

The checks of the audit for confounds: each looks at the imprints of both classes and ends in a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from difcore.audit.formats import SMALL_GAP, Confounds, audit_folder, differences
from difcore.audit.imprints import Imprint, imprint, layout_auc, near_duplicates, readable
from difcore.audit.shared_noise import FINGERPRINT, SharedResidual, shared_residual
from difcore.audit.watermark import MESSAGES, MarkReading, read_marks
from difcore.images.leakage import copies

Verdict = Literal["fine", "note", "confounded"]
Seen = Mapping[str, Sequence[Imprint]]  # of "real" and of "fake"
MARKED = 0.05  # share of the images of a class that may look marked by chance or by a few strays
QUANTISED = 0.3  # median of ``watermark.quantised`` of a class without a mark stays below .05
PLACED = (
    0.003  # a shared residual this strong is a fingerprint of more than three times the published ones' correlation
)
REPEATS = 0.25  # of a shared residual, from which it may be an up-sampler's; of one seed's noise it is .05
FEW = 0.15  # share of a class; of photographs as published 5 % look resized
LAYOUT = 0.75  # AUC of thumbnails


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes
    ----------
    check : str
        Of what.
    verdict : str
        "fine"; "note": to be known, and to be controlled; "confounded": a detector fitted to these images may have
        learned this instead of the generator.
    sentence, advice : str
        What was found, and what to do; the advice of what is fine is empty.
    numbers : dict
        Of the check, for a record.
    """

    check: str
    verdict: Verdict
    sentence: str
    advice: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


def format_finding(real: Sequence[Path], fake: Sequence[Path]) -> Finding:
    """Encoding, JPEG quality and size, of all files."""
    found = differences(audit_folder(real), audit_folder(fake))
    if not found:
        return Finding(
            "format", "fine", "The files of the two classes do not differ in encoding, JPEG quality or size."
        )
    advice = "Fit with --matched, or give all crops one last encoding with --jpeg 95, and compare."
    return Finding("format", "confounded", _sentence("; ".join(found.values())), advice, {"differs": list(found)})


def mark_finding(seen: Seen, first: Mapping[str, MarkReading]) -> Finding:
    """Invisible marks: known messages, and carriers that lie where a writer puts them."""
    numbers: dict[str, Any] = {}
    shares: dict[str, dict[str, float]] = {}
    for message in MESSAGES:
        read = first if message in {m.message for m in first.values()} else {
            name: read_marks([one.bits for one in prints], message) for name, prints in seen.items()
        }  # fmt: skip
        shares[message] = {name: float(reading.marked.mean()) for name, reading in read.items()}
        for name, reading in read.items():
            numbers |= {f"{message}: median bit error, {name}": _median(reading.errors)}
            numbers |= {f"{message}: share marked, {name}": shares[message][name]}
    written = {name: _median([one.quantised for one in prints]) for name, prints in seen.items()}
    numbers |= {f"quantised, {name}": value for name, value in written.items()}
    message = max(shares, key=lambda m: max(shares[m].values()))
    pair = shares[message]
    advice = (
        "Use images that were made without the mark; to see what it does, give it to the real images "
        "(difcore.watermark.write_mark): a sound fingerprint still calls them real."
    )
    if max(pair.values()) > MARKED:
        told = _shares(pair)
        errors = " and ".join(f"{numbers[f'{message}: median bit error, {name}']:.2f}" for name in pair)
        sentence = f"The invisible mark {message} is in {told} (median bit error {errors}; .5 is none)."
        differ = abs(pair["real"] - pair["fake"]) > SMALL_GAP
        return Finding("mark", "confounded" if differ else "note", sentence, advice, numbers)
    if max(written.values()) > QUANTISED:
        name = max(written, key=lambda key: written[key])
        differ = abs(written["real"] - written["fake"]) > QUANTISED / 2
        sentence = f"The {name} images bear a mark of the dwtDct kind whose message is unknown."
        return Finding("mark", "confounded" if differ else "note", sentence, advice, numbers)
    return Finding("mark", "fine", "No invisible mark of the dwtDct kind in either class.", "", numbers)


def noise_finding(name: str, found: SharedResidual) -> Finding:
    """What the residuals of one class have in common."""
    check = f"shared residual, {name}"
    numbers = {
        "mean pair correlation": found.mean, "standard error": found.error, "repeating": found.repeating,
        "in groups": found.in_groups(), "group sizes": found.sizes()[:8], "largest": float(found.pairs.max()),
        "published fingerprints": FINGERPRINT**2,
    }  # fmt: skip
    told = f"mean correlation of two {name} residuals {found.mean:.4f}, a fingerprint's is about {FINGERPRINT**2:.4f}"
    if found.placed <= PLACED or found.mean < 4 * found.error:
        return Finding(check, "fine", f"The {name} images share no more than a fingerprint ({told}).", "", numbers)
    if found.repeating >= REPEATS:
        sentence = f"The {name} images share a strong pattern, {100 * found.repeating:.0f} % of which repeats ({told})."
        advice = "It may be the architecture's own, or common contents: test on images of another source."
        return Finding(check, "note", sentence, advice, numbers)
    groups = [size for size in found.sizes() if size > 2]
    share = f" {len(groups)} groups of {groups[0]} images and fewer hold most of it." if len(groups) > 1 else ""
    sentence = (
        f"The {name} images share a pattern that repeats nowhere, as from the same starting noise ({told}).{share}"
    )
    advice = "Use images of different seeds; else keep a group on one side of a split, and test on another source."
    return Finding(check, "confounded", sentence, advice, numbers)


def resampling_finding(seen: Seen) -> Finding:
    """Which share of each class was resized, or has nothing at the highest frequencies."""
    traces = {name: [one.trace for one in prints if one.trace] for name, prints in seen.items()}
    periodic = {name: float(np.mean([t.periodic for t in found])) if found else 0.0 for name, found in traces.items()}
    cut_off = {name: float(np.mean([t.cut_off for t in found])) if found else 0.0 for name, found in traces.items()}
    numbers = {f"share with a period, {name}": share for name, share in periodic.items()}
    numbers |= {f"share cut off, {name}": share for name, share in cut_off.items()}
    gap, chance = (
        abs(periodic["real"] - periodic["fake"]),
        1.36 * np.sqrt(sum(1 / max(1, len(t)) for t in traces.values())),
    )
    advice = "Take images of both classes as they were made: a resized image has another grid, and its traces decide."
    told = f"Periodic traces of resizing are in {_shares(periodic)}."
    if gap > SMALL_GAP and gap > chance:
        return Finding("resampling", "confounded", told, advice, numbers)
    if max(periodic.values()) > FEW:
        return Finding("resampling", "note", told, advice, numbers)
    if max(cut_off.values()) > FEW:
        told = f"The highest frequencies are empty in {_shares(cut_off)}: enlarged, or so smooth by themselves."
        return Finding("resampling", "note", told, advice, numbers)
    return Finding("resampling", "fine", f"Few traces of resizing: in {_shares(periodic)}.", "", numbers)


def copies_finding(seen: Seen) -> Finding:
    """Copies and crops of a picture, and near-duplicates, in both classes or within one."""
    prints = [one for part in seen.values() for one in part]
    fake_from = len(seen["real"])
    same = copies([one.content for one in prints], [one.windows for one in prints])
    near = {pair for pair in near_duplicates([one.layout for one in prints]) if same.get(pair[1]) != pair[0]}
    pairs = [(j, k) for k, j in same.items()]
    across, across_near = ([(j, k) for j, k in found if j < fake_from <= k] for found in (pairs, sorted(near)))
    numbers = {
        "copies in both classes": len(across),
        "copies within a class": len(pairs) - len(across),
        "near-duplicates in both classes": len(across_near),
        "near-duplicates within a class": len(near) - len(across_near),
    }
    if across:
        j, k = (prints[i].path.name for i in across[0])
        sentence = f"{len(across)} pictures are in both classes, as copies or crops, first: {j} and {k}."
        return Finding("copies", "confounded", sentence, "One of the two labels is wrong: take them out.", numbers)
    if across_near:
        j, k = (prints[i].path.name for i in across_near[0])
        sentence = f"{len(across_near)} pairs of a real and a generated image show the same scene, first: {j} and {k}."
        advice = "Good, as far as contents go; keep both images of a pair on the same side of a split."
        return Finding("copies", "note", sentence, advice, numbers)
    if pairs or near:
        sentence = f"{len(pairs)} copies or crops and {len(near)} near-duplicates within a class."
        advice = "Keep one of each, or keep them on the same side of a split."
        return Finding("copies", "note", sentence, advice, numbers)
    return Finding("copies", "fine", "No picture occurs twice.", "", numbers)


def layout_finding(seen: Seen) -> Finding:
    """Whether the classes show different things."""
    real, fake = ([one.thumbnail for one in seen[name] if one.thumbnail is not None] for name in ("real", "fake"))
    area = layout_auc(real, fake)
    if area is None:
        return Finding("contents", "note", "Too few images to compare contents.", "Give ten of each class or more.")
    numbers = {"AUC of thumbnails of 8 x 8 px": area}
    if area > LAYOUT:
        sentence = f"The classes show different things: thumbnails of 8 x 8 px tell them apart with AUC {area:.2f}."
        advice = "Test on real images of the same kind of scene, and on other contents of the generator."
        return Finding("contents", "note", sentence, advice, numbers)
    sentence = f"Contents differ little: thumbnails of 8 x 8 px tell the classes apart with AUC {area:.2f}."
    return Finding("contents", "fine", sentence, "", numbers)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _shares(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{100 * share:.0f} % of the {name} images" for name, share in shares.items())


def _median(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else float("nan")


SAMPLE, QUICK = 150, 64  # images of each class that are looked at; by ``fit``
PIXELS = {  # checks by which a fit is called confounded though its files are alike
    "mark": "an invisible mark",
    "shared residual, real": "noise that the real images share",
    "shared residual, fake": "noise that the generated images share",
}


@dataclass(frozen=True)
class Audit:
    """The findings on two classes and what their figures need.

    Attributes
    ----------
    findings : tuple of Finding
    shared : dict of "real", "fake" to SharedResidual
        Lacks a class that has too few images or too small ones.
    marks : dict of "real", "fake" to MarkReading
        Of the message ``StableDiffusionV1``.
    n : dict of "real", "fake" to int
        Images looked at.
    """

    findings: tuple[Finding, ...]
    shared: dict[str, SharedResidual]
    marks: dict[str, MarkReading]
    n: dict[str, int]

    def confounded(self) -> list[Finding]:
        """The findings that say so."""
        return [finding for finding in self.findings if finding.verdict == "confounded"]


def audit_classes(
    real: Sequence[Path], fake: Sequence[Path], most: int = SAMPLE, seed: int = 0, quick: bool = False
) -> Audit:
    """Audit the image files of two classes; of more than ``most`` in a class a sample is drawn with ``seed``.

    ``quick`` leaves out resampling and contents.

    Raises
    ------
    ValueError
        If a class has no readable image.
    """
    rng = np.random.default_rng(seed)
    files = {
        name: [paths[k] for k in sorted(rng.permutation(len(paths))[:most])]
        for name, paths in (("real", real), ("fake", fake))
    }
    seen = {name: readable([imprint(path, quick) for path in paths]) for name, paths in files.items()}
    for name, prints in seen.items():
        if not prints:
            raise ValueError(f"no {name} image can be read")
    marks = {name: read_marks([one.bits for one in prints]) for name, prints in seen.items()}
    shared = {}
    for name, prints in seen.items():
        crops = [one.crop for one in prints if min(one.crop.shape[:2]) >= 64]
        with suppress(ValueError):  # fewer than three, constant ones aside
            shared[name] = shared_residual(crops)
    found = [format_finding(real, fake), mark_finding(seen, marks), *(noise_finding(n, s) for n, s in shared.items())]
    if not quick:
        found += [resampling_finding(seen), copies_finding(seen), layout_finding(seen)]
    return Audit(tuple(found), shared, marks, {name: len(prints) for name, prints in seen.items()})


def look_closer(found: Confounds, real: Sequence[Path], fake: Sequence[Path], seed: int = 0) -> Confounds:
    """What the files say of the classes, and what the pixels of ``QUICK`` images of each say: a mark, shared noise."""
    audit = audit_classes(real, fake, QUICK, seed, quick=True)
    grave = [finding for finding in audit.confounded() if finding.check in PIXELS]
    warnings = [f"{finding.sentence} {finding.advice}".rstrip(".") for finding in grave]
    return replace(
        found,
        names=(*found.names, *(PIXELS[finding.check] for finding in grave)),
        warnings=(*found.warnings, *warnings),
    )
