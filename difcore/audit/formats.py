"""Do the files of real and of generated images differ in ways a detector could cheat on, and which are alike?

Only what the files say of themselves is seen. An image that was JPEG once and is stored as PNG now counts as PNG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from difcore.images.crops import Skipped
from difcore.images.decoding import ImageError, open_image
from difcore.images.folders import list_images
from difcore.images.headers import header_facts

SMALL_GAP = 0.1  # distributions closer than this are never warned of
BY_ENCODING = ("encoding", "JPEG quality", "JPEG subsampling")  # what one last encoding of all crops takes away
COLUMNS = ["encoding", "suffix_lies", "width", "height", "jpeg_quality", "jpeg_exact", "subsampling", "coarse"]


def audit_folder(source: Path | str | Sequence[Path]) -> tuple[pd.DataFrame, list[Skipped]]:
    """What the headers of the images of a folder, or of the files given, say; and files that have none to read.

    Columns: path; short, long (sides in px); encoding (from the content); suffix_lies; width, height (px); jpeg_quality
    (1..100, NaN if not JPEG); jpeg_exact (the table is one of the IJG's); subsampling ("4:4:4", "4:2:2", "4:2:0",
    "other", or "" if not JPEG in colour); coarse ("palette", "1 bit", ...: such pixels cannot carry a fingerprint;
    else "").
    """
    rows, skipped = [], []
    for path in list_images(source) if isinstance(source, str | Path) else source:
        try:
            with open_image(path) as image:
                rows.append({"path": str(path)} | header_facts(image, Path(path).suffix))
        except ImageError as error:
            skipped.append(Skipped(Path(path), str(error)))
    files = pd.DataFrame(rows, columns=["path", *COLUMNS])
    sides = files[["width", "height"]]
    return files.assign(short=sides.min(axis=1), long=sides.max(axis=1)), skipped


def compare(real: pd.DataFrame, fake: pd.DataFrame) -> list[str]:
    """Warnings, one sentence each: ``differences``, and files that are too coarse or whose suffix lies."""
    if not len(real) or not len(fake):
        return ["the classes cannot be compared: one of them has no readable file"]
    found = list(differences(real, fake).values())
    coarse = [files.loc[files["coarse"] != "", "coarse"] for files in (real, fake)]
    for what, (x, y) in (
        (f"files too coarse to carry a fingerprint ({', '.join(sorted({*coarse[0], *coarse[1]}))})", map(len, coarse)),
        ("suffixes that lie about the content", (int(files["suffix_lies"].sum()) for files in (real, fake))),
    ):
        if x or y:
            found.append(f"{what}: {x} of {len(real)} real, {y} of {len(fake)} fake")
    return found


def differences(real: pd.DataFrame, fake: pd.DataFrame) -> dict[str, str]:
    """Where real and fake files differ in encoding, JPEG quality or size: property to one sentence.

    The gap between two distributions is half the sum of the differences of shares for encodings and subsampling
    (total variation), and the largest difference of the cumulative shares for numbers (Kolmogorov-Smirnov). Some
    rule that looks at that property alone then has a balanced accuracy of (1 + gap) / 2 on these files. A gap is
    reported above 0.1 for encodings, and for the others if it is also beyond chance at about 5 %
    (gap > 1.36 sqrt(1/n + 1/m), or complete). Of the two sides the one with the wider gap is looked at.
    """
    if not len(real) or not len(fake):
        return {}
    side = max(("short", "long"), key=lambda name: cumulative_gap(real[name], fake[name]))
    colour = [files.loc[files["subsampling"] != "", "subsampling"] for files in (real, fake)]
    quality = [files["jpeg_quality"].dropna() for files in (real, fake)]
    checks: list[tuple[str, Sequence[pd.Series], Callable[..., float], Callable[..., str], float]] = [
        ("encoding", (real["encoding"], fake["encoding"]), shares_gap, _shares, 0.0),
        ("JPEG quality", quality, cumulative_gap, _spread, 1.36),
        ("JPEG subsampling", colour, shares_gap, _shares, 1.36),
        (f"{side} side in px", (real[side], fake[side]), cumulative_gap, _spread, 1.36),
    ]
    found = {}
    for what, (x, y), gap_of, shown, beyond in checks:
        if not len(x) or not len(y):
            continue
        gap, chance = gap_of(x, y), beyond * math.sqrt(1 / len(x) + 1 / len(y))
        if gap > SMALL_GAP and gap >= min(1.0, chance):
            power = f"(this alone tells them apart with {100 * (1 + gap) / 2:.0f} % balanced accuracy)"
            found[what] = f"{what} differs: real {shown(x)}; fake {shown(y)} {power}"
    return found


def shares_gap(x: pd.Series, y: pd.Series) -> float:
    """Total variation distance, 0..1, between the shares of the values in ``x`` and in ``y``."""
    shares = pd.concat([x.value_counts(normalize=True), y.value_counts(normalize=True)], axis=1).fillna(0.0)
    return float((shares.iloc[:, 0] - shares.iloc[:, 1]).abs().sum() / 2)


def cumulative_gap(x: pd.Series, y: pd.Series) -> float:
    """Kolmogorov-Smirnov distance, 0..1, between the numbers ``x`` and ``y``."""
    return float(ks_2samp(x, y, method="asymp").statistic)


def _shares(values: pd.Series) -> str:
    return ", ".join(f"{n} {key}" for key, n in values.value_counts().items())


def _spread(values: pd.Series) -> str:
    return f"median {values.median():g} ({values.min():g} to {values.max():g})"


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
        by = ", ".join(self.names)
        return {
            "alike": "alike: the classes' files do not differ in format or size",
            "controlled": f"controlled: all crops were last encoded alike; before that the classes differ in {by}",
            "confounded": f"confounded: the classes differ in {by}; what was measured may be that",
        }[self.verdict]


def confounds_of(
    real: Sequence[Path], fake: Sequence[Path], jpeg: int | None = None, can_match: bool = True
) -> Confounds:
    """Audit the files of both classes; the advice names ``--matched`` only to who ``can_match``."""
    files = (audit_folder(real)[0], audit_folder(fake)[0])
    found, warnings = differences(*files), compare(*files)
    if found:
        alike = sum(min(len(a), len(b)) for a, b in _strata(*files, jpeg))
        options = [] if jpeg else ["--jpeg 95 for a format-matched control"]
        options += [f"--matched to take the {alike} + {alike} images that are alike"] if can_match and alike > 1 else []
        told = "" if alike > 1 else "; no images of the two classes are alike"
        warnings.append("a detector could cheat on this" + ("; use " + ", or ".join(options) if options else told))
    return Confounds(tuple(found), tuple(warnings), jpeg)


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
    audits, rng = (audit_folder(real), audit_folder(fake)), np.random.default_rng(seed)
    kept: tuple[set[str], set[str]] = (set(), set())
    for pair in _strata(audits[0][0], audits[1][0], jpeg):
        count = min(map(len, pair))
        for chosen, names in zip(kept, pair, strict=True):
            chosen |= {names[k] for k in rng.permutation(len(names))[:count]}
    if not kept[0]:
        alike = "size" if jpeg else "size and encoding"
        raise ValueError(f"--matched: no real image has the {alike} of a generated one")
    for chosen, (_, skipped) in zip(kept, audits, strict=True):
        chosen |= {str(entry.path) for entry in skipped}
    return [path for path in real if str(path) in kept[0]], [path for path in fake if str(path) in kept[1]]


def _strata(real: pd.DataFrame, fake: pd.DataFrame, jpeg: int | None) -> list[tuple[list[str], list[str]]]:
    """(real, fake) paths of each kind of file that both classes have."""
    keys = ["short", "long"] + ([] if jpeg else ["encoding", "subsampling", "jpeg_quality"])
    ours, theirs = (f.fillna({"jpeg_quality": 0}).groupby(keys)["path"].apply(list).to_dict() for f in (real, fake))
    return [(paths, theirs[key]) for key, paths in ours.items() if key in theirs]
