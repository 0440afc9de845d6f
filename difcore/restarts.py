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
OWN, HELD_OUT = "own images", "held out"  # what a fit is judged by


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

    Separation is (mu_fake - mu_real) / s, s the standard deviation within the classes. The first fit is given all
    images and judged by these, which it has seen: less than ``APART`` apart, it has not set out. That finds fits that
    did not move, no more. It is no evidence of detection: a long fit to few images gets even noise so far apart.

    Fits begun again leave out an eighth of the images of each class, where both have 32, and are judged by those: such
    a fit has set out if the held-out fakes correlate more than the held-out reals (Student's one-sided t-test,
    p < ``LEVEL``), and is kept. If none has, the one is kept whose held-out images are furthest apart, or the first if
    none has its fakes above its reals there: what the first fit makes of its own images is never set against it. With
    fewer images there is nothing but their own to judge by: all fits are, as the first, and the largest separation
    wins.

    Parameters, errors: as ``fit_dif``.

    Returns
    -------
    Fingerprint
        ``metadata["fits"]`` says how many fits it took, ``metadata["separation"]`` how far apart the kept one has the
        images that it was judged by, and ``metadata["judged_by"]`` which those were: "own images" or "held out"; its
        plan is that of the fit that was kept.
    """
    first = fit_dif(real, fake, plan, name, device, progress)
    best, chosen, judged_by = separation(first.scores(real), first.scores(fake)), first, OWN
    set_out, fits = best >= APART, 1
    enough = min(len(real), len(fake)) >= ENOUGH
    while not set_out and fits < plan.fits:
        again = replace(plan, seed=derived_seed(plan.seed, fits), boost=True)
        (kept_real, out_real), (kept_fake, out_fake) = (
            hold_out(x, again.seed) if enough else (x, x) for x in (real, fake)
        )
        found = fit_dif(kept_real, kept_fake, again, name, device, progress)
        apart, fits = separation(found.scores(out_real), found.scores(out_fake)), fits + 1
        set_out = chance_of(apart, len(out_real), len(out_fake)) < LEVEL if enough else apart >= APART
        to_beat = 0.0 if enough and judged_by == OWN else best  # the first's is of images that it has seen
        if apart > to_beat:
            best, chosen, judged_by = apart, found, HELD_OUT if enough else OWN
    judged = {"fits": fits, "separation": round(best, 3), "judged_by": judged_by}
    return replace(chosen, metadata={**chosen.metadata, **judged})


def separation(real: Tensor, fake: Tensor) -> float:
    """Mean correlation of the fakes less that of the reals, over the root mean of the classes' variances."""
    within = ((real.var() + fake.var()) / 2).sqrt().clamp_min(1e-12)
    return float((fake.mean() - real.mean()) / within)


def chance_of(found: float, n_real: int, n_fake: int) -> float:
    """p of Student's one-sided t-test: how often images of one class show such a separation or a larger one."""
    return float(stats.t.sf(found / (1 / n_real + 1 / n_fake) ** 0.5, n_real + n_fake - 2))


def hold_out(x: np.ndarray | Tensor, seed: int) -> tuple[np.ndarray | Tensor, np.ndarray | Tensor]:
    """Images to fit to, and an eighth of them, drawn by ``seed``, to judge by."""
    order = np.random.default_rng(seed).permutation(len(x))
    count = len(x) // SHARE
    return x[np.sort(order[count:])], x[np.sort(order[:count])]
