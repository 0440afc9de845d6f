"""From the bytes of one image file to 8-bit RGB, by stated rules, or to a reason why not.

What a file holds is told by its first bytes (``difcore.images.decoding``). Pixels become 8-bit RGB by these rules:

- Images are turned upright as ``PIL.ImageOps.exif_transpose`` does: EXIF in any of its types, XMP, a PNG's raw profile.
  The official code crops what is stored. ICC profiles and gamma are ignored: the numbers in the file are the native
  pixels, and a fingerprint lives in them. So is text, however long.
- Alpha is dropped, also a palette's or a PNG's transparent colour. Blending over a background would scale the
  residual by alpha and paste in pixels that no camera or generator made; where alpha is opaque the two are the same.
- Grey is repeated in three channels; 1, 2 and 4 bits are stretched to 0..255; a palette is looked up.
- 16 bits per channel become round(v / 257), so that 65535 is 255. Pillow alone keeps only the high byte (v // 256) of
  16-bit colour, one level off for a quarter of all values; here the low byte is read as well. 32 bits likewise.
- Float samples have to be within 0 to 1 and become round(255 v).
- CMYK becomes R = (255 - C)(255 - K) / 255 and so on. CMYK in JPEG is taken as stored inverted, as Adobe does.
- Of an animation, a multi-page TIFF or a multi-picture JPEG the first image is taken; of an animated PNG the still one.
- AVIF and HEIC of 10 or 12 bits are brought to 8 by their libraries.
- Signed samples, floats beyond 0..1, 12 bits in TIFF, more than 8 bits of colour in JPEG 2000, 16-bit CMYK and Lab have
  no agreed way to 8-bit RGB: ``ImageError``, "not supported".

What kind of image a file holds, told by its first bytes and never by its name, and which reader takes it.

How a file's samples lie, and how those of other depths become 8 bits.

TIFFs that Pillow has no mode for: float colour, 32 bits, 16 bits in planes, some BigTIFFs. tifffile reads them.

A PNG without the chunks that have nothing to do with its pixels.

Pillow refuses a PNG for what stands beside the image: a generator's workflow of more than a megabyte of text, a colour
profile of an unknown compression, a short pHYs. Its limits are globals that all code in the process shares, so what is
not needed is left out before Pillow sees the file.
"""

from __future__ import annotations

import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, features
from PIL.BmpImagePlugin import BmpImageFile, DibImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.QoiImagePlugin import QoiImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

HEAD = 128  # bytes that tell the encoding
READERS: dict[str, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "DIB": DibImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
    "JPEG 2000": Jpeg2KImageFile,
    "PNM": PpmImageFile,
    "QOI": QoiImageFile,
}
OPTIONAL = {"AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"), "HEIC": ("pillow_heif", "HeifImageFile")}
CODECS = {"AVIF": "avif", "WebP": "webp", "JPEG 2000": "jpg_2000"}  # that a build of Pillow may lack
PROMISED = {  # suffix -> the encodings it promises
    ".png": ("PNG",),
    ".apng": ("PNG",),
    ".jpg": ("JPEG",),
    ".jpeg": ("JPEG",),
    ".jpe": ("JPEG",),
    ".jfif": ("JPEG",),
    ".webp": ("WebP",),
    ".bmp": ("BMP", "DIB"),
    ".dib": ("BMP", "DIB"),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".gif": ("GIF",),
    ".avif": ("AVIF",),
    ".avifs": ("AVIF",),
    ".heic": ("HEIC",),
    ".heif": ("HEIC", "AVIF"),
    ".jp2": ("JPEG 2000",),
    ".j2k": ("JPEG 2000",),
    ".j2c": ("JPEG 2000",),
    ".jpx": ("JPEG 2000",),
    ".jpf": ("JPEG 2000",),
    ".pbm": ("PNM",),
    ".pgm": ("PNM",),
    ".ppm": ("PNM",),
    ".pnm": ("PNM",),
    ".qoi": ("QOI",),
}
STARTS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    ((b"GIF87a", b"GIF89a"), "GIF"),
    ((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG 2000"),
    (b"BM", "BMP"),
    (b"qoif", "QOI"),
    (tuple(b"P%d%c" % (kind, space) for kind in (4, 5, 6) for space in b" \t\r\n"), "PNM"),
)
NOT_READ = (  # images all the same
    ((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), "JPEG XL"),
    (b"8BPS", "Photoshop's own format"),
    (b"\0\0\1\0", "an icon"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DirectDraw surface"),
    (b"%PDF", "PDF"),
    ((b"<svg", b'<?xml version="1.0" encoding="UTF-8"?>\n<svg'), "SVG"),
)


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, "kind: detail"."""


def encoding_of(head: bytes) -> str | None:
    """Encoding told by a file's first ``HEAD`` bytes: a key of ``READERS`` or ``OPTIONAL``, or None."""
    for start, encoding in STARTS:
        if head.startswith(start):
            return encoding
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head[:4] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0") and head[12:14] == b"\1\0":
        return "DIB"  # a BMP without its file header: the size of the next one, and one plane
    if head[4:8] == b"ftyp":  # the brands that the file says to be
        brands = {head[k : k + 4] for k in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIC"
    return None


def looks_like_image(head: bytes) -> bool:
    """Whether a file with these first bytes is an image, of an encoding that is read or not."""
    return encoding_of(head) is not None or _not_read(head) is not None


def reader_of(head: bytes) -> tuple[str, type[ImageFile]]:
    """Encoding and reader of a file with these first bytes.

    Raises
    ------
    ImageError
        If it is no image of a known encoding, or of one that is not read here.
    """
    if not head:
        raise ImageError("not an image: 0 bytes")
    encoding = encoding_of(head)
    if encoding is None:
        other = _not_read(head)
        if other is None:
            raise ImageError(f"not an image: not {', '.join(READERS)}, AVIF or HEIC by its first bytes")
        raise ImageError(f"not supported: {other} is not read")
    if encoding in CODECS and not features.check(CODECS[encoding]):
        raise ImageError(f"not supported: this Pillow was built without {encoding}")
    if encoding in READERS:
        return encoding, READERS[encoding]
    module, name = OPTIONAL[encoding]
    try:  # the reader itself; pillow-heif is not registered with Pillow, which all code in this process shares
        return encoding, getattr(import_module(module), name)
    except ImportError as error:
        raise ImageError(f"not supported: {encoding} needs the extra: pip install difcore[heif]") from error


def suffix_lies(suffix: str, encoding: str) -> bool:
    """Whether a file's suffix promises another encoding than its content has."""
    return encoding not in PROMISED.get(suffix.lower(), (encoding,))


def _not_read(head: bytes) -> str | None:
    for start, name in NOT_READ:
        if head.startswith(start):
            return name
    if head[4:8] == b"ftyp":
        return "camera raw" if head[8:11] == b"crx" else "video"
    return None


BITS_PER_SAMPLE, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 284, 339  # TIFF tags


def to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples as 0..255: unsigned ones by their full range, floats from 0..1; rounded.

    Raises
    ------
    ImageError
        If they are signed integers, or floats outside 0..1.
    """
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError("not supported: float samples that are not all within 0 to 1")
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype.kind != "u":
        raise ImageError("not supported: samples are signed, not unsigned integers")
    step = np.iinfo(values.dtype).max // 255  # 257 for 16 bits; odd, so there are no ties
    whole, rest = np.divmod(values, values.dtype.type(step))
    return (whole + (rest > step // 2)).astype(np.uint8)


def grey_to_rgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) repeated as (H, W, 3)."""
    return np.repeat(values[..., None], 3, -1)


def tags_of(header: ImageFile) -> Any:
    """The tags of a TIFF; of anything else none."""
    return header.tag_v2 if isinstance(header, TiffImageFile) else {}


def bits_of(header: ImageFile) -> int:
    """Bits of the deepest sample of a PNG or a TIFF; 8 of anything else."""
    deep_png = header.format == "PNG" and ";16" in raw_mode(header)
    return max(tags_of(header).get(BITS_PER_SAMPLE) or (16 if deep_png else 8,))


def raw_mode(header: ImageFile) -> str:
    """How Pillow will unpack the file's bytes, such as RGB;16B."""
    args = header.tile[0][3] if header.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def unpacked_as(header: ImageFile, mode: str) -> ImageFile:
    """The same image, to be unpacked by another raw mode."""
    tiles: list[Any] = header.tile
    for index, tile in enumerate(tiles):
        args = (mode, *tile[3][1:]) if isinstance(tile[3], tuple) else mode
        tiles[index] = tile._replace(args=args)
    return header


def beyond_pillow(header: ImageFile) -> bool:
    """Whether a TIFF has samples that Pillow cannot read, or unpacks wrongly."""
    tags, bits = tags_of(header), bits_of(header)
    if not tags or header.mode == "F":
        return False
    unsigned = set(tags.get(SAMPLE_FORMAT) or (1,)) == {1}
    return not unsigned or bits > 16 or (bits > 8 and tags.get(PLANAR_CONFIGURATION) == 2)


def coarseness(header: ImageFile) -> str:
    """Why pixels cannot carry a fingerprint, "palette", "1 bit", "2 bits" or "4 bits"; "" if they can."""
    bits, mode = bits_of(header), raw_mode(header)
    if header.mode in ("P", "PA") or header.format == "GIF":
        return "palette"
    if header.mode == "1" or bits == 1:
        return "1 bit"
    return next((f"{n} bits" for n in (2, 4) if bits == n or mode.startswith(f"L;{n}")), "")


def jpeg_2000_bits(stream: IO[bytes]) -> int:
    """Bits of the deepest component, from the codestream's SIZ marker: three bytes for each, the first is bits - 1."""
    stream.seek(0)
    start = (content := stream.read(2**16)).find(b"\xff\x4f\xff\x51") + 4
    count = int.from_bytes(content[start + 36 : start + 38], "big")
    return 1 + max((size & 0x7F for size in content[start + 38 : start + 38 + 3 * count : 3]), default=7)


ORIENTATION, XMP, PREMULTIPLIED = 274, 700, 1
UNPACKED = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "LZMA")  # compressions that tifffile reads without further packages


class DeepTiff:
    """First page of a TIFF that Pillow cannot read; nothing but its header is read yet.

    Raises
    ------
    ImageError
        From the constructor if it is damaged.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        stream.seek(0)
        try:
            self.page = tifffile.TiffFile(stream).pages.first
            self.width, self.height = int(self.page.imagewidth), int(self.page.imagelength)
        except Exception as error:  # a damaged file may raise anything
            raise ImageError(f"damaged or truncated TIFF: {error or type(error).__name__}") from error
        if not self.width or not self.height:
            raise ImageError("damaged or truncated TIFF: its size is missing")

    def image(self) -> Image.Image:
        """The page as 8-bit RGB, as stored, with what says how it is turned.

        Raises
        ------
        ImageError
            If its samples or its compression have no rule, or if it is damaged.
        """
        page = self.page
        kind, compression = (str(getattr(x, "name", x)) for x in (page.photometric, page.compression))
        if compression not in UNPACKED:
            raise ImageError(f"not supported: TIFF of {page.bitspersample} bits compressed as {compression}")
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB") or PREMULTIPLIED in page.extrasamples:
            raise ImageError(f"not supported: TIFF of {page.bitspersample} bits in {kind}, or of premultiplied colour")
        if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
            raise ImageError(f"not supported: TIFF samples of {page.bitspersample} bits")
        try:
            stored = np.asarray(page.asarray())
        except Exception as error:
            if "imagecodecs" in str(error):
                raise ImageError(f"not supported: TIFF, {error}") from error
            raise ImageError(f"damaged or truncated TIFF: {error or type(error).__name__}") from error
        axes = page.axes.replace("S", "C") if "S" in page.axes else page.axes + "C"
        if sorted(axes) != ["C", "X", "Y"]:
            raise ImageError(f"not supported: TIFF with axes {page.axes}")
        values = stored.reshape(stored.shape if "S" in page.axes else (*stored.shape, 1))
        values = values.transpose([axes.index(axis) for axis in "YXC"])[..., : 3 if kind == "RGB" else 1]
        pixels = to_8_bits(values)
        rgb = np.repeat(255 - pixels if kind == "MINISWHITE" else pixels, 3 // pixels.shape[-1], -1)
        image = Image.fromarray(rgb)
        if (turn := page.tags.get(ORIENTATION)) is not None:
            image.getexif()[ORIENTATION] = turn.value
        if (text := page.tags.get(XMP)) is not None and isinstance(text.value, bytes):
            image.info["xmp"] = text.value
        return image


SIGNATURE = 8  # bytes before the first chunk
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ORIENTED = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # texts that may say how the image is turned
LIMIT = 2**20  # bytes of such a text, inflated


def pixel_chunks(content: bytes) -> bytes:
    """The PNG ``content`` with nothing but its (first, still) image and what tells its orientation.

    A chunk cut off by the file's end stays, so that the damage is seen.
    """
    kept, at = [content[:SIGNATURE]], SIGNATURE
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if end > len(content) or kind in PIXELS or (kind in TEXTS and _may_turn(kind, content[at + 8 : end - 4])):
            kept.append(content[at:end])
        if kind == b"IEND":
            break
        at = end
    return b"".join(kept)


def _may_turn(kind: bytes, data: bytes) -> bool:
    """Whether a text chunk may hold an orientation, and does not inflate beyond ``LIMIT``."""
    keyword, _, rest = data.partition(b"\0")
    if keyword not in ORIENTED or len(data) > LIMIT:
        return False
    packed = rest[1:] if kind == b"zTXt" else b""
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]  # behind flag, method, language and translated keyword
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(packed, LIMIT)
    except zlib.error:
        return False
    return not inflate.unconsumed_tail


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's, of up to 8 bits a channel
PHOTOMETRIC = 262  # TIFF tag
MAY_WARN = ("TIFF", "GIF")  # while they are decoded
WARNINGS_LOCK = threading.Lock()


@dataclass(frozen=True)
class OpenImage:
    """An image file whose header has been read.

    Attributes
    ----------
    encoding : str
        A key of ``encodings.READERS`` or ``OPTIONAL``, from the content.
    header : PIL.ImageFile.ImageFile, or DeepTiff if Pillow has no mode for its samples
        Not decoded yet.
    stream : binary file
    """

    encoding: str
    header: ImageFile | DeepTiff
    stream: IO[bytes]

    @property
    def coarse(self) -> str:
        """Why its pixels cannot carry a fingerprint, "palette", "1 bit", "2 bits" or "4 bits"; "" if they can."""
        return coarseness(self.header) if isinstance(self.header, ImageFile) else ""


@contextmanager
def open_image(path: Path | str) -> Iterator[OpenImage]:
    """Read an image file's header; no pixel is decoded.

    Raises
    ------
    ImageError
        If the file is missing, empty, no image of an encoding that is read, damaged, or has more pixels than
        ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    try:
        path = Path(path)
        if path.is_dir():
            raise ImageError("folder not read: --recursive reads the folders inside a folder")
        if not path.is_file():
            there = "not a regular file" if path.exists() else "broken link" if path.is_symlink() else "missing"
            raise ImageError(f"no file: {there}")
        stream: IO[bytes] = path.open("rb")
    except OSError as error:
        raise ImageError(f"no file: cannot be opened ({error.strerror})") from error
    with stream:
        encoding, reader = reader_of(stream.read(HEAD))
        stream.seek(0)
        source = BytesIO(pixel_chunks(stream.read())) if encoding == "PNG" else stream
        header = _header(source, encoding, reader)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and header.width * header.height > limit:
            raise ImageError(f"too large: {header.width}x{header.height} px, the limit is {limit} pixels")
        yield OpenImage(encoding, header, source)


def to_rgb(image: OpenImage, crop: int | None = None) -> NDArray[np.uint8]:
    """Decode an opened image; its centre crop (or all of it) as uint8 (h, w, 3), by the rules above.

    Raises
    ------
    ImageError
        If the file is damaged or truncated or its samples have no rule. A crop that does not fit is the caller's
        mistake.
    """
    header = image.header
    if not isinstance(header, ImageFile):
        return np.array(_centre(_upright(header.image()), crop))
    bits = bits_of(header)
    if header.mode == "F" and image.encoding == "TIFF":
        return grey_to_rgb(to_8_bits(np.asarray(_load(image, header, crop))))
    if header.mode.startswith("I;16") and bits in (8, 16):  # 8: JPEG 2000, whose samples Pillow stretches to 16
        grey = np.asarray(_load(image, header, crop)).astype(np.uint16)
        if tags_of(header).get(PHOTOMETRIC) == 0:  # white is zero: Pillow inverts such TIFFs of 8 bits, but not of 16
            grey = 65535 - grey
        return grey_to_rgb(to_8_bits(grey))
    if header.mode not in MODES or bits > 16:
        raise ImageError(f"not supported: pixels of format {header.mode}, {bits} bits")
    if bits > 8:
        return _deep_colour(image, header, crop)
    if image.encoding == "JPEG 2000" and (depth := jpeg_2000_bits(image.stream)) > 8:
        raise ImageError(f"not supported: JPEG 2000 with colours of {depth} bits")
    pixels = _load(image, header, crop)
    pixels.info.pop("transparency", None)  # dropped like any alpha; Pillow would warn about it
    return np.array(pixels.convert("RGB"))


def centre_offset(size: int, crop: int) -> int:
    """First row or column of a centre crop: (size - crop) / 2, a half rounded to even, as the official code's crops.

    Those are torchvision's: with 3 px to spare the crop begins at 2, with 1 or 5 px at 0 and 2.
    """
    return round((size - crop) / 2)


def _deep_colour(image: OpenImage, header: ImageFile, crop: int | None) -> NDArray[np.uint8]:
    """RGB of 16 bits per channel: Pillow unpacks the high bytes; in the other byte order it unpacks the low ones.

    Grey with alpha has no other order in Pillow: there the four bytes L L A A of a pixel are unpacked as R G B A.
    """
    mode = raw_mode(header)
    if mode == "LA;16B":
        both = np.asarray(_load(image, unpacked_as(header, "RGBA"), crop)).astype(np.uint16)
        return grey_to_rgb(to_8_bits(both[..., 0] * np.uint16(256) + both[..., 1]))
    layout, order = mode[:-1], mode[-1].replace("N", sys.byteorder[0].upper())
    if layout not in ("RGB;16", "RGBA;16", "RGBX;16"):
        raise ImageError(f"not supported: 16-bit samples laid out as {mode}")
    other = layout + ("L" if order == "B" else "B")
    high = np.asarray(_load(image, header, crop))[..., :3].astype(np.uint16)
    again = _header(image.stream, image.encoding, type(header))
    assert isinstance(again, ImageFile)  # as it was before
    return to_8_bits(high * np.uint16(256) + np.asarray(_load(image, unpacked_as(again, other), crop))[..., :3])


def _load(image: OpenImage, header: ImageFile, crop: int | None) -> Image.Image:
    """Decode, turn upright, cut the centre."""
    # all but those that may warn may decode in several threads at once
    with _damage(image.encoding), _quiet() if image.encoding in MAY_WARN else nullcontext():
        header.load()
    return _centre(_upright(header), crop)


def _upright(image: Image.Image) -> Image.Image:
    """The image itself, turned as its metadata say; as it is if they cannot be read."""
    with suppress(Exception), _quiet():  # damaged metadata may raise anything
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _centre(image: Image.Image, crop: int | None) -> Image.Image:
    if crop is None:
        return image
    left, top = centre_offset(image.width, crop), centre_offset(image.height, crop)
    return image.crop((left, top, left + crop, top + crop))


def _header(stream: IO[bytes], encoding: str, reader: type[ImageFile]) -> ImageFile | DeepTiff:
    stream.seek(0)
    try:
        with _damage(encoding), _quiet():
            # the reader itself, not Image.open: that warns of large images before anyone can look at the size
            header = reader(stream)
    except ImageError:
        if encoding != "TIFF":
            raise
        header = None  # Pillow may only have no mode for it
    if header is None or beyond_pillow(header):
        from difcore.images.decoding import DeepTiff

        return DeepTiff(stream)
    return header


@contextmanager
def _damage(encoding: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged file, which may be any exception, into an ImageError."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except Exception as error:
        raise ImageError(f"damaged or truncated {encoding}: {str(error) or type(error).__name__}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings of odd metadata, under a lock because all threads share one list of filters."""
    with WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
