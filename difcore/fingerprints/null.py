"""How real images correlate with a fingerprint, and how likely a real one is to correlate more: the null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
FEW = 20  # reals below which their correlations are taken for normal: too few to see a tail
TAIL, LEAST = 0.1, 10  # share of the reals that the tail is fitted to, and the least of them
HEAVIEST = 0.5  # shape of the tail; from 1/2 its variance is infinite, and no correlation's is
UNLIKE = 4.0  # standard deviations from all that was measured at which a correlation is of something else
BEYOND = 100  # the tail is believed down to 1 / (BEYOND (n + 1)), not further


@dataclass(frozen=True)
class Reals:
    """Correlations of one kind of images, mostly real ones, with a fingerprint that was not fitted to them.

    ``rho``: ascending; at least two different ones.
    """

    rho: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.sort(np.asarray(self.rho, np.float64).ravel())
        if not np.isfinite(values).all() or len(values) < 2 or values[0] == values[-1]:
            raise ValueError(f"a null needs at least two different correlations of reals, got {len(values)}")
        object.__setattr__(self, "rho", tuple(values.tolist()))

    @property
    def n(self) -> int:
        return len(self.rho)

    @property
    def mean(self) -> float:
        return float(np.mean(self.rho))

    @property
    def sigma(self) -> float:
        """Standard deviation, with n - 1."""
        return float(np.std(self.rho, ddof=1))

    @property
    def smallest(self) -> float:
        """The least probability that this many reals can vouch for."""
        return 1 / (BEYOND * (self.n + 1))

    def z(self, rho: ArrayLike) -> Floats:
        """(rho - mean) / sigma."""
        return np.asarray((np.asarray(rho, np.float64) - self.mean) / self.sigma)

    def p(self, rho: ArrayLike) -> Floats:
        """Probability that another real correlates at least as much, never 0.

        From ``FEW`` reals on it is (1 + number of reals with at least rho) / (n + 1) up to u, the k-th but one
        largest of them, k = max(10, n / 10), which is right for any distribution. Beyond,

            (k + 1) / (n + 1) (1 + xi y / beta)^(-1 / xi),  y = rho - u,

        a generalised Pareto tail: its shape by probability-weighted moments of the k excesses, held to [0, 1/2], so
        never lighter than exponential, plus 1 / k. With shape 1 / k alone the tail is the exact predictive
        distribution of an exponential one of which k excesses are known, so what few reals leave open is in it.
        With fewer reals it is Student's t with n - 1 degrees of freedom of (rho - mean) / (sigma sqrt(1 + 1 / n)):
        exact if correlations of reals are normal. Never below 1 / (100 (n + 1)).
        """
        x, known, n = np.asarray(rho, np.float64), np.array(self.rho), self.n
        if n < FEW:
            p = student.sf(self.z(x) / np.sqrt(1 + 1 / n), n - 1)
        else:
            k = max(LEAST, round(TAIL * n))
            start = known[-k - 1]
            shape, scale = pareto_tail(known[-k:] - start)
            shape += 1 / k
            beyond = (k + 1) / (n + 1) * (1 + shape * np.maximum(x - start, 0) / scale) ** (-1 / shape)
            p = np.where(x > start, beyond, (1 + n - np.searchsorted(known, x, "left")) / (n + 1))
        return np.asarray(np.clip(p, self.smallest, 1.0))


def pareto_tail(excess: Floats) -> tuple[float, float]:
    """(shape, scale) of a generalised Pareto distribution by probability-weighted moments (Hosking & Wallis 1987).

    ``excess`` is ascending and not negative. The shape is held to [0, ``HEAVIEST``]; the mean is kept.
    """
    mean, ranks = float(excess.mean()), np.arange(1, len(excess) + 1)
    weighted = float((excess * (1 - (ranks - 0.35) / len(excess))).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else HEAVIEST
    shape = min(max(shape, 0.0), HEAVIEST)
    return shape, max(mean * (1 - shape), float(np.finfo(np.float32).tiny))


@dataclass(frozen=True)
class Null:
    """What a fingerprint's correlation with real images is like: one or several kinds of them, by name.

    An image may be of any kind, so the least favourable one counts: the lowest z, the highest p.
    """

    kinds: Mapping[str, Reals]

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError("a null needs real images of at least one kind")

    @property
    def n(self) -> int:
        return sum(reals.n for reals in self.kinds.values())

    @property
    def sigma(self) -> float:
        """Standard deviation of the kind with the widest."""
        return max(reals.sigma for reals in self.kinds.values())

    @property
    def smallest(self) -> float:
        """The least p there is."""
        return max(reals.smallest for reals in self.kinds.values())

    def without(self, kind: str) -> Null:
        """The other kinds; itself if there are none."""
        return Null({name: reals for name, reals in self.kinds.items() if name != kind} or self.kinds)

    def turned(self) -> Null:
        """That of the same fingerprint with the other sign."""
        return Null({kind: Reals(tuple(-r for r in reals.rho)) for kind, reals in self.kinds.items()})

    def z(self, rho: ArrayLike) -> Floats:
        """Standard deviations above the reals' mean, (N,)."""
        return np.min([reals.z(rho) for reals in self.kinds.values()], axis=0)

    def p(self, rho: ArrayLike) -> Floats:
        """Probability of a false alarm at ``rho``: that a real image correlates as much, (N,) in (0, 1]."""
        return np.max([reals.p(rho) for reals in self.kinds.values()], axis=0)

    def limit(self, rate: float) -> float | None:
        """The lowest rho that is called generated at a rate of false alarms; None if so few reals vouch for none."""
        middle = max(reals.mean for reals in self.kinds.values())
        tried = np.linspace(middle, middle + 30 * self.sigma, 3001)
        found = np.flatnonzero(self.p(tried) <= rate)
        return float(tried[found[0]]) if len(found) else None


def log10_ratio(null: Null, fakes: Reals, rho: ArrayLike) -> Floats:
    """log10 of how much likelier correlations are of the generator's images than of reals, (N,).

    Each class is taken for normal with the mean and the sigma of its n known images, the next of which has Student's t
    distribution with n - 1 degrees of freedom, scaled by sigma sqrt(1 + 1 / n). Of several kinds of reals the likeliest
    counts. Held within log10(n + 1) of the smaller class: so few images vouch for no more.
    """

    def density(known: Reals) -> Floats:
        return np.asarray(student.logpdf(rho, known.n - 1, known.mean, known.sigma * np.sqrt(1 + 1 / known.n)))

    ratio = density(fakes) - np.max([density(reals) for reals in null.kinds.values()], axis=0)
    most = np.log10(min(null.n, fakes.n) + 1)
    return np.asarray(np.clip(ratio / np.log(10), -most, most))


def unlike(null: Null, fakes: Reals, rho: float) -> bool:
    """Whether a correlation is more than ``UNLIKE`` sigma from the generator's images and from each kind of reals."""
    return all(abs(float(known.z(rho))) > UNLIKE for known in (fakes, *null.kinds.values()))


def reals_of(rho: ArrayLike) -> Reals | None:
    """Correlations of one kind of images, None without two different values.

    Those of exactly 0 are of constant images, which say nothing, and are left out.
    """
    values = np.asarray(rho, np.float64).ravel()
    values = values[np.isfinite(values) & (values != 0)]
    return Reals(tuple(values)) if len(np.unique(values)) >= 2 else None


def null_of(rho: Mapping[str, ArrayLike]) -> Null | None:
    """The null of correlations by kind of real images; None if ``reals_of`` finds none of any kind."""
    kinds = {kind: reals for kind, values in rho.items() if (reals := reals_of(values))}
    return Null(kinds) if kinds else None
