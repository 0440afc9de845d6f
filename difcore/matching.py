"""Which residual filter belongs to a fingerprint: the one it was fitted with, or the best there is for the authors'."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from difcore.denoisers import LIMIT, Denoiser, load_denoiser
from difcore.fingerprints import Fingerprint

FOREIGN_DENOISER = "photos-long"  # for the authors' fingerprints: chosen by agreement with them (notebooks 03 and 05)


def load_recorded(
    name: str | Path, fingerprints: Sequence[Fingerprint], device: str = "cpu", bfloat16: bool | None = False
) -> Denoiser:
    """The denoiser called ``name`` in the precision, and with the limit, that ``fingerprints`` were fitted with.

    It is recognised by its hash, ``denoiser_sha256`` in a fingerprint's metadata. If that is none of a denoiser of
    this name: in float32, limited to ``LIMIT``. Where another precision than the recorded one is wanted: in that, with
    the recorded limit.

    Parameters
    ----------
    bfloat16 : bool or None
        ``Runtime.wanted``: the precision whatever the fingerprints say; None: theirs.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``load_denoiser``.
    """
    hashes = {f.metadata.get("denoiser_sha256") for f in fingerprints}
    recorded = [f.metadata.get("limit") for f in fingerprints]
    limits = dict.fromkeys([LIMIT, None, *(x for x in recorded if isinstance(x, float) and x > 0)])
    precisions = (False, True) if bfloat16 is None else (bfloat16,)
    ways = [load_denoiser(name, device, rounded, limit) for limit, rounded in product(limits, precisions)]
    same = (denoiser for denoiser in ways if denoiser.hash in hashes)
    rounded_otherwise = (denoiser for denoiser in ways if denoiser.twin in hashes)
    return next(same, None) or next(rounded_otherwise, ways[0])


def same_filter(fingerprint: Fingerprint, denoiser: Denoiser) -> bool:
    """Whether ``denoiser`` gives the residuals that the fingerprint was fitted to, up to rounding.

    By the recorded hash, or that of the other precision. A fingerprint that records no filter is taken to match.
    """
    return fingerprint.metadata.get("denoiser_sha256") in (None, denoiser.hash, denoiser.twin)
