"""Residual sets: order, skip list, cache and memory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import CountingFilter, counting_denoiser, noise_images, random_denoiser, write_images

from difcore.images.crops import read_crop, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError
from difcore.machine.devices import to_batch
from difcore.residuals import sets as residuals
from difcore.residuals.denoisers import Denoiser, load_denoiser
from difcore.residuals.sets import ResidualSet, residuals_of

pytestmark = pytest.mark.usefixtures("one_thread", "cache")


@pytest.fixture
def denoiser() -> tuple[Denoiser, CountingFilter]:
    return counting_denoiser()


def test_residuals_are_what_the_denoiser_makes_of_the_centre_crops(tmp_path: Path) -> None:
    images = noise_images(5, 30)
    paths = write_images(tmp_path / "x", images)
    denoiser = random_denoiser(size=20)
    expected = denoiser(to_batch(images[:, 5:25, 5:25]))
    for source in (tmp_path / "x", str(tmp_path / "x"), paths, images):
        found = residuals_of(source, denoiser, 20, cache=False)
        assert found.values.shape == (5, 3, 20, 20) and found.values.dtype == np.float16
        np.testing.assert_allclose(found.values, expected, atol=1e-3 * float(expected.abs().max()))
    assert float(expected.std()) > 1e-3


def test_order_and_names_are_the_sources(tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]) -> None:
    images = np.stack([np.full((16, 16, 3), 10 * k, np.uint8) for k in range(12)])
    paths = write_images(tmp_path / "x", images)
    shuffled = [paths[k] for k in (7, 0, 11, 3)]
    found = residuals_of(shuffled, denoiser[0], 16)
    assert found.names == tuple(map(str, shuffled))
    assert found.hashes == tuple(sha256_pixels(images[k]) for k in (7, 0, 11, 3))
    np.testing.assert_allclose(found.values.mean((1, 2, 3)) * 510, [70, 0, 110, 30], atol=0.1)
    # now with some of them in the cache and some not
    again = residuals_of(paths, denoiser[0], 16)
    np.testing.assert_allclose(again.values.mean((1, 2, 3)) * 510, np.arange(12) * 10, atol=0.1)
    assert residuals_of(images, denoiser[0], 16).names == tuple(map(str, range(12)))


def test_paths_given_as_text_are_files(tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]) -> None:
    images = noise_images(2, 16)
    paths = write_images(tmp_path / "x", images)
    found = residuals_of([str(p) for p in paths], denoiser[0], 16)  # type: ignore[list-item]
    assert found.hashes == tuple(map(sha256_pixels, images))


def test_nothing_is_denoised_twice(tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter], cache: Path) -> None:
    made, count = denoiser
    paths = write_images(tmp_path / "x", noise_images(6, 16))
    first = residuals_of(tmp_path / "x", made, 16)
    assert count.images == 6
    second = residuals_of(paths[::-1], made, 16)
    assert count.images == 6
    assert np.array_equal(second.values, first.values[::-1])
    shutil.copy(paths[0], tmp_path / "renamed.png")  # the key is the content
    residuals_of([tmp_path / "renamed.png"], made, 16)
    assert count.images == 6
    assert len(list(cache.rglob("*.npy"))) == 6


def test_copies_within_a_set_are_denoised_once(tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]) -> None:
    made, count = denoiser
    images = noise_images(3, 16)[[0, 1, 0, 2, 2, 0]]
    paths = write_images(tmp_path / "x", images)
    for source, option in ((paths, True), (images, False)):
        count.images = 0
        found = residuals_of(source, made, 16, cache=option)
        assert count.images == 3 and len(found) == 6 and len(set(found.hashes)) == 3
        np.testing.assert_allclose(found.values, to_batch(images) / 2, atol=1e-3)


def test_without_a_cache_nothing_is_written(
    tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter], cache: Path
) -> None:
    made, count = denoiser
    for _ in range(2):
        residuals_of(noise_images(3, 16), made, 16, cache=False)
    assert count.images == 6 and not cache.exists()
    residuals_of(noise_images(3, 16), made, 16, cache=tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").rglob("*.npy"))) == 3 and not cache.exists()


@pytest.mark.parametrize("damage", ["empty", "random", "cut", "other shape", "pickled"])
def test_a_damaged_cache_file_is_made_again(
    tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter], cache: Path, damage: str
) -> None:
    made, count = denoiser
    images = noise_images(2, 16)
    first = residuals_of(images, made, 16)
    victim = sorted(cache.rglob("*.npy"))[0]
    content = victim.read_bytes()
    if damage == "other shape":
        np.save(victim, np.zeros((3, 8, 8), np.float16))
    elif damage == "pickled":
        np.save(victim, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        victim.write_bytes({"empty": b"", "random": bytes(range(256)) * 9, "cut": content[:-100]}[damage])
    second = residuals_of(images, made, 16)
    assert count.images == 3
    assert np.array_equal(first.values, second.values)
    assert victim.read_bytes() == content
    residuals_of(images, made, 16)
    assert count.images == 3


def test_another_filter_crop_or_encoding_is_another_residual(tmp_path: Path) -> None:
    images = noise_images(3, 32)
    one, count = counting_denoiser("one", 0.5)
    other, other_count = counting_denoiser("two", 0.25)
    plain = residuals_of(images, one, 16).values.copy()
    assert np.array_equal(residuals_of(images, other, 16).values, (plain.astype(np.float32) / 2).astype(np.float16))
    assert (count.images, other_count.images) == (3, 3)
    assert residuals_of(images, one, 24).values.shape[-1] == 24
    encoded = residuals_of(images, one, 16, jpeg=50).values
    expected = to_batch(np.stack([read_crop(image, 16, 50) for image in images])) / 2
    np.testing.assert_allclose(encoded, expected, atol=1e-3)
    assert not np.array_equal(encoded, plain)
    better = residuals_of(images, one, 16, jpeg=95).values
    assert not np.array_equal(better, encoded)
    assert count.images == 12
    assert np.array_equal(residuals_of(images, one, 16).values, plain) and count.images == 12


def test_an_impossible_quality_is_refused_even_if_cached(denoiser: tuple[Denoiser, CountingFilter]) -> None:
    images = noise_images(2, 16)
    residuals_of(images, denoiser[0], 16)
    for quality in (0, 101):
        with pytest.raises(ValueError, match="JPEG quality"):
            residuals_of(images, denoiser[0], 16, jpeg=quality)


def test_arrays_of_the_same_bytes_and_another_shape_are_other_images(denoiser: tuple[Denoiser, CountingFilter]) -> None:
    square = noise_images(1, 32)
    wide = square.reshape(1, 16, 64, 3)
    first, second = (residuals_of(x, denoiser[0], 16) for x in (square, wide))
    assert first.hashes != second.hashes
    np.testing.assert_allclose(second.values, to_batch(wide[:, :, 24:40]) / 2, atol=1e-3)


def test_the_same_pixels_under_other_bytes_are_the_same_image(
    tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]
) -> None:
    pixels = noise_images(1, 40)[0]
    kinds: dict[str, dict[str, Any]] = {
        "a.png": {},
        "stripped.png": {"compress_level": 1},
        "text.png": {"pnginfo": text_chunk("workflow")},
        "b.bmp": {},
        "c.webp": {"lossless": True},
        "d.tiff": {"compression": "tiff_lzw"},
    }
    for name, options in kinds.items():
        Image.fromarray(pixels).save(tmp_path / name, **options)
    made, count = denoiser
    found = residuals_of([tmp_path / name for name in kinds], made, 16)
    assert set(found.hashes) == {sha256_pixels(pixels[12:28, 12:28])} and count.images == 1
    assert (found.values == found.values[0]).all()
    other = pixels.copy()
    other[20, 20, 1] ^= 1
    Image.fromarray(other).save(tmp_path / "e.png")
    assert residuals_of([tmp_path / "e.png"], made, 16).hashes[0] != found.hashes[0]
    assert residuals_of([tmp_path / "a.png"], made, 16, jpeg=90).hashes[0] == found.hashes[0]  # before re-encoding


def text_chunk(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", text)
    return info


def test_equal_images_have_equal_hashes(tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]) -> None:
    images = noise_images(3, 16)[[0, 1, 0]]
    for source in (images, write_images(tmp_path / "x", images)):
        hashes = residuals_of(source, denoiser[0], 16).hashes
        assert hashes[0] == hashes[2] != hashes[1]


def test_unusable_images_are_listed_with_their_reason(
    tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]
) -> None:
    folder = tmp_path / "x"
    good = write_images(folder, noise_images(3, 20), "good")
    small = write_images(folder, noise_images(1, 15), "e-small")
    (folder / "h-text.png").write_text("no image")
    (folder / "a-cut.png").write_bytes(good[0].read_bytes()[:300])
    found = residuals_of(folder, denoiser[0], 16)
    assert [Path(n).name for n in found.names] == ["good000.png", "good001.png", "good002.png"]
    assert [s.path.name for s in found.skipped] == ["a-cut.png", "e-small000.png", "h-text.png"]
    assert found.skipped[1].reason == "too small: 15x15 px for a crop of 16 px"
    assert all(len(s.reason) > 10 for s in found.skipped)
    np.testing.assert_allclose(found.values, to_batch(noise_images(3, 20)[:, 2:18, 2:18]) / 2, atol=1e-3)
    listed = residuals_of([good[2], tmp_path / "gone.png", small[0], good[0]], denoiser[0], 16)
    assert listed.names == (str(good[2]), str(good[0]))
    assert [s.path.name for s in listed.skipped] == ["gone.png", "e-small000.png"]
    assert "gone" in str(listed.skipped[0].path) and listed.skipped[0].reason


def test_unusable_arrays_are_numbered_by_their_place(denoiser: tuple[Denoiser, CountingFilter]) -> None:
    with pytest.raises(ImageError, match=r"none of 2 images could be used \(too small: 8x8 px"):
        residuals_of(noise_images(2, 8), denoiser[0], 16)


def test_not_one_usable_image_is_an_error_with_reasons(
    tmp_path: Path, denoiser: tuple[Denoiser, CountingFilter]
) -> None:
    write_images(tmp_path / "x", noise_images(2, 8))
    (tmp_path / "x" / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match="none of 3 images could be used") as caught:
        residuals_of(tmp_path / "x", denoiser[0], 16)
    assert "too small: 8x8 px" in str(caught.value)
    with pytest.raises(FolderError, match="holds no images"):
        (tmp_path / "empty").mkdir()
        residuals_of(tmp_path / "empty", denoiser[0], 16)
    assert denoiser[1].images == 0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((2, 16, 16), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((2, 16, 16, 4), np.uint8),
    ],
    ids=lambda x: f"{x.dtype} {x.shape}",
)
def test_arrays_of_another_kind_are_refused(wrong: np.ndarray, denoiser: tuple[Denoiser, CountingFilter]) -> None:
    with pytest.raises(ValueError, match=r"uint8 images \(N, H, W, 3\)"):
        residuals_of(wrong, denoiser[0], 16)


def test_large_sets_live_in_a_file(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    images, denoiser = noise_images(9, 16), random_denoiser(size=16)
    small = residuals_of(images, denoiser, 16, cache=False)
    assert not isinstance(small.values, np.memmap)
    monkeypatch.setattr(residuals, "IN_MEMORY", 9 * 3 * 16 * 16 * 2 - 1)
    large = residuals_of(images, denoiser, 16, cache=False)
    assert isinstance(large.values, np.memmap)
    assert np.array_equal(large.values, small.values)
    assert list(cache.rglob("*.npy")) == []  # the file has no name: it goes with the array
    monkeypatch.setattr(residuals, "IN_MEMORY", 9 * 3 * 16 * 16 * 2)
    assert not isinstance(residuals_of(images, denoiser, 16, cache=False).values, np.memmap)


def test_few_images_reach_the_filter_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def record(x: torch.Tensor) -> torch.Tensor:
        batches.append(len(x))
        return x

    monkeypatch.setitem(residuals.PIXELS_PER_CALL, "cpu", 4 * 16 * 16)
    residuals_of(noise_images(10, 16), Denoiser("record", record, None, "abc"), 16, cache=False)
    assert batches == [4, 4, 2]


def test_the_bias_is_part_of_what_is_cached() -> None:
    images, denoiser = noise_images(2, 32), random_denoiser(size=32)
    assert denoiser.bias is not None
    plain = replace(denoiser, bias=None, hash="other")
    difference = residuals_of(images, plain, 32).values.astype(np.float32) - residuals_of(images, denoiser, 32).values
    np.testing.assert_allclose(difference, denoiser.bias.expand(2, -1, -1, -1), atol=2e-3)


def test_taking_some() -> None:
    values = np.arange(4 * 12, dtype=np.float16).reshape(4, 3, 2, 2)
    whole = ResidualSet(values, tuple("abcd"), tuple("wxyz"))
    for index in ([2, 0], np.array([2, 0]), (2, 0)):
        part = whole.take(index)
        assert (part.names, part.hashes) == (("c", "a"), ("y", "w")) and len(part) == 2
        assert np.array_equal(part.values, values[[2, 0]])
    assert whole.take(slice(1, 3)).names == ("b", "c")
    assert whole.take(np.array([True, False, False, True])).names == ("a", "d")
    assert len(whole.take([])) == 0


def test_the_high_pass_on_real_files(tmp_path: Path) -> None:
    images = noise_images(2, 40)
    write_images(tmp_path / "x", images)
    found = residuals_of(tmp_path / "x", load_denoiser("highpass"), 32)
    expected = load_denoiser("highpass")(to_batch(images[:, 4:36, 4:36]))
    np.testing.assert_allclose(found.values, expected, atol=1e-3)


def test_files_are_read_ahead_in_order_and_reasons_are_kept(tmp_path: Path) -> None:
    """More files than threads read ahead, some of no use: each residual, name and reason stays with its own."""
    images = noise_images(20, 16)
    paths = write_images(tmp_path, images)
    for k in (0, 7, 19):
        paths[k].write_bytes(b"no image")
    found = residuals_of(paths, counting_denoiser()[0], 16, cache=False)
    rest = [k for k in range(20) if k not in (0, 7, 19)]
    assert found.names == tuple(str(paths[k]) for k in rest)
    assert [s.path for s in found.skipped] == [paths[k] for k in (0, 7, 19)]
    alone = np.stack([residuals_of([paths[k]], counting_denoiser()[0], 16, cache=False).values[0] for k in rest])
    np.testing.assert_array_equal(found.values, alone)


def test_a_mistake_of_the_program_is_no_skipped_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_images(tmp_path, noise_images(3, 16))
    monkeypatch.setattr(residuals, "read_crop", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        residuals_of(paths, counting_denoiser()[0], 16, cache=False)
