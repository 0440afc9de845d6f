"""What a measured value says against a bar: estimates with intervals at any confidence, p-values, Holm, trends.

A verdict asks more of a number than its mean. ``Estimate`` holds a value and its interval as a function of the
confidence; the two-sided p-value against any bar is the smallest level at which that interval leaves the bar out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from difcore.stats import Interval, auc_interval, mover, wilson

SURE = 0.05  # family-wise level of a notebook's claims
FARTHEST = 7.0  # standard deviations up to which p-values are told apart: 2.6e-12
SAME = 1e-12  # error, of values around 1, up to which they differ by rounding alone


@dataclass(frozen=True)
class Estimate:
    """A value, how sure it is, and of what.

    Attributes
    ----------
    value : float
        NaN if there is none.
    at : callable
        Maps a confidence in (0, 1) to the two-sided interval, which grows with it and holds ``value``.
    basis : str
        What the interval is over, for the reader: "3 generators", "the test images".
    """

    value: float
    at: Callable[[float], Interval]
    basis: str

    @property
    def interval(self) -> Interval:
        """At 95 %."""
        return self.at(1 - SURE)

    def p(self, bar: float) -> float:
        """Two-sided p-value of the hypothesis that the truth is ``bar``; 1 if there is no interval."""
        if self.value == bar or np.isnan(self.at(1 - SURE)).any():
            return 1.0

        def room(z: float) -> float:
            low, high = self.at(float(1 - 2 * norm.sf(z)))
            return max(low - bar if self.value > bar else bar - high, -1.0)  # finite, for the search for its zero

        if room(FARTHEST) > 0:
            return float(2 * norm.sf(FARTHEST))
        return float(2 * norm.sf(brentq(room, 0.0, FARTHEST))) if room(0.0) > 0 else 1.0


def nowhere(confidence: float) -> Interval:
    """The interval of what there is too little of."""
    return float("nan"), float("nan")


def t_estimate(values: ArrayLike, basis: str) -> Estimate:
    """Mean of independent repetitions with Student's t interval; without an interval below two, see ``scaled_t``."""
    x = np.asarray(values, np.float64).ravel()
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else float("nan"), nowhere, basis)
    return scaled_t(float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))), len(x) - 1, basis)


def scaled_t(value: float, error: float, freedom: int, basis: str) -> Estimate:
    """``value`` +- t error, with so many degrees of freedom; without an error ``equal_estimate``."""
    if error <= SAME * max(1.0, abs(value)):
        return equal_estimate(value, freedom + 1, basis)

    def at(confidence: float) -> Interval:
        half = float(student.ppf(0.5 + confidence / 2, freedom) * error)
        return value - half, value + half

    return Estimate(value, at, basis)


def equal_estimate(value: float, n: int, basis: str) -> Estimate:
    """The value of ``n`` repetitions that are all equal: by the sign test, for they do not say how far others vary.

    All are on one side of any bar, as by chance with p = 2^(1 - n), however far it is. The interval that inverts this
    is unbounded unless 1 - confidence is at least so much: at 95 % for n < 6.
    """

    def at(confidence: float) -> Interval:
        return (value, value) if 1 - confidence >= 2.0 ** (1 - n) else (-np.inf, np.inf)

    return Estimate(value, at, basis)


def jackknife(statistic: Callable[[np.ndarray], float], groups: Sequence[str], basis: str) -> Estimate:
    """A statistic of a square matrix whose rows and columns belong to ``groups``, leaving out one group at a time.

    Entries of one row or column are not independent, and checkpoints of one training less so: the groups are what was
    sampled. Pseudo-values G theta - (G - 1) theta_(-g) (Tukey 1958) have mean and error as if they were repetitions.

    Parameters
    ----------
    statistic : callable
        Maps the indices of rows that count to a number.
    """
    labels = np.asarray(groups)
    names = list(dict.fromkeys(groups))
    whole = statistic(np.arange(len(labels)))
    left = np.array([statistic(np.flatnonzero(labels != name)) for name in names] if len(names) > 2 else [])
    if len(left) < 3 or not np.isfinite(left).all():
        return Estimate(whole, nowhere, basis)
    error = np.sqrt((len(left) - 1) / len(left) * np.square(left - left.mean()).sum())
    return scaled_t(whole, float(error), len(left) - 1, basis)


def sum_estimate(weights: ArrayLike, parts: Sequence[Estimate], basis: str) -> Estimate:
    """Weighted sum of independent estimates: ``stats.mover``."""
    values = [part.value for part in parts]
    return Estimate(
        float(np.dot(np.asarray(weights, np.float64), values)),
        lambda confidence: mover(weights, values, [part.at(confidence) for part in parts]),
        basis,
    )


def share_estimate(share: float, n: int, basis: str) -> Estimate:
    """A proportion of ``n`` with Wilson's interval."""
    return Estimate(share, lambda confidence: wilson(share * n, n, confidence), basis)


def auc_estimate(value: float, n_real: int, n_fake: int) -> Estimate:
    """An AUC with its interval over the test images."""
    return Estimate(
        value, lambda confidence: auc_interval(value, n_real, n_fake, confidence), f"{n_real} + {n_fake} images"
    )


def balanced_estimate(share_real: float, n_real: int, share_fake: float, n_fake: int) -> Estimate:
    """A balanced accuracy with its interval over the test images, see ``stats.balanced_interval``."""
    parts = [share_estimate(float(share), int(n), "") for share, n in ((share_real, n_real), (share_fake, n_fake))]
    return sum_estimate([0.5, 0.5], parts, f"{n_real} + {n_fake} images")


def widest(first: Estimate, second: Estimate) -> Estimate:
    """``first`` with an interval that holds ``second``'s too: for what each of them alone leaves out."""

    def at(confidence: float) -> Interval:
        (low, high), (other_low, other_high) = first.at(confidence), second.at(confidence)
        return min(low, first.value + other_low - second.value), max(high, first.value + other_high - second.value)

    return Estimate(first.value, at, first.basis)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of m times m - k + 1, never decreasing.

    Calling those below .05 keeps the chance of any false call below .05, whatever their dependence.
    """
    order = np.argsort(p, kind="stable")
    found, highest = np.empty(len(p)), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * float(p[index])))
        found[index] = highest
    return found.tolist()


def two_sided(more: float, less: float) -> float:
    """Two-sided p-value from those of both sides. Where values are tied, these are both large."""
    return min(1.0, 2 * min(more, less))


def page_trend(blocks: ArrayLike, draws: int = 9999, seed: int = 0) -> tuple[float, float]:
    """One-sided p-values that rows rise along their columns, and that they fall (Page 1963).

    L = sum over columns j of j times the sum of the ranks within rows there, all points of the curve counted, against
    the same with each row's values in random order. Unlike Page's tables this is right with ties.

    Parameters
    ----------
    blocks : (B, k)
        A row for each curve, k >= 2 points each.
    """
    ranks = rankdata(np.asarray(blocks, np.float64), axis=1)
    places = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(ranks, (draws, *ranks.shape)), axis=2)
    observed, drawn = (ranks @ places).sum(), (shuffled @ places).sum(1)
    reached = (drawn >= observed - 1e-9).sum(), (drawn <= observed + 1e-9).sum()
    rises, falls = (float(1 + count) / (1 + draws) for count in reached)
    return rises, falls
