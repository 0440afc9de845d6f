"""Procedural photographs: deterministic, diverse, with a natural spectrum and a camera's traces."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from difcore.images.scenes import (
    STYLES,
    bayer_camera,
    dead_leaves,
    fractal_noise,
    hue_to_rgb,
    scene,
    scenes,
)

UNIT = st.floats(0, 1)


def spectral_slope(images: np.ndarray) -> float:
    """Log-log slope of the radially averaged mean power spectrum of uint8 images (N, H, W, 3), over 4 to 64 cycles.

    About -2 for natural photographs (Field 1987). A Hann window keeps the border out of the spectrum.
    """
    grey = np.asarray(images, np.float32).mean(-1)
    size = grey.shape[1]
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    grey = (grey - grey.mean((1, 2), keepdims=True)) * window
    power = (np.abs(np.fft.fft2(grey)) ** 2).mean(0)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size))
    radii = np.arange(4, size // 4 + 1)
    radial = ndimage.mean(power, np.round(f).astype(int), radii)
    return float(np.polyfit(np.log(radii), np.log(radial), 1)[0])


def test_a_scene_is_a_function_of_its_arguments() -> None:
    first = scene(7, 48)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    np.random.random(5)  # noqa: NPY002
    assert np.array_equal(scene(7, 48), first)
    assert np.array_equal(next(scenes(1, 48, first_seed=7)), first)


def test_scenes_share_no_phase_of_the_mosaic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the lattice of the mosaic would be a fingerprint of all scenes, and any detector could live on it."""
    monkeypatch.setattr(
        "difcore.images.scenes.bayer_camera",
        lambda image, rng, demosaic: np.moveaxis(np.indices(image.shape[:2]), 0, -1) % 2,
    )
    phases = [tuple(scene(seed, 16)[0, 0]) for seed in range(32)]
    assert len(set(phases)) == 4 and max(map(phases.count, phases)) < 20


def test_seeds_and_styles_give_other_scenes() -> None:
    different = [scene(seed, 32) for seed in range(4)] + [scene(0, 32, style) for style in STYLES if style != "mixed"]
    for k, image in enumerate(different):
        for other in different[:k]:
            assert np.abs(image.astype(int) - other).mean() > 5


@pytest.mark.parametrize("size", [16, 33, 64])
def test_size_and_type(size: int) -> None:
    image = scene(3, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8 and image.flags.c_contiguous


def test_a_series_counts_its_seeds_up() -> None:
    series = scenes(3, 24, "city", first_seed=10)
    assert isinstance(series, Iterator)
    images = list(series)
    assert len(images) == 3
    for k, image in enumerate(images):
        assert np.array_equal(image, scene(10 + k, 24, "city"))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown scene style 'desert'; choose from mixed, pebbles"):
        scene(0, 32, "desert")
    with pytest.raises(ValueError, match="at least 16 px"):
        scene(0, 15)


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_the_spectrum_falls_like_that_of_photographs(first_seed: int) -> None:
    assert -2.6 <= spectral_slope(np.stack(list(scenes(16, 128, first_seed=first_seed)))) <= -1.6


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, 0.0), (0.5, -1.0), (1.0, -2.0)])
def test_the_slope_of_a_known_spectrum(exponent: float, expected: float) -> None:
    """Noise whose amplitude falls as f^-a has a power spectrum of slope -2a."""
    rng = np.random.default_rng(0)
    fields = np.stack([fractal_noise(128, rng, exponent) for _ in range(16)])
    assert abs(float(fields[0].mean())) < 1e-5 and float(fields[0].std()) == pytest.approx(1, abs=1e-4)
    images = np.round(128 + 20 * fields)[..., None].repeat(3, -1).clip(0, 255).astype(np.uint8)
    assert spectral_slope(images) == pytest.approx(expected, abs=0.12)


@given(UNIT, UNIT, UNIT)
def test_colours_are_those_of_the_standard_library(hue: float, saturation: float, value: float) -> None:
    found = hue_to_rgb(np.array([hue]), np.array([saturation]), np.array([value]))[0]
    np.testing.assert_allclose(found, colorsys.hsv_to_rgb(hue % 1, saturation, value), atol=1e-9)


@pytest.mark.parametrize("style", STYLES)
def test_leaves_are_radiances_with_contrast(style: str) -> None:
    radiance = dead_leaves(40, np.random.default_rng(1), STYLES[style])
    assert radiance.shape == (40, 40, 3) and radiance.dtype == np.float32
    assert 0 <= radiance.min() < radiance.max() <= 1 and radiance.std() > 0.02


def test_the_camera_keeps_the_exposure_and_adds_little_noise() -> None:
    photo = bayer_camera(np.full((64, 64, 3), [0.2, 0.5, 0.8], np.float32), np.random.default_rng(0))
    np.testing.assert_allclose(photo.mean((0, 1)) / 255, [0.2, 0.5, 0.8], atol=0.005)
    assert photo.std((0, 1)).min() > 0.3 and photo.std((0, 1)).max() < 8


def test_the_camera_leaves_the_trace_of_its_mosaic() -> None:
    """Red is measured where row and column are even; where both are odd it is a mean of four: a quarter of it."""
    photo = bayer_camera(np.full((256, 256, 3), 0.5, np.float32), np.random.default_rng(2)).astype(float)
    rounding = 1 / 12
    measured, interpolated, between = (photo[r::2, c::2, 0].var() - rounding for r, c in ((0, 0), (1, 1), (0, 1)))
    assert measured / interpolated == pytest.approx(4, rel=0.15)
    assert measured / between == pytest.approx(2, rel=0.15)
    assert photo[1::2, 1::2, 2].var() > 2 * photo[::2, ::2, 2].var()  # blue sits at the odd ones


def test_a_binned_sensor_leaves_none() -> None:
    photo = bayer_camera(np.full((256, 256, 3), 0.5, np.float32), np.random.default_rng(2), "binned").astype(float)
    phases = np.array([photo[r::2, c::2].var((0, 1)) for r in (0, 1) for c in (0, 1)])  # (4, 3)
    assert (phases.max(0) / phases.min(0)).max() < 1.1
    assert phases.mean(0)[0] / phases.mean(0)[1] == pytest.approx(2, rel=0.1)  # green is the mean of two photosites


@pytest.mark.parametrize("demosaic", ["bilinear", "binned"])
def test_the_camera_keeps_colours_and_a_slope_in_place(demosaic: str) -> None:
    ramp = np.linspace(0.3, 0.7, 64, dtype=np.float32)
    light = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 0.5, np.float32)], -1)
    photos = [bayer_camera(light, np.random.default_rng(k), demosaic) for k in range(16)]
    found = np.mean(photos, 0)[8:-8, 8:-8] / 255
    assert np.abs(found.mean((0, 1)) - light[8:-8, 8:-8].mean((0, 1))).max() < 0.005
    assert np.abs(found - light[8:-8, 8:-8]).mean() < 0.01
