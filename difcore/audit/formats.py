"""Do real and generated files differ in what a detector could cheat on, and which of them are alike?

Format audit: do the files of real and of fake images differ in ways a detector could cheat on?

Only what the files say of themselves is seen. An image that was JPEG once and is stored as PNG now counts as PNG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from difcore.images.crops import Skipped
from difcore.images.decoding import ImageError, open_image
from difcore.images.folders import list_images
from difcore.images.headers import header_facts

SMALL_GAP = 0.1  # distributions closer than this are never warned of


@dataclass(frozen=True)
class FolderAudit:
    """What the files of one class are.

    Attributes
    ----------
    files : DataFrame
        One row per readable file: ``path``, ``encoding`` (from the content), ``suffix_lies`` (bool), ``width`` and
        ``height`` (px), ``jpeg_quality`` (1..100, NaN if not JPEG), ``jpeg_exact`` (the table is one of the IJG's),
        ``subsampling`` ("4:4:4", "4:2:2", "4:2:0", "other", or "" if not JPEG in colour), ``coarse`` ("palette",
        "1 bit", "2 bits", "4 bits": such pixels cannot carry a fingerprint; else "").
    skipped : tuple of Skipped
        Files whose header could not be read.
    """

    files: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Counts and (min, median, max) of sizes and qualities; None where there is nothing to tell."""
        return {
            "files": len(self.files),
            "skipped": len(self.skipped),
            "encodings": {str(key): int(n) for key, n in self.files["encoding"].value_counts().items()},
            "suffix_lies": int(self.files["suffix_lies"].sum()),
            "coarse": {str(key): int(n) for key, n in self.coarse().value_counts().items()},
            "short_side": _range(self.short_side()),
            "long_side": _range(self.long_side()),
            "jpeg_quality": _range(self.files["jpeg_quality"].dropna()),
        }

    def coarse(self) -> pd.Series:
        """Why pixels cannot carry a fingerprint, of each file of which they cannot."""
        return self.files.loc[self.files["coarse"] != "", "coarse"]

    def short_side(self) -> pd.Series:
        """Shorter side of each file's image, px."""
        return self.files[["width", "height"]].min(axis=1)

    def long_side(self) -> pd.Series:
        """Longer side of each file's image, px."""
        return self.files[["width", "height"]].max(axis=1)


def audit_folder(source: Path | str | Sequence[Path]) -> FolderAudit:
    """Read the header of every image of a folder, or of the files given; nothing is decoded.

    Raises
    ------
    FolderError
        If ``source`` is a folder without images.
    """
    rows, skipped = [], []
    for path in list_images(source) if isinstance(source, str | Path) else source:
        try:
            with open_image(path) as image:
                rows.append({"path": str(path)} | header_facts(image, Path(path).suffix))
        except ImageError as error:
            skipped.append(Skipped(Path(path), str(error)))
    columns = ["path", "encoding", "suffix_lies", "width", "height", "jpeg_quality", "jpeg_exact", "subsampling"]
    columns += ["coarse"]
    return FolderAudit(pd.DataFrame(rows, columns=columns), tuple(skipped))


def compare(real: FolderAudit, fake: FolderAudit) -> list[str]:
    """Warnings, one sentence each: ``differences``, and files that are too coarse or whose suffix lies."""
    if not len(real.files) or not len(fake.files):
        return ["the classes cannot be compared: one of them has no readable file"]
    found = list(differences(real, fake).values())
    a, b = real.files, fake.files
    few_real, few_fake = real.coarse(), fake.coarse()
    if len(few_real) or len(few_fake):
        kinds = ", ".join(sorted({*few_real, *few_fake}))
        counts = f"{len(few_real)} of {len(a)} real, {len(few_fake)} of {len(b)} fake"
        found.append(f"files too coarse to carry a fingerprint ({kinds}): {counts}")
    lies_real, lies_fake = int(a["suffix_lies"].sum()), int(b["suffix_lies"].sum())
    if lies_real or lies_fake:
        found.append(f"suffixes that lie about the content: {lies_real} of {len(a)} real, {lies_fake} of {len(b)} fake")
    return found


def differences(real: FolderAudit, fake: FolderAudit) -> dict[str, str]:
    """Where real and fake files differ in encoding, JPEG quality or size: property to one sentence.

    The gap between two distributions is half the sum of the differences of shares for encodings and subsampling
    (total variation), and the largest difference of the cumulative shares for numbers (Kolmogorov-Smirnov). Some
    rule that looks at that property alone then has a balanced accuracy of (1 + gap) / 2 on these files. A gap is
    reported above 0.1 for encodings, and for the others if it is also beyond chance at about 5 %
    (gap > 1.36 sqrt(1/n + 1/m), or complete). Of the two sides the one with the wider gap is looked at.
    """
    found = {}
    a, b = real.files, fake.files
    if len(a) and len(b) and (gap := shares_gap(a["encoding"], b["encoding"])) > SMALL_GAP:
        told = f"real {_shares(a['encoding'])}; fake {_shares(b['encoding'])}{_power(gap)}"
        found["encoding"] = f"encoding differs: {told}"
    sides = {name: (getattr(real, f"{name}_side")(), getattr(fake, f"{name}_side")()) for name in ("short", "long")}
    side = max(sides, key=lambda name: cumulative_gap(*sides[name]) if len(a) and len(b) else 0.0)
    checks: list[tuple[str, pd.Series, pd.Series, Callable[..., float], Callable[..., str]]] = [
        ("JPEG quality", a["jpeg_quality"].dropna(), b["jpeg_quality"].dropna(), cumulative_gap, _spread),
        ("JPEG subsampling", _colour_jpeg(a), _colour_jpeg(b), shares_gap, _shares),
        (f"{side} side in px", *sides[side], cumulative_gap, _spread),
    ]
    for what, x, y, gap_of, shown in checks:
        if len(x) and len(y) and (gap := gap_of(x, y)) > SMALL_GAP and gap >= _chance(len(x), len(y)):
            found[what] = f"{what} differs: real {shown(x)}; fake {shown(y)}{_power(gap)}"
    return found


def shares_gap(x: pd.Series, y: pd.Series) -> float:
    """Total variation distance, 0..1, between the shares of the values in ``x`` and in ``y``."""
    shares = pd.concat([x.value_counts(normalize=True), y.value_counts(normalize=True)], axis=1).fillna(0.0)
    return float((shares.iloc[:, 0] - shares.iloc[:, 1]).abs().sum() / 2)


def cumulative_gap(x: pd.Series, y: pd.Series) -> float:
    """Kolmogorov-Smirnov distance, 0..1, between the numbers ``x`` and ``y``."""
    at = np.union1d(x, y)
    below = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (x, y)]
    return float(np.abs(below[0] - below[1]).max())


def _colour_jpeg(files: pd.DataFrame) -> pd.Series:
    return files.loc[files["subsampling"] != "", "subsampling"]


def _chance(n: int, m: int) -> float:
    return min(1.0, 1.36 * math.sqrt(1 / n + 1 / m))


def _power(gap: float) -> str:
    return f" (this alone tells them apart with {100 * (1 + gap) / 2:.0f} % balanced accuracy)"


def _shares(values: pd.Series) -> str:
    return ", ".join(f"{n} {key}" for key, n in values.value_counts().items())


def _range(values: pd.Series) -> tuple[float, float, float] | None:
    return (float(values.min()), float(values.median()), float(values.max())) if len(values) else None


def _spread(values: pd.Series) -> str:
    low, middle, high = values.min(), values.median(), values.max()
    return f"median {middle:g} ({low:g} to {high:g})"


BY_ENCODING = ("encoding", "JPEG quality", "JPEG subsampling")  # what one last encoding of all crops takes away


@dataclass(frozen=True)
class Confounds:
    """How the files of two classes differ.

    Attributes
    ----------
    names : tuple of str
        The properties by which one could tell the classes apart without looking at a pixel.
    warnings : tuple of str
        The audit's sentences, and last what to type.
    jpeg : int or None
        Quality of the last encoding that all crops are given.
    """

    names: tuple[str, ...]
    warnings: tuple[str, ...]
    jpeg: int | None = None

    @property
    def verdict(self) -> str:
        """ "confounded", or "controlled" if one last encoding covers all the differences, or "alike"."""
        if not self.names:
            return "alike"
        return "controlled" if self.jpeg and set(self.names) <= set(BY_ENCODING) else "confounded"

    def line(self) -> str:
        """The verdict in words."""
        if self.verdict == "alike":
            return "alike: the classes' files do not differ in format or size"
        by = ", ".join(self.names)
        if self.verdict == "controlled":
            return f"controlled: all crops were last encoded alike; before that the classes differ in {by}"
        return f"confounded: the classes differ in {by}; what was measured may be that"


def confounds_of(
    real: Sequence[Path], fake: Sequence[Path], jpeg: int | None = None, can_match: bool = True
) -> Confounds:
    """Audit the files of both classes; the advice names ``--matched`` only to who ``can_match``."""
    audits = (audit_folder(real), audit_folder(fake))
    found = differences(*audits)
    advice = []
    if found:
        alike = sum(min(len(a), len(b)) for a, b in _strata(*audits, jpeg))
        options = [] if jpeg else ["--jpeg 95 for a format-matched control"]
        options += [f"--matched to take the {alike} + {alike} images that are alike"] if can_match and alike > 1 else []
        told = "" if alike > 1 else "; no images of the two classes are alike"
        told = "; use " + ", or ".join(options) if options else told
        advice = [f"a detector could cheat on this{told}"]
    return Confounds(tuple(found), (*compare(*audits), *advice), jpeg)


def matched(
    real: Sequence[Path], fake: Sequence[Path], jpeg: int | None = None, seed: int = 0
) -> tuple[list[Path], list[Path]]:
    """As many images of each class of every size and encoding (of every size, if all get one last encoding).

    Which ones of too many is drawn with ``seed``; what has no readable header stays, to be named.

    Raises
    ------
    ValueError
        If no two images are alike.
    """
    audits = (audit_folder(real), audit_folder(fake))
    rng = np.random.default_rng(seed)
    kept: tuple[set[str], set[str]] = (set(), set())
    for pair in _strata(*audits, jpeg):
        count = min(map(len, pair))
        for chosen, names in zip(kept, pair, strict=True):
            chosen |= {names[k] for k in rng.permutation(len(names))[:count]}
    if not kept[0]:
        alike = "size" if jpeg else "size and encoding"
        raise ValueError(f"--matched: no real image has the {alike} of a generated one")
    sources = []
    for paths, chosen, audit in zip((real, fake), kept, audits, strict=True):
        chosen |= {str(entry.path) for entry in audit.skipped}
        sources.append([path for path in paths if str(path) in chosen])
    return sources[0], sources[1]


def _strata(real: FolderAudit, fake: FolderAudit, jpeg: int | None) -> list[tuple[list[str], list[str]]]:
    """(real, fake) paths of each kind of file that both classes have."""
    keys = ["short", "long"] + ([] if jpeg else ["encoding", "subsampling", "quality"])
    groups = [
        audit.files.assign(
            short=audit.short_side(),
            long=audit.long_side(),
            quality=audit.files["jpeg_quality"].fillna(0),
        )
        .groupby(keys)["path"]
        .apply(list)
        .to_dict()
        for audit in (real, fake)
    ]
    return [(paths, groups[1][key]) for key, paths in groups[0].items() if key in groups[1]]
