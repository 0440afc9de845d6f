"""Estimates, their p-values, corrections and trends: against published tables, scipy, and simulated truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, page_trend_test, ttest_1samp

from difcore.stats import (
    SURE,
    Estimate,
    auc_estimate,
    auc_interval,
    balanced_estimate,
    balanced_interval,
    holm,
    jackknife,
    nowhere,
    page_trend,
    share_estimate,
    sum_estimate,
    t_estimate,
    two_sided,
    widest,
)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-1, 1))
def test_the_p_value_of_a_mean_is_students(values: list[float], bar: float) -> None:
    found = t_estimate(values, "x")
    if np.std(values) < 1e-3 or abs(np.mean(values) - bar) < 1e-9:
        return
    expected = ttest_1samp(values, bar).pvalue
    assert found.p(bar) == pytest.approx(max(expected, 2.6e-12), rel=1e-3, abs=1e-11)


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0, 1))
def test_an_interval_leaves_a_bar_out_if_its_p_is_small(successes: int, more: int, bar: float) -> None:
    n = successes + more
    for found in (share_estimate(successes / n, n, "x"), auc_estimate(successes / n, n, more)):
        low, high = found.interval
        if min(abs(bar - low), abs(bar - high)) > 1e-6:
            assert (found.p(bar) > SURE) == (low <= bar <= high)


def test_p_values_by_hand() -> None:
    # Wilson's interval inverts the score test: z = (.7 - .5) / sqrt(.5 * .5 / 50) = 2.8284, p = .004678.
    assert share_estimate(0.7, 50, "x").p(0.5) == pytest.approx(0.004678, abs=1e-6)
    assert share_estimate(0.5, 50, "x").p(0.5) == 1
    assert Estimate(0.7, nowhere, "x").p(0.5) == 1  # without an interval nothing is decided
    assert t_estimate([0.3], "x").p(0) == 1 and np.isnan(t_estimate([], "x").value)
    assert t_estimate([0.0, 0.0], "x").p(0) == 1


@pytest.mark.parametrize("n", [2, 4, 5, 6, 13])
def test_equal_repetitions_are_judged_by_their_sign(n: int) -> None:
    """Four coins that fall alike do so in one of eight throws, whatever is written on them."""
    jackknifed = jackknife(lambda kept: float(0.1 + 0.2 + len(kept) * 1e-17), [str(k) for k in range(n)], "x")
    for found in (t_estimate([0.3] * n, "x"), t_estimate([0.1 + 0.2] + [0.3] * (n - 1), "x"), jackknifed):
        for bar in (0.2999, 0.0, 0.9, -1e9):
            if found is not jackknifed or n > 2:
                assert found.p(bar) == pytest.approx(binomtest(n, n).pvalue, rel=1e-6)
                assert (found.p(bar) <= SURE) == np.isfinite(found.interval).all() == (n >= 6)
    images = share_estimate(0.3, 100, "x")
    both = widest(t_estimate([0.3] * n, "x"), images)
    assert both.p(0.1) == pytest.approx(max(images.p(0.1), 2.0 ** (1 - n)), rel=1e-6)


def test_sums_are_movers() -> None:
    found = balanced_estimate(0.9, 240, 0.5, 68)
    assert found.value == 0.7 and found.interval == pytest.approx(balanced_interval(216, 240, 34, 68))
    gap = sum_estimate([1, -1], [auc_estimate(1.0, 10, 10), auc_estimate(0.5, 10, 10)], "x")
    (low, _), (_, high) = auc_interval(1.0, 10, 10), auc_interval(0.5, 10, 10)
    assert gap.value == 0.5 and gap.interval[0] == pytest.approx(0.5 - np.hypot(1 - low, high - 0.5))


def test_the_widest_interval_holds_both() -> None:
    narrow, wide = t_estimate([0.1, 0.1, 0.11], "a"), t_estimate([0.1, 0.3], "b")
    (low, high), (other_low, other_high) = (e.interval for e in (widest(narrow, wide), widest(wide, narrow)))
    assert high - low == pytest.approx(other_high - other_low) == pytest.approx(np.diff(wide.interval)[0])
    assert (low + high) / 2 == pytest.approx(narrow.value)


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 is .04, .06, .06, .04; never below the one before: .04, .06, .06, .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == [] and holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_helps_and_keeps_the_order(p: list[float]) -> None:
    found = holm(p)
    assert all(a <= b <= min(1, len(p) * a + 1e-12) or a == 0 for a, b in zip(p, found, strict=True))
    assert [found[k] for k in np.argsort(p, kind="stable")] == sorted(found)


def test_holm_keeps_the_family_wise_error() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 8))
    false = np.mean([min(holm(row)) <= SURE for row in p])
    assert false < 0.065 and np.mean(p.min(1) <= SURE) > 0.25  # as many as without: 1 - .95^8 = .34


def test_the_trend_is_pages() -> None:
    # Page 1963's example of learning curves: exact tables, no ties.
    rng = np.random.default_rng(3)
    for slope in (0.0, 0.4, 1.0):
        curves = slope * np.arange(4) + rng.standard_normal((5, 4))
        expected = page_trend_test(curves, method="exact").pvalue
        assert page_trend(curves)[0] == pytest.approx(expected, abs=0.015)
        assert page_trend(-curves)[1] == pytest.approx(expected, abs=0.015)
    rises, falls = page_trend([[1, 2, 3]] * 3)
    assert rises == pytest.approx(1 / 216, abs=0.003) and falls == 1  # one of 6^3 orders
    assert page_trend([[1, 1, 1]] * 3) == (1, 1)  # all tied: neither


def test_two_ends_are_not_a_trend() -> None:
    # Both curves end above where they began, and go down in between all the way.
    assert min(page_trend([[5, 4, 3, 2, 6], [5, 4, 3, 2, 6]])) > 0.2


def test_two_sided_by_hand() -> None:
    assert two_sided(0.01, 1.0) == two_sided(1.0, 0.01) == 0.02 and two_sided(0.6, 0.5) == 1


def test_the_jackknife_of_a_diagonal_mean_is_students() -> None:
    values = np.array([0.9, 0.8, 0.95, 0.7])
    matrix = np.diag(values)
    found = jackknife(lambda kept: float(matrix[kept, kept].mean()), list("abcd"), "x")
    assert found.value == pytest.approx(values.mean())
    assert found.interval == pytest.approx(t_estimate(values, "x").interval)
    assert np.isnan(jackknife(lambda kept: 0.0, list("aabb"), "x").interval).all()  # two trainings are too few


def test_the_jackknife_covers_means_of_dependent_pairs() -> None:
    rng, hits, trials = np.random.default_rng(1), 0, 300
    for _ in range(trials):
        strength = rng.standard_normal(8)  # of each model, in its row and column alike
        matrix = strength[:, None] + strength[None] + 0.2 * rng.standard_normal((8, 8))

        def off(kept: np.ndarray, values: np.ndarray = matrix) -> float:
            return float(values[np.ix_(kept, kept)][~np.eye(len(kept), dtype=bool)].mean())

        low, high = jackknife(off, list("abcdefgh"), "x").interval
        hits += low <= 0 <= high
    assert 0.91 < hits / trials < 0.99
