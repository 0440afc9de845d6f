"""Do real and generated files differ in what a detector could cheat on, and which of them are alike?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difcore.audit import FolderAudit, audit_folder, compare, differences

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
