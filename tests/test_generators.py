"""The small generators that make the demo's fakes: networks, files, samples."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny import noise_images
from torch import nn

from difcore.demo.decoders import SOURCE_STYLE, UPSAMPLING, Attention, GeneratorPlan, LatentDecoder
from difcore.demo.gans import GanPlan, ModulatedConv, StyleGenerator, latents
from difcore.demo.generators import (
    CHILDREN,
    DECODERS,
    GANS,
    SHIPPED,
    build,
    fakes_of,
    generate,
    load_generator,
    read_facts,
    real_style,
    save_generator,
)
from difcore.experiments.start_here import demo_images
from difcore.files import DATA_DIR
from difcore.images.scenes import STYLES, scene, scenes

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = GeneratorPlan(steps=12, batch=2, crop=16, width=8, latent=4)
KINDS = ("deconv2", "deconv4", "nearest", "bilinear", "shuffle")
BUDGET = 12 * 2**20


def tiny_gan(design: str) -> GanPlan:
    return GanPlan(design, "fabric" if design == "translate" else "", steps=4, batch=2, crop=32, width=8, latent=4)


# --- networks ---


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 40)])
@pytest.mark.parametrize("plan", [TINY, *DECODERS.values()], ids=["tiny", *DECODERS])
def test_a_decoder_keeps_the_size(plan: GeneratorPlan, height: int, width: int) -> None:
    model = build(plan).eval()
    assert model(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)
    fakes = generate(model, np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8), batch=2)
    assert fakes.shape == (3, height, width, 3) and fakes.dtype == np.uint8


def test_the_latent_is_four_times_smaller() -> None:
    assert LatentDecoder(TINY).encoder(torch.rand(1, 3, 32, 48)).shape == (1, 4, 8, 12)
    assert LatentDecoder(replace(TINY, latent=5, residual=True)).encoder(torch.rand(1, 3, 32, 48)).shape == (
        1,
        5,
        8,
        12,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_upsampling_doubles_and_leaves_its_own_pattern(kind: str) -> None:
    """What each makes of a constant: the kernel's overlap is what shows in fingerprints."""
    torch.manual_seed(0)
    y = UPSAMPLING[kind](2, 3)(torch.ones(1, 2, 6, 8))
    assert y.shape == (1, 3, 12, 16)
    inner = y[0, :, 2:-2, 2:-2]
    periodic = torch.allclose(inner[:, :-2, :-2], inner[:, 2:, 2:], atol=1e-6)
    constant = torch.allclose(inner, inner[:, :1, :1].expand_as(inner), atol=1e-6)
    assert periodic and constant == (kind in ("nearest", "bilinear"))


def test_attention_reaches_every_position_and_starts_from_its_input() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8), torch.randn(1, 8, 5, 6, requires_grad=True)
    gradient = torch.autograd.grad(layer(x)[0, :, 0, 0].sum(), x)[0]
    assert (gradient.abs().sum(1) > 0).all()
    nn.init.zeros_(layer.out.weight)
    nn.init.zeros_(layer.out.bias)
    assert torch.equal(layer(x), x)


def test_attention_of_equal_keys_is_the_mean() -> None:
    layer, x = Attention(8), torch.randn(1, 8, 2, 3)
    with torch.no_grad():
        layer.qkv.weight.zero_()
        layer.qkv.bias.zero_()
        layer.qkv.weight[16:, :, 0, 0] = torch.eye(8)
        layer.out.weight[:, :, 0, 0] = torch.eye(8)
        layer.out.bias.zero_()
        expected = x + layer.norm(x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("design", ["deconv", "resnet", "shuffle", "style"])
def test_a_gan_makes_images_of_any_size_of_its_grid(design: str) -> None:
    torch.manual_seed(0)
    model = build(tiny_gan(design)).eval()
    images = model(*latents([[0], [1]], 4, 32, 48))
    assert images.shape == (2, 3, 32, 48)
    assert images.min() >= 0 and images.max() <= 1
    assert not torch.equal(images[0], images[1])


def test_an_untrained_translator_with_a_silent_network_changes_nothing() -> None:
    model = build(tiny_gan("translate")).eval()
    assert isinstance(model.up, nn.Sequential)
    last = model.up[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    x = torch.rand(1, 3, 24, 32)
    assert model(x).shape == x.shape and not torch.equal(model(x), x)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    assert torch.equal(model(x), x)


def test_modulation_does_not_change_the_scale() -> None:
    """Demodulated: the variance of the output is one whatever the style, for white input."""
    torch.manual_seed(0)
    layer, x = ModulatedConv(16, 4, 2), torch.randn(1, 16, 64, 64)
    layer.affine.weight.data.normal_(0, 3)
    nn.init.zeros_(layer.strength)
    kept = []
    for style in (torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -1.0]])):
        y = layer(x, style, torch.zeros(1, 1, 64, 64))[:, :, 1:-1, 1:-1]
        raw = torch.where(y > 0, y, y / 0.2)
        assert raw.std().item() == pytest.approx(1, abs=0.1)
        kept.append(raw)
    assert not torch.allclose(kept[0], kept[1], atol=0.1)


def test_the_style_design_reads_its_noise_at_every_scale() -> None:
    torch.manual_seed(0)
    model = StyleGenerator(8, 4).eval()
    z, noise = latents([[0]], 4, 32, 32)
    gradient = torch.autograd.grad(model(z, noise.requires_grad_()).square().sum(), noise)[0]
    assert (gradient != 0).float().mean() > 0.99


def test_latents_are_normal_and_of_their_seed_alone() -> None:
    z, noise = latents([[3, 1], [3, 2]], 32, 64, 64)
    assert z.shape == (2, 32, 4, 4) and noise.shape == (2, 1, 64, 64)
    assert abs(noise.mean()) < 0.05 and noise.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(latents([[3, 2]], 32, 64, 64)[0][0], z[1])
    assert not torch.equal(z[0], z[1])
    with pytest.raises(ValueError, match="multiples of 16 px, not 64 x 40"):
        latents([[0]], 4, 64, 40)


# --- fakes ---


def test_fakes_are_clipped_to_eight_bits() -> None:
    model = LatentDecoder(TINY).eval()
    last = model.decoder[-1]
    with torch.no_grad():
        for value, expected in ((50.0, 255), (-50.0, 0)):
            last.weight.zero_()
            last.bias.fill_(value)
            assert np.unique(generate(model, noise_images(2, 16))).tolist() == [expected]
        last.bias.fill_(0.1)  # 0.1 + 0.5 of 255 is 153
        assert np.unique(generate(model, noise_images(2, 16))).tolist() == [153]


def test_fakes_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    model, images = LatentDecoder(TINY).eval(), noise_images(5, 16)
    whole, ones = generate(model, images), generate(model, images, batch=1)
    assert np.abs(whole.astype(int) - ones).max() <= 1  # rounding at the edge of two grey levels
    assert np.array_equal(whole, generate(model, images))


FILED = {"decoder": replace(TINY, residual=True), "gan": tiny_gan("shuffle"), "image": tiny_gan("translate")}


@pytest.mark.parametrize("plan", FILED.values(), ids=FILED)
def test_a_file_gives_back_the_generator(plan: GeneratorPlan | GanPlan, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(plan).eval()
    path = save_generator(tmp_path / "d.safetensors", model, plan, {"name": "tiny"})
    loaded, read = load_generator(path)
    assert read == plan and not loaded.training
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key].half().float()), key
    facts = read_facts(path)
    assert facts["plan"] == plan.__dict__ and facts["name"] == "tiny"
    assert facts["kind"] == ("gan" if isinstance(plan, GanPlan) else "decoder")
    fakes = fakes_of(path, [7, 8, 9], 32)
    assert fakes.shape == (3, 32, 32, 3) and fakes.dtype == np.uint8
    assert np.array_equal(fakes_of(path, [7, 8, 9], 32), fakes)
    assert np.abs(fakes_of(path, [9, 8], 32).astype(int) - fakes[[2, 1]]).max() <= 1
    assert not np.array_equal(fakes[0], fakes[1])


def test_the_translator_is_given_scenes_of_its_style(tmp_path: Path) -> None:
    plan = tiny_gan("translate")
    model = build(plan)
    assert isinstance(model.up, nn.Sequential)
    nn.init.zeros_(model.up[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model.up[-1].bias)  # type: ignore[arg-type]
    path = save_generator(tmp_path / "t.safetensors", model, plan, {})
    assert np.array_equal(fakes_of(path, [5], 32), scene(5, 32, "fabric")[None])


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    decoder = save_generator(tmp_path / "d.safetensors", build(TINY), TINY, {})
    gan = save_generator(tmp_path / "g.safetensors", build(tiny_gan("shuffle")), tiny_gan("shuffle"), {})
    with pytest.raises(FileNotFoundError, match=r"nowhere.*shipped: demo-deconv2"):
        load_generator(tmp_path / "nowhere.safetensors")
    with pytest.raises(ValueError, match="multiples of 4 px, not 30"):
        fakes_of(decoder, [0], 30)
    with pytest.raises(ValueError, match="multiples of 16 px"):
        fakes_of(gan, [0], 40)
    with pytest.raises(ValueError, match="no seed"):
        fakes_of(decoder, [], 32)


# --- what is shipped ---


def test_the_names() -> None:
    assert list(DECODERS) == [f"demo-{k}" for k in (*KINDS, "attention")]
    assert len(GANS) == 5 and len({plan.design for plan in GANS.values()}) == 5
    assert list(SHIPPED) == [*DECODERS, *CHILDREN, *GANS]
    assert all(name.startswith("demo-") and path.parent == DATA_DIR for name, path in SHIPPED.items())


def test_every_child_has_its_parents_and_there_is_one_of_each_kind() -> None:
    known = list(DECODERS)
    for name, child in CHILDREN.items():  # parents come before their children
        assert child.parent in known and child.style in STYLES and (not child.donor or child.donor in known)
        known.append(name)
    assert len(CHILDREN) >= 8  # edges parent to child
    assert any(child.donor for child in CHILDREN.values())
    assert len({child.parent for child in CHILDREN.values()}) >= 5
    assert any(child.style != SOURCE_STYLE for child in CHILDREN.values())


def test_the_designs_differ() -> None:
    shapes = {name: (p.up_first, p.up_last, p.attention) for name, p in DECODERS.items()}
    assert len(set(shapes.values())) == 6
    assert {p.up_first for p in DECODERS.values()} == set(KINDS)


def test_each_weights_file_is_listed() -> None:
    text = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(DATA_DIR.glob("*.safetensors")) if f"`{path.name}`" not in text] == []


def test_the_weights_fit_the_budget() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.values()) <= BUDGET


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_says_how_it_was_made(name: str) -> None:
    with safe_open(SHIPPED[name], "pt") as stream:
        facts = {key: json.loads(value) for key, value in stream.metadata().items()}
        assert {stream.get_tensor(key).dtype for key in stream.keys()} == {torch.float16}  # noqa: SIM118
    plan = load_generator(name)[1]
    assert facts["name"] == name and "scenes 128x128" in facts["data"] and "seeds 20000-" in facts["data"]
    assert facts["kind"] == ("gan" if name in GANS else "decoder")
    assert plan.steps > 0 and isinstance(plan.seed, int)
    if name in CHILDREN:
        child = CHILDREN[name]
        assert (facts["parent"], facts["donor"], facts["style"]) == (child.parent, child.donor, child.style)
        assert (plan.steps, plan.seed, plan.learning_rate) == (child.steps, child.seed, child.learning_rate)
    else:
        assert replace(plan, bfloat16=False) == (DECODERS | GANS)[name]  # the recipe leaves the precision open


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_generators_make_distinct_images(name: str) -> None:
    size = 32
    real, fakes = demo_images(2, size, name, first_seed=70)
    assert (
        np.array_equal(real, [scene(seed, size, real_style(name)) for seed in (70, 72)])
        and real.shape == fakes.shape == (2, size, size, 3)
        and fakes.dtype == np.uint8
    )
    assert np.array_equal(fakes, fakes_of(name, [71, 73], size))
    assert np.abs(fakes_of(name, [73], size)[0].astype(int) - fakes[1]).max() <= 1
    assert fakes.std((1, 2)).min() > 4 and np.abs(fakes[0].astype(int) - fakes[1]).mean() > 4


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    return np.stack(list(scenes(6, 128, SOURCE_STYLE, 5_000_000)))


@pytest.mark.parametrize("name", DECODERS)
def test_shipped_decoders_reconstruct(name: str, unseen: np.ndarray) -> None:
    """At least 25 dB on held-out scenes, as the file says and as measured on a few others."""
    assert read_facts(name)["psnr_heldout_db"] >= 25
    error = np.square(generate(load_generator(name)[0], unseen).astype(float) - unseen).mean((1, 2, 3))
    assert error.min() > 0 and np.mean(10 * np.log10(255**2 / error)) >= 25


def test_parents_and_children_are_closer_than_strangers() -> None:
    """The child's features are its parent's, a little moved; two parents of one shape start from other numbers."""

    def first_layer(name: str) -> np.ndarray:
        weights = load_generator(name)[0].encoder[1].state_dict()
        return next(v.numpy().ravel() for v in weights.values() if v.ndim == 4)

    for name, child in CHILDREN.items():
        assert np.corrcoef(first_layer(name), first_layer(child.parent))[0, 1] > 0.7, name
        if child.donor:
            assert abs(np.corrcoef(first_layer(name), first_layer(child.donor))[0, 1]) < 0.3
            last = [load_generator(n)[0].decoder[-1].weight.detach().numpy().ravel() for n in (name, child.donor)]
            assert np.corrcoef(last)[0, 1] > 0.7
    for a, b in combinations([n for n in DECODERS if n != "demo-deconv2"], 2):
        assert abs(np.corrcoef(first_layer(a), first_layer(b))[0, 1]) < 0.3


def test_the_first_decoder_still_makes_the_same_images() -> None:
    """Guards the images behind the numbers already reported."""
    images = np.stack(list(scenes(2, 32, SOURCE_STYLE, 77)))
    fakes = generate(load_generator("demo-deconv2")[0], images)
    reference = build(DECODERS["demo-deconv2"]).eval()
    with safe_open(SHIPPED["demo-deconv2"], "pt") as stream:
        reference.load_state_dict({k: stream.get_tensor(k).float() for k in stream.keys()})  # noqa: SIM118
    assert np.array_equal(fakes, generate(reference, images))
    assert fakes.mean((0, 1, 2)) == pytest.approx(images.mean((0, 1, 2)), abs=4)
