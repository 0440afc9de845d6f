"""Shared residuals: one noise, groups of it, a repeating grid, and nothing; planted, and in the known sets."""

import csv
from pathlib import Path

import numpy as np
import pytest

from difcore.audit import shared_noise
from difcore.audit.shared_noise import SharedResidual
from difcore.images.crops import centre_crop, decode
from difcore.images.folders import list_images

SIDE = 128


def images(count: int, pattern: np.ndarray | None = None, strength: float = 0.0, seed: int = 0) -> list[np.ndarray]:
    """Grey images of independent noise of 6 grey levels, with a pattern of unit spread added at ``strength``."""
    rng = np.random.default_rng(seed)
    found = 128 + 6 * rng.standard_normal((count, SIDE, SIDE, 3)) + (0 if pattern is None else strength * pattern)
    return list(np.clip(np.rint(found), 0, 255).astype(np.uint8))


def shared_residual(made: list[np.ndarray]) -> SharedResidual:
    found = shared_noise.shared_residual(made)
    assert found
    return found


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE, 3))


def test_independent_images_share_nothing() -> None:
    found = shared_residual(images(12))
    assert len(found.pairs) == 66
    assert abs(found.mean) < 4 * found.error
    assert found.in_groups() == 0
    assert found.sizes() == [1] * 12


def test_one_noise_is_found_and_repeats_nowhere() -> None:
    found = shared_residual(images(12, noise(99), 2))
    plain = 2**2 / (2**2 + 6**2)
    assert 2 / np.pi * np.arcsin(plain) < found.mean < plain  # a limiter lies between the sign and no limit
    assert found.repeating < 0.1
    assert found.placed > 0.06
    assert found.in_groups() == 1


def test_a_grid_repeats() -> None:
    tile = np.random.default_rng(5).standard_normal((8, 8, 3))
    found = shared_residual(images(12, np.tile(tile, (SIDE // 8, SIDE // 8, 1)), 2))
    assert found.mean > 0.05
    assert found.repeating > 0.9
    assert found.placed < 0.01


def test_a_grid_of_sixteen_repeats_too() -> None:
    tile = np.random.default_rng(6).standard_normal((16, 16, 3))
    assert shared_residual(images(12, np.tile(tile, (SIDE // 16, SIDE // 16, 1)), 2)).repeating > 0.9


def test_groups_of_one_seed_are_told_apart() -> None:
    made = [images(6, noise(100 + k), 3, seed=k) for k in range(3)]
    order = np.random.default_rng(7).permutation(18)
    found = shared_residual([sum(made, [])[k] for k in order])
    assert found.sizes() == [6, 6, 6]
    assert len({(group, k // 6) for group, k in zip(found.groups, order, strict=True)}) == 3


def test_constant_images_are_left_out() -> None:
    made, flat = images(8, noise(99), 2), np.full((SIDE, SIDE, 3), 7, np.uint8)
    found, alone = shared_residual([flat, *made, flat]), shared_residual(made)
    np.testing.assert_allclose(found.pairs, alone.pairs, atol=1e-6)
    assert (found.mean, found.error) == pytest.approx((alone.mean, alone.error), rel=1e-4)
    assert alone.mean == pytest.approx(alone.pairs.mean(), rel=1e-6)
    assert shared_noise.shared_residual([flat] * 3) is None


def test_the_error_is_that_of_repeated_draws() -> None:
    runs = [shared_residual(images(8, noise(99), 1, seed=k)) for k in range(30)]
    spread = np.std([run.mean for run in runs])
    assert 0.5 < np.mean([run.error for run in runs]) / spread < 2.5


@pytest.mark.parametrize("made", [images(2), [image[:60] for image in images(4)]], ids=["few", "small"])
def test_too_few_or_too_small(made: list[np.ndarray]) -> None:
    assert shared_noise.shared_residual(made) is None


def crops(shared_data: Path, name: str, count: int) -> list[np.ndarray]:
    return [centre_crop(decode(path), 256) for path in list_images(shared_data / name)[:count]]


@pytest.mark.slow
def test_sd1_has_two_starting_noises_and_sd14_none(shared_data: Path) -> None:
    """Even and odd file numbers: the script drew two images a prompt from one seed."""
    paths = list_images(shared_data / "sd1")[:30]
    odd = np.array([int(path.stem) % 2 for path in paths])
    found = shared_residual(crops(shared_data, "sd1", 30))
    i, j = np.triu_indices(len(odd), 1)
    assert found.pairs[odd[i] == odd[j]].mean() > 0.02
    assert found.pairs[odd[i] != odd[j]].mean() < 0.003
    assert found.repeating < 0.15
    for name in ("sd14", "photos/test"):
        assert shared_residual(crops(shared_data, name, 30)).placed < 0.001


@pytest.mark.slow
def test_glid3xl_falls_into_the_groups_of_its_seeds(shared_data: Path) -> None:
    rows = csv.DictReader((shared_data / "sources.csv").read_text(encoding="utf-8").splitlines())
    seeds = [row["path"].rpartition("-")[2] for row in rows if row["file"].startswith("glid3xl/")]
    found = shared_residual(crops(shared_data, "glid3xl", 100))
    large = [g for g, size in enumerate(np.bincount(found.groups)) if size > 10]
    assert len(large) == 5
    for group in large:
        assert len({seed for seed, g in zip(seeds, found.groups, strict=True) if g == group}) == 1
