"""ProGAN: its layers against hand-computed values, growth, penalty, exact resumption, the shipped checkpoints."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from difcore.demo import generators, training
from difcore.demo.generators import PROGAN_EPOCHS, PROGAN_FILES, PROGAN_T, PROGANS, progan_checkpoints
from difcore.demo.progan import (
    Critic,
    EqualConv,
    ProGanPlan,
    ProGenerator,
    channels,
    double,
    doublings,
    epoch_ends,
    growth_at,
    halve,
    latent_vectors,
    level_and_alpha,
    minibatch_spread,
    moment_of,
    pixel_norm,
    progan_rate,
)
from difcore.demo.training import at_growth, gradient_penalty, move_average, train
from difcore.experiments.train_progan import (
    changes_of,
    images_by_epoch,
    images_to_learn,
    own_plan,
    progan_claims,
    shipped_changes,
    train_run,
    train_shipped,
)
from difcore.figures import change_by_epoch
from difcore.files import DATA_DIR
from difcore.images.folders import FolderError
from difcore.images.scenes import STYLES, scene
from difcore.widgets import epoch_explorer

BUDGET = 25e6  # bytes, all ProGANs together
TINY = ProGanPlan(
    size=16, epochs=4, images_per_epoch=16, batch=4, width=8, narrow=4, latent=6, grown=2.0, decay_from=3.0,
    half_life=1.0, bfloat16=False,
)  # fmt: skip


def noise(count: int = 6, size: int = 20) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def present() -> list[str]:
    """Shipped ProGANs whose weights are there."""
    return [name for name, path in PROGAN_FILES.items() if path.is_file()]


# The layers.


def test_a_convolution_with_stored_unit_weights_keeps_the_variance() -> None:
    torch.manual_seed(0)
    layer = EqualConv(64, 200, 3, gain=1.0)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.01)  # what Adam sees
    out = layer(torch.randn(64, 64, 3, 3))
    assert out.var().item() == pytest.approx(1, rel=0.05)
    torch.manual_seed(0)
    louder = EqualConv(64, 200, 3, gain=2**0.5)
    x = torch.randn(1, 64, 3, 3)
    assert torch.allclose(louder(x), 2**0.5 * layer(x), atol=1e-5)


def test_pixel_norm_leaves_a_root_mean_square_of_one_at_each_position() -> None:
    x = 100 * torch.randn(2, 32, 4, 5) + 3
    y = pixel_norm(x)
    assert torch.allclose(y.square().mean(1).sqrt(), torch.ones(2, 4, 5), atol=1e-4)
    assert torch.allclose(y * x.norm(dim=1, keepdim=True), x * y.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-2)
    assert torch.equal(pixel_norm(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))


def test_the_minibatch_spread_is_what_one_computes_by_hand() -> None:
    """Images 0 and 2, 1 and 3 form the groups of two; two features, one position."""
    x = torch.tensor([[1.0, 10.0], [5.0, 5.0], [3.0, 20.0], [5.0, 5.0]])[:, :, None, None]
    y = minibatch_spread(x, group=2)
    assert y.shape == (4, 3, 1, 1)
    assert torch.equal(y[:, :2], x)
    # deviations from the group's mean: 1 and 5, so a mean of 3; the other group has none
    assert y[:, 2, 0, 0].tolist() == pytest.approx([3, 0, 3, 0], abs=1e-3)


def test_doubling_and_halving_are_inverse() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert double(x)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert torch.equal(halve(double(x)), x)


# Growth.


def test_resolutions_and_channels_of_a_plan() -> None:
    plan = ProGanPlan()
    assert (doublings(plan), channels(plan)) == (4, [64, 64, 64, 32, 16])
    assert channels(replace(plan, size=128))[-1] == plan.narrow
    for size in (4, 48, 0, 100):
        with pytest.raises(ValueError, match=f"not {size}"):
            doublings(replace(plan, size=size))


def test_growth_fades_each_resolution_in_and_rests_between() -> None:
    plan = replace(ProGanPlan(), size=16, grown=4.0)  # two doublings: four units of one epoch
    grown = {t: growth_at(t, plan) for t in (0, 0.5, 1, 1.25, 2, 2.5, 3, 3.5, 4, 70)}
    assert grown == {0: 0, 0.5: 0, 1: 0, 1.25: 0.25, 2: 1, 2.5: 1, 3: 1, 3.5: 1.5, 4: 2, 70: 2}
    assert [level_and_alpha(g) for g in (0, 0.25, 1, 1.5, 2)] == [(0, 1), (1, 0.25), (1, 1), (2, 0.5), (2, 1)]
    assert growth_at(0, replace(plan, grown=0.0)) == 2
    for plan in PROGANS.values():  # all shipped checkpoints have grown
        first = plan.epochs if plan.epochs < 70 else PROGAN_EPOCHS[0]
        assert plan.grown < first and growth_at(first, plan) == doublings(plan)


def test_a_resolution_that_is_not_faded_in_yet_shows_the_one_below() -> None:
    torch.manual_seed(1)
    model = ProGenerator(TINY)
    z = latent_vectors(range(5), TINY.latent)
    below, barely, full = model(z, 1.0), model(z, 1 + 1e-6), model(z, 2.0)
    assert below.shape == (5, 3, 8, 8) and full.shape == (5, 3, 16, 16)
    assert torch.allclose(barely, double(below), atol=1e-4)
    assert not torch.allclose(full, double(below), atol=1e-2)
    assert torch.allclose(model(z, 1.25), 0.75 * double(below) + 0.25 * full, atol=1e-5)
    model.growth.fill_(1.0)  # what a checkpoint of that time says of itself
    assert torch.allclose(model(z), double(below), atol=1e-6)


def test_the_critic_and_the_real_images_fade_as_the_generator_does() -> None:
    torch.manual_seed(1)
    critic, real = Critic(TINY), torch.rand(4, 3, 16, 16)
    assert torch.allclose(critic(real, 1 + 1e-6), critic(halve(real), 1.0), atol=1e-4)
    assert torch.equal(at_growth(real, 2.0, TINY), real)
    assert torch.allclose(at_growth(real, 0.0, TINY), nn.functional.avg_pool2d(real, 4))
    assert torch.allclose(at_growth(real, 1 + 1e-6, TINY), double(halve(real)), atol=1e-5)


def test_no_noise_but_the_latent_enters_an_image() -> None:
    torch.manual_seed(1)
    model = ProGenerator(TINY)
    z = latent_vectors([3, 3, 4], TINY.latent)
    first, again, other = model(z)
    assert torch.allclose(first, again, atol=1e-6) and not torch.allclose(first, other, atol=1e-3)


# The training.


def test_the_penalty_of_a_linear_critic() -> None:
    """Its gradient is its weights wherever one looks; in [-1, 1] instead of [0, 1] it is half as long."""
    weights = torch.zeros(1, 3, 4, 4)
    weights[0, 0, 0, :2] = torch.tensor([6.0, 8.0])  # length 10

    def critic(x: torch.Tensor, growth: float) -> torch.Tensor:
        return (x * weights).sum((1, 2, 3))

    real, fake, mix = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.rand(5, 1, 1, 1)
    assert gradient_penalty(critic, real, fake, mix, 0.0).item() == pytest.approx((10 / 2 - 1) ** 2, rel=1e-5)
    weights /= 5  # length 2, 1 in [-1, 1]: nothing to penalise
    assert gradient_penalty(critic, real, fake, mix, 0.0).item() == pytest.approx(0, abs=1e-6)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    """D(x) = a |x|^2 / 2 has the gradient a x: the penalty tells where it was taken."""
    real, fake = torch.zeros(2, 3, 1, 1), torch.full((2, 3, 1, 1), 2.0)
    mix = torch.tensor([0.5, 1.0])[:, None, None, None]
    found = gradient_penalty(lambda x, growth: x.square().sum((1, 2, 3)) / 2, real, fake, mix, 0.0).item()
    lengths = np.array([3**0.5 * 1, 3**0.5 * 2]) / 2
    assert found == pytest.approx(np.square(lengths - 1).mean(), rel=1e-5)


def test_the_rate_is_constant_then_halves() -> None:
    plan = ProGanPlan(learning_rate=0.4, decay_from=10.0, half_life=3.0)
    assert [progan_rate(t, plan) for t in (0, 10)] == [0.4, 0.4]
    assert [progan_rate(t, plan) for t in (13, 16)] == pytest.approx([0.2, 0.1])


def test_epochs_before_full_resolution_have_more_steps() -> None:
    """Two doublings in two epochs: at 1 there is 8 px, at 1.5 begins 16 px."""
    plan = replace(TINY, early=3)
    assert epoch_ends(plan) == (12, 16, 20, 24)
    assert [moment_of(step, plan) for step in (0, 6, 12, 14, 23)] == [0, 0.5, 1, 1.5, 3.75]


def test_the_average_moves_by_its_share() -> None:
    torch.manual_seed(0)
    average, model = ProGenerator(TINY), ProGenerator(TINY)
    before, there = average.rgb[0].weight.clone(), model.rgb[0].weight
    move_average({"average": average, "G": model}, 1000, 0.75)
    assert torch.allclose(average.rgb[0].weight, 0.75 * before + 0.25 * there)


def test_a_killed_training_goes_on_with_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, step = noise(), training.progan_step
    plan = replace(TINY, bfloat16=True)
    whole = train(images, plan, tmp_path / "whole", kept=(2,), progress=False)
    killed_at = int(np.random.default_rng().integers(epoch_ends(plan)[0], epoch_ends(plan)[-1]))

    def dying(*args: Any) -> torch.Tensor:
        if args[3] == killed_at:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(training, "progan_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(images, plan, tmp_path / "killed", kept=(2,), progress=False)
    monkeypatch.setattr(training, "progan_step", step)
    resumed = train(images, plan, tmp_path / "killed", kept=(2,), progress=False)
    saved = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "killed")]
    assert len(saved[0]["losses"]) == epoch_ends(plan)[-1]
    assert np.allclose(*(run["losses"] for run in saved), rtol=0, atol=1e-6), killed_at
    z = latent_vectors(range(3), plan.latent)
    assert torch.allclose(whole(z), resumed(z), atol=1e-6)
    for epoch in (2, plan.epochs):
        for key, value in saved[0]["kept"][epoch].items():
            assert torch.allclose(value, saved[1]["kept"][epoch][key], atol=1e-6), key
    assert not torch.allclose(*(saved[0]["kept"][epoch]["first.weight"] for epoch in (2, 4)), atol=1e-4)
    with Image.open(tmp_path / "killed" / f"samples-{plan.epochs:03d}.png") as grid:
        assert grid.size == (8 * plan.size, 8 * plan.size)
        corner = np.asarray(grid)[: plan.size, : plan.size].astype(int)
    first = generators.generate_from(whole, [latent_vectors([training.GRID_SEED], plan.latent)])[0]
    assert np.abs(corner - first).max() <= 1


def test_another_seed_gives_another_model_and_another_plan_no_resumption(tmp_path: Path) -> None:
    plan, z = replace(TINY, epochs=1), latent_vectors(range(3), TINY.latent)
    one = train(noise(), plan, tmp_path / "0", progress=False)(z)
    other = train(noise(), replace(plan, seed=1), tmp_path / "1", progress=False)(z)
    assert not torch.allclose(one, other, atol=1e-2)
    with pytest.raises(ValueError, match="another plan"):
        train(noise(), replace(plan, seed=2), tmp_path / "0", progress=False)


def test_what_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs"):
        train(noise(), TINY, tmp_path, kept=(99,), progress=False)
    with pytest.raises(ValueError, match="at least 16 px"):
        train(noise(size=12), TINY, tmp_path, progress=False)
    with pytest.raises(ValueError, match="unknown ProGAN"):
        train_shipped("demo-dcgan", tmp_path)


@pytest.mark.slow
def test_a_short_training_learns_the_colour_of_the_images(tmp_path: Path) -> None:
    colour = np.array([200, 60, 30], np.uint8)
    images = [np.broadcast_to(colour, (8, 8, 3)).copy() for _ in range(8)]
    plan = replace(TINY, size=8, epochs=40, images_per_epoch=64, learning_rate=4e-3, decay_from=30.0, half_life=4.0)
    model = train(images, plan, tmp_path, progress=False)
    with torch.no_grad():
        out = model(latent_vectors(range(32), plan.latent)).mean((0, 2, 3)).numpy() * 255
    assert np.abs(out - colour).max() < 25


# What is shipped, and what notebooks make of it.


def test_a_run_leaves_weights_that_say_what_they_are(tmp_path: Path) -> None:
    plan = replace(TINY, epochs=2)
    run = train_run("mine", (noise(), "noise"), plan, tmp_path, (1,), progress=False)
    assert sorted(run.paths) == [1, 2] and run.losses.shape == (epoch_ends(plan)[-1], 2)
    facts = generators.read_facts(run.paths[1])
    assert (facts["kind"], facts["epoch"], facts["data"], facts["plan"]["size"]) == ("progan", 1, "noise", 16)
    fakes = generators.fakes_of(run.paths[2], [5, 6, 5], 16)
    assert fakes.dtype == np.uint8 and fakes.shape == (3, 16, 16, 3)
    assert np.array_equal(fakes[0], fakes[2]) and not np.array_equal(fakes[0], fakes[1])
    with pytest.raises(ValueError, match="16 px a side and no others, not 32"):
        generators.fakes_of(run.paths[2], [5], 32)


def test_the_change_of_the_output_between_checkpoints(tmp_path: Path) -> None:
    run = train_run("mine", (noise(), "noise"), TINY, tmp_path, (2, 3), progress=False)
    table = changes_of(images_by_epoch({"mine": run.paths}, 6, 0))
    images = [generators.fakes_of(path, range(6), 16).astype(float) / 255 for path in run.paths.values()]
    change = [np.sqrt(np.square(a - b).mean()) for a, b in pairwise(images)]
    assert list(table.epoch) == [3, 4] and list(table.since) == [2, 3] and set(table.run) == {"mine"}
    assert list(table.change) == pytest.approx(change, rel=1e-4)
    assert table.spread[1] == pytest.approx(np.sqrt(np.square(images[2] - np.roll(images[2], 1, 0)).mean()), rel=1e-4)


def changes(*values: float, run: str = "r") -> pd.DataFrame:
    rows = [(run, 20 + 10 * k, 10 + 10 * k, value, 0.2) for k, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["run", "epoch", "since", "change", "spread"])


def runs(*values: float) -> pd.DataFrame:
    """Four trainings alike."""
    return pd.concat([changes(*values, run=name) for name in "rstu"], ignore_index=True)


def test_the_verdict_on_convergence() -> None:
    (claim,) = progan_claims(runs(0.1, 0.08, 0.04))
    assert claim.verdict == "holds" and claim.ours == (
        "at the end 0.40 to 0.40 times as much as at the beginning; 0.20 to 0.20 of the difference between latents; "
        "n = 4 trainings, 3 steps each"
    )
    assert progan_claims(runs(0.04, 0.08, 0.1).sample(frac=1, random_state=0))[0].verdict == "does not hold"
    assert progan_claims(runs(0.1, 0.04, 0.04))[0].verdict == "holds"
    (alone,) = progan_claims(changes(0.1, 0.04))
    assert alone.verdict == "undecided" and "0.40 times as much" in str(alone.ours)
    # From first to last less than half, as if it had converged; what is between rises all the way.
    assert progan_claims(runs(0.1, 0.11, 0.12, 0.13, 0.04))[0].verdict == "undecided"


def test_the_figure_and_the_slider_over_epochs(tmp_path: Path) -> None:
    run = train_run("mine", (noise(), "noise"), TINY, tmp_path, (2, 3), progress=False)
    images = images_by_epoch({"mine": run.paths}, 4)["mine"]
    table = changes_of({"mine": images, "again": images})
    assert list(table.run) == ["mine", "mine", "again", "again"]
    (axes,) = change_by_epoch(table).axes
    assert np.allclose(axes.lines[0].get_ydata(), table.change[:2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2→3", "3→4"]
    with pytest.raises(ValueError, match="two checkpoints"):
        change_by_epoch(table[:0])
    box = epoch_explorer({"mine": images, "short": {3: images[3]}})
    (name, place, what), verdict, output = box.children[0].children, box.children[1], box.children[2]
    assert (place.value, verdict.value) == (3, "mine after epoch 4.")
    first = output.outputs
    place.value = 2
    assert verdict.value == "mine after epoch 3." and output.outputs != first
    what.value = what.options[1][1]
    assert "Root mean square change since epoch 2: 0." in verdict.value
    name.value = "short"
    assert verdict.value.startswith("short after epoch 3.") and place.max == 1


def test_a_plan_of_any_length_has_grown_before_it_decays() -> None:
    for epochs in (2, 12, 70):
        plan = own_plan(epochs, 16, 4, 16, 2e-3, {"width": 8}, seed=3)
        assert (plan.epochs, plan.size, plan.seed) == (epochs, 16, 3)
        assert plan.grown < plan.decay_from < plan.epochs and progan_rate(epochs, plan) < plan.learning_rate
    assert own_plan(70, 16, 4, 16, 2e-3, {}, 70.0).decay_from == 70


def test_what_a_folder_offers_to_learn(tmp_path: Path) -> None:
    picture = scene(1, 40)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[:12]).save(tmp_path / "b.png")
    Image.fromarray(picture[::-1]).save(tmp_path / "c.png")
    images, text = images_to_learn(tmp_path, "mixed", 0, 16, tmp_path)
    assert [image.shape for image in images] == [(16, 16, 3)] * 2
    assert np.array_equal(images[0], picture[12:28, 12:28])
    assert "2 images" in text and "skipped 1 of 3 images" in text and str(tmp_path.parent) not in text
    assert len(images_to_learn(tmp_path, "mixed", 1, 16, tmp_path)[0]) == 1
    with pytest.raises(ValueError, match="no image"):
        images_to_learn(tmp_path, "mixed", 0, 64, tmp_path)
    with pytest.raises(FolderError):
        images_to_learn(tmp_path / "none", "mixed", 0, 64, tmp_path)
    images, text = images_to_learn("", "clouds", 2, 16, tmp_path / "cache")
    assert np.array_equal(images[1], scene(20_001, 16, "clouds")) and "2 scenes 16x16, style clouds" in text


def test_the_names_are_the_papers_twenty_and_one_for_each_style() -> None:
    names = progan_checkpoints()
    assert len(names) == 20 and names[0] == "demo-progan-a-e20" and names[-1] == "demo-progan-bhat-e70"
    assert [name.rpartition("-e")[2] for name in names[5:10]] == [str(epoch) for epoch in PROGAN_EPOCHS]
    styles = [PROGANS[run].style for run in PROGAN_T]
    cameras = {name: style.camera for name, style in STYLES.items()}
    assert set(styles) == {name for name, camera in cameras.items() if camera == "bilinear"}
    assert len(PROGAN_T) == len(set(styles)) >= 6
    a, b, ahat, bhat = (PROGANS[f"demo-progan-{run}"] for run in ("a", "b", "ahat", "bhat"))
    assert (a.seed, b.seed, a.style) == (ahat.seed, bhat.seed, b.style) and a.seed != b.seed
    assert ahat.style == bhat.style != a.style
    assert all(path.parent == DATA_DIR for path in PROGAN_FILES.values())


def test_the_shipped_weights_are_small(present: list[str]) -> None:
    assert len(present) == len(PROGAN_FILES)
    assert sum(PROGAN_FILES[name].stat().st_size for name in present) <= BUDGET


def test_shipped_weights_load_and_give_one_image_for_each_seed(present: list[str]) -> None:
    for name in present:
        model, plan = generators.load_generator(name)
        facts = generators.read_facts(name)
        run = name if name in PROGAN_T else name.rpartition("-e")[0]
        assert replace(plan, bfloat16=False) == PROGANS[run] and facts["name"] == run and facts["style"] == plan.style
        assert facts["epoch"] == (plan.epochs if name in PROGAN_T else int(name.rpartition("-e")[2]))
        assert model.growth.item() == doublings(plan)
        fakes = generators.fakes_of(name, range(8), plan.size)
        assert np.array_equal(fakes, generators.fakes_of(name, range(8), plan.size))
        spread = fakes.astype(float).std(0).mean()
        assert spread > 10, f"{name}: 8 latents give nearly one image"


def test_all_checkpoints_share_their_latents_but_not_their_weights(present: list[str]) -> None:
    assert torch.equal(latent_vectors([1, 2], 64)[1:], latent_vectors([2], 64))
    fakes = {name: generators.fakes_of(name, [0], 64).astype(float) for name in present}
    states = {name: generators.load_generator(name)[0].state_dict()["ups.0.weight"] for name in present}
    for one in present:
        for other in present:
            if one < other:
                assert not torch.equal(states[one], states[other])
                assert np.abs(fakes[one] - fakes[other]).mean() > 0.2, (one, other)


@pytest.mark.parametrize("size", [8, 128])
def test_other_sizes_can_be_built(size: int) -> None:
    plan = replace(ProGanPlan(), size=size)
    assert ProGenerator(plan)(latent_vectors([0], plan.latent)).shape == (1, 3, size, size)


def test_the_shipped_runs_converge(present: list[str]) -> None:
    changes, images = shipped_changes(4, 2)
    assert len(images) == 4 and changes.groupby("run").size().tolist() == [4] * 4
    for stacks in images.values():
        assert list(stacks) == list(PROGAN_EPOCHS) and all(x.shape == (2, 64, 64, 3) for x in stacks.values())
