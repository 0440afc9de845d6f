"""Training of the demo generators: they learn, resume bit for bit, and children start from their parents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_generators import TINY, tiny_gan
from test_widgets import all_text, assert_each_control_redraws
from tiny import noise_images
from torch import nn

from difcore.demo import generators, training
from difcore.demo.decoders import ChildPlan, GeneratorPlan, child_of, radial_spectrum, spectral_distance
from difcore.demo.gans import Discriminator, Encoder, GanPlan, latents
from difcore.demo.generators import AnyPlan, build, generate, generate_from, load_generator, read_facts, save_generator
from difcore.demo.training import content_loss, squared_gradient, train
from difcore.experiments import train_generators as experiment
from difcore.experiments.train_generators import (
    HELD_OUT_SEED,
    SIZE,
    facts_table,
    generator_claims,
    psnr_of_each,
    samples,
    train_generator,
    training_scenes,
)
from difcore.images.scenes import rendered, scene, scenes
from difcore.machine.devices import to_batch
from difcore.records.claims import Claim
from difcore.widgets.controls import amplified, generator_explorer

pytestmark = pytest.mark.usefixtures("one_thread")


def error(model: nn.Module, images: np.ndarray) -> float:
    return float(np.abs(generate(model, images).astype(float) - images).mean())


def test_a_decoder_learns(tmp_path: Path) -> None:
    images = np.stack(list(scenes(6, 32)))
    plan = replace(TINY, steps=250, batch=4, learning_rate=1e-2)
    before = error(train(images, replace(plan, steps=1), tmp_path / "a", progress=False), images)
    after = error(train(images, plan, tmp_path / "b", progress=False), images)
    assert after < 0.75 * before  # measured over four seeds: 0.52 to 0.62


class Killed(Exception):
    """Stands for the machine going away."""


IMAGES = noise_images(3, 40)
RUNS: dict[str, tuple[AnyPlan, int]] = {  # plan, draws of crops a step
    "decoder": (TINY, 1),
    "gan": (replace(tiny_gan("resnet"), steps=12), 1),
    "style": (replace(tiny_gan("style"), steps=12), 1),
    "translator": (replace(tiny_gan("translate"), steps=12), 2),
}


@pytest.mark.parametrize("kind", RUNS)
def test_killed_and_resumed_is_bit_for_bit_uninterrupted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, draws = RUNS[kind]
    monkeypatch.setattr(training, "SAVE_EVERY", 5)
    whole = train(IMAGES, plan, tmp_path / "whole", IMAGES, progress=False)
    drawn: list[int] = []
    plain = training.sample_crops

    def dying(*arguments: Any) -> Any:
        drawn.append(1)
        if len(drawn) == 8 * draws:
            raise Killed
        return plain(*arguments)

    monkeypatch.setattr(training, "sample_crops", dying)
    with pytest.raises(Killed):
        train(IMAGES, plan, tmp_path / "parts", IMAGES, progress=False)
    resumed = train(IMAGES, plan, tmp_path / "parts", IMAGES, progress=False)
    assert len(drawn) == (8 + 7) * draws  # from the checkpoint of step 5 on
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    train(noise_images(3, 24), TINY, tmp_path, progress=False)
    with pytest.raises(ValueError, match="another plan"):
        train(noise_images(3, 24), replace(TINY, seed=1), tmp_path, progress=False)
    with pytest.raises(ValueError, match="another plan"):
        train(noise_images(3, 40), tiny_gan("style"), tmp_path, progress=False)


def test_the_rates_warm_up_and_end_at_zero() -> None:
    plan = replace(TINY, steps=1000, learning_rate=1.0)
    assert plan.rate(0) == pytest.approx(0.02) and plan.rate(500) == pytest.approx(0.5)
    assert plan.rate(999) < 1e-5
    gan = GanPlan(steps=900, learning_rate=1.0)
    assert [gan.rate(k) for k in (0, 99, 600)] == pytest.approx([0.01, 1, 1])
    assert [gan.rate(k) for k in (750, 899)] == pytest.approx([0.5, 1 / 300])


def test_the_discriminator_judges_patches_and_sees_that_images_are_equal() -> None:
    torch.manual_seed(0)
    model = Discriminator(8)
    x = torch.rand(3, 3, 64, 48)
    assert model(x).shape == (3, 1, 4, 3)
    equal = x[:1].expand(3, -1, -1, -1)
    with torch.no_grad():
        model.last.weight[:, :-1] = 0  # only the spread of the batch is left
        model.last.weight[:, -1] = 1
        model.last.bias.zero_()
        assert model(equal).abs().max() < 1e-2 < model(x).min()


def test_r1_by_hand() -> None:
    """D(x) = 3 x summed over 2 values of each of 4 pixels: squared gradient 8 * 9."""

    class Linear(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * x[:, :2].sum((1, 2, 3)).reshape(-1, 1, 1, 1)

    assert squared_gradient(Linear(), torch.rand(5, 3, 2, 2)) == pytest.approx(72)


def test_encoded_latents_are_of_the_generators_kind() -> None:
    torch.manual_seed(0)
    z = Encoder(8, 5)(torch.rand(4, 3, 64, 64))
    assert z.shape == (4, 5, 4, 4)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(5), atol=1e-2, rtol=0)


def test_a_gan_learns_the_colour_of_its_images(tmp_path: Path) -> None:
    """Orange images: what the generator makes moves from grey towards them."""
    orange = np.full((2, 32, 32, 3), (230, 130, 20), np.uint8)
    plan = replace(tiny_gan("shuffle"), steps=120, learning_rate=3e-3, ema=0.8)
    model = train(orange, plan, tmp_path, progress=False)
    made = generate_from(model, latents([[0, k] for k in range(4)], plan.latent, 32, 32)).astype(float)
    assert made[..., 0].mean() > made[..., 1].mean() + 20 > made[..., 2].mean() + 40


def test_a_translator_needs_something_to_translate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs images to translate"):
        train(noise_images(2, 40), tiny_gan("translate"), tmp_path, progress=False)


def test_content_is_what_4_px_means_show() -> None:
    x = torch.rand(1, 3, 8, 8)
    checker = 0.1 * (1 - 2 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2))
    assert content_loss(x + checker, x) < 1e-6
    assert content_loss(x + 0.25, x) == pytest.approx(0.25, abs=1e-6)


# --- children ---


def test_a_child_starts_as_its_parent_and_takes_the_donors_last_block() -> None:
    torch.manual_seed(0)
    parent_plan, donor_plan = replace(TINY, latent=4), replace(TINY, latent=6, up_first="shuffle", up_last="shuffle")
    parent, donor = (build(p) for p in (parent_plan, donor_plan))
    recipe = ChildPlan("a", "city", steps=7, learning_rate=1e-4, seed=5)
    plan, state = child_of(recipe, (parent_plan, parent.state_dict()))
    assert plan == replace(parent_plan, steps=7, learning_rate=1e-4, seed=5, style="city")
    assert all(torch.equal(value, parent.state_dict()[key]) for key, value in state.items())
    plan, state = child_of(recipe, (parent_plan, parent.state_dict()), (donor_plan, donor.state_dict()))
    assert (plan.latent, plan.up_first, plan.up_last) == (4, "deconv2", "shuffle")
    model = build(plan)
    model.load_state_dict(state)
    for key, value in model.state_dict().items():
        source = donor if key.startswith(("decoder.3.", "decoder.4.")) else parent
        assert torch.equal(value, source.state_dict()[key]), key
    with pytest.raises(ValueError, match="width 16 into a decoder of width 8"):
        child_of(recipe, (parent_plan, {}), (replace(donor_plan, width=16), {}))


def test_training_starts_from_the_weights_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(3)
    parent = build(TINY)
    plan = replace(TINY, steps=1, learning_rate=1e-6)
    child = train(noise_images(2, 24), plan, tmp_path, progress=False, initial=parent.state_dict())
    for key, value in child.state_dict().items():
        assert torch.allclose(value, parent.state_dict()[key], atol=1e-6), key


# --- by name ---


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A registry of tiny recipes instead of the shipped ones."""
    recipes = {
        "DECODERS": {"a": replace(TINY, crop=32), "b": replace(TINY, crop=32, latent=6, up_last="shuffle", seed=1)},
        "CHILDREN": {"c": ChildPlan("a", "city", donor="b", steps=3)},
        "GANS": {"g": tiny_gan("style"), "t": tiny_gan("translate")},
    }
    shipped = {name: tmp_path / f"{name}.safetensors" for name in "abcgt"}
    for module in (generators, experiment):
        for key, value in recipes.items():
            monkeypatch.setattr(module, key, value)
        monkeypatch.setattr(module, "SHIPPED", shipped)
    return tmp_path


def test_training_by_name(family: Path) -> None:
    tiny: dict[str, Any] = {"scenes": 3, "size": 32, "test": 2, "progress": False}
    runs = {name: train_generator(name, family, **tiny) for name in "abcgt"}
    assert [len(runs[name].losses) for name in "abcgt"] == [12, 12, 3, 4, 4]
    facts = read_facts("c")
    assert (facts["parent"], facts["donor"], facts["style"]) == ("a", "b", "city")
    assert facts["data"] == "3 scenes 32x32, style city, seeds 20000-20002"
    assert read_facts("t")["sources"] == "3 scenes 32x32, style fabric, seeds 20000-20002"
    assert load_generator("c")[1].up_last == "shuffle"
    held_out = np.stack([scene(HELD_OUT_SEED + k, 32, "city") for k in range(2)])
    assert facts["psnr_heldout_db"] == pytest.approx(psnr_of_each(load_generator("c")[0], held_out).mean(), abs=0.05)
    table = facts_table(list("abcgt"))
    assert list(table.parent) == ["", "", "a", "", ""] and list(table.psnr.isna()) == [False] * 3 + [True] * 2
    assert list(table.design) == [
        "latent 4, deconv2", "latent 6, deconv2, shuffle", "latent 4, deconv2, shuffle", "GAN, style", "GAN, translate",
    ]  # fmt: skip
    again = train_generator("g", family, **tiny)
    assert again.losses == runs["g"].losses and np.isfinite(again.losses).all()
    longer = train_generator("g", family, steps=6, **tiny)
    assert len(longer.losses) == 6  # another recipe starts anew, beside it
    assert train_generator("g", family, seed=5, **tiny).losses != again.losses


def test_an_unknown_name_and_a_missing_parent_are_refused(family: Path) -> None:
    with pytest.raises(ValueError, match="unknown generator 'z'; choose from a, b, c, g, t"):
        train_generator("z", family, progress=False)
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors"):
        train_generator("c", family, scenes=2, size=32, progress=False)


def test_training_scenes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = training_scenes(tmp_path, "clouds", 2, 32, progress=False)[0]
    assert np.array_equal(first[1], scene(20_001, 32, "clouds"))
    monkeypatch.setattr(experiment, "rendered", None)
    assert np.array_equal(training_scenes(tmp_path, "clouds", 2, 32, progress=False)[0], first)


def test_psnr_by_hand(tmp_path: Path) -> None:
    """An error of 5 grey levels everywhere: 20 log10(255 / 5) = 34.15 dB."""

    class Brighter(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 5 / 255

    assert psnr_of_each(Brighter(), noise_images(3, 16)).mean() == pytest.approx(34.151, abs=1e-3)
    path = save_generator(tmp_path / "x.safetensors", build(TINY), TINY, {})
    assert facts_table([str(path)]).parameters[0] == sum(p.numel() for p in build(TINY).parameters())


def test_samples_of_several_generators(family: Path) -> None:
    for name in "abcgt":
        train_generator(name, family, steps=1, scenes=2, size=32, test=1, progress=False)
    fakes, sources = samples(list("abcgt"), 2, 32, first_seed=9)
    assert list(fakes) == list("abcgt") and list(sources) == list("abct")
    for name in "abcgt":
        assert np.array_equal(fakes[name], generators.fakes_of(name, [9, 10], 32)), name
    assert np.array_equal(sources["t"][1], scene(10, 32, "fabric"))


def test_the_claim_is_about_the_worst_decoder() -> None:
    names = ["demo-deconv2", "demo-nearest", "demo-dcgan"]

    def judged(psnr: float, around: float) -> Claim:
        values = np.array([30.0, psnr, np.nan])
        columns = {"psnr": values, "psnr_low": values - around, "psnr_high": values + around}
        (claim,) = generator_claims(pd.DataFrame({"generator": names, **columns}))
        return claim

    low = judged(24.5, 0.2)
    assert low.verdict == "does not hold"
    assert "24.5 dB [24.3, 24.7] (demo-nearest) to 30.0 dB, 2 decoders" in str(low.ours)
    assert judged(25.5, 0.2).verdict == "holds" and judged(25.1, 0.2).verdict == "undecided"


def test_the_psnr_is_measured_not_read() -> None:
    """Weights whose file boasts are found out."""
    table = facts_table(["demo-deconv2"], test=2).iloc[0]
    scenes = rendered(range(HELD_OUT_SEED, HELD_OUT_SEED + 2), SIZE, str(table["style"]))
    assert table.psnr == pytest.approx(psnr_of_each(load_generator("demo-deconv2")[0], scenes).mean(), abs=1e-6)
    assert table.psnr_low < table.psnr < table.psnr_high


def test_the_explorer_shows_each_generator() -> None:
    images, sources = (
        {"demo-a": noise_images(2, 16), "demo-b": noise_images(2, 16, 5)},
        {"demo-a": noise_images(2, 16, 1)},
    )
    box = generator_explorer(images, sources)
    assert_each_control_redraws(box, {"Difference ×": 2, "Image": 1, "Generator": "demo-b"})
    assert "no source" in all_text(box)
    by_hand = amplified(np.array([[[10, 20, 255]]], np.uint8), np.array([[[12, 20, 0]]], np.uint8), 8)
    assert by_hand.tolist() == [[[112, 128, 255]]]


def test_the_radial_spectrum_of_a_wave_lies_in_its_ring() -> None:
    x = torch.arange(32) / 32
    wave = 0.5 + 0.25 * torch.sin(2 * torch.pi * 9 * x).expand(1, 3, 32, 32)
    found = radial_spectrum(wave)
    assert found.shape == (1, 24) and int(found[0, 3:].argmax()) + 3 == 9


def test_the_spectral_distance_sees_blur_and_not_content() -> None:
    rng = np.random.default_rng(0)
    one, two = (torch.from_numpy(rng.standard_normal((8, 3, 32, 32)).astype(np.float32)) for _ in range(2))
    soft = torch.nn.functional.avg_pool2d(one, 3, 1, 1)
    assert float(spectral_distance(one, one)) == 0
    assert float(spectral_distance(soft, one)) > 4 * float(spectral_distance(two, one))
    flat = torch.zeros(2, 3, 32, 32, requires_grad=True)
    spectral_distance(flat, one[:2]).backward()
    assert flat.grad is not None and bool(torch.isfinite(flat.grad).all())


def test_a_spectral_weight_makes_the_output_sharper(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(4)]
    plan = GeneratorPlan(steps=150, batch=4, crop=32, width=8, latent=2, learning_rate=1e-2)
    target = to_batch(np.stack(images))
    found = []
    for weight in (0.0, 0.5):
        model = train(images, replace(plan, spectral=weight), tmp_path / str(weight), progress=False)
        with torch.inference_mode():
            found.append(float(spectral_distance(model(target), target)))
    assert found[1] < 0.7 * found[0]
