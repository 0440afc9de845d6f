"""The methods that the paper compares, each fitted in one way: fingerprints, Joslin20, ResNet-50, Grag21, ResNet-M."""

from difcore.detectors.joslin20 import SpectralFingerprint, fit_joslin20
from difcore.detectors.methods import FINGERPRINTS, LABELS, METHODS, fit
from difcore.detectors.trained import ClassifierDetector, ClassifierPlan, build_classifier, train_classifier

__all__ = [
    "FINGERPRINTS", "LABELS", "METHODS", "ClassifierDetector", "ClassifierPlan", "SpectralFingerprint",
    "build_classifier", "fit", "fit_joslin20", "train_classifier",
]  # fmt: skip
