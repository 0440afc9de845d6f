"""The detector, all that a verdict needs in one object and one file; and a bank, several asked about one image."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor

from difcore.files import DATA_DIR, atomic_safetensors, read_safetensors, sha256_file
from difcore.fingerprints.correlation import Array, lattice_shares, ncc
from difcore.fingerprints.null import Null, Reals, log10_ratio, null_of
from difcore.fingerprints.verdicts import (
    DEMOSAICED,
    FALSE_ALARM,
    NO_NULL,
    condition_of,
    contents,
    false_alarm_of,
    judge,
    null_warnings,
)
from difcore.images.crops import Skipped, read_crop
from difcore.images.decoding import ImageError
from difcore.images.sources import locate, release_registry
from difcore.machine.winograd import TORCH
from difcore.residuals.denoisers import DEFAULT_DENOISER, LIMIT, Denoiser, has_name, load_denoiser
from difcore.residuals.sets import ResidualSet, Source, residuals_of
from difcore.stats import Detection, calibration_error, cllr, detection, found_at

if TYPE_CHECKING:
    from difcore.fingerprints.dif import DifPlan
    from difcore.fingerprints.fitting import FitOptions, Report

OFFICIAL = "official release"
FOREIGN_DENOISER = "photos-long"  # for the authors' fingerprints: chosen by agreement with them (notebooks 03 and 05)
LAST_BATCHES = 20  # the centres are means over these many last batches (official code)
HIGHEST = 16.0  # of a residual in units of the full range; what exceeds it was filtered from [0, 255]
GIVEN = "given reals"  # the kind of the null of --reals
IN_TRAINING = "in training set: the fingerprint was fitted to this image"
IN_NULL = "in the null: real images are judged by this one"
# Names of tensors in a file: correlations of a kind of reals; content hashes.
NULL, NULL_IMAGES, TRAINED, FAKES = "null ", "images of the null", "trained", "generated"
TABLE = DATA_DIR / "published_null.csv"  # ``scripts/published_null.py``'s: correlations of photographs with the 13
read_table = cache(pd.read_csv)
KINDS = {"jpeg": "JPEG photographs", "lossless": "lossless photographs", "demosaiced": DEMOSAICED}


@dataclass(frozen=True)
class Detector:
    """A generator's fingerprint with all that a verdict needs, in one safetensors file.

    The fingerprint F is a pattern that correlates with the residuals R of the generator's images and not with those of
    reals: rho = NCC(F, R). The paper decides by the nearer of two centres, that is by ``threshold``; ``decide`` by
    how likely a real image is to correlate as much. A fit may end with either sign; the constructor turns one around
    whose fakes correlate less than its reals.

    Attributes
    ----------
    pattern : Tensor (3, H, W) float32
        F. Its scale and mean carry no meaning.
    mu_real, mu_fake : float
        Mean correlation of each class, in [-1, 1].
    method, name : str
        "dif", "marra18" or "marra18-zm"; the generator's.
    metadata : mapping
        Provenance (data, plan, seed) and the residual filter's settings: denoiser, denoiser_sha256, limit, F_DnCNN.
    null : Null or None
        How reals that it was not fitted to correlate with it. None: unknown, so no false-alarm rate can be stated.
    fakes : Reals or None
        The same of the generator's images. None: unknown, so no likelihood ratio can be stated.
    trained, null_images : frozenset of str
        ``contents`` of the images that it was fitted to, and of the reals of the null; empty: unknown.
    denoiser : Denoiser or None
        The filter, loaded; None: it is loaded when needed. Not in the file, as the report.
    report : Report or None
        After ``fit``: how it does on images that were held out, and what was skipped.

    Raises
    ------
    ValueError
        For a pattern of another shape, values that are not finite, a filter that it was not fitted with.
    """

    pattern: Tensor
    mu_real: float
    mu_fake: float
    method: str = "dif"
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    null: Null | None = None
    fakes: Reals | None = None
    trained: frozenset[str] = frozenset()
    null_images: frozenset[str] = frozenset()
    denoiser: Denoiser | None = field(default=None, compare=False, repr=False)
    report: Report | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.pattern.ndim != 3 or self.pattern.shape[0] != 3:
            raise ValueError(f"a fingerprint has shape (3, H, W), got {tuple(self.pattern.shape)}")
        if not bool(torch.isfinite(self.pattern).all()) or not math.isfinite(self.mu_real + self.mu_fake):
            raise ValueError("the fingerprint holds values that are not finite")
        if self.denoiser is not None and not self.fitted_with(self.denoiser):
            raise ValueError(f"fitted with filter {self.metadata.get('denoiser')}, not {self.denoiser.name}")
        if self.mu_fake < self.mu_real:
            object.__setattr__(self, "pattern", -self.pattern)
            object.__setattr__(self, "mu_real", -self.mu_real)
            object.__setattr__(self, "mu_fake", -self.mu_fake)
            object.__setattr__(self, "null", self.null and self.null.turned())
            object.__setattr__(self, "fakes", self.fakes and Reals(tuple(-r for r in self.fakes.rho)))

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

    def fitted_with(self, denoiser: Denoiser) -> bool:
        """Whether ``denoiser`` gives the residuals that it was fitted to, up to rounding; True if it records none."""
        return self.metadata.get("denoiser_sha256") in (None, denoiser.hash, denoiser.twin)

    def filter(self) -> Denoiser:
        """The residual filter that it was fitted with; for the authors', the best there is (``filter_for``)."""
        return self.denoiser or filter_for([self])

    @classmethod
    def fit(
        cls,
        real: Source,
        generated: Source,
        denoiser: Denoiser | None = None,
        plan: DifPlan | None = None,
        options: FitOptions | None = None,
        method: str = "dif",
        name: str = "",
        progress: bool = False,
    ) -> Detector:
        """Fit to images of two classes; a quarter of each is held out to measure it, and those reals are its null.

        Parameters
        ----------
        real, generated : folder, list of files, or uint8 array (N, H, W, 3)
        denoiser : Denoiser or None
            The residual filter, on whose device all is computed. None: "photos", limited, on the CPU.
        plan : DifPlan or None
            Of the DIF fit, its seed that of the division too. None: the defaults.
        options : FitOptions or None
            Which images are trained on, their crop, a last encoding for both classes.
        method : str
            "dif" (Sinitsa & Fried 2023), "marra18" (Marra et al. 2018), or "marra18-zm".

        Raises
        ------
        FolderError, ImageError, ValueError
            Folders without images, no usable image, an unknown method, too few images, an image in both classes.
        """
        from difcore.fingerprints.fitting import fitted

        return fitted(real, generated, denoiser, plan, options, method, name, progress)

    def rho(self, residuals: Array | ResidualSet) -> Tensor:
        """Correlation of each residual (N, 3, H, W) with the pattern, (N,) in [-1, 1].

        Raises
        ------
        ValueError
            For residuals of another size or filter, or of images in [0, 255].
        """
        if isinstance(residuals, ResidualSet):
            if residuals.denoiser is not None and not self.fitted_with(residuals.denoiser):
                used = residuals.denoiser.name
                raise ValueError(f"{self.name} was fitted with filter {self.metadata.get('denoiser')}, not {used}")
            residuals = residuals.values
        if len(residuals) and float(abs(residuals[0]).max()) > HIGHEST:
            raise ValueError("these are no residuals of images in [0, 1]: were they in [0, 255]?")
        return ncc(self.pattern[None], residuals)[0]

    def score(self, images: Source) -> np.ndarray:
        """rho of each image, (N,) float64; residuals are cached.

        Parameters
        ----------
        images : folder, list of files, or uint8 array (N, H, W, 3)
            At least ``crop`` px a side; the centre is looked at.

        Raises
        ------
        FolderError, ImageError, ValueError
            For an array of another shape or type, and if any image cannot be used; ``decide`` names those.
        """
        found = residuals_of(images, self.filter(), self.crop)
        if found.skipped:
            raise ImageError(f"{found.skipped[0].path} cannot be used ({found.skipped[0].reason})")
        return self.rho(found).double().numpy()

    def decide(self, images: Source, false_alarm: float = FALSE_ALARM, jpeg: int | None = None) -> pd.DataFrame:
        """A verdict on each image, as ``Bank.decide``."""
        return Bank([self]).decide(images, false_alarm, jpeg)

    def evidence(self, image: Path | str | np.ndarray) -> dict[str, Any]:
        """What ``figures.evidence_panels`` draws of one image: its crop uint8 (H, W, 3), residual, pattern, name."""
        pixels = read_crop(image, self.crop)
        residual = residuals_of(pixels[None], self.filter(), self.crop).values[0]
        return {"image": pixels, "residual": residual, "pattern": self.pattern.numpy(), "name": self.name}

    def evaluate(
        self,
        real: Source,
        generated: Source,
        denoiser: Denoiser | None = None,
        jpeg: int | None = None,
        progress: bool = False,
    ) -> Evaluation:
        """Detection on two classes by its own centres, images re-encoded as JPEG of quality ``jpeg`` if one is given.

        Images that it was fitted to, and those that its null is of, whatever file they are in, are not counted: they
        are among the skipped. ``denoiser``: another filter than its own, at your own risk.

        Raises
        ------
        FolderError, ImageError, ValueError
            Folders without images, no usable image, none of a class that is neither a training image nor in the null.
        """
        rho, lattices, skipped = {}, {}, []
        reasons = dict.fromkeys(self.null_images, IN_NULL) | dict.fromkeys(self.trained, IN_TRAINING)
        for label, source in (("real", real), ("fake", generated)):
            residuals = residuals_of(source, denoiser or self.filter(), self.crop, jpeg, progress=progress)
            known = [reasons.get(digest) for digest in contents(residuals.hashes)]
            seen = [Skipped(Path(n), reason) for n, reason in zip(residuals.names, known, strict=True) if reason]
            skipped += [*residuals.skipped, *seen]
            if len(seen) == len(residuals):
                where = "the training set" + (" or the null" if IN_NULL in known else "")
                raise ValueError(f"all {len(seen)} {label} images are in {where} of {self.name}: give others")
            unseen = residuals.take([k for k, reason in enumerate(known) if not reason]) if seen else residuals
            rho[label], lattices[label] = self.rho(unseen.values).numpy(), lattice_shares(unseen.values)
        found = detection(rho["real"], rho["fake"], self.threshold)
        return Evaluation(found, rho, lattices, tuple(skipped))

    def save(self, path: Path | str) -> Path:
        """Write it to one safetensors file, atomically."""
        centres = {"mu_real": float(self.mu_real), "mu_fake": float(self.mu_fake)}
        names = {"method": self.method, "name": self.name, "metadata": dict(self.metadata)}
        tensors = {"pattern": self.pattern.float()}
        kinds = self.null.kinds.items() if self.null else ()
        tensors |= {NULL + kind: torch.tensor(reals.rho, dtype=torch.float64) for kind, reals in kinds}
        tensors |= {FAKES: torch.tensor(self.fakes.rho, dtype=torch.float64)} if self.fakes else {}
        for key, digests in ((TRAINED, self.trained), (NULL_IMAGES, self.null_images)):
            if digests:
                tensors[key] = torch.tensor([list(bytes.fromhex(one)) for one in sorted(digests)], dtype=torch.uint8)
        return atomic_safetensors(path, tensors, {"kind": "fingerprint", **centres, **names})

    @classmethod
    def load(cls, path: Path | str) -> Detector:
        """Read a file written by ``save``; older ones have no null and no hashes.

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
            trained, null_images = (
                frozenset(bytes(row).hex() for row in (tensors[key].tolist() if key in tensors else ()))
                for key in (TRAINED, NULL_IMAGES)
            )
            found = cls(tensors["pattern"], **facts)
            null = Null(kinds) if kinds else None
            fakes = Reals(tuple(tensors[FAKES].tolist())) if FAKES in tensors else None
            return replace(found, null=null, fakes=fakes, trained=trained, null_images=null_images)
        except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            hint = "; for the authors' chk_0.pt use `difcore import-official`" if path.suffix == ".pt" else ""
            raise ValueError(f"{path} is not a difcore fingerprint: {error}{hint}") from error

    @classmethod
    def published(cls, name: str, data_root: Path | str | None = None) -> Detector:
        """A fingerprint of the authors' release ("sd14"), with the filter for it and the null that is shipped.

        ``data_root``: where the release is looked for (``images.sources.locate``).

        Raises
        ------
        NeedsData, FileNotFoundError
            If the release is not here (``difcore fetch``), or has no such fingerprint.
        """
        found = cls.from_official(locate(data_root) / "checks" / name / "chk_0.pt", name)
        return replace(found.recording(found.filter()), null=published_null(found))

    @classmethod
    def from_official(cls, path: Path | str, name: str | None = None) -> Detector:
        """Read a published ``chk_0.pt``, of which nothing is executed; by default it is called like its folder.

        The file is a dict with "Fingerprint" (1, 3, H, W) and, per step, lists "Train Real" and "Train Fake" of mean
        correlations; the centres are the means of their last 20 entries, as the official evaluation takes them.

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
        keys = ("Fingerprint", "Train Real", "Train Fake")
        if missing := [key for key in keys if not isinstance(saved, dict) or key not in saved]:
            raise ValueError(f"{path} is not a published fingerprint: no {', '.join(map(repr, missing))} in it")
        pattern, real, fake = (saved[key] for key in keys)
        if not isinstance(pattern, Tensor) or pattern.ndim != 4 or pattern.shape[:2] != (1, 3):
            raise ValueError(f"{path}: expected a fingerprint of shape (1, 3, H, W)")
        try:
            mu_real, mu_fake = (fmean(x[-LAST_BATCHES:]) for x in (real, fake))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: its training correlations are not lists of numbers") from error
        origin = {"source": OFFICIAL, "file_sha256": sha256_file(path), "steps": len(real)}
        try:
            return cls(pattern[0].float(), mu_real, mu_fake, "dif", name or path.parent.name, origin)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def recording(self, denoiser: Denoiser) -> Detector:
        """The same, of this filter: its name, hash, limit and F_DnCNN in the metadata."""
        facts = {"denoiser": denoiser.name, "denoiser_sha256": denoiser.hash, "limit": denoiser.limit}
        facts |= {"F_DnCNN": denoiser.metadata.get("bias")}
        return replace(self, metadata={**self.metadata, **facts}, denoiser=denoiser)


@dataclass(frozen=True)
class Evaluation:
    """How a detector does on two classes.

    ``detection``: by its own centres. ``rho``, ``lattices``: correlations of "real" and "fake", and the share of each
    residual that a lattice of 2 px explains. ``skipped``: also what is not counted, ``IN_TRAINING`` or ``IN_NULL``.
    """

    detection: Detection
    rho: dict[str, np.ndarray]
    lattices: dict[str, np.ndarray]
    skipped: tuple[Skipped, ...]

    def count(self, reason: str) -> int:
        """How many were skipped for this reason."""
        return sum(entry.reason == reason for entry in self.skipped)

    def calibration(self, detector: Detector) -> dict[str, float | None]:
        """``stats.cllr`` and ``calibration_error`` of its likelihood ratios, if it has any; what it finds at 1, 5 %."""
        real, fake = self.rho["real"], self.rho["fake"]
        found = {f"found_at_{rate}": found_at(real, fake, rate / 100) for rate in (1, 5)}
        if detector.null is None or detector.fakes is None:
            return {**found, "cllr": None, "calibration_error": None}
        x, y = (log10_ratio(detector.null, detector.fakes, rho) for rho in (real, fake))
        return {**found, "cllr": cllr(x, y), "calibration_error": calibration_error(x, y)}

    def called(self, null: Null | None, rate: float) -> dict[str, int | None]:
        """How many of each class ``decide`` would call generated at ``rate``; None without a null."""
        if null is None:
            return dict.fromkeys(self.rho)
        p = {label: false_alarm_of(null, rho, self.lattices[label]) for label, rho in self.rho.items()}
        return {label: int(((p[label] <= rate) & (rho != 0)).sum()) for label, rho in self.rho.items()}


@dataclass(frozen=True)
class Judged:
    """The table of verdicts, and the residuals of the images that it is of, with what was skipped."""

    table: pd.DataFrame
    residuals: ResidualSet


@dataclass(frozen=True)
class Bank:
    """Several detectors of one crop, asked about the same images behind one filter.

    Those without a name are called by their place; the authors' get the shipped null where the filter is the one that
    it was measured with. ``denoiser`` None: as ``filter_for``. Detectors fitted with another one apply to no image.

    Raises
    ------
    ValueError
        If there are none, or of different crops, or two of one name.
    """

    detectors: Sequence[Detector]
    denoiser: Denoiser | None = None

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("no fingerprint given")
        if len(crops := {d.crop for d in self.detectors}) > 1:
            raise ValueError(f"fingerprints of different sizes cannot be compared: {sorted(crops)} px")
        names = [d.name or str(k) for k, d in enumerate(self.detectors)]
        if len(set(names)) < len(names):
            raise ValueError(f"fingerprints need names of their own, got {[d.name for d in self.detectors]}")
        denoiser = self.denoiser or filter_for(self.detectors)
        measured = denoiser.name == FOREIGN_DENOISER and denoiser.limit == LIMIT
        shipped = [published_null(d) if measured and NO_NULL not in d.metadata else None for d in self.detectors]
        rows = zip(self.detectors, names, shipped, strict=True)
        found = tuple(replace(d, name=name, null=d.null or null) for d, name, null in rows)
        object.__setattr__(self, "detectors", found)
        object.__setattr__(self, "denoiser", denoiser)

    @property
    def crop(self) -> int:
        """Side of the square crop, px."""
        return self.detectors[0].crop

    def filter(self) -> Denoiser:
        """The filter in use."""
        assert self.denoiser is not None
        return self.denoiser

    def rho(self, residuals: ResidualSet) -> np.ndarray:
        """rho of every detector with every residual, (K, N) float64."""
        return ncc(torch.stack([d.pattern for d in self.detectors]), residuals.values).double().numpy()

    def with_reals(self, reals: Source, jpeg: int | None = None, progress: bool = False) -> Bank:
        """The same, judging by ``reals``, real images of the kind in question, in place of any null.

        Those that a detector was fitted to do not count for it.
        """
        residuals = residuals_of(reals, self.filter(), self.crop, jpeg, progress=progress)
        rho, pictures = self.rho(residuals), np.array(contents(residuals.hashes))
        found = []
        for k, detector in enumerate(self.detectors):
            unseen = ~np.isin(pictures, list(detector.trained))
            null, facts = null_of({GIVEN: rho[k, unseen]}), dict(detector.metadata)
            if null is None:
                facts[NO_NULL] = f"of the {len(unseen)} usable reals given, {(~unseen).sum()} are in its training set"
            images = frozenset(pictures[unseen].tolist()) if null else frozenset()
            found.append(replace(detector, null=null, null_images=images, metadata=facts))
        return Bank(found, self.denoiser)

    def decide(
        self, images: Source, false_alarm: float = FALSE_ALARM, jpeg: int | None = None, progress: bool = False
    ) -> pd.DataFrame:
        """A verdict on every image by every detector, the best match first; what cannot be used is left out.

        Parameters
        ----------
        images : folder, list of files, or uint8 array (N, H, W, 3)
        false_alarm : float
            How often a real image may be called generated, all detectors together.
        jpeg : int or None
            Re-encode the images as JPEG of this quality first.

        Returns
        -------
        DataFrame
            image, fingerprint, rho; z, standard deviations above reals; p, the probability that a real correlates as
            much, and p_holm, corrected for the number of detectors; log10_lr, how much likelier that is of the
            generator's images than of reals; nearest_centre, the paper's decision; verdict:
            "generated", "no match" (which does not mean real), "undecided" or "not applicable"; reason.
        """
        return self.judge(images, false_alarm, jpeg, progress).table

    def judge(
        self, images: Source, false_alarm: float = FALSE_ALARM, jpeg: int | None = None, progress: bool = False
    ) -> Judged:
        """``decide``, with the residuals and what was skipped."""
        residuals = residuals_of(images, self.filter(), self.crop, jpeg, progress=progress)
        known, unfit = {d.name: d for d in self.detectors}, {}
        for name, detector in known.items():
            if not detector.fitted_with(self.filter()):
                unfit[name] = f"fitted with filter {detector.metadata.get('denoiser')}"
            elif (fitted := detector.metadata.get("jpeg")) not in (None, jpeg):
                unfit[name] = f"fitted on JPEG q{fitted}: give --jpeg {fitted}"
        pixels = images if isinstance(images, np.ndarray) else None
        sources = [Path(name) if pixels is None else pixels[int(name)] for name in residuals.names]
        conditions = [condition_of(source, self.crop) for source in sources]
        rho, lattices = self.rho(residuals), lattice_shares(residuals.values)
        table = judge(known, rho, residuals.names, conditions, false_alarm, unfit, jpeg is not None, lattices)
        return Judged(table, residuals)

    def warnings(self, false_alarm: float, jpeg: int | None = None, labels: Sequence[object] = ()) -> list[str]:
        """Where residuals are of another kind than detectors were fitted to, or nulls rest on little.

        ``labels``: what to call the detectors; their names by default.
        """
        used, found = self.filter(), []
        known = dict(zip(labels or [d.name for d in self.detectors], self.detectors, strict=True))
        for label, detector in known.items():
            facts = detector.metadata
            fitted, encoding = facts.get("denoiser_sha256"), facts.get("jpeg")
            if fitted == used.twin != "":
                found.append(
                    f"{label} was fitted in another precision than it is used in here: correlations differ by rounding"
                )
            elif not detector.fitted_with(used):
                found.append(
                    f"{label} was fitted on residuals of another denoiser ({facts.get('denoiser')}) than the one used "
                    f"here ({used.name}): its correlations and its decision need not hold; see --denoiser"
                )
            if encoding not in (None, jpeg):
                taken = f"as JPEG of quality {jpeg}" if jpeg else "as they are"
                found.append(
                    f"{label} was fitted on images re-encoded as JPEG of quality {encoding}, these are taken {taken}; "
                    "see --jpeg"
                )
        return found + null_warnings(known, false_alarm)


def read_named(paths: Sequence[Path]) -> dict[Path, Detector]:
    """Detectors of files, named so that no two share a name: by their own names, their files', or their paths."""
    found = {path: Detector.load(path) for path in dict.fromkeys(paths)}
    for label in (lambda p: found[p].name, lambda p: p.stem, str):
        names = [label(path) for path in found]
        if all(names) and len(set(names)) == len(names):
            break
    return {path: replace(d, name=name) for name, (path, d) in zip(names, found.items(), strict=True)}


def filter_for(
    detectors: Sequence[Detector], name: str | Path | None = None, device: str = "cpu", bfloat16: bool | None = None,
    engine: str = TORCH,
) -> Denoiser:  # fmt: skip
    """The residual filter called ``name``, with the limit and the precision that the detectors were fitted with.

    ``name`` None: the one that the first of them records, if it is shipped; else the default one, or the one for the
    authors' if all are theirs. ``bfloat16``: the precision, whatever they say; None: theirs. A filter is known by its
    hash; files from before the limit was recorded are tried with it and without. If none is known: in float32, limited
    to ``LIMIT``. Errors: as ``load_denoiser``.
    """
    name = name or filter_name(detectors)
    hashes = {d.metadata.get("denoiser_sha256") for d in detectors}
    limits = dict.fromkeys([LIMIT, None, *(d.metadata.get("limit") for d in detectors)])
    found: list[Denoiser] = []
    for limit in limits:
        found.append(load_denoiser(name, device, bool(bfloat16), limit, engine))
        if found[-1].hash in hashes:
            return found[-1]
    twins = [f for f in found if f.twin in hashes]
    if twins and bfloat16 is None:
        return load_denoiser(name, device, True, twins[0].limit)
    return [*twins, *found][0]


def filter_name(detectors: Sequence[Detector]) -> str:
    """What ``filter_for`` takes if no name is given."""
    if detectors and all(d.foreign for d in detectors):
        return FOREIGN_DENOISER
    recorded = str(detectors[0].metadata.get("denoiser")) if detectors else ""
    return recorded if has_name(recorded) else DEFAULT_DENOISER


def published_null(detector: Detector) -> Null | None:
    """The shipped null of one of the authors' fingerprints, known by its checkpoint's SHA-256; None of any other.

    Behind ``FOREIGN_DENOISER``, limited. Photographs of another origin than its three kinds may correlate more.
    """
    ids = {digest: Path(path).parent.name for path, digest in release_registry().items() if path.startswith("checks/")}
    name = ids.get(str(detector.metadata.get("file_sha256")))
    if not detector.foreign or name is None or not TABLE.is_file():
        return None
    kinds = read_table(TABLE).groupby("kind", sort=False)
    return null_of({KINDS[str(kind)]: rows[name].to_numpy() for kind, rows in kinds})
