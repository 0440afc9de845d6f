"""What a measured value says: intervals at any confidence, p-values against a bar, Holm's correction, trends.

Values are fractions in [0, 1], intervals two-sided. Accuracy is the balanced one, (accuracy of the reals + accuracy of
the fakes) / 2, as the official evaluation prints it: on 240 photographs and 68 fakes "everything is real" scores .5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import mannwhitneyu, norm, rankdata
from scipy.stats import t as student

Interval = tuple[float, float]
SURE = 0.05  # family-wise level of a notebook's claims
FARTHEST = 7.0  # standard deviations up to which p-values are told apart: 2.6e-12
SAME = 1e-12  # error, of values around 1, up to which they differ by rounding alone


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927); ``successes`` may be fractional; (0, 1) when n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    z = norm.ppf(0.5 + confidence / 2)
    p, denominator = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z / denominator * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the interval reaches the proportion itself, which rounding would just miss.
    return 0.0 if successes == 0 else float(centre - half), 1.0 if successes == n else float(centre + half)


def mover(weights: ArrayLike, values: ArrayLike, intervals: Sequence[Interval]) -> Interval:
    """Interval of a weighted sum of independent estimates, from the interval of each (Zou and Donner 2008: MOVER).

    With theta = sum c_k x_k and (l_k, u_k) the interval of c_k x_k,
    (theta - sqrt(sum (c_k x_k - l_k)^2), theta + sqrt(sum (u_k - c_k x_k)^2)). For the difference of two proportions
    (weights 1, -1) with Wilson's intervals this is Newcombe's (1998, Statistics in Medicine 17:873, method 10).
    """
    c, x = np.asarray(weights, np.float64), np.asarray(values, np.float64)
    terms = c * x
    ends = np.sort(c[:, None] * np.asarray(intervals, np.float64), axis=1)
    low, high = np.sqrt(((ends - terms[:, None]) ** 2).sum(0))
    return float(terms.sum() - low), float(terms.sum() + high)


def balanced_interval(
    right_real: float, n_real: int, right_fake: float, n_fake: int, confidence: float = 0.95
) -> Interval:
    """Interval of (right_real / n_real + right_fake / n_fake) / 2: ``mover`` of the two Wilson intervals."""
    counts = ((right_real, n_real), (right_fake, n_fake))
    low, high = mover([0.5, 0.5], [k / n for k, n in counts], [wilson(k, n, confidence) for k, n in counts])
    return max(0.0, low), min(1.0, high)


def mean_interval(values: ArrayLike, confidence: float = 0.95, bounds: Interval = (0.0, 1.0)) -> Interval:
    """Student's t interval for the mean of repetitions, cut to ``bounds``: mean +- t_{n-1} s / sqrt(n).

    It holds what varies between the repetitions, not what they share (one test set, say). (nan, nan) below two values.
    """
    x = np.asarray(values, np.float64).ravel()
    if len(x) < 2:
        return float("nan"), float("nan")
    half = student.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(max(bounds[0], x.mean() - half)), float(min(bounds[1], x.mean() + half))


def auc(real: ArrayLike, fake: ArrayLike) -> float:
    """P(score of a fake > score of a real) + P(equal) / 2: the area under the ROC curve (Mann-Whitney)."""
    real, fake = np.asarray(real, np.float64).ravel(), np.asarray(fake, np.float64).ravel()
    if not len(real) or not len(fake):
        raise ValueError(f"AUC needs both classes, got {len(real)} real and {len(fake)} fake scores")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("AUC needs finite scores")
    return float(mannwhitneyu(fake, real, method="asymptotic").statistic / (len(real) * len(fake)))


def auc_interval(value: float, n_real: int, n_fake: int, confidence: float = 0.95) -> Interval:
    """Score interval for an AUC (Newcombe 2006, method 5): Wilson's idea with Hanley and McNeil's variance.

    Solves |theta - value| = z sqrt(V(theta)), V(theta) = theta (1 - theta) [1 + (N - 1) ((1 - theta) / (2 - theta)
    + theta / (1 + theta))] / (n_real n_fake), N = (n_real + n_fake) / 2. Unlike a bootstrap it does not collapse to
    [1, 1] when 10 fakes happen to outrank 10 reals.
    """
    if not 0 <= value <= 1 or n_real < 1 or n_fake < 1:
        raise ValueError(f"need an AUC in [0, 1] and both classes, got {value}, {n_real}, {n_fake}")
    z, pooled = norm.ppf(0.5 + confidence / 2), (n_real + n_fake) / 2 - 1

    def excess(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + pooled * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return (theta - value) ** 2 - z * z * spread / (n_real * n_fake)

    # Below a perfect AUC the function is negative just beside 1, so the root on the other side is bracketed, unless the
    # confidence is so low that it is nearer; as for 0.
    below, above = min(value, 1 - 1e-9), max(value, 1e-9)
    low = below if value == 0 or excess(below) >= 0 else brentq(excess, 0.0, below)
    high = above if value == 1 or excess(above) >= 0 else brentq(excess, above, 1.0)
    return float(low), float(high)


@dataclass(frozen=True)
class Detection:
    """How well one set of scores tells fakes from reals: counts of right decisions, and the AUC."""

    right_real: int
    n_real: int
    right_fake: int
    n_fake: int
    auc: float

    accuracy_real = property(lambda self: self.right_real / self.n_real)
    accuracy_fake = property(lambda self: self.right_fake / self.n_fake)
    accuracy = property(lambda self: (self.accuracy_real + self.accuracy_fake) / 2)
    interval_real = property(lambda self: wilson(self.right_real, self.n_real))
    interval_fake = property(lambda self: wilson(self.right_fake, self.n_fake))
    interval = property(lambda self: balanced_interval(self.right_real, self.n_real, self.right_fake, self.n_fake))
    auc_interval = property(lambda self: auc_interval(self.auc, self.n_real, self.n_fake))


def detection(real: ArrayLike, fake: ArrayLike, threshold: float) -> Detection:
    """Accuracies of "fake if score > threshold", and AUC."""
    real, fake = np.asarray(real, np.float64).ravel(), np.asarray(fake, np.float64).ravel()
    area = auc(real, fake)
    return Detection(int((real <= threshold).sum()), len(real), int((fake > threshold).sum()), len(fake), area)


def found_at(real: ArrayLike, fake: ArrayLike, rate: float) -> float:
    """Share of fakes above the score that at most a share ``rate`` of these reals exceeds."""
    ranked = np.sort(np.asarray(real, np.float64).ravel())[::-1]
    return float((np.asarray(fake, np.float64).ravel() > ranked[min(int(rate * len(ranked)), len(ranked) - 1)]).mean())


def cllr(real: ArrayLike, fake: ArrayLike) -> float:
    """Cost of likelihood ratios, given as log10 LR of reals and of fakes (Bruemmer and du Preez 2006), in bits.

    (mean log2(1 + 1 / LR) of the fakes + mean log2(1 + LR) of the reals) / 2: 0 if they are right and certain, 1 if
    they say nothing, more if they mislead.
    """
    x, y = (np.asarray(v, np.float64).ravel() * np.log(10) for v in (real, fake))
    return float((np.logaddexp(0, -y).mean() + np.logaddexp(0, x).mean()) / (2 * np.log(2)))


def calibration_error(real: ArrayLike, fake: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error of log10 LRs at even odds, in [0, 1], both classes with equal weight.

    The posteriors LR / (1 + LR) fall into ``bins`` of equal width; summed is the weight of each times the distance
    between its mean posterior and its share of fakes.
    """
    x, y = (np.asarray(v, np.float64).ravel() for v in (real, fake))
    posterior = 1 / (1 + 10.0 ** -np.concatenate([x, y]))
    weight = np.concatenate([np.full(len(x), 0.5 / len(x)), np.full(len(y), 0.5 / len(y))])
    place = np.minimum((posterior * bins).astype(int), bins - 1)
    gap = weight * (posterior - (np.arange(len(weight)) >= len(x)))
    return float(np.abs(np.bincount(place, gap, bins)).sum())


def as_row(result: Detection) -> dict[str, float]:
    """A Detection as flat columns of a table; ``accuracy`` is the balanced one."""
    return {
        "accuracy": result.accuracy, "accuracy_low": result.interval[0], "accuracy_high": result.interval[1],
        "accuracy_real": result.accuracy_real, "accuracy_fake": result.accuracy_fake,
        "auc": result.auc, "auc_low": result.auc_interval[0], "auc_high": result.auc_interval[1],
        "n_real": result.n_real, "n_fake": result.n_fake,
    }  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A value, how sure it is, and of what."""

    value: float  # NaN if there is none
    at: Callable[[float], Interval]  # confidence to two-sided interval, which grows with it and holds the value
    basis: str  # what the interval is over, for the reader: "3 generators", "the test images"

    @property
    def interval(self) -> Interval:
        """At 95 %."""
        return self.at(1 - SURE)

    def p(self, bar: float) -> float:
        """Two-sided p-value of the hypothesis that the truth is ``bar``; 1 if there is no interval.

        It is the smallest level at which the interval leaves the bar out.
        """
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
    """``value`` +- t error, with so many degrees of freedom.

    Repetitions that are all equal do not say how far others vary. They are judged by the sign test: all are on one
    side of any bar, as by chance with p = 2^-freedom; the interval that inverts this is unbounded at 95 % for n < 6.
    """

    def at(confidence: float) -> Interval:
        if error <= SAME * max(1.0, abs(value)):
            return (value, value) if 1 - confidence >= 2.0**-freedom else (-np.inf, np.inf)
        half = float(student.ppf(0.5 + confidence / 2, freedom) * error)
        return value - half, value + half

    return Estimate(value, at, basis)


def jackknife(statistic: Callable[[np.ndarray], float], groups: Sequence[str], basis: str) -> Estimate:
    """A statistic of a square matrix whose rows and columns belong to ``groups``, leaving out one group at a time.

    Entries of one row or column are not independent, and checkpoints of one training less so: the groups are what was
    sampled. Pseudo-values G theta - (G - 1) theta_(-g) (Tukey 1958) have mean and error as if they were repetitions.
    ``statistic`` maps the indices of rows that count to a number.
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
    """Weighted sum of independent estimates, by ``mover``."""
    values = [part.value for part in parts]
    total = float(np.dot(np.asarray(weights, np.float64), values))
    return Estimate(total, lambda sure: mover(weights, values, [part.at(sure) for part in parts]), basis)


def share_estimate(share: float, n: int, basis: str) -> Estimate:
    """A proportion of ``n`` with Wilson's interval."""
    return Estimate(share, lambda confidence: wilson(share * n, n, confidence), basis)


def auc_estimate(value: float, n_real: int, n_fake: int) -> Estimate:
    """An AUC with its interval over the test images."""
    return Estimate(value, lambda sure: auc_interval(value, n_real, n_fake, sure), f"{n_real} + {n_fake} images")


def balanced_estimate(share_real: float, n_real: int, share_fake: float, n_fake: int) -> Estimate:
    """A balanced accuracy with its interval over the test images, see ``balanced_interval``."""
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
    found = np.empty(len(p))
    found[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)))
    return found.tolist()


def two_sided(more: float, less: float) -> float:
    """Two-sided p-value from those of both sides. Where values are tied, these are both large."""
    return min(1.0, 2 * min(more, less))


def page_trend(blocks: ArrayLike, draws: int = 9999, seed: int = 0) -> tuple[float, float]:
    """One-sided p-values that rows (B curves, k points each) rise along their columns, and that they fall (Page 1963).

    L = sum over columns j of j times the sum of the ranks within rows there, all points of the curve counted, against
    the same with each row's values in random order. Unlike Page's tables this is right with ties.
    """
    ranks = rankdata(np.asarray(blocks, np.float64), axis=1)
    places = np.arange(ranks.shape[1]) - (ranks.shape[1] - 1) / 2
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(ranks, (draws, *ranks.shape)), axis=2)
    observed, drawn = (ranks @ places).sum(), (shuffled @ places).sum(1)
    reached = (drawn >= observed - 1e-9).sum(), (drawn <= observed + 1e-9).sum()
    rises, falls = (float(1 + count) / (1 + draws) for count in reached)
    return rises, falls
