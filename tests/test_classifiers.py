"""The trained comparators: their sizes by hand, the augmentation, training, stopping, ImageNet weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from safetensors.torch import save_file
from tiny import grid, noise_images, with_pattern
from torch import nn

from difcore.detectors import trained as augmentation
from difcore.detectors import trained as classifiers
from difcore.detectors.trained import (
    ARCHITECTURES,
    MINUTE,
    ClassifierPlan,
    WeightsError,
    augment,
    build_classifier,
    hold_out,
    load_imagenet,
    train_classifier,
)
from difcore.fingerprints.priors import build_prior, parameter_count
from difcore.images.crops import through_jpeg
from difcore.machine.cache import made_folder
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = ClassifierPlan(steps=4, batch=4, crop=32, evaluate_every=2)


def classes(count: int = 8, strength: float = 20, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    images = noise_images(2 * count, size)
    return images[:count], with_pattern(images[count:], grid(size), strength)


def bottleneck_size(c_in: int, c: int, projected: bool) -> int:
    """1x1, 3x3, 1x1 to 4 c, without biases, each with a batch-norm of 2 per channel; a projection on the shortcut."""
    own = c_in * c + 9 * c * c + c * 4 * c + 2 * (c + c + 4 * c)
    return own + (c_in * 4 * c + 2 * 4 * c if projected else 0)


def basic_size(c_in: int, c: int) -> int:
    return 9 * (c_in * c + c * c) + 4 * c + (c_in * c + 2 * c if c_in != c else 0)


@pytest.mark.parametrize("name", ["resnet50", "grag21"])
def test_parameter_count_of_a_resnet50_by_hand(name: str) -> None:
    total = 7 * 7 * 3 * 64 + 2 * 64  # stem
    c_in = 64
    for c, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        total += bottleneck_size(c_in, c, True) + (blocks - 1) * bottleneck_size(4 * c, c, False)
        c_in = 4 * c
    # 9,536 + 215,808 + 1,219,584 + 7,098,368 + 14,964,736 = 23,508,032 (He et al.'s, without the last layer)
    assert total == 23_508_032
    assert parameter_count(build_classifier(name)) == total + 2048 + 1 == 23_510_081


def test_parameter_count_of_resnet_m_by_hand() -> None:
    total, c_in = 7 * 7 * 3 * 36 + 2 * 36, 36
    for c in (36, 72, 144, 288):
        total += basic_size(c_in, c) + basic_size(c, c)
        c_in = c
    assert parameter_count(build_classifier("resnet_m")) == total + 288 + 1 == 3_541_285
    assert total == pytest.approx(parameter_count(build_prior("unet")), rel=0.05)


@pytest.mark.parametrize(("name", "reduced"), [("resnet50", 32), ("grag21", 8), ("resnet_m", 32)])
def test_only_the_stem_of_grag21_keeps_the_resolution(name: str, reduced: int) -> None:
    model = build_classifier(name).eval()
    sizes: list[tuple[int, ...]] = []
    model.layer4.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[2:])))
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 64, 32)).shape == (2, 1)
    assert sizes == [(64 // reduced, 32 // reduced)]


def test_logits_stay_in_float32_under_bfloat16() -> None:
    model = build_classifier("resnet_m").eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        out = model(torch.rand(6, 3, 32, 32))
    assert out.dtype == torch.float32 and len(set(out[:, 0].tolist())) == 6


def test_monai_is_imported_when_a_classifier_is_built_and_not_before() -> None:
    code = "import sys, difcore.detectors.methods; assert 'monai' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_augmentation_at_no_probability_crops_and_mirrors_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    rng = np.random.default_rng(1)
    places, mirrored = set(), 0
    for _ in range(60):
        view = augment(image, 32, 0.0, rng)
        assert view.shape == (32, 32, 3) and view.dtype == np.uint8
        hits = [
            (top, left, flip)
            for top in range(9)
            for left in range(17)
            for flip in (False, True)
            if np.array_equal(image[top : top + 32, left : left + 32][:, :: -1 if flip else 1], view)
        ]
        assert len(hits) == 1
        places.add(hits[0][:2])
        mirrored += hits[0][2]
    assert len(places) > 30 and 15 < mirrored < 45


def test_augmentation_always_blurs_and_compresses_within_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    sigmas: list[float] = []
    qualities: list[int] = []
    blur = augmentation.gaussian_filter

    def seen_blur(x: np.ndarray, sigma: tuple[float, float, int]) -> np.ndarray:
        assert sigma[0] == sigma[1] and sigma[2] == 0  # not across the colours
        sigmas.append(sigma[0])
        return blur(x, sigma)

    def seen_jpeg(x: np.ndarray, quality: int) -> np.ndarray:
        qualities.append(quality)
        return through_jpeg(x, quality)

    monkeypatch.setattr(augmentation, "gaussian_filter", seen_blur)
    monkeypatch.setattr(augmentation, "through_jpeg", seen_jpeg)
    image = noise_images(1)[0]
    rng = np.random.default_rng(0)
    for _ in range(100):
        augment(image, 32, 1.0, rng)
    assert len(sigmas) == len(qualities) == 100
    assert 0 <= min(sigmas) < 0.3 and 2.7 < max(sigmas) <= 3
    assert 30 <= min(qualities) < 35 and 95 < max(qualities) <= 100
    for _ in range(200):
        augment(image, 32, 0.1, rng)
    assert 5 <= len(sigmas) - 100 <= 40 and 5 <= len(qualities) - 100 <= 40


def test_held_out_images_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = classes(16)
    trained: set[bytes] = set()
    watched: set[bytes] = set()
    watch = classifiers.watch

    def seen_augment(image: np.ndarray, *rest: Any) -> np.ndarray:
        trained.add(image.tobytes())
        return augment(image, *rest)

    def seen_watch(model: nn.Module, images: list[np.ndarray], bfloat16: bool) -> dict[str, float]:
        watched.update(x.tobytes() for part in images for x in part)
        return watch(model, images, bfloat16)

    monkeypatch.setattr(classifiers, "augment", seen_augment)
    monkeypatch.setattr(classifiers, "watch", seen_watch)
    train_classifier("resnet_m", real, fake, replace(SHORT, steps=10, batch=8))
    assert len(watched) == 4 and len(trained) == 28 and not watched & trained


@pytest.mark.parametrize(("n", "share", "expected"), [(2, 0.125, 1), (3, 0.9, 2), (16, 0.125, 2), (128, 0.125, 16)])
def test_hold_out_leaves_neither_part_empty(n: int, share: float, expected: int) -> None:
    kept, rest = hold_out(np.arange(n), share, np.random.default_rng(0))
    assert (len(kept), len(rest)) == (n - expected, expected)
    assert sorted([*kept, *rest]) == list(range(n))


def test_the_learning_rate_falls_and_the_training_ends_when_nothing_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    losses = iter([0.5, *[0.6] * 50])
    weights: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def seen_step(self: torch.optim.Adam, closure: None = None) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self, closure)

    def watch(model: nn.Module, *_: Any) -> dict[str, float]:
        weights.append(model.fc.weight.detach().clone())
        return {"held_out_loss": next(losses), "held_out_accuracy": 0.5}

    monkeypatch.setattr(torch.optim.Adam, "step", seen_step)
    monkeypatch.setattr(classifiers, "watch", watch)
    plan = replace(SHORT, steps=1000, evaluate_every=1, patience=2, learning_rate=1e-4)
    found = train_classifier("resnet_m", *classes(), plan)
    # One evaluation that improves, then plateaus of two each: 1e-4 for 3 steps, 1e-5 for 2, 1e-6 for 2, the end.
    assert rates == pytest.approx([1e-4] * 3 + [1e-5] * 2 + [1e-6] * 2)
    assert found.metadata["steps"] == len(found.metadata["history"]) == 7
    assert torch.equal(found.model.fc.weight, weights[0]) and not torch.equal(weights[0], weights[-1])


def test_resnet_m_learns_a_planted_pattern() -> None:
    real, fake = classes(60, strength=12)
    found = train_classifier("resnet_m", real[:40], fake[:40], ClassifierPlan(steps=100, batch=16, augment=0))
    assert auc(found.score(real[40:]), found.score(fake[40:])) > 0.95
    assert ((found.score(fake[40:]) > 0).mean() + (found.score(real[40:]) <= 0).mean()) / 2 > 0.85
    history = found.metadata["history"]
    assert [h["step"] for h in history] == list(range(10, 101, 10))
    assert min(h["held_out_loss"] for h in history) < 0.4


def test_scores_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = classes()
    found = train_classifier("resnet_m", real, fake, SHORT)
    together = found.score(real)
    monkeypatch.setattr(classifiers, "PIXELS_PER_CALL", 3 * 32**2)
    np.testing.assert_allclose(found.score(real), together, atol=1e-4)
    np.testing.assert_allclose(found.score(np.pad(real, ((0, 0), (3, 3), (5, 5), (0, 0)))), together, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"batch": 6}, {"learning_rate": 1e-4}, {"crop": 40}, {"augment": 1.0}, {"held_out": 0.5},
     {"bfloat16": True}, {"seed": 1}],
)  # fmt: skip
def test_every_setting_of_a_training_matters(change: dict[str, Any]) -> None:
    real, fake = classes(size=48)
    first, second = (train_classifier("resnet_m", real, fake, plan) for plan in (SHORT, replace(SHORT, **change)))
    assert not np.array_equal(first.score(real), second.score(real))
    assert second.metadata["plan"][next(iter(change))] == next(iter(change.values()))


def test_none_stands_for_what_a_minute_allows() -> None:
    assert set(MINUTE) == set(ARCHITECTURES)
    plan = ClassifierPlan()
    assert (plan.resolved("grag21").steps, plan.resolved("grag21").crop) == MINUTE["grag21"]
    assert replace(plan, steps=7, crop=48).resolved("grag21") == replace(plan, steps=7, crop=48)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"batch": 1}, {"crop": 16}, {"learning_rate": 0.0}, {"augment": 1.5}, {"held_out": 0.0},
     {"held_out": 1.0}, {"patience": 0}, {"evaluate_every": 0}],
)  # fmt: skip
def test_settings_without_meaning_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        ClassifierPlan(**change)


def test_images_too_small_for_the_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 px, got 24"):
        train_classifier("resnet50", *classes(size=24))


@pytest.fixture
def home(cache: Path) -> Path:
    return made_folder("weights")


def test_imagenet_weights_fill_all_but_the_last_layer(home: Path) -> None:
    donor, model = build_classifier("resnet50", 1), build_classifier("grag21", 2)
    head = model.fc.weight.clone()
    weights = {k: v for k, v in donor.state_dict().items() if not k.startswith("fc.")}
    save_file({**weights, "fc.weight": torch.zeros(1000, 2048)}, home / "resnet50_imagenet.safetensors")
    assert len(load_imagenet(model, "grag21")) == 64
    assert all(torch.equal(model.state_dict()[k], v) for k, v in weights.items())
    assert torch.equal(model.fc.weight, head)


def test_weights_of_something_else_are_refused(home: Path) -> None:
    file = home / "resnet50_imagenet.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)
    with pytest.raises(WeightsError, match="does not hold a ResNet-50"):
        load_imagenet(build_classifier("resnet50"), "resnet50")
    file.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match="delete it"):
        load_imagenet(build_classifier("resnet50"), "resnet50")


def test_without_a_network_the_error_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise requests.exceptions.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", offline)
    with pytest.raises(WeightsError, match="train from scratch"):
        train_classifier("resnet50", *classes(), replace(SHORT, pretrained=True))


def test_resnet_m_has_no_imagenet_weights() -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights for resnet_m"):
        train_classifier("resnet_m", *classes(), replace(SHORT, pretrained=True))
