"""Residual filters: their size, folding, bias, files, and the weights that are shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import random_denoiser, random_dncnn
from torch import Tensor

from difcore.fingerprints.detector import Detector
from difcore.fingerprints.fitting import fit_pattern
from difcore.residuals import denoisers
from difcore.residuals.bias import BORDER, bias_for_size, border_profile
from difcore.residuals.denoisers import (
    LIMIT,
    PAD,
    REFERENCES,
    SHIPPED,
    Denoiser,
    DnCNN,
    FoldedDnCNN,
    gaussian_high_pass,
    limited,
    load_denoiser,
    read_dncnn,
    save_denoiser,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = st.integers(1, 130)


def images(count: int = 2, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_parameter_count_of_dncnn_s_by_hand() -> None:
    # First layer 3 * 64 * 9 = 1,728; fifteen of 64 * 64 * 9 = 36,864 with a batch-norm's 128; last 64 * 3 * 9 = 1,728.
    # 1,728 + 15 * 36,992 + 1,728 = 558,336; no convolution has a bias.
    model = DnCNN()
    assert sum(p.numel() for p in model.parameters()) == 558_336
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 17 and all(c.bias is None and c.kernel_size == (3, 3) for c in convolutions)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()) == 15
    assert sum(isinstance(m, torch.nn.ReLU) for m in model.modules()) == 16


def test_a_fresh_network_estimates_no_noise() -> None:
    assert not bool(DnCNN(5, 4)(images()).any())


@pytest.mark.parametrize(("depth", "features", "size"), [(2, 3, 8), (4, 6, 33), (17, 64, 12)])
def test_folding_changes_nothing_but_speed(depth: int, features: int, size: int) -> None:
    model = random_dncnn(depth, features)
    x = images(2, size, size + 3)
    with torch.no_grad():
        expected = model(x)
    scale = float(expected.std())
    assert scale > 1e-4
    assert float((FoldedDnCNN(model, pad=0)(x) - expected).abs().max()) < 1e-5 * max(1.0, scale)


@pytest.mark.parametrize(("depth", "features", "pad"), [(17, 64, 10), (6, 5, 6), (4, 6, 10), (3, 4, 1)])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_is_cut_off_needs_no_computing(depth: int, features: int, pad: int, bfloat16: bool) -> None:
    model, x = random_dncnn(depth, features), images(2, 16, 19)
    whole = FoldedDnCNN(model, bfloat16=bfloat16, pad=0)(torch.nn.functional.pad(x, (pad,) * 4))
    expected = whole[:, :, pad : pad + 16, pad : pad + 19]
    found = FoldedDnCNN(model, bfloat16=bfloat16, pad=pad)(x)
    assert found.shape == x.shape and found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < (0.05 if bfloat16 else 1e-5)


def test_folding_uses_the_batch_norm_statistics() -> None:
    model = random_dncnn()
    before = FoldedDnCNN(model)(images())
    model.middle[1].running_mean += 1
    assert float((FoldedDnCNN(model)(images()) - before).abs().max()) > 1e-3


def test_bfloat16_is_close_and_not_equal() -> None:
    model, x = random_dncnn(), images()
    exact, rounded = (FoldedDnCNN(model, bfloat16=b, pad=0)(x) for b in (False, True))
    assert rounded.dtype == torch.float32
    error = float((exact - rounded).norm() / exact.norm())
    assert 0 < error < 0.05
    with torch.no_grad():
        trained_as = model(x, autocast=True)
    assert float((trained_as - rounded).norm() / exact.norm()) < 0.05


def test_the_filter_adds_and_cuts_ten_pixels_of_zeros() -> None:
    model, x = random_dncnn(depth=12, features=4), images(2, 24, 40)
    padded = torch.zeros(2, 3, 44, 60)
    padded[:, :, 10:34, 10:50] = x
    with torch.no_grad():
        expected, bare = model(padded)[:, :, 10:34, 10:50], model(x)
    found = Denoiser("", FoldedDnCNN(model), None, "")(x)
    assert PAD == 10
    scale = float(expected.std())
    assert float((found - expected).abs().max()) < 1e-4 * scale < float((bare - expected).abs().max())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)])
def test_other_shapes_than_batches_of_rgb_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(B, 3, H, W\)"):
        load_denoiser("highpass")(torch.zeros(shape))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (33, 20), (48, 64)])
def test_the_bias_is_subtracted_at_any_size(height: int, width: int) -> None:
    denoiser = random_denoiser(size=32)
    assert denoiser.bias is not None
    plain = Denoiser("plain", denoiser.filter, None, "h")
    x = images(2, height, width)
    difference = plain(x) - denoiser(x)
    expected = bias_for_size(denoiser.bias, height, width)
    assert float(expected.abs().min()) > 0
    np.testing.assert_allclose(difference, expected.expand(2, -1, -1, -1), atol=1e-7)


@settings(deadline=None)
@given(st.integers(2, 100), st.integers(2, 100), SIZES, SIZES)
def test_bias_keeps_the_four_corners(stored_h: int, stored_w: int, height: int, width: int) -> None:
    bias = torch.randn(3, stored_h, stored_w, generator=torch.Generator().manual_seed(stored_h))
    out = bias_for_size(bias, height, width)
    assert out.shape == (3, height, width)
    top, bottom = min((height + 1) // 2, (stored_h + 1) // 2), min(height // 2, stored_h // 2)
    left, right = min((width + 1) // 2, (stored_w + 1) // 2), min(width // 2, stored_w // 2)
    rows = [(slice(top), slice(top)), (slice(height - bottom, None), slice(stored_h - bottom, None))]
    columns = [(slice(left), slice(left)), (slice(width - right, None), slice(stored_w - right, None))]
    for row, stored_row in rows:
        for column, stored_column in columns:
            assert torch.equal(out[:, row, column], bias[:, stored_row, stored_column])


@pytest.mark.parametrize("size", [2, 15, 64, 100])
def test_bias_of_the_same_size_is_the_same(size: int) -> None:
    bias = torch.randn(3, size, size + 1)
    assert torch.equal(bias_for_size(bias, size, size + 1), bias)


def flat_residual(model: FoldedDnCNN, height: int, width: int) -> Tensor:
    """What the padded filter makes of a grey image: a true border pattern plus a constant, at any size."""
    return Denoiser("", model, None, "")(torch.full((1, 3, height, width), 0.4))[0]


@pytest.mark.parametrize(("height", "width"), [(72, 72), (66, 66), (65, 71), (100, 83), (64, 130)])
def test_bias_of_another_size_is_what_the_filter_would_have_given(height: int, width: int) -> None:
    """The planted truth: on a flat image the bias is known at every size, and one size must give the others."""
    model = FoldedDnCNN(random_dncnn(depth=6, features=5))
    measured = flat_residual(model, 80, 80)
    assert 2 * BORDER < 80
    truth = flat_residual(model, height, width)
    assert (
        float((truth - truth.mean((1, 2), keepdim=True)).abs().max()) > 1e-3
    )  # there is a border pattern to get wrong
    np.testing.assert_allclose(bias_for_size(measured, height, width), truth, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(90, 90), (128, 100)])
def test_the_border_profile_keeps_the_filters_bias_and_drops_the_sampling_noise(height: int, width: int) -> None:
    """The planted truth is the bias on a flat image; what n images leave is noise on top of it."""
    truth = flat_residual(FoldedDnCNN(random_dncnn(depth=6, features=5)), height, width)
    noise = 0.3 * float(truth.std()) * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    error = border_profile(truth + noise) - truth
    assert float(error.square().mean().sqrt()) < 0.35 * float(noise.square().mean().sqrt())
    inside = error[:, BORDER:-BORDER, BORDER:-BORDER]
    few = (height - 2 * BORDER) * (width - 2 * BORDER)
    assert float(inside.abs().max()) < 5 * float(noise.std()) / few**0.5
    assert torch.equal(inside, inside[:, :1, :1].expand_as(inside))


def test_a_bias_within_reach_of_its_borders_is_left_as_it_is() -> None:
    bias = torch.randn(3, 2 * BORDER, 200)
    assert torch.equal(border_profile(bias), bias)


def test_high_pass_of_a_constant_is_nothing() -> None:
    assert float(gaussian_high_pass(torch.full((1, 3, 16, 20), 0.7)).abs().max()) < 1e-6


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_high_pass_of_an_impulse(sigma: float) -> None:
    radius = round(3 * sigma)
    t = np.arange(-radius, radius + 1)
    kernel = np.exp(-(t**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    impulse = torch.zeros(1, 3, 21, 21)
    impulse[0, 1, 10, 10] = 1
    out = gaussian_high_pass(impulse, sigma)[0].numpy()
    expected = np.zeros((3, 21, 21))
    expected[1, 10 - radius : 11 + radius, 10 - radius : 11 + radius] = -np.outer(kernel, kernel)
    expected[1, 10, 10] += 1
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_high_pass_is_linear_and_blind_to_ramps() -> None:
    x, y = images(1, seed=1), images(1, seed=2)
    mixed = gaussian_high_pass(2 * x - 3 * y)
    np.testing.assert_allclose(mixed, 2 * gaussian_high_pass(x) - 3 * gaussian_high_pass(y), atol=1e-5)
    ramp = torch.arange(32.0).expand(1, 3, 32, 32) / 32  # straight lines pass a symmetric blur unchanged inside
    assert float(gaussian_high_pass(ramp)[..., 3:-3].abs().max()) < 1e-6
    assert float(gaussian_high_pass(ramp)[..., 0].abs().min()) > 1e-3


def test_the_high_pass_needs_no_file() -> None:
    denoiser = load_denoiser("highpass")
    assert (denoiser.name, denoiser.bias) == ("highpass", None)
    x = images()
    assert torch.equal(denoiser(x), gaussian_high_pass(x))


PLAIN = ("highpass:.5", "highpass:1", "highpass:3", *REFERENCES)


@pytest.mark.parametrize("name", PLAIN)
def test_filters_without_weights_find_planted_noise(name: str) -> None:
    """Noise of 5/255 on a smooth image is in the residual; nothing of a constant one is, and images stay apart."""
    denoiser = load_denoiser(name)
    y, x = torch.meshgrid(*(torch.arange(48.0),) * 2, indexing="ij")
    smooth = (0.5 + 0.3 * torch.sin(x / 15) * torch.cos(y / 12)).expand(2, 3, 48, 48)
    noise = 5 / 255 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(3))
    found = denoiser(smooth + noise)
    assert found.shape == smooth.shape and found.dtype == torch.float32
    assert float(torch.corrcoef(torch.stack([found.ravel(), noise.ravel()]))[0, 1]) > 0.8
    assert float(denoiser(torch.full((1, 3, 48, 48), 0.3)).abs().max()) < 1e-6
    torch.testing.assert_close(denoiser((smooth + noise)[1:]), found[1:])
    assert denoiser.bias is None


def test_filters_without_weights_are_told_apart_by_hash_and_restored_by_name(tmp_path: Path) -> None:
    found = [load_denoiser(name, limit=limit) for name in (*PLAIN, "highpass") for limit in (None, LIMIT)]
    assert len({d.hash[:16] for d in found}) == len(found) - 2  # "highpass" is "highpass:1"
    real, fake = images(6, seed=1), images(6, seed=2) + 0.1 * torch.randn(3, 32, 32)
    for denoiser in found:
        made = fit_pattern("marra18", denoiser(real).numpy(), denoiser(fake).numpy(), denoiser)
        read = Detector.load(made.save(tmp_path / "f.safetensors")).filter()
        assert (read.name, read.hash, read.limit) == (denoiser.name, denoiser.hash, denoiser.limit)


@pytest.mark.parametrize("name", ["wavelets", "highpass:", "highpass:a", "wavelet:mean"])
def test_unknown_filters_are_refused_with_the_names(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="photos-long, scenes, highpass, highpass:SIGMA, wavelet, tv, nlm"):
        load_denoiser(name)
    for sigma in (0.4, 4, 0):
        with pytest.raises(ValueError, match=rf"0.5 to 3.0 px, not {sigma}"):
            load_denoiser(f"highpass:{sigma}")


def test_a_file_gives_back_the_network(tmp_path: Path) -> None:
    model, bias = random_dncnn(depth=5, features=7), torch.randn(3, 24, 24)
    path = save_denoiser(tmp_path / "new" / "d.safetensors", model, bias, {"data": "made up", "steps": 3, "seed": 4})
    loaded, loaded_bias, metadata = read_dncnn(path)
    assert not loaded.training
    state = model.state_dict()
    for key, value in loaded.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, state[key]), key
    assert torch.equal(loaded_bias, bias.half().float())
    assert {k: metadata[k] for k in ("data", "steps", "seed", "depth", "features", "kind")} == {
        "data": "made up", "steps": 3, "seed": 4, "depth": 5, "features": 7, "kind": "dncnn",
    }  # fmt: skip
    denoiser = load_denoiser(path)
    x = images(1, 24, 24)
    with torch.no_grad():
        padded = model(torch.nn.functional.pad(x, (10,) * 4))[:, :, 10:-10, 10:-10]
    np.testing.assert_allclose(denoiser(x), padded - bias.half().float(), atol=1e-5)
    assert (denoiser.name, denoiser.metadata["steps"]) == ("d", 3)


def test_the_hash_tells_filters_apart_from_its_first_letters(tmp_path: Path) -> None:
    """The cache keeps sixteen letters of it."""
    paths = [
        save_denoiser(tmp_path / "a.safetensors", random_dncnn(seed=1), torch.zeros(3, 8, 8), {}),
        save_denoiser(tmp_path / "b.safetensors", random_dncnn(seed=2), torch.zeros(3, 8, 8), {}),
        save_denoiser(tmp_path / "c.safetensors", random_dncnn(seed=1), torch.ones(3, 8, 8), {}),
    ]
    found = [load_denoiser(p) for p in paths] + [load_denoiser(paths[0], bfloat16=True), load_denoiser("highpass")]
    assert len({d.hash[:16] for d in found}) == 5
    assert load_denoiser(paths[0]).hash == found[0].hash


def denoiser_with(path: Path, drop: str = "", **changes: object) -> None:
    """A denoiser file with one tensor missing or other metadata."""
    model = random_dncnn(3, 4)
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    tensors = {k: v for k, v in {**tensors, "bias": torch.zeros(3, 8, 8)}.items() if k != drop}
    facts = {"depth": 3, "features": 4, "kind": "dncnn", **changes}
    save_file(tensors, path, {k: json.dumps(v) for k, v in facts.items() if v is not None})


NOT_DENOISERS: dict[str, Callable[[Path], object]] = {
    "random bytes": lambda p: p.write_bytes(np.random.default_rng(0).bytes(4096)),
    "empty": lambda p: p.write_bytes(b""),
    "torch": lambda p: torch.save(random_dncnn(3, 4).state_dict(), p),
    "a fingerprint": lambda p: Detector(torch.rand(3, 8, 8), 0, 1).save(p),
    "foreign metadata": lambda p: save_file({"bias": torch.zeros(3, 8, 8)}, p, {"format": "pt"}),
    "no metadata": lambda p: save_file({"bias": torch.zeros(3, 8, 8)}, p),
    "no bias": lambda p: denoiser_with(p, drop="bias"),
    "no first layer": lambda p: denoiser_with(p, drop="first.0.weight"),
    "no depth": lambda p: denoiser_with(p, depth=None),
    "another depth": lambda p: denoiser_with(p, depth=4),
    "other features": lambda p: denoiser_with(p, features=5),
    "depth of text": lambda p: denoiser_with(p, depth="three"),
}


@pytest.mark.parametrize("write", NOT_DENOISERS.values(), ids=NOT_DENOISERS.keys())
def test_other_files_are_refused_by_name(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / "d.safetensors"
    write(path)
    with pytest.raises(ValueError, match="not a difcore denoiser") as caught:
        load_denoiser(path)
    assert str(path) in str(caught.value)


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no denoiser weights at .*nowhere"):
        load_denoiser(tmp_path / "nowhere.safetensors")
    monkeypatch.setitem(denoisers.SHIPPED, "photos", tmp_path / "gone.safetensors")
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        load_denoiser("photos")


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_shipped_weights(name: str) -> None:
    path = SHIPPED[name]
    if not path.is_file():
        pytest.skip(f"data/{path.name} is not there")
    assert path.stat().st_size <= 3 * 2**20
    denoiser = load_denoiser(name)
    facts = denoiser.metadata
    assert (denoiser.name, facts["depth"], facts["features"]) == (name, 17, 64)
    assert facts["data"] and facts["steps"] > 0 and isinstance(facts["plan"]["seed"], int)
    assert any("psnr" in key for key in facts), sorted(facts)
    assert denoiser.bias is not None and denoiser.bias.shape == (3, 256, 256)
    assert 0 < float(denoiser.bias.abs().max()) < 0.2  # largest at the corners, where the padding is an edge
    # It is a denoiser: of noise on a smooth image it finds most, and adds little where there is none.
    y, x = torch.meshgrid(torch.linspace(0.2, 0.7, 64), torch.linspace(0.3, 0.6, 64), indexing="ij")
    clean = torch.stack([y, x, (x + y) / 2])[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * 10 / 255
    left = (denoiser.filter(clean + noise) - noise)[..., 8:-8, 8:-8]
    assert float(left.square().mean()) < 0.5 * (10 / 255) ** 2


# Limited residuals


def test_a_limit_applies_after_the_bias_and_is_cached_apart(tmp_path: Path) -> None:
    path = save_denoiser(tmp_path / "d.safetensors", random_dncnn(depth=5, features=4), torch.randn(3, 32, 32) / 50, {})
    plain, held, usual = (load_denoiser(path, limit=limit) for limit in (None, 0.5, LIMIT))
    x = images(2, 32, 32)
    torch.testing.assert_close(held(x), limited(plain(x), 0.5))
    assert float((held(x) - plain(x)).abs().max()) > 0
    assert (plain.limit, held.limit, usual.limit) == (None, 0.5, LIMIT)
    assert load_denoiser(path).hash == plain.hash
    high = [load_denoiser("highpass", limit=limit) for limit in (None, 0.5)]
    torch.testing.assert_close(high[1](x), limited(gaussian_high_pass(x), 0.5))
    assert len({d.hash[:16] for d in (plain, held, usual, *high)}) == 5
