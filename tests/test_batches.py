"""A fit's batches: every residual once before any again, half of each class, the same wherever they are gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difcore.fingerprints import correlation
from difcore.fingerprints import dif as batches
from difcore.fingerprints.dif import Feed, draw_schedule, shuffled, spreads, stored_bytes, stored_on


def residuals(counts: tuple[int, int] = (5, 3), kind: type = np.float16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((n, 3, 16, 16)).astype(kind) for n in counts)  # type: ignore[return-value]


def test_batches_show_every_index_before_any_again() -> None:
    draws = shuffled(7, 3, np.random.default_rng(0))
    seen = np.concatenate([next(draws) for _ in range(14)])  # 42 = 6 rounds of 7
    for k in range(6):
        assert sorted(seen[7 * k : 7 * (k + 1)]) == list(range(7))
    assert len({tuple(seen[7 * k : 7 * (k + 1)]) for k in range(6)}) > 1


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 12), st.integers(0, 99))
def test_a_batch_is_half_real_and_says_which_half(n_real: int, n_fake: int, batch: int, seed: int) -> None:
    schedule = draw_schedule((n_real, n_fake), batch, 4, None, np.random.default_rng(seed))
    half = min(batch // 2, n_real, n_fake)
    assert schedule.rows.shape == (4, 2 * half) and schedule.reals.shape == schedule.fakes.shape == (4, half)
    for rows, reals, fakes in zip(schedule.rows, schedule.reals, schedule.fakes, strict=True):
        assert sorted([*reals.tolist(), *fakes.tolist()]) == list(range(2 * half))
        assert (rows[reals] < n_real).all() and (rows[fakes] >= n_real).all()
    assert schedule.scale.numel() == 0


def test_factors_lie_between_alpha_and_one() -> None:
    scale = draw_schedule((4, 4), 8, 50, 0.25, np.random.default_rng(0)).scale
    assert scale.shape == (50, 8, 1) and 0.25 <= scale.min() < 0.3 and 0.95 < scale.max() <= 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_is_stored_whole_and_what_is_gathered_row_by_row_is_the_same(kind: type, monkeypatch: Any) -> None:
    real, fake = residuals(kind=kind)
    rows = draw_schedule((5, 3), 6, 3, None, np.random.default_rng(0)).rows
    feed = Feed(real, fake, rows, "cpu")
    monkeypatch.setattr(correlation, "CHUNK", 2000)  # of two or three images
    stored = stored_on("cpu", real, fake)
    assert stored.dtype == (torch.float16 if kind is np.float16 else torch.float32)
    assert stored.nbytes == stored_bytes(real, fake)
    for step in range(3):
        assert torch.equal(feed.batch(step), stored.index_select(0, rows[step]).float())
    torch.testing.assert_close(feed.spreads(), spreads(stored), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("room", "whole"), [(3.9, False), (4.1, True)])  # float32: twice 2 bytes each
def test_a_device_holds_all_residuals_if_half_of_its_memory_does(room: float, whole: bool, monkeypatch: Any) -> None:
    """On torch's device without data, which refuses whatever has to look at values."""
    real, fake = residuals()
    monkeypatch.setattr(batches, "free_bytes", lambda device: room * (real.size + fake.size))
    rows = draw_schedule((5, 3), 6, 3, None, np.random.default_rng(0)).rows
    feed = Feed(real, fake, rows, "meta")
    assert (feed.stored is not None) == whole
    for step in range(3):
        batch = feed.batch(step)
        assert batch.device.type == "meta" and batch.dtype == torch.float32 and batch.shape == (6, 3, 16, 16)
    assert feed.spreads().shape == (8,) and feed.spreads().device.type == "meta"


def test_spreads_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 3 + residuals((5, 2))[0]
    flat = x.astype(np.float64).reshape(5, -1)
    expected = np.linalg.norm(flat - flat.mean(1)[:, None], axis=1)
    np.testing.assert_allclose(spreads(x), expected, rtol=1e-5)
    monkeypatch.setattr(correlation, "CHUNK", 1000)
    np.testing.assert_allclose(spreads(x), expected, rtol=1e-5)
