"""The spectral fingerprint: definitions by hand, planted truth, and what it must not be fooled by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import grid

from difcore.detectors.joslin20 import SpectralFingerprint, fit_joslin20, similarity, spectrum
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread")


def planted(count: int, strength: float, pattern: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 7])
    real, fake = rng.standard_normal((2, count, *pattern.shape))
    return real.astype(np.float16), (fake + strength * pattern).astype(np.float16)


def test_spectrum_of_a_cosine_by_hand() -> None:
    # 3 cos(2 pi (2 x / 16) + 0.5) + 7: 3 * 256 / 2 = 384 at columns 2 and 14, phases +0.5 and -0.5; no mean is left.
    x = np.zeros((1, 3, 16, 16), np.float32)
    x[0, 1] = 3 * np.cos(2 * np.pi * 2 * np.arange(16) / 16 + 0.5) + 7
    size, direction = spectrum(x)
    assert size[0, 1, 0, 2].item() == pytest.approx(384, rel=1e-5)
    assert size[0, 1, 0, 14].item() == pytest.approx(384, rel=1e-5)
    assert direction[0, 1, 0, 2].angle().item() == pytest.approx(0.5, abs=1e-5)
    assert direction[0, 1, 0, 14].angle().item() == pytest.approx(-0.5, abs=1e-5)
    assert int((direction != 0).sum()) == 2 and float(size[0, :, 0, 0].abs().max()) == 0


def test_similarity_by_hand() -> None:
    rng = np.random.default_rng(0)
    m, size = rng.random((2, 1, 3, 4, 4)).astype(np.float32)
    angles = rng.uniform(-np.pi, np.pi, (2, 1, 3, 4, 4))
    p, direction = 0.3 * np.exp(1j * angles[0]), np.exp(1j * angles[1])
    expected = (np.corrcoef(m.ravel(), size.ravel())[0, 1] + np.cos(angles[0] - angles[1]).mean()) / 2
    found = similarity(*(torch.as_tensor(x) for x in (m, p, size, direction)))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_means_are_means_and_the_centres_leave_one_out() -> None:
    real, fake = (x.astype(np.float32) for x in planted(5, 0.5, grid(16)))
    found = fit_joslin20(real, fake)
    size, direction = spectrum(fake)
    torch.testing.assert_close(found.magnitude, size.mean(0))
    torch.testing.assert_close(found.phase, direction.mean(0))
    others = [[j for j in range(5) if j != k] for k in range(5)]
    own = [
        similarity(size[o].mean(0)[None], direction[o].mean(0)[None], size[k : k + 1], direction[k : k + 1]).item()
        for k, o in enumerate(others)
    ]
    assert found.mu_fake == pytest.approx(np.mean(own), abs=1e-5)
    assert found.mu_real == pytest.approx(found.sign * float(found.rho(real).mean()), abs=1e-5)
    assert found.metadata == {"n_real": 5, "n_fake": 5}


@pytest.mark.parametrize("seed", [0, 1])
def test_it_recovers_a_planted_pattern(seed: int) -> None:
    real, fake = planted(130, 0.2, grid(seed=seed), seed)
    found = fit_joslin20(real[:50], fake[:50])
    assert auc(found.rho(real[50:]), found.rho(fake[50:])) > 0.99
    right = torch.cat([found.rho(real[50:]) <= found.threshold, found.rho(fake[50:]) > found.threshold])
    assert float(right.float().mean()) > 0.95
    # The pattern has energy where both frequencies are multiples of 32 / 4 = 8, and there the phases agree.
    peaks = torch.zeros(32, 32, dtype=torch.bool)
    peaks[::8, ::8] = True
    peaks[0, 0] = False
    agreement = found.phase.abs().mean(0)
    assert float(agreement[peaks].mean()) > 0.7
    # Elsewhere the phases of 50 are random: E|P| = sqrt(pi / 50) / 2 = 0.125.
    peaks[0, 0] = True
    assert float(agreement[~peaks].mean()) == pytest.approx(0.125, abs=0.02)


def test_phase_alone_is_enough() -> None:
    """Both classes hold the same pattern, the reals moved by a pixel or two: equal magnitudes, other phases."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((2, 120, 3, 32, 32))
    pattern = grid(seed=3)
    real, fake = noise[0] + 0.4 * np.roll(pattern, (1, 2), (1, 2)), noise[1] + 0.4 * pattern
    found = fit_joslin20(real[:40], fake[:40])
    # Measured over seeds 0 to 7: 0.87 to 0.97, and 0.45 to 0.54 for the magnitudes alone.
    assert auc(found.rho(real[40:]), found.rho(fake[40:])) > 0.85
    m, silent = found.magnitude[None], torch.zeros(1, 3, 32, 32, dtype=torch.complex64)
    assert abs(auc(*(similarity(m, silent, *spectrum(x[40:])) for x in (real, fake))) - 0.5) < 0.12


def test_magnitude_alone_is_enough() -> None:
    """A pattern at a random place in each fake: phases are random, magnitudes are not."""
    rng = np.random.default_rng(4)
    real, fake = rng.standard_normal((2, 120, 3, 32, 32))
    for x in fake:
        x += 0.6 * np.roll(grid(seed=4), tuple(rng.integers(4, size=2)), (1, 2))
    found = fit_joslin20(real[:40], fake[:40])
    assert auc(found.rho(real[40:]), found.rho(fake[40:])) > 0.95


def test_nothing_planted_nothing_found() -> None:
    real, fake = planted(80, 0.0, grid())
    found = fit_joslin20(real[:30], fake[:30])
    assert abs(auc(found.rho(real[30:]), found.rho(fake[30:])) - 0.5) < 0.2
    assert abs(found.mu_fake - found.mu_real) < 0.02


def test_scores_do_not_depend_on_scale_mean_or_company() -> None:
    real, fake = (x.astype(np.float32) for x in planted(6, 0.5, grid()))
    found = fit_joslin20(real, fake)
    scores = found.rho(fake)
    torch.testing.assert_close(found.rho(5 * fake + 3), scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.rho(fake[2:3]), scores[2:3], atol=1e-6, rtol=0)
    assert scores.shape == (6,) and float(scores.abs().max()) <= 1


def test_a_flat_residual_resembles_nothing() -> None:
    found = fit_joslin20(*planted(6, 0.5, grid()))
    assert found.rho(np.full((1, 3, 32, 32), 0.25, np.float32)).tolist() == [0]


def test_classes_the_wrong_way_round_still_give_fakes_the_higher_score() -> None:
    """The reals resemble the mean fake more: the scores are turned around, and the decision with them."""
    found = SpectralFingerprint(torch.rand(3, 16, 16), torch.ones(3, 16, 16, dtype=torch.complex64), 0.4, 0.1)
    same = SpectralFingerprint(found.magnitude, found.phase, 0.1, 0.4)
    x = np.random.default_rng(0).standard_normal((4, 3, 16, 16))
    assert torch.equal(found.rho(x), -same.rho(x))
    assert (found.threshold, same.threshold) == (-0.25, 0.25)


def test_other_sizes_and_too_few_are_refused() -> None:
    real, fake = planted(4, 0.5, grid(16))
    with pytest.raises(ValueError, match="fingerprint"):
        fit_joslin20(real, fake).rho(np.ones((1, 3, 32, 32)))
    with pytest.raises(ValueError, match="at least 2 fake residuals, got 1"):
        fit_joslin20(real, fake[:1])
