"""DIF fits that do not set out are begun again, with boost and another seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from difcore import methods, restarts
from difcore.denoisers import load_denoiser
from difcore.fingerprints import Fingerprint
from difcore.fit import DifPlan, fit_dif

NOTHING = np.zeros((2, 3, 16, 16), np.float16)


@pytest.mark.parametrize("margin", [0.03, 0.1])  # a wider one does not ask for a wider gap
@pytest.mark.parametrize(
    ("gaps", "kept", "fits"), [([0.04], 0.04, 1), ([0.002, 0.035], 0.035, 2), ([0.002, 0.012, 0.005], 0.012, 3)]
)
def test_one_that_does_not_set_out_is_begun_again_and_the_best_is_kept(
    monkeypatch: pytest.MonkeyPatch, gaps: list[float], kept: float, fits: int, margin: float
) -> None:
    plans: list[DifPlan] = []

    def fitted(real: np.ndarray, fake: np.ndarray, plan: DifPlan, *rest: object) -> Fingerprint:
        plans.append(plan)
        return Fingerprint(torch.zeros(3, 16, 16), 0.001, 0.001 + gaps[len(plans) - 1], "dif", metadata={"a": 1})

    monkeypatch.setattr(restarts, "fit_dif", fitted)
    found = restarts.fit_restarted(NOTHING, NOTHING, DifPlan(margin=margin, seed=5))
    assert restarts.gap(found) == pytest.approx(kept) and found.metadata == {"a": 1, "fits": fits}
    assert [plan.boost for plan in plans] == [False, True, True][:fits]
    assert plans[0].seed == 5 and len({plan.seed for plan in plans}) == fits


def test_one_that_sets_out_is_the_plain_fit() -> None:
    """A strong pattern, planted: both ways give the same fingerprint."""
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 24, 3, 16, 16)).astype(np.float32)
    fake += 0.5 * rng.standard_normal((3, 16, 16)).astype(np.float32)
    plan = DifPlan(steps=40, learning_rate=2e-3, margin=0.01)
    found, plain = restarts.fit_restarted(real, fake, plan), fit_dif(real, fake, plan)
    assert found.metadata["fits"] == 1 and restarts.gap(found) >= plan.margin / 2
    torch.testing.assert_close(found.pattern, plain.pattern)


def test_every_way_to_fit_restarts() -> None:
    """All callers go by ``methods.fit_pattern``, and the file says how many fits it took."""
    found = methods.fit_pattern("dif", NOTHING, NOTHING, load_denoiser("highpass"), DifPlan(steps=1))
    assert found.metadata["fits"] == restarts.FITS
