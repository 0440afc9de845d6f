"""Fingerprints: priors, DIF and averaged residuals, correlation, nulls and verdicts; the detector that holds it all."""

from difcore.fingerprints.correlation import cross_detection, ncc, zero_mean
from difcore.fingerprints.detector import Bank, Detector, Evaluation, filter_for
from difcore.fingerprints.dif import DifPlan, fit_dif, fit_marra18, fit_restarted
from difcore.fingerprints.fitting import FitOptions, Report
from difcore.fingerprints.null import Null, Reals, null_of
from difcore.fingerprints.presets import MODES, preset
from difcore.fingerprints.verdicts import FALSE_ALARM, overall

__all__ = [
    "FALSE_ALARM", "MODES", "Bank", "Detector", "DifPlan", "Evaluation", "FitOptions", "Null", "Reals", "Report",
    "cross_detection", "filter_for", "fit_dif", "fit_marra18", "fit_restarted", "ncc", "null_of", "overall", "preset",
    "zero_mean",
]  # fmt: skip
