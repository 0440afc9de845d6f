"""Fits recover a fingerprint that was planted, and every setting of a fit does something."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import grid

from difcore.fingerprints import dif as batches
from difcore.fingerprints import dif as fit
from difcore.fingerprints.correlation import ncc, nearest_centre, zero_mean
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import (
    DifPlan,
    batch_statistics,
    fit_dif,
    fit_marra18,
    pair_loss,
    separation_of,
    spreads,
)
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(count: int, strength: float, pattern: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (real, fake), float16 (count, 3, H, W): white noise, and other white noise plus the pattern."""
    rng = np.random.default_rng([seed, 99])
    real, fake = rng.standard_normal((2, count, *pattern.shape))
    return real.astype(np.float16), (fake + strength * pattern).astype(np.float16)


def small(count: int = 6, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return planted(count, 0.5, grid(size), seed)


def held_out(fingerprint: Detector, real: np.ndarray, fake: np.ndarray) -> float:
    return auc(fingerprint.rho(real), fingerprint.rho(fake))


@pytest.mark.parametrize("seed", [0, 1])
def test_dif_recovers_a_planted_fingerprint(seed: int) -> None:
    truth = grid(seed=seed)
    real, fake = planted(130, 0.3, truth, seed)
    plan = DifPlan(steps=60, batch=32, margin=0.2, seed=seed)
    found = fit_dif(real[:50], fake[:50], plan, "planted")
    # Measured over seeds 0 to 9: correlation with the truth 0.78 to 0.89, AUC 1.000, |mu_real| up to 0.009.
    assert ncc(found.pattern[None], truth[None]).item() > 0.7
    assert held_out(found, real[50:], fake[50:]) > 0.99
    # The expected correlation of a fake: its pattern's share of its length, times what was recovered of it.
    share = 0.3 / (1 + 0.3**2) ** 0.5
    assert found.mu_fake == pytest.approx(share * ncc(found.pattern[None], truth[None]).item(), rel=0.3)
    assert abs(found.mu_real) < 0.03
    assert (found.method, found.name) == ("dif", "planted")
    assert found.metadata == {"plan": asdict(plan), "steps": 60, "n_real": 50, "n_fake": 50}
    decisions = found.rho(np.concatenate([real[50:], fake[50:]])) > found.threshold
    assert (decisions == (torch.arange(160) >= 80)).float().mean() > 0.95


def test_marra18_recovers_a_planted_fingerprint() -> None:
    truth = np.random.default_rng(5).standard_normal((3, 32, 32)).astype(np.float32)
    real, fake = planted(130, 0.2, truth)
    found = fit_marra18(real[:50], fake[:50], "planted")
    # The mean of 50: noise of variance 1/50 beside a pattern of variance 0.04; correlation sqrt(0.04 / 0.06) = 0.816.
    assert ncc(found.pattern[None], truth[None]).item() == pytest.approx(0.816, abs=0.02)
    assert held_out(found, real[50:], fake[50:]) > 0.99
    # A fake's own: 0.2 / sqrt(1.04) = 0.196, times 0.816 (49 of the 50: 0.814).
    assert found.mu_fake == pytest.approx(0.16, abs=0.01) and abs(found.mu_real) < 0.01
    assert (found.method, found.metadata) == ("marra18", {"n_real": 50, "n_fake": 50})


def test_marra18_by_hand() -> None:
    real, fake = (torch.as_tensor(x).float() for x in small(4, 16))
    found = fit_marra18(real, fake)
    np.testing.assert_allclose(found.pattern, fake.mean(0), atol=1e-6)
    others = [
        np.corrcoef(fake[[j for j in range(4) if j != k]].mean(0).ravel(), fake[k].ravel())[0, 1] for k in range(4)
    ]
    assert found.mu_fake == pytest.approx(np.mean(others), abs=1e-6)
    assert found.mu_real == pytest.approx(
        np.mean([np.corrcoef(fake.mean(0).ravel(), r.ravel())[0, 1] for r in real]), abs=1e-6
    )


def test_clean_rows_and_columns_find_what_stripes_hide() -> None:
    truth = zero_mean(torch.as_tensor(grid())).numpy()
    rng = np.random.default_rng(3)
    stripes = 3 * rng.standard_normal((2, 1, 3, 1, 32))  # each class has columns of its own, as if of two cameras
    drift = rng.standard_normal((2, 130, 3, 1, 1))  # and shows them now more, now less, now the other way round
    real, fake = (a + 0.15 * d * s for a, d, s in zip(planted(130, 0.2, truth), drift, stripes, strict=True))
    plain, clean = (fit_marra18(real[:50], fake[:50], clean=c) for c in (False, True))
    results = [held_out(found, real[50:], fake[50:]) for found in (plain, clean)]
    assert results[1] > 0.99 and results[1] > results[0]
    assert (plain.method, clean.method) == ("marra18", "marra18-zm")
    torch.testing.assert_close(clean.pattern, zero_mean(plain.pattern))
    # Centres are of the cleaned mean with whole residuals, leave-one-out.
    others = torch.as_tensor(fake[:50]).float()
    rho = [ncc(zero_mean(others.sum(0) - r)[None], r[None]).item() for r in others]
    assert clean.mu_fake == pytest.approx(np.mean(rho), abs=1e-5)


def test_nothing_planted_nothing_found() -> None:
    real, fake = planted(80, 0.0, grid())
    found = fit_marra18(real[:30], fake[:30])
    assert abs(held_out(found, real[30:], fake[30:]) - 0.5) < 0.2
    # Left in, each of the 30 would correlate with the mean by 1/sqrt(30) = 0.18.
    assert abs(found.mu_fake) < 0.05 and abs(found.mu_real) < 0.05


BASE = DifPlan(steps=4, batch=6, margin=0.5)
CHANGES: dict[str, tuple[DifPlan, dict[str, Any]]] = {
    "steps": (BASE, {"steps": 5}),
    "batch": (BASE, {"batch": 4}),
    "learning_rate": (BASE, {"learning_rate": 1e-3}),
    "margin": (BASE, {"margin": 0.4}),
    "input_noise": (BASE, {"input_noise": 0.1}),
    "ema": (BASE, {"ema": 0.9}),
    "boost": (BASE, {"boost": True}),
    "alpha": (replace(BASE, boost=True), {"alpha": 0.2}),
    "bfloat16": (BASE, {"bfloat16": True}),
    "seed": (BASE, {"seed": 1}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_a_fit_matters(name: str) -> None:
    base, change = CHANGES[name]
    real, fake = small()
    first, second = fit_dif(real, fake, base), fit_dif(real, fake, replace(base, **change))
    assert float((first.pattern - second.pattern).abs().max()) > 0
    assert first.metadata["plan"][name] != second.metadata["plan"][name]


def test_the_two_other_settings_matter_too() -> None:
    """``prior``, ``patience`` and ``fits`` have tests of their own; no setting is without one."""
    assert {f.name for f in fields(DifPlan)} == {*CHANGES, "prior", "patience", "fits"}
    with pytest.raises(ValueError, match="unknown prior"):
        fit_dif(*small(), replace(BASE, prior="none"))


def test_patience_ends_a_fit_that_gets_no_better() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 4, 3, 16, 16)).astype(np.float32)
    plan = DifPlan(steps=400, batch=8, learning_rate=1e-9, patience=40)  # it cannot learn: nothing improves for long
    steps: list[int] = []
    found = fit_dif(real, fake, plan, on_step=lambda step, _: steps.append(step))
    assert found.metadata["steps"] == len(steps) < 400
    assert steps == list(range(1, len(steps) + 1)) and len(steps) % 20 == 0 and len(steps) >= 60


def test_patience_spares_a_fit_that_gets_better() -> None:
    real, fake = small(16)
    plan = DifPlan(steps=60, batch=16, margin=0.5, patience=20)
    assert fit_dif(real, fake, plan).metadata["steps"] == 60


def test_same_seed_same_fingerprint() -> None:
    real, fake = small()
    first = fit_dif(real, fake, BASE)
    torch.rand(7)  # the state of torch's generator must not matter
    second = fit_dif(torch.from_numpy(real), torch.from_numpy(fake), BASE)
    assert torch.equal(first.pattern, second.pattern)
    assert (first.mu_real, first.mu_fake) == (second.mu_real, second.mu_fake)


@pytest.mark.parametrize("size", [(16, 16), (20, 35), (33, 17)])
def test_crops_that_are_no_multiple_of_sixteen(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 4, 3, *size)).astype(np.float32)
    found = fit_dif(real, fake, BASE)
    assert found.pattern.shape == (3, *size) and float(found.pattern.std()) > 0


def test_residuals_from_a_read_only_file(tmp_path: Path, every_warning: None) -> None:
    real, fake = small(4, 16)
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "fake.npy", fake)
    stored = [np.load(tmp_path / f"{k}.npy", mmap_mode="r") for k in ("real", "fake")]
    assert torch.equal(fit_dif(*stored, BASE).pattern, fit_dif(real, fake, BASE).pattern)
    assert torch.equal(fit_marra18(*stored).pattern, fit_marra18(real, fake).pattern)


def test_the_centres_are_those_of_the_pattern_that_is_saved() -> None:
    real, fake = small(9)
    found = fit_dif(real, fake, replace(BASE, steps=25))
    assert found.mu_real == pytest.approx(ncc(found.pattern[None], real).mean().item(), abs=1e-7)
    assert found.mu_fake == pytest.approx(ncc(found.pattern[None], fake).mean().item(), abs=1e-7)


def test_what_is_told_of_a_step_is_the_running_average() -> None:
    """A batch of all residuals: the last step's mean correlations are the fingerprint's own."""
    real, fake = small(4, 16)
    seen: list[dict[str, float]] = []
    found = fit_dif(real, fake, replace(BASE, batch=8, steps=7), on_step=lambda _, facts: seen.append(facts))
    sign = 1 if seen[-1]["mu_fake"] > seen[-1]["mu_real"] else -1  # the constructor turns a negative fit around
    assert len(seen) == 7
    last = sorted(sign * seen[-1][k] for k in ("mu_real", "mu_fake"))
    assert last == pytest.approx([found.mu_real, found.mu_fake], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_centres_of_the_pattern_decide_better_than_those_of_the_steps(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak pattern, planted: as the centres were once, they were the mean correlations of the outputs of the last
    twenty steps, which are noisier than their average, so that the threshold lay too low.
    """
    truth = grid(seed=seed)
    real, fake = planted(1256, 0.12, truth, seed)
    steps: list[tuple[float, float]] = []

    def noted(rho: torch.Tensor, generated: torch.Tensor, margin: float) -> torch.Tensor:
        steps.append((rho[~generated].mean().item(), rho[generated].mean().item()))
        return pair_loss(rho, generated, margin)

    monkeypatch.setattr(fit, "pair_loss", noted)
    found = fit_dif(real[:256], fake[:256], DifPlan(steps=300, seed=seed))
    former = np.mean(steps[-20:], 0)
    former *= np.sign(former[1] - former[0])

    def balanced(centres: Any) -> float:
        wrong, right = (nearest_centre(found.rho(x[256:]), *centres).double().mean() for x in (real, fake))
        return float(1 - wrong + right) / 2

    # Measured: 94.15 -> 94.35, 94.85 -> 94.90, 93.10 -> 93.40 %.
    now, then = balanced((found.mu_real, found.mu_fake)), balanced(former)
    assert now >= then and now > 0.92


def test_the_loss_falls() -> None:
    losses: list[float] = []
    fit_dif(*small(16), DifPlan(steps=40, batch=16, margin=0.3), on_step=lambda _, f: losses.append(f["loss"]))
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


def test_a_flat_image_disturbs_no_fit() -> None:
    """Its residual has no direction: it must correlate with nothing, not with a rounding error divided by one."""
    real, fake = (x.astype(np.float32) for x in small(4))
    real[0], real[1], fake[2] = 0.1, -7.0, 0.0
    seen: list[dict[str, float]] = []
    fit_dif(real, fake, BASE, on_step=lambda _, facts: seen.append(facts))
    assert all(abs(facts[k]) <= 1 for facts in seen for k in ("mu_real", "mu_fake"))
    assert max(facts["loss"] for facts in seen) < 2 / BASE.margin
    assert spreads(real)[:2].tolist() == [np.inf, np.inf]


def test_pair_loss_by_hand() -> None:
    # Pairs (0, 2) and (1, 3) of rho = (0.01, 0.02, 0.04, 0.025); margin 0.01.
    rho = torch.tensor([0.01, 0.02, 0.04, 0.025])
    # both of one label: differences 0.03 and 0.005, mean 0.0175, over 0.01: 1.75
    assert pair_loss(rho, torch.tensor([True, False, True, False]), 0.01).item() == pytest.approx(1.75, rel=1e-5)
    # both of two labels: max(0, 0.01 - 0.03) = 0 and 0.01 - 0.005 = 0.005, mean 0.0025: 0.25
    assert pair_loss(rho, torch.tensor([True, True, False, False]), 0.01).item() == pytest.approx(0.25, rel=1e-5)
    # first pair one label (0.03), second two (0.005): mean 0.0175: 1.75
    assert pair_loss(rho, torch.tensor([True, True, True, False]), 0.01).item() == pytest.approx(1.75, rel=1e-5)
    # with margin 0.04: two labels: 0.04 - 0.03 = 0.01 and 0.04 - 0.005 = 0.035, mean 0.0225: 0.5625
    assert pair_loss(rho, torch.tensor([True, True, False, False]), 0.04).item() == pytest.approx(0.5625, rel=1e-5)
    # a fifth value has no partner
    longer = torch.cat([rho, torch.tensor([9.0])])
    assert pair_loss(longer, torch.tensor([True, False, True, False, True]), 0.01).item() == pytest.approx(
        1.75, rel=1e-5
    )


def test_boost_loss_by_hand() -> None:
    """In the first step both losses see the same image: the boosted one is the mean of the plain one and its own."""
    real, fake = (x.astype(np.float32) for x in small(4))
    plain, boosted = ([], [])  # type: tuple[list[float], list[float]]
    base = DifPlan(steps=1, batch=8, margin=0.9, ema=0.0)
    first = fit_dif(real, fake, base, on_step=lambda _, facts: plain.append(facts["loss"]))
    fit_dif(real, fake, replace(base, boost=True), on_step=lambda _, facts: boosted.append(facts["loss"]))
    # ema = 0 keeps the step's own image, and a batch of eight holds all residuals.
    rho = [np.corrcoef(first.pattern.numpy().ravel(), x.mean(0).ravel())[0, 1] for x in (real, fake)]
    gap = max(0.0, 0.9 - abs(rho[1] - rho[0])) / 0.9
    assert boosted[0] == pytest.approx((plain[0] + gap) / 2, rel=1e-5)
    assert boosted[0] != pytest.approx(plain[0], rel=1e-4)


def test_the_loss_reported_is_the_pair_loss_of_pearson_correlations() -> None:
    """One step on two reals and two fakes has one of three pairings; the loss is that of one of them."""
    real, fake = (x.astype(np.float32) for x in small(2))
    losses: list[float] = []
    found = fit_dif(
        real, fake, DifPlan(steps=1, batch=4, margin=0.3, ema=0.0), on_step=lambda _, f: losses.append(f["loss"])
    )
    r = [abs(np.corrcoef(found.pattern.numpy().ravel(), x.ravel())[0, 1]) for x in (*real, *fake)]
    rho = np.array([np.corrcoef(found.pattern.numpy().ravel(), x.ravel())[0, 1] for x in (*real, *fake)])
    assert max(r) < 0.3
    d = np.abs(rho[:, None] - rho[None])
    together = (d[0, 1] + d[2, 3]) / 2 / 0.3
    across = [(2 * 0.3 - d[0, 2] - d[1, 3]) / 2 / 0.3, (2 * 0.3 - d[0, 3] - d[1, 2]) / 2 / 0.3]
    assert any(losses[0] == pytest.approx(value, rel=1e-4) for value in (together, *across))


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.5}, {"boost": True, "alpha": 0.0}, {"boost": True, "alpha": 1.5}, {"steps": 0}, {"batch": 1},
        {"margin": 0.0}, {"ema": 1.0}, {"ema": -0.1},
    ],
)  # fmt: skip
def test_settings_without_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs boost=True" if change == {"alpha": 0.5} else "out of range"):
        DifPlan(**change)


@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        ((1, 3, 16, 16), (4, 3, 16, 16), "at least 2 real residuals, got 1"),
        ((4, 3, 16, 16), (0, 3, 16, 16), "at least 2 fake residuals, got 0"),
        ((4, 3, 15, 16), (4, 3, 15, 16), r"H, W >= 16, got \(4, 3, 15, 16\)"),
        ((4, 1, 16, 16), (4, 1, 16, 16), r"\(N, 3, H, W\)"),
        ((3, 16, 16), (3, 16, 16), r"\(N, 3, H, W\)"),
        ((4, 3, 16, 16), (4, 3, 16, 32), "differ in size"),
    ],
)
def test_too_few_and_misshapen_residuals_are_refused(real: tuple, fake: tuple, reason: str) -> None:
    for fitting in (fit_dif, fit_marra18):
        with pytest.raises(ValueError, match=reason):
            fitting(np.ones(real, np.float32), np.ones(fake, np.float32))


def test_batch_statistics_by_hand() -> None:
    # Reals 1, 3 (mean 2), fakes 4, 4, 7 (mean 5): deviations -1, 1, -1, -1, 2: mean square 8/5.
    found = batch_statistics(torch.tensor([1.0, 3]), torch.tensor([4.0, 4, 7]))
    assert found.tolist() == pytest.approx([2.0, 5.0, 1.6**0.5])
    # Separation of the two batches: means 2, 4.5 and 1.5: (4.5 - 2) / 1.5.
    assert separation_of(torch.tensor([(2.0, 5.0, 1.0), (2.0, 4.0, 2.0)])) == pytest.approx(2.5 / 1.5)


@pytest.mark.parametrize("memory", [0, 2**40])
@pytest.mark.parametrize("change", [{}, {"boost": True, "alpha": 0.5}, {"prior": "dnet", "bfloat16": False}])
def test_no_step_waits_for_the_device(change: dict[str, Any], memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's device without data refuses whatever looks at a value: a fit goes through it to its last line."""
    passes: list[int] = []
    monkeypatch.setattr(batches, "free_bytes", lambda device: memory)
    monkeypatch.setattr(fit, "normal_on", lambda device, seed, on_cpu: partial(torch.randn, device=device))
    monkeypatch.setattr(fit, "pair_loss", lambda *given: passes.append(1) or pair_loss(*given))
    with pytest.raises(NotImplementedError, match="no data") as caught:
        fit_dif(*small(), replace(BASE, **change), device="meta")
    assert len(passes) == BASE.steps
    assert "average.cpu()" in str(caught.traceback[-1].statement)
