"""Every encoding and pixel format becomes 8-bit RGB by the stated rules, upright, whatever else the file says."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import FORMATS, Write, encoded, noise, png_16, png_of, reason, tiff_of
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from difcore.images.crops import centre_crop, decode, read_crop
from difcore.images.decoding import HEAD, encoding_of, open_image

VALUES_16 = np.array([0, 1, 128, 129, 255, 256, 257, 384, 385, 511, 32767, 32768, 65406, 65407, 65535], np.uint16)
ROUNDED_16 = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 127, 128, 254, 255, 255], np.uint8)  # round(v / 257), by hand


@pytest.mark.parametrize("suffix", [".png", ".JpG", ".tif", ".heic", ".txt", ".PNG~", ""])
def test_content_decides_not_the_suffix(file: Write, suffix: str) -> None:
    pixels = noise(20, 24)
    np.testing.assert_array_equal(decode(file(encoded(pixels, "BMP"), f"x{suffix}")), pixels)


@pytest.mark.parametrize(("format", "options"), FORMATS)
def test_every_encoding_is_read_as_pillow_reads_it(file: Write, format: str, options: dict) -> None:
    content = encoded(noise(40, 33), format, **options)
    np.testing.assert_array_equal(decode(file(content)), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert encoding_of(content[:HEAD]) == {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "PPM": "PNM"}.get(format, format)


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
    assert reason(premultiplied, None).startswith("not supported: 16-bit samples laid out as RGBa")


def test_12_bit_tiff_has_no_rule(file: Write) -> None:
    content = tiff_of(np.ones((20, 20), np.uint16), photometric="minisblack")
    entry = struct.pack("<HHI", 258, 3, 1)
    assert content.count(entry + struct.pack("<I", 16)) == 1
    content = content.replace(entry + struct.pack("<I", 16), entry + struct.pack("<I", 12))
    assert reason(file(content)) == "not supported: pixels of format I;16, 12 bits"


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_where_zero_is_white(file: Write, depth: type) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(depth).max + 1, (20, 20), dtype=depth)
    inverted = np.iinfo(depth).max - values
    expected = rounded(inverted) if depth is np.uint16 else inverted
    path = file(tiff_of(values, photometric="miniswhite"), "x.tif")
    np.testing.assert_array_equal(decode(path), np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiff_in_planes(file: Write, compression: str | None, depth: type) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(depth).max + 1, (3, 20, 30), dtype=depth)
    path = file(tiff_of(values, photometric="rgb", planarconfig="separate", compression=compression), "x.tif")
    colours = np.moveaxis(values, 0, -1)  # 16 bits: Pillow would take these bytes for 8-bit samples
    np.testing.assert_array_equal(decode(path), rounded(colours) if depth is np.uint16 else colours)


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


def exif_block(kind: int = 3, order: str = "<", value: int = 6) -> bytes:
    """EXIF that says nothing but the orientation, as a value of one of TIFF's types."""
    size = {3: "H2x", 4: "I", 8: "h2x", 9: "i"}[kind]
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IHHHI{size}I", 8, 1, 274, kind, 1, value, 0)


def with_chunk(content: bytes, kind: bytes, data: bytes, at: int = 33) -> bytes:
    """A PNG with one more chunk, by default behind its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:at] + chunk + content[at:]


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
XMP_ELEMENT = b"<x:xmpmeta><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>"
PROFILE = f"\nexif\n{len(exif_block()):8}\n{exif_block().hex()}\n".encode()
EXACT: dict[str, Any] = {"quality": 100, "subsampling": 0}


def turned(pixels: np.ndarray) -> dict[str, bytes]:
    """The ways to say of stored ``pixels`` that they have to be turned by 90 degrees."""
    png, jpeg = encoded(pixels, "PNG"), {"quality": 100, "subsampling": 0}
    ways = {
        f"JPEG, EXIF type {kind}{order}": encoded(pixels, "JPEG", exif=b"Exif\0\0" + exif_block(kind, order), **jpeg)
        for kind in (3, 4, 8, 9)
        for order in "<>"
    }
    ways |= {f"JPEG, {xmp[12:17]!r}": encoded(pixels, "JPEG", xmp=xmp, **jpeg) for xmp in (XMP, XMP_ELEMENT)}
    ways |= {f"PNG, eXIf type {kind}": with_chunk(png, b"eXIf", exif_block(kind)) for kind in (3, 4, 9)}
    ways |= {
        "PNG, raw profile": with_chunk(png, b"tEXt", b"Raw profile type exif\0" + PROFILE),
        "PNG, packed profile": with_chunk(png, b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE)),
        "PNG, XMP": with_chunk(png, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        "PNG, packed XMP": with_chunk(png, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        "WebP, EXIF": encoded(pixels, "WEBP", lossless=True, exif=exif_block(4)),
        "WebP, XMP": encoded(pixels, "WEBP", lossless=True, xmp=XMP),
        "TIFF, SHORT": tiff_of(pixels, photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
        "TIFF, LONG": tiff_of(pixels, photometric="rgb", extratags=[(274, 4, 1, 6, True)]),
        "TIFF, XMP": tiff_of(pixels, photometric="rgb", extratags=[(700, 1, len(XMP), XMP, True)]),
        "TIFF, float": tiff_of((pixels / 255).astype("f4"), photometric="rgb", extratags=[(274, 3, 1, 6, True)]),
        "TIFF, float, XMP": tiff_of(
            (pixels / 255).astype("f4"), photometric="rgb", extratags=[(700, 1, len(XMP), XMP, True)]
        ),
        "AVIF": encoded(pixels, "AVIF", quality=100, subsampling="4:4:4", exif=exif_block()),
    }
    return ways


@pytest.mark.parametrize("way", turned(noise(4, 6)))
def test_orientation_is_read_wherever_pillow_reads_it(file: Write, way: str) -> None:
    pixels = np.repeat(np.repeat(noise(3, 4), 8, 0), 8, 1)
    content = turned(pixels)[way]
    upright = decode(file(content))
    assert upright.shape == (32, 24, 3)
    if "float" not in way:
        pillows = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(upright, np.asarray(pillows))
    assert np.abs(upright.astype(int) - np.rot90(pixels, -1)).max() <= (8 if way.startswith(("JPEG", "AVIF")) else 0)


def test_orientation_of_16_bit_colour(file: Write) -> None:
    values = np.random.default_rng(2).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    content = with_chunk(png_16(values), b"eXIf", exif_block())
    np.testing.assert_array_equal(decode(file(content)), np.rot90(rounded(values), -1))


@given(st.binary(max_size=80))
def test_damaged_exif_is_upright(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    pixels = noise(8, 12)
    path = tmp_path_factory.getbasetemp() / "exif.png"
    for exif in (tail, b"II*\0" + tail, b"II*\0\x08\0\0\0\xff\xff"):
        path.write_bytes(with_chunk(encoded(pixels, "PNG"), b"eXIf", exif))
        assert decode(path).shape in ((8, 12, 3), (12, 8, 3))
    np.testing.assert_array_equal(decode(path), pixels)


# --- what stands beside the pixels


def long_text(size: int = 2**21) -> bytes:
    """Text that does not pack well, as a workflow's is not."""
    return np.random.default_rng(0).bytes(size // 2).hex().encode()


@pytest.mark.parametrize("at", ["before", "behind"])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"tEXt", b"workflow\0" + long_text()),
        (b"zTXt", b"workflow\0\0" + zlib.compress(long_text())),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(long_text())),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + long_text()),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2**26))),
        (b"zTXt", b"workflow\0\0not packed at all"),
        (b"iCCP", b"profile\0\0" + zlib.compress(long_text())),
        (b"iCCP", b"profile\0\7" + zlib.compress(b"an unknown compression")),
        (b"pHYs", b"\0\0\0"),
        (b"eXIf", b""),
        (b"caBX", long_text()),
    ],
    ids=lambda x: x[:12].decode("latin1") if isinstance(x, bytes) else x,
)
def test_pixels_are_read_whatever_stands_beside_them(file: Write, kind: bytes, data: bytes, at: str) -> None:
    pixels = noise(20, 30)
    content = encoded(pixels, "PNG")
    path = file(with_chunk(content, kind, data, 33 if at == "before" else len(content) - 12))
    limits = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, ImageFile.LOAD_TRUNCATED_IMAGES)
    tracemalloc.start()
    np.testing.assert_array_equal(decode(path), pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + 2**23  # no text was inflated beyond a megabyte
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, ImageFile.LOAD_TRUNCATED_IMAGES)


# --- samples that Pillow has no mode for


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floats_from_0_to_1_are_stretched(file: Write, dtype: type, channels: int, byteorder: str) -> None:
    pixels = noise(20, 30, channels)
    options: dict[str, Any] = {"photometric": "rgb" if channels > 1 else "minisblack", "byteorder": byteorder}
    options |= {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    values = (pixels / 255).astype(dtype)
    content = tiff_of(values if channels > 1 else values[..., 0], **options)
    expected = np.repeat(pixels, 3, -1) if channels == 1 else pixels[..., :3]
    np.testing.assert_array_equal(decode(file(content)), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("wrong", [-0.25, 1.5, np.nan, np.inf])
def test_floats_beyond_0_to_1_have_no_rule(file: Write, dtype: type, wrong: float) -> None:
    for values in (np.full((20, 30), 0.5, dtype), np.full((20, 30, 3), 0.5, dtype)):
        values[7, 8] = wrong
        content = tiff_of(values, photometric="rgb" if values.ndim == 3 else "minisblack")
        assert reason(file(content)) == "not supported: float samples that are not all within 0 to 1"


def test_packed_floats(file: Write) -> None:
    pixels = noise(20, 30)[..., 0]
    grey = encoded(Image.fromarray((pixels / 255).astype(np.float32)), "TIFF", compression="tiff_lzw")
    np.testing.assert_array_equal(decode(file(grey)), np.repeat(pixels[..., None], 3, -1))
    colours = noise(64, 64)
    tiled = tiff_of((colours / 255).astype(np.float32), photometric="rgb", tile=(16, 16), compression="zlib")
    np.testing.assert_array_equal(decode(file(tiled)), colours)


@pytest.mark.parametrize("channels", [1, 3])
def test_32_bits_are_rounded(file: Write, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**32, (20, 30, channels), dtype=np.uint32)
    values[0, :4] = np.array([0, 8421504, 8421505, 2**32 - 1])[:, None]  # 255 steps of 16843009
    content = tiff_of(values if channels > 1 else values[..., 0], photometric="rgb" if channels > 1 else "minisblack")
    result = decode(file(content))
    np.testing.assert_array_equal(result, np.broadcast_to(np.rint(values / 16843009.0).astype(np.uint8), (20, 30, 3)))
    assert result[0, :4, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_big_tiff(file: Write, dtype: type, options: dict[str, Any], byteorder: str) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (32, 48, 3), dtype=dtype)
    content = tiff_of(values, photometric="rgb", bigtiff=True, byteorder=byteorder, **options)
    assert content[2 if byteorder == "<" else 3] == 43
    np.testing.assert_array_equal(decode(file(content)), values if dtype is np.uint8 else rounded(values))


def test_a_compression_that_no_library_reads_is_named_not_called_damage(file: Write) -> None:
    entry = struct.pack("<HHI", 259, 3, 1)
    content = tiff_of(noise(20, 30), photometric="rgb")
    for code, name in ((34712, "JPEG2000"), (34887, "LERC")):
        patched = content.replace(entry + struct.pack("<I", 1), entry + struct.pack("<I", code))
        assert patched != content
        told = reason(file(patched))
        assert told.startswith("not supported: TIFF") and name in told, told


def test_deep_tiff_that_is_cut_is_damaged(file: Write) -> None:
    content = tiff_of(np.random.default_rng(0).random((40, 40, 3)).astype(np.float32), photometric="rgb")
    assert reason(file(content[: len(content) // 2])).startswith("damaged or truncated TIFF")
    assert reason(file(b"II*\0\x08\0\0\0\0\0")).startswith("damaged or truncated TIFF")


# --- further encodings


def few_colours() -> np.ndarray:
    """Noise of sixteen colours (20, 30, 3), which every lossless encoding can hold."""
    return noise(1, 16)[0][np.random.default_rng(3).integers(0, 16, (20, 30))]


@pytest.mark.parametrize(
    ("format", "encoding", "options"),
    [
        ("PNG", "PNG", {}),
        ("BMP", "BMP", {}),
        ("DIB", "DIB", {}),
        ("GIF", "GIF", {}),
        ("WEBP", "WebP", {"lossless": True}),
        ("TIFF", "TIFF", {"compression": "packbits"}),
        ("JPEG2000", "JPEG 2000", {}),
        ("JPEG2000", "JPEG 2000", {"no_jp2": True}),
        ("PPM", "PNM", {}),
        ("QOI", "QOI", {}),
    ],
)
def test_the_same_pixels_of_every_lossless_encoding(
    file: Write, format: str, encoding: str, options: dict[str, Any]
) -> None:
    pixels = few_colours()
    image = Image.fromarray(pixels)
    content = encoded(image.quantize(16, dither=Image.Dither.NONE) if format == "GIF" else image, format, **options)
    assert encoding_of(content[:HEAD]) == encoding
    np.testing.assert_array_equal(decode(file(content, "any name")), pixels)
    np.testing.assert_array_equal(read_crop(file(content), 15), centre_crop(pixels, 15))


def test_avif_is_read_as_pillow_reads_it(file: Write) -> None:
    content = encoded(noise(40, 33), "AVIF", quality=80)
    np.testing.assert_array_equal(decode(file(content)), np.asarray(Image.open(io.BytesIO(content))))
    assert encoding_of(content[:HEAD]) == "AVIF"


def test_heic_is_read_with_the_extra_and_named_without(file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert reason(file(head)) == "not supported: HEIC needs the extra: pip install difcore[heif]"


def test_heic(file: Write) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra: pip install difcore[heif]")
    ramp = np.linspace(0, 255, 96)
    pixels = np.stack([np.add.outer(ramp, ramp) / 2] * 3, -1)[:64].astype(np.uint8)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=95)
    before = dict(Image.OPEN)
    result = decode(file(buffer.getvalue(), "IMG_0001.HEIC"))
    assert np.abs(result.astype(int) - pixels).max() <= 4
    assert before == Image.OPEN  # nothing was registered for everybody


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop's own format"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypisom", "video"),
        (b"\0\0\0\x18ftypcrx ", "camera raw"),
    ],
)
def test_encodings_that_are_not_read_are_named(file: Write, head: bytes, told: str) -> None:
    assert reason(file(head + bytes(100), "x.jpg")) == f"not supported: {told} is not read"


def test_deep_jpeg_2000(file: Write) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (20, 30), dtype=np.uint16)
    content = encoded(Image.fromarray(values), "JPEG2000")
    np.testing.assert_array_equal(decode(file(content)), np.repeat(rounded(values)[..., None], 3, -1))
    colours = encoded(noise(20, 30), "JPEG2000", no_jp2=True)
    assert colours[40:43] == b"\0\3\7"[:3]
    deep = colours[:42] + bytes([11]) + colours[43:]
    assert reason(file(deep)) == "not supported: JPEG 2000 with colours of 12 bits"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (encoded(Image.fromarray(noise(20, 30)[..., 0] > 127), "PNG"), "1 bit"),
        (encoded(Image.fromarray(noise(20, 30)[..., 0] > 127), "TIFF", compression="group4"), "1 bit"),
        (encoded(Image.fromarray(noise(20, 30)[..., 0] > 127), "TIFF", compression="group3"), "1 bit"),
        (encoded(Image.fromarray(noise(20, 30)[..., 0] > 127), "BMP"), "1 bit"),
        (png_of(struct.pack(">IIBBBBB", 8, 8, 2, 0, 0, 0, 0), zlib.compress(b"\0\x1b\x1b" * 8)), "2 bits"),
        (png_of(struct.pack(">IIBBBBB", 8, 8, 4, 0, 0, 0, 0), zlib.compress(b"\0\x12\x34\x56\x78" * 8)), "4 bits"),
        (encoded(Image.fromarray(few_colours()).quantize(16), "PNG"), "palette"),
        (encoded(Image.fromarray(few_colours()).quantize(16), "GIF"), "palette"),
        (encoded(noise(20, 30)[..., 0], "PNG"), ""),
        (encoded(noise(20, 30), "JPEG"), ""),
        (tiff_of(noise(20, 30), photometric="rgb"), ""),
        (tiff_of(np.zeros((20, 30), np.float16)), ""),
    ],
)
def test_too_coarse_for_a_fingerprint(file: Write, content: bytes, told: str) -> None:
    path = file(content)
    with open_image(path) as image:
        assert image.coarse == told
    assert decode(path).dtype == np.uint8  # used all the same


def test_samples_of_2_and_4_bits_are_stretched(file: Write) -> None:
    two = png_of(struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0), zlib.compress(b"\0\x1b"))
    assert decode(file(two))[0, :, 0].tolist() == [0, 85, 170, 255]
    four = png_of(struct.pack(">IIBBBBB", 4, 1, 4, 0, 0, 0, 0), zlib.compress(b"\0\x0f\x51"))
    assert decode(file(four))[0, :, 0].tolist() == [0, 255, 85, 17]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_animation_gives_its_first_image(file: Write, format: str) -> None:
    first, second = noise(20, 20, seed=1), noise(20, 20, seed=2)
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    frames = [Image.fromarray(second)]
    content = encoded(first, format, save_all=True, append_images=frames, **options)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 2
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode(file(content)), expected)
    assert format in ("GIF", "AVIF") or np.array_equal(expected, first)
    assert np.abs(expected.astype(int) - first).mean() < 60 < np.abs(expected.astype(int) - second).mean()


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
