"""The null of the published fingerprints, whose files hold none: correlations of photographs, shipped as numbers.

``scripts/published_null.py`` makes them, of three kinds of photographs: JPEG files, lossless ones, and such as a
camera's demosaicking leaves. It says which, and that none is an image that the fingerprints are tested on. An image may
be of any kind, so the least favourable one counts. That of a camera's own pixels is ten times as wide with fingerprints
that have a lattice of 2 px themselves; it counts only where the image's residual has one too (``decisions.LATTICE``).
It is not the whole truth nevertheless: photographs of another origin (other demosaicking, scanners, heavier
compression) may correlate more. Who has reals like those in question gives them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from difcore.files import DATA_DIR
from difcore.fingerprints.detector import FOREIGN_DENOISER, Fingerprint
from difcore.fingerprints.null import Null, null_of
from difcore.fingerprints.verdicts import DEMOSAICED
from difcore.images.release import registry
from difcore.residuals.denoisers import LIMIT, Denoiser

TABLE = DATA_DIR / "published_null.csv"
KINDS = {"jpeg": "JPEG photographs", "lossless": "lossless photographs", "demosaiced": DEMOSAICED}


@cache
def _correlations() -> pd.DataFrame:
    return pd.read_csv(TABLE)


def published_null(fingerprint: Fingerprint) -> Null | None:
    """The shipped null of a fingerprint of the authors' release; None of any other.

    It is recognised by the checkpoint's SHA-256, whatever it is called now.
    """
    ids = {digest: Path(path).parent.name for path, digest in registry().items() if path.startswith("checks/")}
    name = ids.get(str(fingerprint.metadata.get("file_sha256")))
    if not fingerprint.foreign or name is None or not TABLE.is_file():
        return None
    table = _correlations()
    return null_of({KINDS[str(kind)]: rows[name].to_numpy() for kind, rows in table.groupby("kind", sort=False)})


def with_null(fingerprint: Fingerprint, denoiser: Denoiser) -> Fingerprint:
    """The fingerprint with the shipped null, if it has none of its own and the shipped one is of this filter."""
    same = denoiser.name == FOREIGN_DENOISER and denoiser.limit == LIMIT
    if fingerprint.null is not None or not same:
        return fingerprint
    return replace(fingerprint, null=published_null(fingerprint))
