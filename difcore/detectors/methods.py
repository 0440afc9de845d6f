"""One way to fit each of the six detectors that the paper compares: all have method, crop, score and threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from difcore.detectors.joslin20 import SpectralFingerprint, fit_joslin20
from difcore.detectors.trained import ARCHITECTURES, ClassifierDetector, ClassifierPlan, train_classifier
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FITTED, PATTERNS, check_method, fit_pattern
from difcore.images.crops import check_classes
from difcore.residuals.denoisers import Denoiser
from difcore.residuals.sets import residuals_of

AnyDetector = Detector | SpectralFingerprint | ClassifierDetector
FINGERPRINTS = (*PATTERNS, "joslin20")
METHODS = (*FINGERPRINTS, *ARCHITECTURES)
LABELS = {
    "dif": "DIF", "marra18": "Marra18", "joslin20": "Joslin20",
    "resnet50": "ResNet-50", "grag21": "Grag21", "resnet_m": "ResNet-M", "marra18-zm": "Marra18-ZM",
}  # fmt: skip


def fit(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    denoiser: Denoiser,
    seed: int = 0,
    plan: DifPlan = DifPlan(),
    training: ClassifierPlan = ClassifierPlan(),
    progress: bool = False,
) -> AnyDetector:
    """Fit any of the compared methods to images of the two classes, on the filter's device.

    Fingerprint methods see residuals of the filter, which are cached by the images' content, so that an image is
    denoised once for all of them; classifiers see the images.

    Parameters
    ----------
    method : str
        One of ``METHODS`` or "marra18-zm".
    real, fake : uint8 (N, H, W, 3)
        N >= 2 of each, one size; the centre square is used.
    denoiser : Denoiser
        Classifiers take its device alone.
    seed : int
        Takes the place of the plans' own. "marra18" and "joslin20" draw nothing and do not depend on it.
    plan, training : DifPlan, ClassifierPlan
        Of "dif" alone; of the classifiers alone.

    Returns
    -------
    Detector, SpectralFingerprint or ClassifierDetector
        ``score(images)`` is the evidence of each uint8 image (N, H, W, 3) being generated, (N,) float64, higher is
        more; above ``threshold`` an image is taken for generated.

    Raises
    ------
    ValueError
        An unknown method, images of another shape or type, real and fake of different sizes, too few of them.
    """
    check_method(method, (*METHODS, *FITTED[len(PATTERNS) :]))
    check_classes(real, fake)
    crop = min(real.shape[1:3])
    if method in ARCHITECTURES:
        return train_classifier(method, real, fake, replace(training, seed=seed), denoiser.device, progress)
    r_real, r_fake = (residuals_of(x, denoiser, crop, progress=progress).values for x in (real, fake))
    if method == "joslin20":
        return replace(fit_joslin20(r_real, r_fake), denoiser=denoiser)
    return fit_pattern(method, r_real, r_fake, denoiser, replace(plan, seed=seed), progress=progress)
