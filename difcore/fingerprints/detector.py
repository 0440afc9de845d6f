"""Which residual filter belongs to a fingerprint: the one it was fitted with, or the best there is for the authors'.

A fingerprint: its pattern, the centres and the null of its decision, where it came from. Saved, loaded, imported.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from difcore.files import atomic_safetensors, read_safetensors, sha256_file
from difcore.fingerprints.correlation import Array, ncc, nearest_centre
from difcore.fingerprints.null import Null, Reals
from difcore.residuals.denoisers import LIMIT, Denoiser, load_denoiser

OFFICIAL = "official release"
LAST_BATCHES = 20  # the centres are means over these many last batches (official code)
CONTENT = 16  # hex digits kept of an image's hash
# Names of tensors in a file: correlations of a kind of reals; content hashes.
NULL, NULL_IMAGES, TRAINED = "null ", "images of the null", "trained"


@dataclass(frozen=True)
class Fingerprint:
    """What a generator leaves in its images, and how strongly reals and fakes correlate with it.

    Sign convention: mu_fake > mu_real, so a fake correlates positively. A fit may end with either sign; the
    constructor turns a negative one around.

    Attributes
    ----------
    pattern : Tensor (3, H, W) float32
        Its scale and mean carry no meaning: only its correlation with residuals does.
    mu_real, mu_fake : float
        Mean correlation of each class, in [-1, 1].
    method : str
        "dif", "marra18" or "marra18-zm".
    name : str
        The generator's.
    metadata : mapping
        Provenance: data, plan, seed, denoiser.
    null : Null or None
        How reals that it was not fitted to correlate with it. None: unknown, so no false-alarm rate can be stated.
    trained : frozenset of str
        ``contents`` of the images that it was fitted to; empty: unknown.
    null_images : frozenset of str
        ``contents`` of the reals of the null; empty: unknown.
    """

    pattern: Tensor
    mu_real: float
    mu_fake: float
    method: str = "dif"
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    null: Null | None = None
    trained: frozenset[str] = frozenset()
    null_images: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.pattern.ndim != 3 or self.pattern.shape[0] != 3:
            raise ValueError(f"a fingerprint has shape (3, H, W), got {tuple(self.pattern.shape)}")
        if not bool(torch.isfinite(self.pattern).all()) or not math.isfinite(self.mu_real + self.mu_fake):
            raise ValueError("the fingerprint holds values that are not finite")
        if self.mu_fake < self.mu_real:
            object.__setattr__(self, "pattern", -self.pattern)
            object.__setattr__(self, "mu_real", -self.mu_real)
            object.__setattr__(self, "mu_fake", -self.mu_fake)
            object.__setattr__(self, "null", self.null and self.null.turned())

    @property
    def threshold(self) -> float:
        """The correlation midway between the centres: above it a residual is nearer to the fakes' centre."""
        return (self.mu_real + self.mu_fake) / 2

    @property
    def crop(self) -> int:
        """Side of the square crop it was fitted at, px."""
        return self.pattern.shape[-1]

    @property
    def foreign(self) -> bool:
        """Whether it is of the authors' release, fitted behind a filter that nobody else has."""
        return self.metadata.get("source") == OFFICIAL

    def scores(self, residuals: Array) -> Tensor:
        """rho of each residual (N, 3, H, W) with the pattern, (N,) in [-1, 1].

        Raises
        ------
        ValueError
            If the residuals are of another size than the fingerprint.
        """
        return ncc(self.pattern[None], residuals)[0]

    def decide(self, residuals: Array) -> Tensor:
        """True where a residual is nearer to the fakes' centre: "this generator made it"."""
        return nearest_centre(self.scores(residuals), self.mu_real, self.mu_fake)

    def with_centres(self, mu_real: float, mu_fake: float) -> Fingerprint:
        """The same pattern with other centres."""
        return replace(self, mu_real=mu_real, mu_fake=mu_fake)


def contents(hashes: Iterable[str]) -> list[str]:
    """What is kept of images' ``residuals.sha256_pixels``: their first 64 bits, 16 hex digits."""
    return [digest[:CONTENT] for digest in hashes]


def save_fingerprint(path: Path | str, fingerprint: Fingerprint) -> Path:
    """Write pattern, centres, null, hashes of its images and of those of the fit, provenance: one file, atomically."""
    centres = {key: float(getattr(fingerprint, key)) for key in ("mu_real", "mu_fake")}
    names = {key: getattr(fingerprint, key) for key in ("method", "name")}
    metadata = {"kind": "fingerprint", **centres, **names, "metadata": dict(fingerprint.metadata)}
    tensors = {"pattern": fingerprint.pattern.float()}
    if fingerprint.null is not None:
        kinds = fingerprint.null.kinds.items()
        tensors |= {NULL + kind: torch.tensor(reals.rho, dtype=torch.float64) for kind, reals in kinds}
    for key, digests in ((TRAINED, fingerprint.trained), (NULL_IMAGES, fingerprint.null_images)):
        if digests:
            tensors[key] = torch.tensor([list(bytes.fromhex(one)) for one in sorted(digests)], dtype=torch.uint8)
    return atomic_safetensors(path, tensors, metadata)


def load_fingerprint(path: Path | str) -> Fingerprint:
    """Read a file written by ``save_fingerprint``; older ones have no null and no hashes.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not a fingerprint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no fingerprint at {path}")
    try:
        tensors, facts = read_safetensors(path)
        if facts.pop("kind", None) != "fingerprint":
            raise ValueError("its metadata says it is something else")
        kinds = {k.removeprefix(NULL): Reals(tuple(v.tolist())) for k, v in tensors.items() if k.startswith(NULL)}
        found = Fingerprint(tensors["pattern"], **facts)
        trained, null_images = (
            frozenset(bytes(row).hex() for row in (tensors[key].tolist() if key in tensors else ()))
            for key in (TRAINED, NULL_IMAGES)
        )
        return replace(found, null=Null(kinds) if kinds else None, trained=trained, null_images=null_images)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        hint = "; for the authors' chk_0.pt use `difcore import-official`" if path.suffix == ".pt" else ""
        raise ValueError(f"{path} is not a difcore fingerprint: {error}{hint}") from error


def import_official(path: Path | str, name: str | None = None) -> Fingerprint:
    """Read a published ``chk_0.pt``: pattern, and centres from the training correlations it logs.

    The file is a dict with "Fingerprint" (1, 3, H, W) and, per step, lists "Train Real" and "Train Fake" of mean
    correlations; the centres are the means of their last 20 entries, as the official evaluation takes them.
    Nothing in the file is executed (``weights_only=True``).

    Parameters
    ----------
    name : str, optional
        The generator's; by default the name of the folder the file is in.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is anything else than such a dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pickle protocol")
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint can make the unpickler raise anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a plain checkpoint: {first}") from error
    missing = [k for k in ("Fingerprint", "Train Real", "Train Fake") if not isinstance(saved, dict) or k not in saved]
    if missing:
        raise ValueError(f"{path} is not a published fingerprint: no {', '.join(map(repr, missing))} in it")
    pattern, real, fake = (saved[k] for k in ("Fingerprint", "Train Real", "Train Fake"))
    if not isinstance(pattern, Tensor) or pattern.ndim != 4 or pattern.shape[:2] != (1, 3):
        raise ValueError(f"{path}: expected a fingerprint of shape (1, 3, H, W)")
    try:
        mu_real, mu_fake = (fmean(x[-LAST_BATCHES:]) for x in (real, fake))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: its training correlations are not lists of numbers") from error
    origin = {"source": OFFICIAL, "file_sha256": sha256_file(path), "steps": len(real)}
    try:
        return Fingerprint(pattern[0].float(), mu_real, mu_fake, "dif", name or path.parent.name, origin)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
