"""Folders, decoding rules and centre crops; one test for each kind of bad input."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from difcore.decoding import centre_offset, encoding_of, exif_orientation
from difcore.images import (
    SUFFIXES,
    FolderError,
    ImageError,
    Skipped,
    centre_crop,
    centre_crops,
    decode,
    find_generators,
    list_images,
    read_crop,
    skip_report,
)

Write = Callable[..., Path]  # (content, name) -> file

VALUES_16 = np.array([0, 1, 128, 129, 255, 256, 257, 384, 385, 511, 32767, 32768, 65406, 65407, 65535], np.uint16)
ROUNDED_16 = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 127, 128, 254, 255, 255], np.uint8)  # round(v / 257), by hand
FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {"quality": 90}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 80}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random uint8 pixels (height, width, channels)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """The bytes of ``image`` in ``format``."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_16(values: np.ndarray) -> bytes:
    """PNG of 16 bits per channel, which Pillow cannot write in colour; ``values`` (H, W, channels) uint16."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_of(header, zlib.compress(rows))


def png_of(header: bytes, data: bytes) -> bytes:
    """PNG of one header chunk and one data chunk."""
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(values: np.ndarray, **options: Any) -> bytes:
    """TIFF of ``values`` as they are."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def reason(path: Path, crop: int | None = 16) -> str:
    """Why ``path`` is skipped."""
    with pytest.raises(ImageError) as caught:
        read_crop(path, crop)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Write:
    """Function that writes bytes to a file and returns its path."""

    def write(content: bytes, name: str = "x.png") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


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


# --- encodings and pixel formats


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG", ".JpG"])
def test_content_decides_not_the_suffix(file: Write, suffix: str) -> None:
    pixels = noise(20, 24)
    np.testing.assert_array_equal(decode(file(encoded(pixels, "BMP"), f"x{suffix}")), pixels)


@pytest.mark.parametrize(("format", "options"), FORMATS)
def test_every_encoding_is_read_as_pillow_reads_it(file: Write, format: str, options: dict) -> None:
    content = encoded(noise(40, 33), format, **options)
    np.testing.assert_array_equal(decode(file(content)), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert encoding_of(content[:12]) == {"WEBP": "WebP"}.get(format, format)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF"])
def test_grey_is_repeated(file: Write, format: str) -> None:
    content = encoded(noise(20, 20)[..., 0], format)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_crop(file(content), 20), np.repeat(expected[..., None], 3, -1))


def test_one_bit_is_black_and_white(file: Write) -> None:
    bits = noise(20, 20)[..., 0] > 127
    result = decode(file(encoded(Image.fromarray(bits), "PNG")))
    np.testing.assert_array_equal(result, np.repeat(bits[..., None] * np.uint8(255), 3, -1))


@pytest.mark.parametrize("as_bytes", [None, False, True], ids=["opaque", "one transparent colour", "alpha table"])
def test_palette_is_looked_up_and_its_transparency_dropped(file: Write, as_bytes: bool | None) -> None:
    index = np.random.default_rng(0).integers(0, 7, (20, 20), dtype=np.uint8)
    colours = noise(1, 7)[0]
    image = Image.fromarray(index)
    image.putpalette(colours.tobytes())
    transparency: dict[str, Any] = (
        {} if as_bytes is None else {"transparency": bytes(range(0, 70, 10)) if as_bytes else 3}
    )
    np.testing.assert_array_equal(decode(file(encoded(image, "PNG", **transparency))), colours[index])


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_alpha_is_dropped_not_blended(file: Write, format: str, options: dict) -> None:
    pixels = noise(20, 20, 4)
    np.testing.assert_array_equal(decode(file(encoded(pixels, format, **options))), pixels[..., :3])


def test_grey_with_alpha_and_transparent_grey(file: Write) -> None:
    pixels = noise(20, 20, 2)
    expected = np.repeat(pixels[..., :1], 3, -1)
    np.testing.assert_array_equal(
        decode(file(encoded(Image.frombytes("LA", (20, 20), pixels.tobytes()), "PNG"))), expected
    )
    np.testing.assert_array_equal(decode(file(encoded(pixels[..., 0], "PNG", transparency=3))), expected)


def test_transparent_rgb(file: Write) -> None:
    pixels = noise(20, 20)
    np.testing.assert_array_equal(
        decode(file(encoded(pixels, "PNG", transparency=tuple(pixels[0, 0].tolist())))), pixels
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_rounded(file: Write, channels: int) -> None:
    ramp = np.tile(VALUES_16, (15, 1))
    values = np.stack([ramp, ramp.T, ramp[::-1, ::-1], ramp][:channels], -1)
    expected = np.stack([np.tile(ROUNDED_16, (15, 1))] * 3, -1)
    if channels > 2:
        expected[..., 1], expected[..., 2] = expected[..., 1].T, expected[::-1, ::-1, 2]
    path = file(png_16(values))
    np.testing.assert_array_equal(decode(path), expected)
    np.testing.assert_array_equal(read_crop(path, 8), expected[4:12, 4:12])


def rounded(values: np.ndarray) -> np.ndarray:
    """round(v / 257) in floating point."""
    return np.rint(values / 257.0).astype(np.uint8)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_is_rounded(file: Write, byteorder: str, compression: str | None, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (40, 30, channels), dtype=np.uint16)
    options: dict = {"byteorder": byteorder, "compression": compression, "rowsperstrip": 7}
    options |= {"photometric": "rgb"} if channels > 1 else {"photometric": "minisblack"}
    options |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    content = tiff_of(values if channels > 1 else values[..., 0], **options)
    expected = rounded(np.repeat(values, 3, -1) if channels == 1 else values[..., :3])
    np.testing.assert_array_equal(decode(file(content, "x.tif")), expected)


def test_16_bit_tiff_with_a_fourth_channel_or_premultiplied(file: Write) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    unnamed = tiff_of(values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(decode(file(unnamed)), rounded(values[..., :3]))
    premultiplied = file(tiff_of(values, photometric="rgb", extrasamples=["assocalpha"]))
    assert reason(premultiplied, None).startswith("no rule: 16-bit samples laid out as RGBa")


def test_12_bit_tiff_has_no_rule(file: Write) -> None:
    content = tiff_of(np.ones((20, 20), np.uint16), photometric="minisblack")
    entry = struct.pack("<HHI", 258, 3, 1)
    assert content.count(entry + struct.pack("<I", 16)) == 1
    content = content.replace(entry + struct.pack("<I", 16), entry + struct.pack("<I", 12))
    assert reason(file(content)) == "no rule: pixels of format I;16, 12 bits"


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_where_zero_is_white(file: Write, depth: type) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(depth).max + 1, (20, 20), dtype=depth)
    inverted = np.iinfo(depth).max - values
    expected = rounded(inverted) if depth is np.uint16 else inverted
    path = file(tiff_of(values, photometric="miniswhite"), "x.tif")
    np.testing.assert_array_equal(decode(path), np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_in_planes_is_right_or_refused(file: Write, compression: str | None, depth: type) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(depth).max + 1, (3, 20, 30), dtype=depth)
    path = file(tiff_of(values, photometric="rgb", planarconfig="separate", compression=compression), "x.tif")
    if depth is np.uint16:  # Pillow takes these bytes for 8-bit samples, or cannot give their low bytes
        assert reason(path, None) == "no rule: 16-bit colour in separate planes"
    else:
        np.testing.assert_array_equal(decode(path), np.moveaxis(values, 0, -1))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32, np.int16, np.int8])
def test_tiff_samples_without_a_rule(file: Write, dtype: type) -> None:
    assert reason(file(tiff_of(np.ones((20, 20), dtype)), "x.tif")).startswith("no rule: ")


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk(file: Write, format: str) -> None:
    ink = np.zeros((32, 32, 4), np.uint8)
    ink[:] = (200, 30, 90, 60)
    content = encoded(
        Image.frombytes("CMYK", (32, 32), ink.tobytes()), format, **({"quality": 100} if format == "JPEG" else {})
    )
    if format == "JPEG":
        assert b"Adobe" in content  # stored inverted
    expected = (255 - ink[0, 0, :3].astype(float)) * (255 - 60) / 255
    assert np.abs(decode(file(content)) - expected).max() < 2


def test_packed_16_bit_bmp_has_8_bits_at_most(file: Write) -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 16, 0, 512, 0, 0, 0, 0)  # 5 bits a colour
    content = b"BM" + struct.pack("<IHHI", 54 + 512, 0, 0, 54) + header + struct.pack("<H", 0b0_11111_00000_10000) * 256
    np.testing.assert_array_equal(decode(file(content, "x.bmp"))[0, 0], [255, 0, 131])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(file: Write, format: str, orientation: int) -> None:
    pixels = np.repeat(np.repeat(noise(3, 4), 8, 0), 8, 1)
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    path = file(encoded(pixels, format, exif=exif, **options.get(format, {})), "x.img")
    assert np.abs(decode(path).astype(int) - turned).max() <= (4 if format == "JPEG" else 0)
    np.testing.assert_array_equal(read_crop(path, 9), centre_crop(decode(path), 9))


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_of_16_bit_colour_and_of_either_byte_order(file: Write, order: str) -> None:
    exif = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    assert exif_orientation(b"Exif\0\0" + exif) == exif_orientation(exif) == 6
    values = np.random.default_rng(2).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    content = png_16(values)
    chunk = b"eXIf" + exif
    content = content[:33] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    np.testing.assert_array_equal(decode(file(content)), np.rot90(rounded(values), -1))


@given(st.binary(max_size=80))
def test_damaged_exif_is_upright(tail: bytes) -> None:
    assert isinstance(exif_orientation(b"Exif\0\0" + tail), int)
    assert exif_orientation(b"Exif\0\0II*\0\x08\0\0\0\xff\xff") == 1


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_image(file: Write, format: str) -> None:
    first, second = noise(20, 20, seed=1), noise(20, 20, seed=2)
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    frames = [Image.fromarray(second)]
    content = encoded(first, format, save_all=True, append_images=frames, **options)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 2
    np.testing.assert_array_equal(decode(file(content)), first)


def test_odd_metadata_does_not_warn(file: Write) -> None:
    exif = b"II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 0x010F, 2, 500, 9999, 0x0112, 3, 1, 3, 0)
    pixels = noise(20, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        jpeg = file(encoded(pixels, "JPEG", exif=b"Exif\0\0" + exif))
        assert decode(jpeg).shape == (20, 20, 3)
        content = encoded(pixels, "PNG")
        chunk = b"acTL" + struct.pack(">II", 0, 0)
        content = content[:33] + struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
        np.testing.assert_array_equal(decode(file(content)), pixels)
        private, exif_tag = (struct.pack("<HHI", tag, 4, 1) for tag in (65000, 34665))
        tiff = tiff_of(pixels, photometric="rgb", extratags=[(65000, 4, 1, 10**6, True)])
        assert tiff.count(private) == 1
        tiff = tiff.replace(private, exif_tag)  # EXIF said to lie beyond the end: Pillow warns of it while decoding
        np.testing.assert_array_equal(decode(file(tiff)), pixels)
        assert warnings.filters == filters


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


@pytest.mark.parametrize(
    "content", [b"\n", b"<html>not found</html>", b"GIF89a" + bytes(40), np.random.default_rng(7).bytes(200)]
)
def test_not_an_image_with_an_image_suffix(file: Write, content: bytes) -> None:
    assert reason(file(content)).startswith("not an image: not PNG, JPEG, WebP, BMP or TIFF")


@pytest.mark.parametrize(
    "head", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"MM\0*"]
)
def test_right_first_bytes_then_rubbish(file: Write, head: bytes) -> None:
    for rubbish in (b"", b"\0" * 300, b"\xff" * 300, np.random.default_rng(0).bytes(300)):
        assert reason(file(head + rubbish)).startswith("damaged or truncated")


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
    assert list_images(tmp_path) == [tmp_path / "x.png"]
    assert reason(tmp_path / "x.png") == "no file: a folder"


def test_broken_link_and_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    assert list_images(tmp_path) == [tmp_path / "x.png"]
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


# --- folders


def tree(root: Path, *folders: str) -> Path:
    """Folders under ``root`` with one image each."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "a.png").write_bytes(encoded(noise(16, 16), "PNG"))
    return root


def test_list_images_takes_every_suffix_in_any_case_and_sorts(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "c.Jpeg", "d.webp", "e.BMP", "f.tif", "g.TIFF"]
    for name in [*names, ".hidden.png", "._a.jpg", "notes.txt", "png"]:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == sorted(names)


def test_folder_errors_say_which_and_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "file.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").touch()
    cases = {"gone": "does not exist", "file.png": "is not a folder", "empty": "0 other", "text": "1 other"}
    for name, told in cases.items():
        with pytest.raises(FolderError) as caught:
            list_images(tmp_path / name)
        message = str(caught.value)
        assert (
            str(tmp_path / name) in message and told in message and "expected a folder of images (png, jpg" in message
        )


def test_paper_layout(tmp_path: Path) -> None:
    tree(tmp_path, "sd14/0_real", "sd14/1_fake", "glide/0_real", "glide/1_fake", "logs")
    found = find_generators(tmp_path)
    assert [(g.name, len(g.real), len(g.fake)) for g in found] == [("glide", 1, 1), ("sd14", 1, 1)]
    assert found[1].real_images() == [tmp_path / "sd14" / "0_real" / "a.png"]
    assert found[1].fake_images() == [tmp_path / "sd14" / "1_fake" / "a.png"]


def test_per_class_layout_and_both_mixed(tmp_path: Path) -> None:
    tree(tmp_path, *(f"progan/{c}/{s}" for c in ("cat", "bus") for s in ("0_real", "1_fake")), "mj/0_real", "mj/1_fake")
    mj, progan = find_generators(tmp_path)
    assert (mj.name, mj.real) == ("mj", (tmp_path / "mj" / "0_real",))
    assert (progan.name, progan.fake) == ("progan", tuple(tmp_path / "progan" / c / "1_fake" for c in ("bus", "cat")))
    assert len(progan.real_images()) == len(progan.fake_images()) == 2


@pytest.mark.parametrize("pair", ["mj", "progan/cat"])
def test_one_sided_generator(tmp_path: Path, pair: str) -> None:
    tree(tmp_path, "ok/0_real", "ok/1_fake", f"{pair}/0_real")
    with pytest.raises(FolderError, match="1_fake does not exist; expected images of both classes") as caught:
        find_generators(tmp_path)
    assert str(tmp_path / pair / "1_fake") in str(caught.value)
    (tmp_path / pair / "1_fake").mkdir()
    with pytest.raises(FolderError, match="1_fake holds no images"):
        find_generators(tmp_path)


def test_no_generator_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FolderError, match="expected <root>/<generator>/{0_real,1_fake}"):
            find_generators(folder)
    tree(tmp_path, "mj/0_real", "mj/1_fake")
    with pytest.raises(FolderError, match="give the folder above it"):
        find_generators(tmp_path / "mj")
