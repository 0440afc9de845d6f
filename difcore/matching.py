"""Which residual filter belongs to a fingerprint: the one it was fitted with, or the best there is for the authors'."""

from __future__ import annotations

from collections.abc import Container
from itertools import product
from pathlib import Path

from difcore.denoisers import LIMIT, Denoiser, load_denoiser

FOREIGN_DENOISER = "photos-long"  # for the authors' fingerprints: chosen by agreement with them (notebooks 03 and 05)


def load_recorded(
    name: str | Path, hashes: Container[str | None], device: str = "cpu", bfloat16: bool | None = None
) -> Denoiser:
    """The denoiser called ``name`` in the precision, and with the limit, whose hash is among ``hashes``.

    If none is, in float32 with the default limit.

    Parameters
    ----------
    hashes : container of str
        ``denoiser_sha256`` of fingerprints.
    bfloat16 : bool or None
        A precision that is wanted whatever the hashes say.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``load_denoiser``.
    """
    precisions = (False, True) if bfloat16 is None else (bfloat16,)
    ways = [load_denoiser(name, device, rounded, limit) for limit, rounded in product((LIMIT, None), precisions)]
    return next((denoiser for denoiser in ways if denoiser.hash in hashes), ways[0])
