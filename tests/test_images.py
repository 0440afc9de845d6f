"""Centre crops of native pixels; one test for each kind of bad input."""

from __future__ import annotations

import io
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FORMATS, Write, encoded, noise, png_of, reason
from PIL import Image, ImageFile

from difcore.images.crops import Skipped, centre_crop, centre_crops, decode, read_crop, skip_report
from difcore.images.decoding import ImageError, centre_offset
from difcore.images.folders import list_images

# --- crops of native pixels


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.sampled_from(["PNG", "BMP", "TIFF"]))
def test_crop_is_a_slice_of_the_native_pixels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, crop: int, format: str
) -> None:
    pixels = noise(height, width, seed=height * 61 + width)
    path = tmp_path_factory.getbasetemp() / f"crop.{format.lower()}"
    path.write_bytes(encoded(pixels, format))
    if crop > min(height, width):
        for source in (path, pixels):
            with pytest.raises(ImageError, match=rf"too small: {width}x{height} px for a crop of {crop} px"):
                read_crop(source, crop)
        return
    top, left = (round(Fraction(size - crop, 2)) for size in (height, width))
    expected = pixels[top : top + crop, left : left + crop]
    for source in (path, pixels):
        result = read_crop(source, crop)
        assert result.shape == (crop, crop, 3) and result.dtype == np.uint8 and result.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(decode(path), pixels)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_centre_crop_leaves_equal_borders(height: int, width: int, data: st.DataObject) -> None:
    crop = data.draw(st.integers(1, min(height, width)))
    rows, columns = np.mgrid[:height, :width]
    view = centre_crop(np.stack([rows, columns], -1), crop)
    for axis, size in enumerate((height, width)):
        before, after = int(view[0, 0, axis]), size - 1 - int(view[-1, -1, axis])
        assert abs(after - before) <= 1 and (before == after or before % 2 == 0)


@pytest.mark.parametrize(
    ("size", "crop", "first"),
    [(256, 256, 0), (257, 256, 0), (258, 256, 1), (259, 256, 2), (261, 256, 2), (263, 256, 4), (512, 256, 128)],
)
def test_a_centre_crop_begins_where_torchvision_s_does(file: Write, size: int, crop: int, first: int) -> None:
    assert centre_offset(size, crop) == first
    columns = np.broadcast_to(np.arange(size) // 2, (crop, size))[..., None]
    pixels = np.concatenate([columns, np.broadcast_to(np.arange(size) % 2, (crop, size))[..., None]] * 2, -1)
    pixels = pixels[..., :3].astype(np.uint8)
    path = file(encoded(pixels, "PNG"))
    for result in (read_crop(path, crop), read_crop(pixels, crop), centre_crops(pixels[None], crop)[0]):
        assert int(result[0, 0, 0]) * 2 + int(result[0, 0, 1]) == first


def test_a_jpeg_crop_is_cut_after_decoding_not_decoded_smaller(file: Write) -> None:
    content = encoded(noise(200, 300), "JPEG", quality=90)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_crop(file(content), 64), whole[68:132, 118:182])


def test_result_is_a_writable_copy_of_an_array() -> None:
    pixels = noise(20, 20)
    before = pixels.copy()
    for crop in (None, 20, 8):
        read_crop(pixels, crop)[:] = 0
    np.testing.assert_array_equal(pixels, before)


def test_jpeg_control_is_what_pillow_writes_at_that_quality() -> None:
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([2 * x + y, 3 * y, 255 - 2 * x], -1).astype(np.uint8)
    fine, coarse = (read_crop(pixels, 32, jpeg=q) for q in (95, 20))
    expected = np.asarray(Image.open(io.BytesIO(encoded(pixels[16:48, 16:48], "JPEG", quality=95))))
    np.testing.assert_array_equal(fine, expected)
    error = [np.abs(out.astype(int) - pixels[16:48, 16:48]).mean() for out in (fine, coarse)]
    assert 0 < error[0] < error[1]


@pytest.mark.parametrize(("crop", "jpeg"), [(0, None), (-3, None), (16, 0), (16, 101)])
def test_impossible_parameters_are_refused(crop: int, jpeg: int | None) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        read_crop(noise(20, 20), crop, jpeg)
    assert not isinstance(caught.value, ImageError)


# --- bad files


@pytest.mark.parametrize(("format", "options"), FORMATS)
def test_truncated_file_is_refused_or_complete(file: Write, format: str, options: dict) -> None:
    content = encoded(noise(64, 70), format, **options)
    whole = decode(file(content))
    assert reason(file(content[: len(content) // 2])).startswith("damaged or truncated")
    for length in {*range(12, len(content), len(content) // 40), *range(len(content) - 30, len(content))}:
        try:
            pixels = decode(file(content[:length]))
        except ImageError as error:
            assert str(error)
        else:  # nothing but an end marker was lost
            assert len(content) - length < 25
            np.testing.assert_array_equal(pixels, whole)


def test_zero_bytes(file: Write) -> None:
    assert reason(file(b"")) == "not an image: 0 bytes"


@pytest.mark.parametrize("content", [b"\n", b"<html>not found</html>", np.random.default_rng(7).bytes(200)])
def test_not_an_image_with_an_image_suffix(file: Write, content: bytes) -> None:
    assert reason(file(content)).startswith("not an image: not PNG, JPEG, WebP, BMP, ")


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBP",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"GIF89a",
        b"\0\0\0\x1cftypavif\0\0\0\0avif",
        b"\xff\x4f\xff\x51",
        b"qoif",
        b"P6 ",
    ],
)
def test_right_first_bytes_then_rubbish(file: Write, head: bytes) -> None:
    for rubbish in (b"", b"\0" * 300, b"\xff" * 300, np.random.default_rng(0).bytes(300)):
        assert reason(file(head + rubbish)).startswith(("damaged or truncated", "too "))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_bytes_give_pixels_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, chosen: tuple, data: st.DataObject
) -> None:
    content = bytearray(encoded(noise(24, 24), chosen[0], **chosen[1]))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        assert read_crop(path, 16).shape == (16, 16, 3)
    except ImageError as error:
        assert ":" in str(error)


def test_too_small_is_told_without_decoding(file: Write) -> None:
    content = encoded(noise(300, 15), "JPEG")
    assert reason(file(content)) == "too small: 15x300 px for a crop of 16 px"
    assert reason(file(content[:700])) == "too small: 15x300 px for a crop of 16 px"  # the rest would not decode


@pytest.mark.parametrize("side", [10_000, 60_000])  # above Pillow's warning, above Pillow's error
def test_bomb_is_refused_without_decoding(file: Write, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(file(png_of(header, b"not even data"))).startswith(f"too large: {side}x{side} px")
    assert (limit, truncated) == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_folder_named_like_an_image(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    assert reason(tmp_path / "x.png") == "folder not read: --recursive reads the folders inside a folder"


def test_broken_link_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    assert reason(tmp_path / "x.png") == "no file: broken link"
    assert reason(tmp_path / "gone.png") == "no file: missing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    assert reason(tmp_path / "x.png") == "no file: not a regular file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(file: Write) -> None:
    path = file(encoded(noise(20, 20), "PNG"))
    path.chmod(0)
    assert reason(path).startswith("no file: cannot be opened")


def test_unreadable_file_by_a_failing_open(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = file(encoded(noise(20, 20), "PNG"))
    monkeypatch.setattr(Path, "open", refuse)
    assert reason(path) == "no file: cannot be opened (Permission denied)"


def test_names_with_spaces_and_of_any_script(file: Write) -> None:
    pixels = noise(20, 20)
    path = file(encoded(pixels, "PNG"), "дом 画像 é #1%.PNG")
    assert list_images(path.parent) == [path]
    np.testing.assert_array_equal(decode(str(path)), pixels)


def test_threads_see_the_same_pixels(tmp_path: Path) -> None:
    paths, filters = [], list(warnings.filters)
    for index in range(24):
        format, options = FORMATS[index % len(FORMATS)]
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(encoded(noise(64, 64, seed=index), format, **options))
    paths[5].write_bytes(b"rubbish")

    def attempt(path: Path) -> np.ndarray | str:
        try:
            return read_crop(path, 32)
        except ImageError as error:
            return str(error)

    alone = [attempt(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(attempt, paths * 4))
    assert isinstance(alone[5], str)
    for index, result in enumerate(together):
        np.testing.assert_array_equal(result, alone[index % len(paths)])
    assert warnings.filters == filters


def test_skip_report_counts_by_kind() -> None:
    reasons = ["too small: 3x4 px", "too small: 5x5 px", "damaged or truncated PNG: x"]
    skipped = [Skipped(Path(f"{i}.png"), text) for i, text in enumerate(reasons)]
    assert skip_report(skipped, 10) == "skipped 3 of 10 images: 2 too small, 1 damaged or truncated PNG"
    assert skip_report([], 10) == ""
