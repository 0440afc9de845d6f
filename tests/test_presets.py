"""The paper's setting and ours: what each sets, and F_DnCNN as the plain mean of the images a filter was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import noise_images, random_dncnn, write_images

from difcore import paper
from difcore.experiments.bench import Bench, Setup, open_bench, table_cells
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.presets import MODES, preset
from difcore.images.crops import centre_crop
from difcore.machine.devices import to_batch
from difcore.residuals import bias as mean_bias
from difcore.residuals.bias import STOOD_IN, StandIn, border_profile
from difcore.residuals.denoisers import LIMIT, Denoiser, FoldedDnCNN, load_denoiser, save_denoiser

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
SIZE, COUNT = 80, 5


def test_the_modes_are_what_they_say() -> None:
    ours, theirs = preset("ours"), preset("paper")
    assert (ours.margin, theirs.margin) == (DifPlan().margin, 0.01) and ours.margin != theirs.margin
    assert (ours.filter("photos"), theirs.filter("photos")) == ("photos", "photos:mean")
    assert theirs.filter("highpass") == "highpass" and theirs.filter("photos:mean") == "photos:mean"
    assert (ours.held(0.7), ours.held(None), theirs.held(LIMIT)) == (0.7, None, None)
    assert 2 * paper.TRAIN_IMAGES_OF_CLASS == paper.TRAIN_IMAGES
    with pytest.raises(ValueError, match="'paper' or 'ours', not 'theirs'"):
        preset("theirs")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[np.ndarray]]:
    """A tiny filter whose file says that it saw five photographs, which lie in photos/train; and these."""
    images = list(noise_images(COUNT, SIZE, 3))
    write_images(tmp_path / "data" / "photos" / "train", images)
    monkeypatch.setenv("DIFCORE_DATA", str(tmp_path / "data"))
    model = random_dncnn(3, 4)
    facts = {"data": f"{COUNT} photographs", "training_images": COUNT, "bias": "border profile of the mean residual"}
    mean = mean_of(model, images)
    return save_denoiser(tmp_path / "tiny.safetensors", model, border_profile(mean), facts), images


def mean_of(model: torch.nn.Module, images: list[np.ndarray]) -> torch.Tensor:
    unbiased = Denoiser("", FoldedDnCNN(model.eval()), None, "")
    return torch.stack([unbiased(to_batch(image))[0] for image in images]).mean(0)


def test_the_plain_mean_is_measured_again(
    trained: tuple[Path, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images = trained
    profile, mean = load_denoiser(path), load_denoiser(f"{path}:mean")
    assert mean.name == "tiny:mean" and mean.hash != profile.hash
    assert mean.metadata["bias"] == f"mean of {COUNT} training images"
    # What is left of the training images' own mean residual is nothing, while the profile leaves their sampling noise.
    left, before = (torch.stack([d(to_batch(x))[0] for x in images]).mean(0).abs().max() for d in (mean, profile))
    assert left < 1e-6 < 1e-3 < before

    def never(*arguments: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(mean_bias, "read_crop", never)
    again = load_denoiser(f"{path}:mean")
    assert again.hash == mean.hash and torch.equal(again.bias, mean.bias)


def test_without_the_training_images_the_profile_stands_in_and_says_so(
    trained: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = trained
    folder = tmp_path / "data" / "photos" / "train"
    plain = load_denoiser(path)
    write_images(folder, [image // 2 + 100 * (np.arange(SIZE) < 9)[:, None, None].astype(np.uint8) for image in
                          noise_images(COUNT, SIZE, 9)])  # fmt: skip
    with pytest.warns(StandIn, match="F_DnCNN of .*tiny.safetensors:mean is not the paper's: border profile"):
        other = load_denoiser(f"{path}:mean")
    assert other.metadata["bias"].startswith(STOOD_IN) and "another profile" in other.metadata["bias"]
    assert torch.equal(other.bias, plain.bias)
    next(folder.iterdir()).unlink()
    with pytest.warns(StandIn):
        assert load_denoiser(f"{path}:mean").metadata["bias"] == STOOD_IN  # one too few
    monkeypatch.setenv("DIFCORE_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(mean_bias, "PROJECT_DIR", tmp_path)
    with pytest.warns(StandIn):
        assert load_denoiser(f"{path}:mean").metadata["bias"] == STOOD_IN


def test_scenes_are_made_again_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFCORE_DATA", str(tmp_path))
    model = random_dncnn(3, 4)
    scenes = [mean_bias.scene(mean_bias.FIRST_SCENE + k, 80) for k in range(2)]
    facts = {"data": "2 scenes of 256 px", "training_images": 2}
    path = save_denoiser(tmp_path / "s.safetensors", model, border_profile(mean_of(model, scenes)), facts)
    found = load_denoiser(f"{path}:mean")
    assert found.metadata["bias"] == "mean of 2 scenes like those it was trained on"
    torch.testing.assert_close(found.bias, mean_of(model, scenes), atol=1e-6, rtol=0)


def test_what_is_kept_of_a_mean_is_of_its_size_and_says_of_how_many_images(
    trained: tuple[Path, list[np.ndarray]], cache: Path, tmp_path: Path
) -> None:
    path, images = trained
    files = sorted((tmp_path / "data" / "photos" / "train").iterdir())
    write_images(tmp_path / "small", [images[0][:40, :40]])
    (tmp_path / "small" / "000.png").replace(files[0])  # too small: skipped
    facts = {"data": f"{COUNT} photographs", "training_images": COUNT}
    filtered = Denoiser("", FoldedDnCNN(random_dncnn(3, 4).eval()), None, "")
    for size in (SIZE, 72):
        crops = [centre_crop(image, size) for image in images[1:]]
        mean = torch.stack([filtered(to_batch(crop))[0] for crop in crops]).mean(0)
        for damaged in (False, False, True):  # measured; read; measured again
            if damaged:
                for kept in (cache / "residuals").glob("mean-*"):
                    kept.write_bytes(b"")
            found, told = mean_bias.mean_bias(filtered, border_profile(mean), "weights", facts)
            assert told == f"mean of {COUNT - 1} training images"
            torch.testing.assert_close(found, mean, atol=1e-6, rtol=0)
    assert len(list((cache / "residuals").glob("mean-*.npz"))) == 2


def test_the_key_of_a_mean_changes_with_scenes_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        mean_bias.key_of(range(2), 16, "w"),
        mean_bias.key_of(range(2), 17, "w"),
        mean_bias.key_of(range(2), 16, "v"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(mean_bias, "scene", lambda seed, size: np.zeros((size, size, 3), np.uint8))
        keys.add(mean_bias.key_of(range(2), 16, "w"))
    monkeypatch.setattr("difcore.residuals.sets.filter_code", lambda: "other code")
    keys.add(mean_bias.key_of(range(2), 16, "w"))
    assert len(keys) == 5


def test_a_bench_in_a_mode_says_so(trained: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = trained
    bench = Bench({}, plan=DifPlan(steps=7), denoiser=str(path))
    assert bench.record({})["parameters"]["mode"] == "ours"
    theirs = bench.in_mode("paper")
    assert (theirs.plan.margin, theirs.plan.steps, theirs.denoiser) == (0.01, 7, f"{path}:mean")
    record = theirs.record({"steps": 7})
    assert record["weights"] == {"tiny:mean": load_denoiser(f"{path}:mean").hash}
    kept = record["parameters"]
    assert (kept["mode"], kept["margin"], kept["F_DnCNN"]) == ("paper", 0.01, f"mean of {COUNT} training images")
    assert bench.in_mode("ours").record({}) == bench.record({})


def test_a_mode_is_part_of_every_cells_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "filter", lambda bench, name: SimpleNamespace(hash=f"hash of {name}"))
    setup = Setup(generators=["demo-deconv2"], size=32, pool=12, test=4, denoiser="scenes")
    rows = [{"method": "dif", "n_train": 4, "seed": 0}]
    one, two = (table_cells(open_bench("ltim", replace(setup, mode=mode)), rows)[0] for mode in MODES)
    assert one.values["filter"] != two.values["filter"] and one.depends != two.depends
