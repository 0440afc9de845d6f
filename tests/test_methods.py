"""Every method keeps to the one interface, and those that can be fitted in a moment find what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import counting_denoiser, grid, noise_images, with_pattern

from difcore.detectors.methods import FINGERPRINTS, LABELS, METHODS, fit
from difcore.detectors.trained import ClassifierDetector, ClassifierPlan
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FITTED
from difcore.residuals.denoisers import Denoiser
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
PLAN = DifPlan(steps=4, batch=6, margin=0.2)
TRAINING = ClassifierPlan(steps=2, batch=4, crop=32, evaluate_every=1)


@pytest.fixture
def denoiser() -> Denoiser:
    """Half of the image is its residual: noise and pattern pass."""
    return counting_denoiser()[0]


def classes(count: int, size: int = 32, strength: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """uint8 noise of standard deviation 20, and other noise with a pattern of ``strength``."""
    images = noise_images(2 * count, size)
    return images[:count], with_pattern(images[count:], grid(size), strength)


def test_the_methods_are_those_of_the_paper() -> None:
    assert METHODS == ("dif", "marra18", "joslin20", "resnet50", "grag21", "resnet_m")
    assert set(LABELS) == {*METHODS, *FITTED}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_the_interface(method: str, denoiser: Denoiser) -> None:
    real, fake = classes(6)
    before = real.copy(), fake.copy()
    found, again = (fit(method, real, fake, denoiser, 3, plan=PLAN, training=TRAINING) for _ in range(2))
    assert (found.method, found.crop) == (method, 32)
    images = np.concatenate([real, fake])
    score = found.score(images)
    assert (score.shape, score.dtype) == ((12,), np.float64)
    assert np.isfinite(score).all() and len(set(score.tolist())) == 12
    np.testing.assert_array_equal(again.score(images), score)
    assert again.threshold == found.threshold
    np.testing.assert_allclose(found.score(images[3:5]), score[3:5], atol=1e-4)
    np.testing.assert_array_equal(before[0], real)
    np.testing.assert_array_equal(before[1], fake)
    with pytest.raises(ValueError, match="uint8"):
        found.score(images / 255)
    with pytest.raises(ValueError, match="uint8"):
        found.score(images[0])
    with pytest.raises(ValueError, match="too small"):
        found.score(images[:, :31])


@pytest.mark.parametrize("method", ["dif", "resnet_m"])
def test_the_seed_is_that_of_the_call(method: str, denoiser: Denoiser) -> None:
    real, fake = classes(6)
    first, second = (fit(method, real, fake, denoiser, seed, plan=PLAN, training=TRAINING) for seed in (0, 1))
    assert not np.array_equal(first.score(real), second.score(real))


@pytest.mark.parametrize("method", FINGERPRINTS)
def test_fingerprint_methods_recover_what_was_planted(method: str, denoiser: Denoiser) -> None:
    real, fake = classes(130)
    plan = DifPlan(steps=60, batch=32, margin=0.2)
    found = fit(method, real[:50], fake[:50], denoiser, plan=plan)
    assert auc(found.score(real[50:]), found.score(fake[50:])) > 0.98
    right = np.concatenate([found.score(real[50:]) <= found.threshold, found.score(fake[50:]) > found.threshold])
    assert right.mean() > 0.9
    assert not isinstance(found, ClassifierDetector) and found.denoiser is denoiser


@pytest.mark.parametrize("method", FINGERPRINTS)
def test_larger_images_are_cropped_at_their_centre(method: str, denoiser: Denoiser) -> None:
    real, fake = classes(6)
    found = fit(method, real, fake, denoiser, plan=PLAN)
    framed = np.pad(fake, ((0, 0), (4, 4), (10, 10), (0, 0)))
    np.testing.assert_array_equal(found.score(framed), found.score(fake))


def test_images_that_are_not_square_are_cropped(denoiser: Denoiser) -> None:
    real, fake = (np.pad(x, ((0, 0), (0, 0), (8, 8), (0, 0))) for x in classes(6))
    assert fit("marra18", real, fake, denoiser).crop == 32


def test_an_image_is_denoised_once_for_all_fingerprint_methods(cache: Path) -> None:
    denoiser, count = counting_denoiser()
    real, fake = classes(6)
    for method in FINGERPRINTS:
        fit(method, real, fake, denoiser, plan=PLAN).score(real)
    assert count.images == 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        (np.zeros((1, 32, 32, 3), np.uint8), np.zeros((4, 32, 32, 3), np.uint8), "at least 2 real images, got 1"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.zeros((0, 32, 32, 3), np.uint8), "at least 2 fake images, got 0"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 48, 48, 3), np.uint8), "differ in size"),
        (np.zeros((4, 32, 32, 3)), np.zeros((4, 32, 32, 3)), "real images must be uint8"),
        (np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 3, 32, 32), np.uint8), "fake images must be uint8"),
    ],
)
def test_unusable_images_are_refused(
    method: str, real: np.ndarray, fake: np.ndarray, reason: str, denoiser: Denoiser
) -> None:
    with pytest.raises(ValueError, match=reason):
        fit(method, real, fake, denoiser)


def test_an_unknown_method_is_refused(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="unknown method 'wang20'; choose from dif, marra18"):
        fit("wang20", *classes(4), denoiser)
