"""Training of the residual filter: it learns, resumes bit for bit, and measures PSNR as it should."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import gradients, noise_images, random_dncnn
from torch import Tensor

from difcore.machine.devices import to_batch
from difcore.residuals.denoiser_training import (
    TrainingPlan,
    average_weights,
    export_snapshot,
    learning_rate_at,
    mean_residual,
    psnr,
    sample_crops,
    train_dncnn,
)
from difcore.residuals.denoisers import Denoiser, DnCNN, FoldedDnCNN, load_denoiser

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = TrainingPlan(steps=12, batch=2, crop=16, depth=4, features=6, ema=0.9)


def images() -> list[np.ndarray]:
    return list(noise_images(3, 24))


def load(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_tiny_network_learns(tmp_path: Path) -> None:
    losses: list[float] = []
    plan = TrainingPlan(steps=100, batch=4, crop=24, depth=4, features=8, learning_rate=1e-2)
    train_dncnn(gradients(), plan, tmp_path, progress=False, on_step=lambda _, loss: losses.append(loss))
    # Its first guess is no noise at all: E[sigma^2] / 10^2 over U(5, 15) is (15^3 - 5^3) / (3 * 10 * 100) = 1.083.
    assert np.mean(losses[:5]) == pytest.approx(1.083, rel=0.3)
    assert np.mean(losses[-20:]) < 0.5  # measured over five seeds: 0.29 to 0.35


class Killed(Exception):
    """Stands for the machine going away."""


def kill_at(step: int) -> Callable[[int, float], None]:
    def on_step(done: int, _: float) -> None:
        if done == step:
            raise Killed

    return on_step


def test_killed_and_resumed_is_bit_for_bit_uninterrupted(tmp_path: Path) -> None:
    whole = train_dncnn(images(), TINY, tmp_path / "whole", [6, 10], checkpoint_every=5, progress=False)
    parts = tmp_path / "parts"
    for step in (3, 8, 12):  # before the first checkpoint, after it, and after the last step but before its checkpoint
        with pytest.raises(Killed):
            train_dncnn(images(), TINY, parts, [6, 10], 5, progress=False, on_step=kill_at(step))
    steps: list[int] = []
    end = train_dncnn(images(), TINY, parts, [6, 10], 5, progress=False, on_step=lambda k, _: steps.append(k))
    assert steps == [11, 12]  # the checkpoint of step 10 was found
    assert end.name == whole.name == "snapshot-000012.pt"
    for name in ("snapshot-000006.pt", "snapshot-000010.pt", "snapshot-000012.pt"):
        assert same(load(tmp_path / "whole" / name), load(parts / name)), name
    first, second = (load(folder / "checkpoint.pt") for folder in (tmp_path / "whole", parts))
    assert same(first["model"], second["model"]) and first["losses"] == second["losses"]
    assert len(first["losses"]) == first["step"] == 12
    assert sorted(p.name for p in parts.iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    end = train_dncnn(images(), TINY, tmp_path, progress=False)
    before = load(end)
    again = train_dncnn(images(), TINY, tmp_path, progress=False, on_step=kill_at(1))
    assert again == end and same(load(again), before)


def test_snapshots_hold_the_average_of_the_weights(tmp_path: Path) -> None:
    """The average starts at the initial weights; step k keeps min(ema, (k + 1) / (k + 10)) of it."""
    plan = replace(TINY, steps=2, ema=0.15)
    with pytest.raises(Killed):
        train_dncnn(images(), plan, tmp_path, checkpoint_every=1, progress=False, on_step=kill_at(2))
    seen = [load(tmp_path / "checkpoint.pt")["model"]]  # of step 1: the second step came before its checkpoint
    end = train_dncnn(images(), plan, tmp_path, progress=False)
    seen.append(load(tmp_path / "checkpoint.pt")["model"])
    torch.manual_seed(plan.seed)
    average = DnCNN(plan.depth, plan.features).state_dict()
    for decay, state in zip((0.1, 0.15), seen, strict=True):
        average = {k: average[k] * decay + state[k] * (1 - decay) for k in state if not k.endswith("tracked")}
    found = load(end)
    for key, value in average.items():
        np.testing.assert_allclose(found[key], value, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 13}, {"sigma": (5.0, 16.0)}, {"learning_rate": 2e-3}])
def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path, change: dict) -> None:
    with pytest.raises(Killed):
        train_dncnn(images(), TINY, tmp_path, checkpoint_every=1, progress=False, on_step=kill_at(2))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="belongs to another plan"):
        train_dncnn(images(), replace(TINY, **change), tmp_path, progress=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_every_setting_of_a_training_matters(tmp_path: Path) -> None:
    changes = {
        "base": {}, "batch": {"batch": 3}, "crop": {"crop": 12}, "sigma": {"sigma": (1.0, 2.0)}, "ema": {"ema": 0.2},
        "learning_rate": {"learning_rate": 1e-2}, "seed": {"seed": 1}, "steps": {"steps": 4}, "depth": {"depth": 5},
        "features": {"features": 7}, "bfloat16": {"bfloat16": True},
    }  # fmt: skip
    base = replace(TINY, steps=3)
    weights = [
        load(train_dncnn(images(), replace(base, **change), tmp_path / name, progress=False))
        for name, change in changes.items()
    ]
    for k, a in enumerate(weights):
        assert not any(same(a, b) for b in weights[:k])
    assert same(weights[0], load(train_dncnn(images(), base, tmp_path / "again", progress=False)))


def test_images_too_small_for_a_crop_are_refused(tmp_path: Path) -> None:
    mixed = [*images(), *noise_images(2, 15)]
    with pytest.raises(ValueError, match=r"2 training images are smaller than the 16 px crop \(first: 3\)"):
        train_dncnn(mixed, TINY, tmp_path, progress=False)
    with pytest.raises(ValueError, match="no training images"):
        train_dncnn([], TINY, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_crops_are_cut_from_the_images_and_reach_every_place() -> None:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)  # every pixel value is its own position
    crops = (sample_crops([image], 300, 4, np.random.default_rng(0)) * 255).round().byte()
    assert crops.shape == (300, 3, 4, 4)
    corners = {int(crop[0, 0, 0]) for crop in crops}
    assert corners == {(top * 6 + left) * 3 for top in range(2) for left in range(3)}
    for crop in crops[:20]:
        top, left = divmod(int(crop[0, 0, 0]) // 3, 6)
        assert np.array_equal(crop.permute(1, 2, 0), image[top : top + 4, left : left + 4])


def test_the_learning_rate_by_hand() -> None:
    plan = TrainingPlan(steps=100, learning_rate=2.0)  # two steps of warm-up, then a cosine over 98
    assert [learning_rate_at(k, plan) for k in (0, 1, 2)] == [1.0, 2.0, 2.0]
    assert learning_rate_at(51, plan) == pytest.approx(1.0)  # halfway through the cosine
    assert learning_rate_at(100, plan) == pytest.approx(0.0, abs=1e-12)
    assert 0 < learning_rate_at(99, plan) < 0.001


@given(st.integers(1, 5000), st.floats(1e-5, 1e-1))
def test_the_learning_rate_rises_once_and_falls_once(steps: int, peak: float) -> None:
    plan = TrainingPlan(steps=steps, learning_rate=peak)
    rates = np.array([learning_rate_at(k, plan) for k in range(steps)])
    top = int(rates.argmax())
    assert rates[top] == pytest.approx(peak) and (rates > 0).all()
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top + 1 :]) < 0).all()


@pytest.mark.parametrize("sigma", [5, 10, 15])
def test_psnr_of_no_filter_is_that_of_the_noise(sigma: float) -> None:
    # mean((0 - n)^2) = sigma^2 / 255^2: 34.15, 28.13 and 24.61 dB
    value = psnr(torch.zeros_like, noise_images(4, 64), sigma)
    assert value == pytest.approx(20 * math.log10(255 / sigma), abs=0.1)


def test_psnr_of_half_a_filter() -> None:
    """A filter that finds half of the noise leaves half of it: 6.02 dB more than none."""
    flat = [np.full((32, 32, 3), 102, np.uint8)] * 2
    none = psnr(torch.zeros_like, flat, 10)
    assert psnr(lambda y: (y - 0.4) / 2, flat, 10) == pytest.approx(none + 20 * math.log10(2), abs=1e-3)


def test_psnr_of_a_perfect_filter_is_infinite() -> None:
    black = [np.zeros((16, 16, 3), np.uint8)]
    assert psnr(lambda y: y, black, 10) == math.inf


def test_psnr_is_a_mean_over_images_and_depends_on_the_seed() -> None:
    a, b = noise_images(2, 16)
    noise = np.random.default_rng([3, 1]).standard_normal((1, 3, 16, 16), np.float32) * 10 / 255
    alone = psnr(torch.zeros_like, [a], 10, seed=3)
    assert psnr(torch.zeros_like, [a, b], 10, seed=3) == pytest.approx((alone - 10 * math.log10((noise**2).mean())) / 2)
    assert psnr(torch.zeros_like, [a], 10, seed=4) != alone


def test_the_mean_residual_is_that_of_the_padded_filter() -> None:
    model = FoldedDnCNN(random_dncnn())
    large = [*noise_images(3, 24), *noise_images(2, 30, seed=1)]
    found = mean_residual(model, [*large, *noise_images(4, 20)], 24)  # the last four cannot show it
    cut = [image[:24, :24] if image.shape[0] == 24 else image[3:27, 3:27] for image in large]
    expected = Denoiser("", model, None, "")(to_batch(np.stack(cut))).mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="no image of at least 25 px"):
        mean_residual(model, noise_images(2, 24), 25)


def test_an_exported_snapshot_is_the_filter_that_was_trained(tmp_path: Path) -> None:
    plan = replace(TINY, steps=5)
    end = train_dncnn(images(), plan, tmp_path, progress=False)
    path = export_snapshot(end, images(), tmp_path / "d.safetensors", plan, {"data": "made up"}, bias_size=20)
    denoiser = load_denoiser(path)
    assert denoiser.metadata["steps"] == 5 and denoiser.metadata["training_images"] == 3
    assert denoiser.metadata["plan"]["seed"] == 0 and denoiser.metadata["data"] == "made up"
    model = DnCNN(plan.depth, plan.features)
    model.load_state_dict(load(end))
    x = to_batch(np.stack([image[2:22, 2:22] for image in images()]))
    plain = Denoiser("", FoldedDnCNN(model.eval()), None, "")(x)
    scale = float(plain.std())
    assert scale > 0
    # On its own training images the mean residual is gone, up to the half precision of the stored bias.
    assert float(denoiser(x).mean(0).abs().max()) < 1e-3 * float(plain.mean(0).abs().max()) + 1e-7
    np.testing.assert_allclose(plain - denoiser(x), plain.mean(0).expand_as(plain), atol=1e-3 * scale)


def test_the_average_of_snapshots_is_the_mean_of_each_weight(tmp_path: Path) -> None:
    states = [random_dncnn(seed=seed).state_dict() for seed in range(3)]
    paths = [tmp_path / f"snapshot-{k:06d}.pt" for k in (1, 2, 9)]
    for path, state in zip(paths, states, strict=True):
        torch.save(state, path)
    found = average_weights(paths)
    assert found.keys() == states[0].keys()
    for key, value in found.items():
        assert value.dtype == states[0][key].dtype
        np.testing.assert_allclose(value, np.mean([s[key].numpy() for s in states], 0), atol=1e-6, err_msg=key)
    assert same(average_weights(paths[:1]), states[0])
    plan = TrainingPlan(depth=4, features=6)
    path = export_snapshot(paths, list(noise_images(2, 20)), tmp_path / "d.safetensors", plan, {}, bias_size=20)
    denoiser = load_denoiser(path)
    assert (denoiser.metadata["steps"], denoiser.metadata["averaged_steps"]) == (9, [1, 2, 9])
    model = DnCNN(4, 6)
    model.load_state_dict(found)
    x = to_batch(noise_images(1, 16))
    np.testing.assert_allclose(denoiser.filter(x), FoldedDnCNN(model.eval())(x), atol=1e-6)


def test_only_snapshots_of_one_network_are_averaged(tmp_path: Path) -> None:
    for k, depth in enumerate((4, 5)):
        torch.save(random_dncnn(depth).state_dict(), tmp_path / f"snapshot-{k:06d}.pt")
    with pytest.raises(ValueError, match="different networks"):
        average_weights(sorted(tmp_path.glob("*.pt")))
    with pytest.raises(ValueError, match="no snapshot"):
        average_weights([])
