"""DIF fits that set out: one that did not is begun again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from difcore.files import derived_seed
from difcore.fingerprints import Fingerprint
from difcore.fit import DifPlan, fit_dif

FITS = 3  # at most


def fit_restarted(
    real: np.ndarray | Tensor,
    fake: np.ndarray | Tensor,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> Fingerprint:
    """``fit_dif``; a fit that did not set out is begun again from another seed with ``boost``, ``FITS`` in all.

    The pairs' loss pulls a real and a fake apart whichever correlates more, so that its gradient vanishes on average
    where the classes' correlations are alike, and now and then a fit stays there. The boost's does not, for it goes by
    the class means. A fit has not set out if its centres, those of its own training images, are less than half the
    margin apart (of the default margin, if that is narrower); the one with the widest gap is kept.

    Parameters, errors: as ``fit_dif``.

    Returns
    -------
    Fingerprint
        ``metadata["fits"]`` says how many fits it took; its plan is that of the fit that was kept.
    """
    tried: list[Fingerprint] = []
    enough = min(plan.margin, DifPlan.margin) / 2
    while len(tried) < FITS and (not tried or gap(tried[-1]) < enough):
        again = replace(plan, seed=derived_seed(plan.seed, len(tried)), boost=True) if tried else plan
        tried.append(fit_dif(real, fake, again, name, device, progress))
    best = max(tried, key=gap)
    return replace(best, metadata={**best.metadata, "fits": len(tried)})


def gap(fingerprint: Fingerprint) -> float:
    """mu_fake - mu_real."""
    return fingerprint.mu_fake - fingerprint.mu_real
