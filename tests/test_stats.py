"""Intervals and areas against published values, independent solutions and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from difcore.stats import (
    Detection,
    as_row,
    auc,
    auc_interval,
    balanced_interval,
    calibration_error,
    cllr,
    detection,
    found_at,
    mover,
    wilson,
)

Z = 1.959963984540054  # 97.5 % point of the normal distribution
SCORES = st.lists(st.integers(-5, 5).map(lambda k: k / 4), min_size=1, max_size=30)  # few values: many ties
COUNTS = st.integers(1, 500)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), Table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # At the ends the formula is n / (n + z^2): 10 / 13.8415 = 0.7225.
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
    ],
)
def test_wilson_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 3000), st.data())
def test_wilson_contains_the_proportion_and_solves_its_equation(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    for end in (low, high):  # the score test's p-value is exactly 5 % at both ends, or the end is a bound
        assert end in (0, 1) or abs(k / n - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), rel=1e-6)


@given(st.integers(1, 300), st.data())
def test_wilson_is_monotone_and_symmetric(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    low, high = wilson(k, n)
    next_low, next_high = wilson(k + 1, n)
    assert next_low > low and next_high > high
    assert wilson(n - k, n) == (pytest.approx(1 - high, abs=1e-12), pytest.approx(1 - low, abs=1e-12))
    wide = wilson(k, n, confidence=0.99)
    assert wide[0] <= low and wide[1] > high


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson(0, 0) == (0, 1)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (1, 0), (0, -1)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_auc_by_hand() -> None:
    # Reals 1, 3; fakes 2, 3, 4. Pairs won: 2>1, 3>1, 4>1, 4>3; tied 3=3; lost 2<3: (4 + 1/2) / 6.
    assert auc([1, 3], [2, 3, 4]) == 0.75


@given(SCORES, SCORES)
def test_auc_agrees_with_scikit_learn(real: list[float], fake: list[float]) -> None:
    labels = [0] * len(real) + [1] * len(fake)
    assert auc(real, fake) == pytest.approx(roc_auc_score(labels, real + fake), abs=1e-12)


@given(SCORES, SCORES, st.floats(0.1, 10), st.floats(-5, 5))
def test_auc_only_sees_order(real: list[float], fake: list[float], scale: float, shift: float) -> None:
    value = auc(real, fake)
    assert auc(np.array(real) * scale + shift, np.array(fake) * scale + shift) == pytest.approx(value, abs=1e-12)
    assert auc(fake, real) == pytest.approx(1 - value, abs=1e-12)


@pytest.mark.parametrize(("real", "fake"), [([], [1.0]), ([1.0], [])])
def test_auc_needs_both_classes(real: list[float], fake: list[float]) -> None:
    with pytest.raises(ValueError, match="both classes"):
        auc(real, fake)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_auc_needs_finite_scores(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        auc([0.0, bad], [1.0])


def hanley_mcneil(theta: float, n_real: int, n_fake: int) -> float:
    """Newcombe's variance of an AUC, from Hanley and McNeil's Q1 and Q2 with both n - 1 replaced by their mean."""
    q1, q2, extra = theta / (2 - theta), 2 * theta**2 / (1 + theta), (n_real + n_fake) / 2 - 1
    return (theta * (1 - theta) + extra * (q1 - theta**2) + extra * (q2 - theta**2)) / (n_real * n_fake)


def reference_interval(value: float, n_real: int, n_fake: int) -> tuple[float, float]:
    """Every theta whose test does not reject ``value``, found on a fine grid instead of by solving."""
    theta = np.linspace(0, 1, 2_000_001)
    inside = theta[(theta - value) ** 2 <= Z**2 * hanley_mcneil(theta, n_real, n_fake)]
    return float(inside.min()), float(inside.max())


@pytest.mark.parametrize(
    ("value", "n_real", "n_fake"),
    [(1.0, 10, 10), (0.0, 10, 10), (0.5, 10, 10), (0.97, 10, 10), (0.999, 240, 196), (0.75, 3, 40), (0.6, 1, 1)],
)
def test_auc_interval_against_a_grid(value: float, n_real: int, n_fake: int) -> None:
    low, high = auc_interval(value, n_real, n_fake)
    assert (low, high) == pytest.approx(reference_interval(value, n_real, n_fake), abs=2e-6)


def test_ten_against_ten_perfectly_is_not_certain() -> None:
    low, high = auc_interval(1.0, 10, 10)
    assert high == 1.0
    # At theta = 0.800214 the standard deviation is 0.101934, and (1 - 0.800214) / 0.101934 = 1.95996 = z.
    assert low == pytest.approx(0.800214, abs=1e-6)
    assert math.sqrt(hanley_mcneil(0.800214, 10, 10)) == pytest.approx(0.101934, abs=1e-6)


@given(st.floats(0, 1), COUNTS, COUNTS)
def test_auc_interval_contains_the_value_and_mirrors(value: float, n_real: int, n_fake: int) -> None:
    low, high = auc_interval(value, n_real, n_fake)
    assert 0 <= low <= value <= high <= 1 and high - low > 1e-6
    mirrored = auc_interval(1 - value, n_real, n_fake)
    assert mirrored == (pytest.approx(1 - high, abs=1e-6), pytest.approx(1 - low, abs=1e-6))


@given(st.floats(0.01, 0.99), st.integers(2, 200))
def test_auc_interval_shrinks_with_more_images(value: float, n: int) -> None:
    def width(count: int, confidence: float = 0.95) -> float:
        low, high = auc_interval(value, count, count, confidence)
        return high - low

    assert width(2 * n) < width(n) < width(n, 0.99)


@pytest.mark.parametrize(("value", "n_real", "n_fake"), [(1.1, 5, 5), (-0.1, 5, 5), (0.5, 0, 5), (0.5, 5, 0)])
def test_auc_interval_refuses_nonsense(value: float, n_real: int, n_fake: int) -> None:
    with pytest.raises(ValueError, match="AUC in"):
        auc_interval(value, n_real, n_fake)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:873), Table II, method 10: the difference of two proportions.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombes_published_intervals(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    shares, intervals = [k / n for k, n in (first, second)], [wilson(*first), wilson(*second)]
    assert mover([1, -1], shares, intervals) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    # p_1 - p_2 = 2 (p_1 + q_2) / 2 - 1 with q_2 = 1 - p_2: the same interval is that of a balanced accuracy.
    (k, n), (wrong, m) = first, second
    found = balanced_interval(k, n, m - wrong, m)
    assert [2 * end - 1 for end in found] == pytest.approx([low, high], abs=1e-4)


def test_balanced_accuracy_by_hand() -> None:
    # 240 reals and 68 fakes, all called real: 78 % of the images, and no better than chance.
    result = Detection(240, 240, 0, 68, 0.5)
    assert (result.accuracy, result.accuracy_real, result.accuracy_fake) == (0.5, 1, 0)
    assert pytest.approx(0.779, abs=5e-4) == (240 + 0) / 308
    # z^2 = 3.8415: Wilson's ends are 240 / 243.8415 = .984246 and 3.8415 / 71.8415 = .053471; half of what is left out.
    assert result.interval == pytest.approx((0.5 - 0.015754 / 2, 0.5 + 0.053471 / 2), abs=1e-6)
    assert (result.interval_real, result.interval_fake) == (wilson(240, 240), wilson(0, 68))


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_balanced_interval_holds_the_value_and_mirrors(n: int, m: int, data: st.DataObject) -> None:
    k, j = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    low, high = balanced_interval(k, n, j, m)
    value = (k / n + j / m) / 2
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert balanced_interval(j, m, k, n) == pytest.approx((low, high))  # either class may be the first
    assert balanced_interval(n - k, n, m - j, m) == pytest.approx((1 - high, 1 - low))
    wide = balanced_interval(k, n, j, m, 0.99)
    assert wide[0] <= low and wide[1] >= high


def test_balanced_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    trials = 1500
    for truth, n, m in (((0.95, 0.7), 240, 68), ((0.9, 0.8), 40, 40), ((0.99, 0.6), 10, 10)):
        right = rng.binomial(n, truth[0], trials), rng.binomial(m, truth[1], trials)
        ends = np.array([balanced_interval(int(k), n, int(j), m) for k, j in zip(*right, strict=True)])
        covered = np.mean((ends[:, 0] <= np.mean(truth)) & (np.mean(truth) <= ends[:, 1]))
        # Standard deviation .56 %; the interval is a little wide for few images (Newcombe 1998, Table IV).
        assert 0.93 < covered < 0.995, (truth, n, m, covered)


def test_detection_by_hand() -> None:
    # Threshold 0.5: of the reals 0 and 0.5 (not above) are right, 0.9 and 0.7 wrong; of the fakes 0.6, 0.8 right, 0.5
    # wrong: (2 / 4 + 2 / 3) / 2 = 7 / 12, where 4 of all 7 are right.
    # AUC: 0.6 beats 2, 0.8 beats 3, 0.5 beats 1 and ties 1: 6.5 of 12.
    result = detection([0, 0.5, 0.9, 0.7], [0.6, 0.8, 0.5], 0.5)
    assert result == Detection(2, 4, 2, 3, 6.5 / 12)
    row = as_row(result)
    assert row["accuracy"] == pytest.approx(7 / 12)
    assert (row["accuracy_real"], row["accuracy_fake"]) == (2 / 4, 2 / 3)
    assert (row["accuracy_low"], row["accuracy_high"]) == balanced_interval(2, 4, 2, 3)
    assert row["auc"] == 6.5 / 12 and (row["auc_low"], row["auc_high"]) == auc_interval(6.5 / 12, 4, 3)
    assert (row["n_real"], row["n_fake"]) == (4, 3)


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    truth, trials = 0.8, 800
    covered = sum(low <= truth <= high for low, high in (wilson(int(k), 40) for k in rng.binomial(40, truth, trials)))
    # Binomial of 800 at 95 %: standard deviation 0.8 %; four of them, and Wilson's own oscillation, below.
    assert 0.91 < covered / trials < 0.99
    shift = math.sqrt(2) * 0.8416212  # fakes N(shift, 1) against reals N(0, 1): AUC = Phi(shift / sqrt 2) = 0.8
    hits = 0
    for _ in range(trials):
        low, high = auc_interval(auc(rng.standard_normal(15), shift + rng.standard_normal(15)), 15, 15)
        hits += low <= truth <= high
    assert 0.91 < hits / trials < 0.99


def test_likelihood_ratios_of_known_distributions_are_calibrated_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(0, 1, 20_000), rng.normal(2, 1, 20_000)

    def ratio(x: np.ndarray) -> np.ndarray:
        return (2 * x - 2) / np.log(10)  # log10 N(x; 2, 1) / N(x; 0, 1)

    right = cllr(ratio(real), ratio(fake))
    assert 0.3 < right < min(cllr(k * ratio(real), k * ratio(fake)) for k in (0.3, 3))
    assert calibration_error(ratio(real), ratio(fake)) < 0.01 < calibration_error(3 * ratio(real), 3 * ratio(fake))
    assert cllr([0, 0], [0]) == pytest.approx(1) and calibration_error([0, 0], [0]) == pytest.approx(0)
    assert cllr([-9], [9]) < 1e-6 < 1 < cllr([9], [-9]) and calibration_error([9], [-9]) == pytest.approx(1, abs=1e-6)
    # A normal real exceeds 1.645 with p = .05; of fakes around 2, P(z > -.355) = .639 do.
    assert found_at(real, fake, 0.05) == pytest.approx(0.639, abs=0.02)
    assert found_at([1, 2, 3], [3, 4], 0.01) == 0.5
