"""One interface to every detector the paper compares: fit on real and generated images, score, decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from difcore.detectors.joslin20 import SpectralFingerprint, fit_joslin20
from difcore.detectors.trained import ARCHITECTURES, ClassifierPlan, train_classifier
from difcore.fingerprints.detector import Fingerprint
from difcore.fingerprints.dif import DifPlan, fit_marra18, fit_restarted
from difcore.images.crops import centre_crops, check_classes
from difcore.machine.devices import device_name
from difcore.residuals.denoisers import Denoiser
from difcore.residuals.sets import residuals_of

Found = TypeVar("Found", Fingerprint, SpectralFingerprint)
PATTERNS = ("dif", "marra18")  # one pattern per generator, to be saved, shown and compared
FITTED = (*PATTERNS, "marra18-zm")  # the same, and what goes beyond the paper: of folders of one's own
FINGERPRINTS = (*PATTERNS, "joslin20")
METHODS = (*FINGERPRINTS, *ARCHITECTURES)
LABELS = {
    "dif": "DIF", "marra18": "Marra18", "joslin20": "Joslin20",
    "resnet50": "ResNet-50", "grag21": "Grag21", "resnet_m": "ResNet-M", "marra18-zm": "Marra18-ZM",
}  # fmt: skip


class Detector(Protocol):
    """What every method's fit returns.

    Attributes
    ----------
    method : str
        One of ``METHODS`` or ``FITTED``.
    crop : int
        Side, px, of the centre crop that it looks at.
    threshold : float
        ``decide`` is ``score > threshold``.
    """

    @property
    def method(self) -> str: ...

    @property
    def crop(self) -> int: ...

    @property
    def threshold(self) -> float: ...

    def score(self, images: np.ndarray) -> np.ndarray:
        """Evidence of each uint8 image (N, H, W, 3) being generated, (N,) float64; higher is more."""
        ...

    def decide(self, images: np.ndarray) -> np.ndarray:
        """True where an image is taken for generated, (N,) bool."""
        ...


@dataclass(frozen=True)
class FingerprintDetector:
    """A fingerprint with the filter whose residuals it was fitted to.

    The decision is the nearer of the two centres of the paper, which on a line is one threshold:
    their midpoint.

    Attributes
    ----------
    fingerprint : Fingerprint or SpectralFingerprint
    denoiser : Denoiser
    """

    fingerprint: Fingerprint | SpectralFingerprint
    denoiser: Denoiser

    @property
    def method(self) -> str:
        return self.fingerprint.method

    @property
    def crop(self) -> int:
        return self.fingerprint.crop

    @property
    def threshold(self) -> float:
        return self.fingerprint.threshold

    def score(self, images: np.ndarray) -> np.ndarray:
        """Correlation of each image's residual with the fingerprint, (N,) in [-1, 1]; residuals are cached.

        Raises
        ------
        ValueError
            Unless ``images`` is uint8 (N >= 1, H, W, 3) with sides of at least ``crop``.
        """
        residuals = residuals_of(centre_crops(images, self.crop), self.denoiser, self.crop)
        return self.fingerprint.scores(residuals.values).double().numpy()

    def decide(self, images: np.ndarray) -> np.ndarray:
        """``score(images) > threshold``."""
        return self.score(images) > self.threshold


def check_method(method: str, known: Sequence[str]) -> None:
    """Raise ValueError unless ``method`` is one of ``known``."""
    if method not in known:
        raise ValueError(f"unknown method {method!r}; choose from {', '.join(known)}")


def fit(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    seed: int,
    denoiser: Denoiser,
    *,
    plan: DifPlan = DifPlan(),
    training: ClassifierPlan = ClassifierPlan(),
    device: str = "cpu",
    progress: bool = False,
) -> Detector:
    """Fit any of the compared methods to images of the two classes.

    Fingerprint methods see residuals of the filter, which are cached by the images' content, so that an image is
    denoised once for all of them; classifiers see the images.

    Parameters
    ----------
    method : str
        One of ``METHODS`` or ``FITTED``.
    real, fake : uint8 (N, H, W, 3)
        N >= 2 of each, one size; the centre square is used.
    seed : int
        Takes the place of the plans' own. "marra18" and "joslin20" draw nothing and do not depend on it.
    denoiser : Denoiser
        Ignored by classifiers.
    plan : DifPlan
        Of "dif" alone.
    training : ClassifierPlan
        Of the classifiers alone.
    device : str
        Of the fit; the filter has its own.

    Raises
    ------
    ValueError
        An unknown method, images of another shape or type, real and fake of different sizes, too few of them.
    """
    check_method(method, tuple(LABELS))
    check_classes(real, fake)
    crop = min(real.shape[1:3])
    real, fake = centre_crops(real, crop), centre_crops(fake, crop)
    if method in ARCHITECTURES:
        return train_classifier(method, real, fake, replace(training, seed=seed), device, progress)
    r_real, r_fake = (residuals_of(x, denoiser, crop, progress=progress).values for x in (real, fake))
    if method == "joslin20":
        return FingerprintDetector(with_filter(fit_joslin20(r_real, r_fake), denoiser), denoiser)
    plan = replace(plan, seed=seed)
    return FingerprintDetector(fit_pattern(method, r_real, r_fake, denoiser, plan, "", device, progress), denoiser)


def fit_pattern(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> Fingerprint:
    """Fingerprint of residuals (N, 3, H, W) by one of ``FITTED``; its metadata say whose residuals they are.

    A DIF fit that does not set out is begun again, see ``difcore.fingerprints.dif``.

    Raises
    ------
    ValueError
        Residuals of another shape, too few of them.
    """
    if method == "dif":
        found = fit_restarted(real, fake, plan, name, device, progress)
    else:
        found = fit_marra18(real, fake, name, clean=method == "marra18-zm")
    ran_on = {"precision": "bfloat16" if plan.bfloat16 else "float32", "device": device}
    facts = {**found.metadata, **ran_on, "processor": device_name(device)}
    return with_filter(replace(found, metadata=facts), denoiser)


def with_filter(found: Found, denoiser: Denoiser) -> Found:
    """The fingerprint, with the residual filter's name, hash, limit and F_DnCNN in its metadata."""
    facts = {"denoiser": denoiser.name, "denoiser_sha256": denoiser.hash, "limit": denoiser.limit}
    facts |= {"F_DnCNN": denoiser.metadata.get("bias")}
    return replace(found, metadata={**found.metadata, **facts})
