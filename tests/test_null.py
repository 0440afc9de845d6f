"""The null: right probabilities on planted distributions, beyond the sample too, and what few reals allow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from difcore.fingerprints.null import BEYOND, FEW, Null, Reals, null_of, pareto_tail
from difcore.stats import holm

Draw = Callable[..., np.ndarray]
PLANTED: dict[str, Callable[[np.random.Generator], Draw]] = {
    "normal": lambda rng: rng.standard_normal,
    "exponential": lambda rng: lambda size: rng.exponential(size=size),
    "student, 5": lambda rng: lambda size: rng.standard_t(5, size),
    "student, 3": lambda rng: lambda size: rng.standard_t(3, size),
    "one in twenty four times as wide": lambda rng: (
        lambda size: rng.standard_normal(size) * np.where(rng.random(size) < 0.05, 4, 1)
    ),
}
VALUES = arrays(np.float64, st.integers(2, 60), elements=st.floats(-1, 1, width=32), unique=True)


def false_alarms(draw: Draw, n: int, rates: list[float], repeats: int) -> np.ndarray:
    """Mean share of 4,000 new reals with p <= rate, by rate."""
    found = np.zeros(len(rates))
    for _ in range(repeats):
        p = Reals(tuple(draw(n))).p(draw(4000))
        found += [(p <= rate).mean() for rate in rates]
    return found / repeats


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("n", [60, 360])
def test_the_stated_rate_is_kept_on_reals_held_out(name: str, n: int) -> None:
    common, rare = false_alarms(PLANTED[name](np.random.default_rng(3)), n, [0.01, 0.001], 120)
    assert common < 0.0135 and rare < 0.0040  # one in a thousand of a heavy tail, from 60 reals, is beyond them
    assert common > 0.004  # nor is the power given away


def test_few_reals_that_are_normal_keep_the_rate() -> None:
    (found,) = false_alarms(np.random.default_rng(5).standard_normal, 6, [0.01], 700)
    assert 0.007 < found < 0.0135
    # a normal distribution of the sample's own width would not
    rng = np.random.default_rng(6)
    plain = np.mean(
        [(np.abs(Reals(tuple(rng.standard_normal(6))).z(rng.standard_normal(200))) > 2.576) for _ in range(500)]
    )
    assert plain > 0.03


@pytest.mark.parametrize("name", PLANTED)
def test_p_is_uniform_on_draws_of_the_null(name: str) -> None:
    draw = PLANTED[name](np.random.default_rng(1))
    p = Reals(tuple(draw(4000))).p(draw(4000))
    assert kstest(p, "uniform").statistic < 0.045  # both samples' noise: 1.6 sqrt(2 / 4000) = 0.036


@given(VALUES, arrays(np.float64, 20, elements=st.floats(-2, 2)))
def test_p_falls_with_rho_and_is_never_zero(known: np.ndarray, rho: np.ndarray) -> None:
    reals = Reals(tuple(known))
    p = reals.p(np.sort(rho))
    assert (np.diff(p) <= 1e-12).all()
    assert (p >= 1 / (BEYOND * (len(known) + 1))).all() and (p <= 1).all()
    assert reals.p(1e9) == reals.smallest > 0
    assert (np.diff(reals.z(np.sort(rho))) >= 0).all()


@given(VALUES, st.floats(0.01, 100), st.floats(-5, 5))
def test_scale_and_place_of_the_correlations_do_not_matter(known: np.ndarray, scale: float, shift: float) -> None:
    if np.diff(np.sort(known)).min() < 1e-6:  # closer than the shift's rounding
        return
    at = np.linspace(-1.5, 1.5, 7)
    plain, moved = Reals(tuple(known)), Reals(tuple(scale * known + shift))
    np.testing.assert_allclose(moved.p(scale * at + shift + 1e-9), plain.p(at + 1e-9 / scale), rtol=0.2)
    np.testing.assert_allclose(moved.z(scale * at + shift), plain.z(at), rtol=1e-4, atol=1e-4)


def test_within_the_sample_it_is_counted() -> None:
    reals = Reals(tuple(np.arange(100.0)))
    np.testing.assert_allclose(reals.p([-1, 0, 49.5, 80]), [1, 1, 51 / 101, 21 / 101])
    assert reals.n == 100 and reals.mean == 49.5 and reals.sigma == pytest.approx(np.arange(100).std(ddof=1))


def test_the_tails_shape_and_scale_are_found() -> None:
    rng = np.random.default_rng(2)
    for shape in (0.0, 0.25):
        uniform = rng.random(200_000)
        excess = -np.log(uniform) if shape == 0 else (uniform**-shape - 1) / shape
        found = pareto_tail(3 * np.sort(excess))
        np.testing.assert_allclose(found, (shape, 3.0), atol=0.06)
    assert pareto_tail(np.sort(rng.random(1000)))[0] == 0  # a lighter tail than exponential is not believed
    assert pareto_tail(np.sort(rng.pareto(1.2, 1000)))[0] <= 0.5


def test_the_least_favourable_kind_counts() -> None:
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(0, 1, 200), rng.normal(1, 2, 200)
    both = null_of({"narrow": narrow, "wide": wide})
    assert both is not None and both.n == 400 and list(both.kinds) == ["narrow", "wide"]
    at = np.linspace(-3, 9, 25)
    kinds = [Reals(tuple(x)) for x in (narrow, wide)]
    np.testing.assert_array_equal(both.p(at), np.maximum(*(k.p(at) for k in kinds)))
    np.testing.assert_array_equal(both.z(at), np.minimum(*(k.z(at) for k in kinds)))
    assert both.sigma == kinds[1].sigma and both.smallest == kinds[0].smallest
    np.testing.assert_allclose(both.turned().kinds["wide"].rho, -np.array(kinds[1].rho)[::-1])


def test_what_says_nothing_is_no_null() -> None:
    assert null_of({}) is None and null_of({"x": [0.1]}) is None and null_of({"x": [0.1, 0.1]}) is None
    assert null_of({"x": [0.0, 0.0, 0.1, np.nan]}) is None  # constant images correlate by exactly 0
    found = null_of({"x": [0.0, 0.2, 0.1], "y": [0.3]})
    assert found is not None and {kind: reals.n for kind, reals in found.kinds.items()} == {"x": 2}
    for bad in ((), (0.1,), (0.1, 0.1), (0.1, np.inf)):
        with pytest.raises(ValueError, match="at least two different"):
            Reals(bad)
    with pytest.raises(ValueError, match="at least one kind"):
        Null({})
    assert FEW == 20


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    assert holm([0.2]) == [0.2] and len(holm([])) == 0


@given(arrays(np.float64, st.integers(1, 13), elements=st.floats(0, 1)))
def test_holm_lies_between_each_and_bonferroni(p: np.ndarray) -> None:
    found = np.array(holm(p))
    assert (found >= p).all() and (found <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
    assert found.min() == pytest.approx(min(1, len(p) * p.min()))
