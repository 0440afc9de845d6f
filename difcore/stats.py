"""Accuracy and AUC with intervals. All values are fractions in [0, 1]; intervals are two-sided at 95 %."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm, rankdata
from scipy.stats import t as student

Interval = tuple[float, float]


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927); (0, 1) when n is 0.

    Raises
    ------
    ValueError
        Unless 0 <= successes <= n.
    """
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
    """P(score of a fake > score of a real) + P(equal) / 2: the area under the ROC curve (Mann-Whitney).

    Raises
    ------
    ValueError
        If either class is empty or a score is not finite.
    """
    real, fake = np.asarray(real, np.float64).ravel(), np.asarray(fake, np.float64).ravel()
    if not len(real) or not len(fake):
        raise ValueError(f"AUC needs both classes, got {len(real)} real and {len(fake)} fake scores")
    scores = np.concatenate([real, fake])
    if not np.isfinite(scores).all():
        raise ValueError("AUC needs finite scores")
    ranks = rankdata(scores)[len(real) :]
    return float((ranks.sum() - len(fake) * (len(fake) + 1) / 2) / (len(real) * len(fake)))


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

    # Below a perfect AUC the function is negative just beside 1, so the root on the other side is bracketed; as for 0.
    low = 0.0 if value == 0 else brentq(excess, 0.0, min(value, 1 - 1e-9))
    high = 1.0 if value == 1 else brentq(excess, max(value, 1e-9), 1.0)
    return float(low), float(high)


@dataclass(frozen=True)
class Detection:
    """How well one set of scores tells fakes from reals; every value a fraction.

    Attributes
    ----------
    accuracy : float
        Share of right decisions.
    interval : (float, float)
        Wilson's, of the accuracy.
    auc : float
    auc_interval : (float, float)
    n_real, n_fake : int
    """

    accuracy: float
    interval: Interval
    auc: float
    auc_interval: Interval
    n_real: int
    n_fake: int


def detection(real: ArrayLike, fake: ArrayLike, threshold: float) -> Detection:
    """Accuracy of "fake if score > threshold" and AUC, both with 95 % intervals."""
    real, fake = np.asarray(real, np.float64).ravel(), np.asarray(fake, np.float64).ravel()
    area = auc(real, fake)
    right, n = int((real <= threshold).sum() + (fake > threshold).sum()), len(real) + len(fake)
    interval = auc_interval(area, len(real), len(fake))
    return Detection(right / n, wilson(right, n), area, interval, len(real), len(fake))


def as_row(result: Detection) -> dict[str, float]:
    """A Detection as flat columns of a table."""
    return {
        "accuracy": result.accuracy, "accuracy_low": result.interval[0], "accuracy_high": result.interval[1],
        "auc": result.auc, "auc_low": result.auc_interval[0], "auc_high": result.auc_interval[1],
        "n_real": result.n_real, "n_fake": result.n_fake,
    }  # fmt: skip
