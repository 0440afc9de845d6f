"""Correlation with fingerprints and the decisions made from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difcore.fingerprints import correlation
from difcore.fingerprints.correlation import (
    centres,
    chunks,
    cross_detection,
    leave_one_out_decisions,
    ncc,
    nearest_centre,
)
from difcore.fingerprints.correlation import standardise as standardised
from difcore.residuals.denoisers import limited

SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7))


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_pearson_by_hand() -> None:
    # a = (1, 2, 3, 4): mean 2.5, deviations (-3, -1, 1, 3)/2, squares 20/4 = 5.
    # b = (1, 3, 2, 4): mean 2.5, deviations (-3, 1, -1, 3)/2, squares 5; a.b = (9 - 1 - 1 + 9)/4 = 4; r = 4/5.
    # c = (4, 3, 2, 1) = 5 - a: r(a, c) = -1, r(b, c) = -4/5.
    # d = (1, 0, 0, 1): mean 1/2, deviations (1, -1, -1, 1)/2, squares 1; a.d = (-3 + 1 - 1 + 3)/4 = 0.
    # e = (0, 0, 0, 4): mean 1, deviations (-1, -1, -1, 3), squares 12; a.e = (3 + 1 - 1 + 9)/2 = 6; 6/sqrt(60).
    a, b, c, d, e = ([1, 2, 3, 4], [1, 3, 2, 4], [4, 3, 2, 1], [1, 0, 0, 1], [0, 0, 0, 4])
    left = np.array([a, b], np.float32).reshape(2, 1, 2, 2)
    right = np.array([a, b, c, d, e], np.float32).reshape(5, 1, 2, 2)
    # b.d = (-3 - 1 + 1 + 3)/4 = 0; b.e = (3 - 1 + 1 + 9)/2 = 6.
    expected = [[1, 0.8, -1, 0, 6 / 60**0.5], [0.8, 1, -0.8, 0, 6 / 60**0.5]]
    np.testing.assert_allclose(ncc(left, right), expected, atol=1e-6)


def test_the_mean_is_taken_over_all_channels_together() -> None:
    # Channels (0, 0) and (2, 2): centred per channel nothing would be left; over all values they are -1, -1, 1, 1.
    a = np.array([[[[0, 0]], [[2, 2]]]], np.float32)
    b = np.array([[[[5, 5]], [[9, 9]]]], np.float32)
    assert ncc(a, b).item() == pytest.approx(1, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_agrees_with_numpy(shape: tuple[int, int, int], n_a: int, n_b: int, seed: int) -> None:
    a, b = gaussian(n_a, *shape, seed=seed), gaussian(n_b, *shape, seed=seed + 1)
    expected = np.corrcoef(a.reshape(n_a, -1), b.reshape(n_b, -1))[:n_a, n_a:]
    np.testing.assert_allclose(ncc(a, b), expected, atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(
    SHAPES, st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-10, 10), st.sampled_from([1, -1]), st.integers(1, 5)
)
def test_scale_shift_and_symmetry(
    shape: tuple[int, int, int], seed: int, scale: float, shift: float, sign: int, n: int
) -> None:
    a, b = gaussian(3, *shape, seed=seed), gaussian(n, *shape, seed=seed + 1)
    plain = ncc(a, b)
    np.testing.assert_allclose(ncc(sign * scale * (a + shift), b), sign * plain, atol=1e-4)
    np.testing.assert_allclose(ncc(b, a).T, plain, atol=1e-6)
    assert plain.shape == (3, n)


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.integers(0, 10**6))
def test_bounds_hold_to_the_last_bit(shape: tuple[int, int, int], seed: int) -> None:
    x = gaussian(20, *shape, seed=seed)
    rho = ncc(np.concatenate([x, -x]), x)
    assert float(rho.abs().max()) <= 1  # rounding alone gives 1.0000001 for a sample with itself
    np.testing.assert_allclose(rho.diagonal(), 1, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -7.3, 1e-5, 3e4])
def test_a_constant_correlates_with_nothing(value: float) -> None:
    constant = np.full((1, 3, 50, 50), value, np.float32)  # 0.1 and its mean differ by rounding
    assert ncc(constant, gaussian(4, 3, 50, 50)).abs().max() == 0
    assert ncc(constant, constant).item() == 0
    assert standardised(constant).abs().max() == 0


def test_a_faint_pattern_on_a_constant_is_not_taken_for_one() -> None:
    pattern = gaussian(1, 3, 32, 32)
    assert ncc(pattern, 0.5 + 1e-4 * pattern).item() == pytest.approx(1, abs=1e-3)


def test_standardise_gives_mean_free_unit_vectors() -> None:
    rows = standardised(5 + 3 * gaussian(4, 3, 8, 8))
    assert rows.shape == (4, 192) and rows.dtype == torch.float32
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-7)
    np.testing.assert_allclose(rows.norm(dim=1), 1, atol=1e-6)


@pytest.mark.parametrize("other", [(2, 3, 8, 9), (2, 1, 8, 8), (2, 3, 64)])
def test_samples_of_other_shapes_are_refused(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"cannot correlate samples of shape \(3, 8, 8\)"):
        ncc(gaussian(2, 3, 8, 8), gaussian(*other))


@pytest.mark.parametrize("chunk", [1, 193, 400, 10**6])
def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    a, b = gaussian(3, 3, 8, 8), gaussian(7, 3, 8, 8, seed=1)
    whole = ncc(a, b)
    monkeypatch.setattr(correlation, "CHUNK", chunk)
    pieces = [len(piece) for piece in chunks(b)]
    assert sum(pieces) == 7 and max(pieces) == min(7, max(1, chunk // 192))
    np.testing.assert_allclose(ncc(a, b), whole, atol=1e-7)


def test_half_precision_arrays_and_files(tmp_path, every_warning: None) -> None:
    a, b = gaussian(2, 3, 8, 8), gaussian(5, 3, 8, 8, seed=1).astype(np.float16)
    expected = np.corrcoef(a.reshape(2, -1), b.astype(np.float64).reshape(5, -1))[:2, 2:]
    np.testing.assert_allclose(ncc(a, b), expected, atol=1e-6)
    np.save(tmp_path / "b.npy", b)
    read_only = np.load(tmp_path / "b.npy", mmap_mode="r")
    assert torch.equal(ncc(a, read_only), ncc(a, b))
    assert torch.equal(ncc(torch.from_numpy(a), torch.from_numpy(b)), ncc(a, b))


def test_no_samples_give_an_empty_row() -> None:
    assert ncc(gaussian(2, 3, 4, 4), gaussian(0, 3, 4, 4)).shape == (2, 0)


def test_centres_by_hand() -> None:
    rho = np.array([0.25, 0.5, 1.0, -0.25])
    # reals 0.5 and -0.25: mean 0.125; fakes 0.25 and 1: mean 0.625; all of them exact in binary
    assert centres(rho, np.array([True, False, True, False])) == (0.125, 0.625)


@pytest.mark.parametrize("fake", [[True, True], [False, False]])
def test_centres_need_both_classes(fake: list[bool]) -> None:
    with pytest.raises(ValueError, match="both real and fake"):
        centres(np.zeros(2), np.array(fake))


def test_nearest_centre_by_hand() -> None:
    # Centres 0 and 1: the border is 1/2, and exactly there neither is nearer, so it is not called fake.
    rho = np.array([-3.0, 0.0, 0.49, 0.5, 0.51, 1.0, 9.0])
    assert nearest_centre(rho, 0.0, 1.0).tolist() == [False, False, False, False, True, True, True]
    # With the fakes' centre below the reals' the rule turns around.
    assert nearest_centre(rho, 1.0, 0.0).tolist() == [True, True, True, False, False, False, False]


def test_leave_one_out_by_hand() -> None:
    # Reals 0, 1; fakes 2, 9. Without 0: centres 1 and 5.5, and 0 is nearer to 1: real. Without 1: 0 and 5.5: real.
    # Without the fake 2: centres 0.5 and 9, border 4.75: 2 is called real. Without 9: 0.5 and 2: fake.
    rho, fake = np.array([0.0, 1.0, 2.0, 9.0]), np.array([False, False, True, True])
    assert leave_one_out_decisions(rho, fake).tolist() == [False, False, False, True]
    # With all four, centres 0.5 and 5.5 and border 3, 2 is called real as well; a real at 3.1 shows the difference.
    # Reals 0, 3.1; fakes 4, 6: all: 1.55 and 5, border 3.275, real. Without it: 0 and 5, border 2.5: fake.
    rho = np.array([0.0, 3.1, 4.0, 6.0])
    assert nearest_centre(rho, *centres(rho, fake)).tolist() == [False, False, True, True]
    assert leave_one_out_decisions(rho, fake).tolist() == [False, True, True, True]


@pytest.mark.parametrize("fake", [[True, False, False], [True, True, False]])
def test_leave_one_out_needs_two_of_each(fake: list[bool]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out_decisions(np.zeros(3), np.array(fake))


def test_cross_detection_is_the_loop() -> None:
    patterns = gaussian(3, 3, 6, 6)
    real = [gaussian(n, 3, 6, 6, seed=n).astype(np.float16) for n in (4, 5)]
    fake = [gaussian(n, 3, 6, 6, seed=n).astype(np.float16) for n in (2, 6)]
    rho_real, rho_fake = cross_detection(patterns, real, fake)
    for rho, sets in ((rho_real, real), (rho_fake, fake)):
        for t, residuals in enumerate(sets):
            assert rho[t].shape == (3, len(residuals))
            for g in range(3):
                for n in range(len(residuals)):
                    pair = np.corrcoef(patterns[g].ravel(), residuals[n].astype(np.float64).ravel())[0, 1]
                    assert float(rho[t][g, n]) == pytest.approx(pair, abs=1e-6)


def test_a_set_given_twice_is_correlated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = correlation.ncc
    monkeypatch.setattr(correlation, "ncc", lambda a, b: calls.append(len(b)) or plain(a, b))
    shared, one, two = (gaussian(n, 3, 4, 4, seed=n) for n in (5, 2, 3))
    rho_real, _ = cross_detection(gaussian(2, 3, 4, 4), [shared, shared], [one, two])
    assert sorted(calls) == [2, 3, 5]
    assert torch.equal(rho_real[0], rho_real[1])


# Limited residuals


def test_limited_holds_values_within_the_root_mean_square() -> None:
    x = torch.tensor([[[[3.0, -1.0], [1.0, -5.0]]], [[[0.0, 0.0], [0.0, 2.0]]]])
    roots = [3.0, 1.0]  # sqrt((9 + 1 + 1 + 25) / 4), sqrt(4 / 4)
    expected = torch.tensor([[[[1.5, -1.0], [1.0, -1.5]]], [[[0.0, 0.0], [0.0, 0.5]]]])
    assert [float(sample.square().mean().sqrt()) for sample in x] == roots
    torch.testing.assert_close(limited(x, 0.5), expected)
    torch.testing.assert_close(limited(x.half(), 0.5), expected.half())
    torch.testing.assert_close(limited(x, 10.0), x)
    torch.testing.assert_close(limited(7 * x, 0.5), 7 * expected)
    assert torch.equal(limited(torch.zeros(1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4))
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            limited(x, wrong)


def test_a_limit_finds_a_weak_pattern_below_heavy_tails() -> None:
    """Planted in noise that is mostly faint and now and then a hundred times stronger, as residuals at edges are."""
    generator = torch.Generator().manual_seed(3)
    pattern = torch.randn(1, 3, 64, 64, generator=generator)
    noise = torch.randn(60, 3, 64, 64, generator=generator)
    edges = torch.rand(60, 3, 64, 64, generator=generator) < 0.03
    noise = torch.where(edges, 100 * noise, noise)
    samples = torch.cat([noise[:30], noise[30:] + 0.1 * pattern])
    plain, held = (ncc(pattern, s)[0] for s in (samples, limited(samples, 0.1)))
    assert float((held[:30, None] < held[None, 30:]).float().mean()) == 1
    assert float((plain[:30, None] < plain[None, 30:]).float().mean()) < 0.8
