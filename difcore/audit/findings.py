"""The audit for confounds: what else than their generator have the generated images in common and the real ones not?

A sample of both classes is read once; each check looks at the imprints of both and ends in a finding, which says what
is found and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from difcore.audit.formats import SMALL_GAP, Confounds, audit_folder, differences
from difcore.audit.imprints import Imprint, imprint, layout_auc, near_duplicates
from difcore.audit.shared_noise import FINGERPRINT, SharedResidual, shared_residual
from difcore.audit.watermark import MESSAGES, MarkReading, read_marks
from difcore.images.leakage import copies

Verdict = Literal["fine", "note", "confounded"]
Seen = Mapping[str, Sequence[Imprint]]  # of "real" and of "fake"
SAMPLE, QUICK = 150, 64  # images of each class that are looked at; by ``look_closer``
MARKED = 0.05  # share of the images of a class that may look marked by chance or by a few strays
QUANTISED = 0.3  # median of ``Imprint.quantised`` of a class without a mark stays below .05
PLACED = 0.003  # a shared residual this strong is a fingerprint of over three times the published ones' correlation
REPEATS = 0.25  # of a shared residual, from which it may be an up-sampler's; of one seed's noise it is .05
FEW = 0.15  # share of a class; of photographs as published 5 % look resized
LAYOUT = 0.75  # AUC of thumbnails
PIXELS = {  # checks by which a fit is called confounded though its files are alike
    "mark": "an invisible mark",
    "shared residual, real": "noise that the real images share",
    "shared residual, fake": "noise that the generated images share",
}


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


@dataclass(frozen=True)
class Audit:
    """The findings on two classes and what their figures need, by "real" and "fake".

    ``shared`` lacks a class that has too few images or too small ones; ``marks`` are of the message
    ``StableDiffusionV1``; ``n`` is how many images were looked at.
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

    ``quick`` leaves out resampling, copies and contents.

    Raises
    ------
    ValueError
        If a class has no readable image.
    """
    rng, seen = np.random.default_rng(seed), {}
    for name, paths in (("real", real), ("fake", fake)):
        looked = [imprint(paths[k], quick) for k in sorted(rng.permutation(len(paths))[:most])]
        seen[name] = [one for one in looked if one]
    for name, prints in seen.items():
        if not prints:
            raise ValueError(f"no {name} image can be read")
    marks = {name: read_marks([one.bits for one in prints]) for name, prints in seen.items()}
    noise = {name: shared_residual([one.crop for one in prints]) for name, prints in seen.items()}
    shared = {name: found for name, found in noise.items() if found}
    found = [format_finding(real, fake), mark_finding(seen, marks), *(noise_finding(*each) for each in shared.items())]
    if not quick:
        found += [resampling_finding(seen), copies_finding(seen), layout_finding(seen)]
    return Audit(tuple(found), shared, marks, {name: len(prints) for name, prints in seen.items()})


def look_closer(found: Confounds, real: Sequence[Path], fake: Sequence[Path], seed: int = 0) -> Confounds:
    """What the files say of the classes, and what the pixels of ``QUICK`` images of each say: a mark, shared noise."""
    grave = [one for one in audit_classes(real, fake, QUICK, seed, quick=True).confounded() if one.check in PIXELS]
    names = (*found.names, *(PIXELS[one.check] for one in grave))
    told = (f"{one.sentence} {one.advice}".rstrip(".") for one in grave)
    return replace(found, names=names, warnings=(*found.warnings, *told))


def format_finding(real: Sequence[Path], fake: Sequence[Path]) -> Finding:
    """Encoding, JPEG quality and size, of all files."""
    found = differences(audit_folder(real)[0], audit_folder(fake)[0])
    if not found:
        alike = "The files of the two classes do not differ in encoding, JPEG quality or size."
        return Finding("format", "fine", alike)
    text = "; ".join(found.values())
    advice = "Fit with --matched, or give all crops one last encoding with --jpeg 95, and compare."
    return Finding("format", "confounded", text[:1].upper() + text[1:] + ".", advice, {"differs": list(found)})


def mark_finding(seen: Seen, first: Mapping[str, MarkReading]) -> Finding:
    """Invisible marks: known messages, and carriers that lie where a writer puts them."""
    numbers: dict[str, Any] = {}
    shares: dict[str, dict[str, float]] = {}
    for message in MESSAGES:
        shares[message] = {}
        for name, prints in seen.items():
            known = first[name].message == message
            reading = first[name] if known else read_marks([one.bits for one in prints], message)
            shares[message][name] = float(reading.marked.mean())
            numbers[f"{message}: median bit error, {name}"] = _median(reading.errors)
            numbers[f"{message}: share marked, {name}"] = shares[message][name]
    written = {name: _median([one.quantised for one in prints]) for name, prints in seen.items()}
    numbers |= {f"quantised, {name}": value for name, value in written.items()}
    message = max(shares, key=lambda m: max(shares[m].values()))
    pair = shares[message]
    if max(pair.values()) > MARKED:
        errors = " and ".join(f"{numbers[f'{message}: median bit error, {name}']:.2f}" for name in pair)
        sentence = f"The invisible mark {message} is in {_told(pair)} (median bit error {errors}; .5 is none)."
        differ = abs(pair["real"] - pair["fake"]) > SMALL_GAP
    elif max(written.values()) > QUANTISED:
        name = max(written, key=lambda key: written[key])
        sentence = f"The {name} images bear a mark of the dwtDct kind whose message is unknown."
        differ = abs(written["real"] - written["fake"]) > QUANTISED / 2
    else:
        return Finding("mark", "fine", "No invisible mark of the dwtDct kind in either class.", "", numbers)
    advice = (
        "Use images that were made without the mark; to see what it does, give it to the real images "
        "(difcore.audit.write_mark): a sound fingerprint still calls them real."
    )
    return Finding("mark", "confounded" if differ else "note", sentence, advice, numbers)


def noise_finding(name: str, found: SharedResidual) -> Finding:
    """What the residuals of one class have in common."""
    check, usual, groups = f"shared residual, {name}", FINGERPRINT**2, found.sizes()
    numbers = {
        "mean pair correlation": found.mean, "standard error": found.error, "repeating": found.repeating,
        "in groups": found.in_groups(), "group sizes": groups[:8], "largest": float(found.pairs.max()),
        "published fingerprints": usual,
    }  # fmt: skip
    told = f"mean correlation of two {name} residuals {found.mean:.4f}, a fingerprint's is about {usual:.4f}"
    if found.placed <= PLACED or found.mean < 4 * found.error:
        return Finding(check, "fine", f"The {name} images share no more than a fingerprint ({told}).", "", numbers)
    if found.repeating >= REPEATS:
        sentence = f"The {name} images share a strong pattern, {100 * found.repeating:.0f} % of which repeats ({told})."
        advice = "It may be the architecture's own, or common contents: test on images of another source."
        return Finding(check, "note", sentence, advice, numbers)
    large = [size for size in groups if size > 2]
    share = f" {len(large)} groups of {large[0]} images and fewer hold most of it." if len(large) > 1 else ""
    sentence = f"The {name} images share a pattern that repeats nowhere, as from the same starting noise ({told})."
    advice = "Use images of different seeds; else keep a group on one side of a split, and test on another source."
    return Finding(check, "confounded", sentence + share, advice, numbers)


def resampling_finding(seen: Seen) -> Finding:
    """Which share of each class was resized, or has nothing at the highest frequencies."""
    traces = {name: [one.trace for one in prints if one.trace] for name, prints in seen.items()}
    periodic = {name: float(np.mean([t.periodic for t in found] or [False])) for name, found in traces.items()}
    cut_off = {name: float(np.mean([t.cut_off for t in found] or [False])) for name, found in traces.items()}
    numbers = {f"share with a period, {name}": share for name, share in periodic.items()}
    numbers |= {f"share cut off, {name}": share for name, share in cut_off.items()}
    gap = abs(periodic["real"] - periodic["fake"])
    beyond = gap > SMALL_GAP and gap > 1.36 * np.sqrt(sum(1 / max(1, len(t)) for t in traces.values()))
    advice = "Take images of both classes as they were made: a resized image has another grid, and its traces decide."
    if beyond or max(periodic.values()) > FEW:
        told = f"Periodic traces of resizing are in {_told(periodic)}."
        return Finding("resampling", "confounded" if beyond else "note", told, advice, numbers)
    if max(cut_off.values()) > FEW:
        told = f"The highest frequencies are empty in {_told(cut_off)}: enlarged, or so smooth by themselves."
        return Finding("resampling", "note", told, advice, numbers)
    return Finding("resampling", "fine", f"Few traces of resizing: in {_told(periodic)}.", "", numbers)


def copies_finding(seen: Seen) -> Finding:
    """Copies and crops of a picture, and near-duplicates, in both classes or within one."""
    prints = [one for part in seen.values() for one in part]
    fake_from = len(seen["real"])
    same = copies([one.content for one in prints], [one.windows for one in prints])
    near = [pair for pair in near_duplicates([one.layout for one in prints]) if same.get(pair[1]) != pair[0]]
    pairs = [(j, k) for k, j in same.items()]
    across, across_near = ([(j, k) for j, k in found if j < fake_from <= k] for found in (pairs, near))
    numbers = {
        "copies in both classes": len(across),
        "copies within a class": len(pairs) - len(across),
        "near-duplicates in both classes": len(across_near),
        "near-duplicates within a class": len(near) - len(across_near),
    }
    if across or across_near:
        first = " and ".join(prints[k].path.name for k in (across or across_near)[0])
    if across:
        sentence = f"{len(across)} pictures are in both classes, as copies or crops, first: {first}."
        return Finding("copies", "confounded", sentence, "One of the two labels is wrong: take them out.", numbers)
    if across_near:
        sentence = f"{len(across_near)} pairs of a real and a generated image show the same scene, first: {first}."
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
    told, numbers = f"AUC {area:.2f}.", {"AUC of thumbnails of 8 x 8 px": area}
    if area > LAYOUT:
        sentence = f"The classes show different things: thumbnails of 8 x 8 px tell them apart with {told}"
        advice = "Test on real images of the same kind of scene, and on other contents of the generator."
        return Finding("contents", "note", sentence, advice, numbers)
    sentence = f"Contents differ little: thumbnails of 8 x 8 px tell the classes apart with {told}"
    return Finding("contents", "fine", sentence, "", numbers)


def _told(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{100 * share:.0f} % of the {name} images" for name, share in shares.items())


def _median(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else float("nan")
