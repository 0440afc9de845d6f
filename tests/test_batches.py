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
from difcore.fingerprints.dif import draw_batches, feed, shuffled, spreads
from difcore.machine.devices import upload


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
def test_a_batch_is_half_real(n_real: int, n_fake: int, batch: int, seed: int) -> None:
    rows, scale = draw_batches((n_real, n_fake), batch, 4, None, np.random.default_rng(seed))
    half = min(batch // 2, n_real, n_fake)
    assert rows.shape == (4, 2 * half) and ((rows < n_real).sum(1) == half).all()
    assert scale.numel() == 0


def test_factors_lie_between_alpha_and_one() -> None:
    scale = draw_batches((4, 4), 8, 50, 0.25, np.random.default_rng(0))[1]
    assert scale.shape == (50, 8, 1) and 0.25 <= scale.min() < 0.3 and 0.95 < scale.max() <= 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_batches_are_gathered_row_by_row(kind: type) -> None:
    real, fake = residuals(kind=kind)
    rows, together = draw_batches((5, 3), 6, 3, None, np.random.default_rng(0))[0], np.concatenate([real, fake])
    batch_of = feed(real, fake, rows, "cpu")
    for step in range(3):
        np.testing.assert_array_equal(batch_of(step), together[rows[step]].astype(np.float32))


@pytest.mark.parametrize(("room", "whole"), [(3.9, False), (4.1, True)])  # float32: twice 2 bytes each
def test_a_device_holds_all_residuals_if_half_of_its_memory_does(room: float, whole: bool, monkeypatch: Any) -> None:
    """On torch's device without data, which refuses whatever has to look at values."""
    real, fake = residuals()
    sent: list[int] = []
    monkeypatch.setattr(batches, "free_bytes", lambda device: room * (real.size + fake.size))
    monkeypatch.setattr(batches, "upload", lambda x, device: sent.append(len(x)) or upload(x, device))
    rows = draw_batches((5, 3), 6, 3, None, np.random.default_rng(0))[0]
    batch_of = feed(real, fake, rows, "meta")
    assert sent == ([3, 5, 3] if whole else [])  # the rows, then both classes
    for step in range(3):
        batch = batch_of(step)
        assert batch.device.type == "meta" and batch.dtype == torch.float32 and batch.shape == (6, 3, 16, 16)


def test_spreads_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 3 + residuals((5, 2))[0]
    flat = x.astype(np.float64).reshape(5, -1)
    expected = np.linalg.norm(flat - flat.mean(1)[:, None], axis=1)
    np.testing.assert_allclose(spreads(x), expected, rtol=1e-5)
    monkeypatch.setattr(correlation, "CHUNK", 1000)
    np.testing.assert_allclose(spreads(x), expected, rtol=1e-5)
