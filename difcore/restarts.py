"""DIF fits that set out: one that did not is begun again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats
from torch import Tensor

from difcore.files import derived_seed
from difcore.fingerprints import Fingerprint
from difcore.fit import DifPlan, fit_dif

APART = 1.5  # standard deviations of a class: the nearer centre is then the right one in 77 % of images, if normal
LEVEL = 0.01  # of the test that a fit begun again has set out
SHARE, ENOUGH = 8, 32  # one of so many images of a class is held out, if there are enough of them


def fit_restarted(
    real: np.ndarray | Tensor,
    fake: np.ndarray | Tensor,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> Fingerprint:
    """``fit_dif``; a fit that did not set out is begun again from another seed with ``boost``, ``plan.fits`` in all.

    The pairs' loss pulls a real and a fake apart whichever correlates more, so that its gradient vanishes on average
    where the classes' correlations are alike, and now and then a fit stays there. The boost's does not, for it goes by
    the class means.

    Separation is (mu_fake - mu_real) / s, s the standard deviation within the classes. Images that a fit has seen are
    further apart than others, so the first fit, which is given all images, has not set out if even those are less than
    ``APART`` apart. Fits begun again leave out an eighth of the images of each class, where there are 32, and are
    judged by those: such a fit has set out if the held-out fakes correlate more than the held-out reals (Student's
    one-sided t-test, p < ``LEVEL``). The fit with the largest separation is kept; the first counts with that of its
    own images, more than it would have on others.

    Parameters, errors: as ``fit_dif``.

    Returns
    -------
    Fingerprint
        ``metadata["fits"]`` says how many fits it took, ``metadata["separation"]`` by what the kept one was judged;
        its plan is that of the fit that was kept.
    """
    first = fit_dif(real, fake, plan, name, device, progress)
    tried = [(separation(first.scores(real), first.scores(fake)), first)]
    set_out = tried[0][0] >= APART
    while not set_out and len(tried) < plan.fits:
        again = replace(plan, seed=derived_seed(plan.seed, len(tried)), boost=True)
        kept_real, out_real = hold_out(real, again.seed)
        kept_fake, out_fake = hold_out(fake, again.seed)
        found = fit_dif(kept_real, kept_fake, again, name, device, progress)
        rho = [found.scores(x) for x in (out_real, out_fake)]
        tried.append((separation(*rho), found))
        set_out = chance_of(tried[-1][0], *map(len, rho)) < LEVEL
    best, chosen = max(tried, key=lambda pair: pair[0])
    return replace(chosen, metadata={**chosen.metadata, "fits": len(tried), "separation": round(best, 3)})


def separation(real: Tensor, fake: Tensor) -> float:
    """Mean correlation of the fakes less that of the reals, over the root mean of the classes' variances."""
    within = ((real.var() + fake.var()) / 2).sqrt().clamp_min(1e-12)
    return float((fake.mean() - real.mean()) / within)


def chance_of(found: float, n_real: int, n_fake: int) -> float:
    """p of Student's one-sided t-test: how often images of one class show such a separation or a larger one."""
    return float(stats.t.sf(found / (1 / n_real + 1 / n_fake) ** 0.5, n_real + n_fake - 2))


def hold_out(x: np.ndarray | Tensor, seed: int) -> tuple[np.ndarray | Tensor, np.ndarray | Tensor]:
    """Images to fit to, and an eighth of them, drawn by ``seed``, to judge by; all and all, if they are few."""
    if len(x) < ENOUGH:
        return x, x
    order = np.random.default_rng(seed).permutation(len(x))
    count = len(x) // SHARE
    return x[np.sort(order[count:])], x[np.sort(order[:count])]
