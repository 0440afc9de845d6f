"""Confounds: what else than their generator do the generated images have in common that the real ones have not?

A sample of both classes is read once; the checks in ``difcore.checks`` say what is found, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from difcore.checks import (
    Finding,
    copies_finding,
    format_finding,
    layout_finding,
    mark_finding,
    noise_finding,
    resampling_finding,
)
from difcore.confounds import Confounds
from difcore.imprints import imprint, readable
from difcore.shared_noise import SharedResidual, shared_residual
from difcore.watermark import MarkReading, read_marks

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
