"""From the bytes of one image file to 8-bit RGB, by stated rules, or to a reason why not.

What a file holds is told by its first bytes, never by its name. Pixels become 8-bit RGB by these rules:

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
"""

from __future__ import annotations

import sys
import threading
import warnings
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
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngStream

HEAD = 128  # bytes that tell the encoding
READERS = {  # encoding: module, reader, and the suffixes that promise it
    "PNG": ("PIL.PngImagePlugin", "PngImageFile", ".png .apng"),
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile", ".jpg .jpeg .jpe .jfif"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile", ".webp"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile", ".bmp .dib"),
    "DIB": ("PIL.BmpImagePlugin", "DibImageFile", ".bmp .dib"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile", ".tif .tiff"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile", ".gif"),
    "JPEG 2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile", ".jp2 .j2k .j2c .jpx .jpf"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile", ".pbm .pgm .ppm .pnm"),
    "QOI": ("PIL.QoiImagePlugin", "QoiImageFile", ".qoi"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile", ".avif .avifs .heif"),
    "HEIC": ("pillow_heif", "HeifImageFile", ".heic .heif"),
}
CODECS = {"AVIF": "avif", "WebP": "webp", "JPEG 2000": "jpg_2000"}  # that a build of Pillow may lack
STARTS: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    ((b"GIF87a", b"GIF89a"), "GIF"),
    ((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG 2000"),
    (b"BM", "BMP"),
    (b"qoif", "QOI"),
    (tuple(b"P%d%c" % (kind, space) for kind in (4, 5, 6) for space in b" \t\r\n"), "PNM"),
    ((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), "JPEG XL"),  # from here on: images that are not read
    (b"8BPS", "Photoshop's own format"),
    (b"\0\0\1\0", "an icon"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DirectDraw surface"),
    (b"%PDF", "PDF"),
    ((b"<svg", b'<?xml version="1.0" encoding="UTF-8"?>\n<svg'), "SVG"),
)
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's, of up to 8 bits a channel
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
ORIENTATION, XMP, PREMULTIPLIED = 274, 700, 1
UNPACKED = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "LZMA")  # compressions that tifffile reads without further packages
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")  # chunks of a PNG
ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # its texts that may say how the image is turned
LIMIT = 2**20  # bytes of such a text
WARNINGS_LOCK = threading.Lock()


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, "kind: detail"."""


def encoding_of(head: bytes) -> str | None:
    """Encoding told by a file's first ``HEAD`` bytes, of ``READERS`` or of those not read; None if it is no image."""
    if found := next((encoding for start, encoding in STARTS if head.startswith(start)), None):
        return found
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head[:4] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0") and head[12:14] == b"\1\0":
        return "DIB"  # a BMP without its file header: the size of the next one, and one plane
    if head[4:8] != b"ftyp":
        return None
    brands = {head[k : k + 4] for k in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIC"
    return "camera raw" if head[8:11] == b"crx" else "video"


def reader_of(head: bytes) -> tuple[str, type[ImageFile]]:
    """Encoding and reader of a file with these first bytes; ImageError if there is none."""
    if not head:
        raise ImageError("not an image: 0 bytes")
    encoding = encoding_of(head)
    if encoding is None:
        *names, last = READERS
        raise ImageError(f"not an image: not {', '.join(names)} or {last} by its first bytes")
    if encoding not in READERS:
        raise ImageError(f"not supported: {encoding} is not read")
    if encoding in CODECS and not features.check(CODECS[encoding]):
        raise ImageError(f"not supported: this Pillow was built without {encoding}")
    module, name, _ = READERS[encoding]
    try:  # the reader itself; pillow-heif is not registered with Pillow, which all code in this process shares
        return encoding, getattr(import_module(module), name)
    except ImportError as error:
        raise ImageError(f"not supported: {encoding} needs the extra: pip install difcore[heif]") from error


def suffix_lies(suffix: str, encoding: str) -> bool:
    """Whether a file's suffix promises another encoding than its content has."""
    promised = [name for name, (_, _, suffixes) in READERS.items() if suffix.lower() in suffixes.split()]
    return bool(promised) and encoding not in promised


@dataclass(frozen=True)
class OpenImage:
    """An image file whose header has been read, and nothing but that."""

    encoding: str  # a key of ``READERS``, from the content
    header: Any  # PIL.ImageFile.ImageFile, or tifffile.TiffPage if Pillow has no mode for its samples
    stream: IO[bytes]
    width: int  # px, as stored
    height: int

    @property
    def bits(self) -> int:
        """Bits of the deepest sample of a PNG or a TIFF; 8 of anything else."""
        deep_png = self.encoding == "PNG" and ";16" in raw_mode(self.header)
        return max(tags_of(self.header).get(BITS_PER_SAMPLE) or (16 if deep_png else 8,))

    @property
    def coarse(self) -> str:
        """Why its pixels cannot carry a fingerprint, "palette", "1 bit", "2 bits" or "4 bits"; "" if they can."""
        if not isinstance(self.header, ImageFile):
            return ""
        if self.header.mode in ("P", "PA") or self.encoding == "GIF":
            return "palette"
        if self.header.mode == "1" or self.bits == 1:
            return "1 bit"
        return next((f"{n} bits" for n in (2, 4) if self.bits == n or raw_mode(self.header).startswith(f"L;{n}")), "")


@contextmanager
def open_image(path: Path | str) -> Iterator[OpenImage]:
    """Read an image file's header; no pixel is decoded."""
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
        image = _opened(BytesIO(pixel_chunks(stream.read())) if encoding == "PNG" else stream, encoding, reader)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and image.width * image.height > limit:
            raise ImageError(f"too large: {image.width}x{image.height} px, the limit is {limit} pixels")
        yield image


def to_rgb(image: OpenImage, crop: int | None = None) -> NDArray[np.uint8]:
    """Decode an opened image; its centre crop (or all of it) as uint8 (h, w, 3), by the rules above."""
    header = image.header
    if not isinstance(header, ImageFile):
        return np.array(_centre(_upright(_deep_tiff(header)), crop))
    bits = image.bits
    if header.mode == "F" and image.encoding == "TIFF":
        return _grey(to_8_bits(np.asarray(_load(image, crop))))
    if header.mode.startswith("I;16") and bits in (8, 16):  # 8: JPEG 2000, whose samples Pillow stretches to 16
        grey = np.asarray(_load(image, crop)).astype(np.uint16)
        # where white is zero Pillow inverts TIFFs of 8 bits, but not of 16
        return _grey(to_8_bits(65535 - grey if tags_of(header).get(PHOTOMETRIC) == 0 else grey))
    if header.mode not in MODES or bits > 16:
        raise ImageError(f"not supported: pixels of format {header.mode}, {bits} bits")
    if bits > 8:
        return _deep_colour(image, crop)
    if image.encoding == "JPEG 2000" and (depth := jpeg_2000_bits(image.stream)) > 8:
        raise ImageError(f"not supported: JPEG 2000 with colours of {depth} bits")
    pixels = _load(image, crop)
    pixels.info.pop("transparency", None)  # dropped like any alpha; Pillow would warn about it
    return np.array(pixels.convert("RGB"))


def centre_offset(size: int, crop: int) -> int:
    """First row or column of a centre crop: (size - crop) / 2, a half rounded to even, as the official code's crops.

    Those are torchvision's: with 3 px to spare the crop begins at 2, with 1 or 5 px at 0 and 2.
    """
    return round((size - crop) / 2)


def to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples as 0..255: unsigned ones by their full range, floats from 0..1; rounded. ImageError for others."""
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError("not supported: float samples that are not all within 0 to 1")
        return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if values.dtype.kind != "u":
        raise ImageError("not supported: samples are signed, not unsigned integers")
    step = np.iinfo(values.dtype).max // 255  # 257 for 16 bits; odd, so there are no ties
    whole, rest = np.divmod(values, values.dtype.type(step))
    return (whole + (rest > step // 2)).astype(np.uint8)


def tags_of(header: Any) -> Any:
    """The tags of a TIFF; of anything else none."""
    return getattr(header, "tag_v2", {})


def raw_mode(header: ImageFile) -> str:
    """How Pillow will unpack the file's bytes, such as RGB;16B."""
    args = header.tile[0][3] if header.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def jpeg_2000_bits(stream: IO[bytes]) -> int:
    """Bits of the deepest component, from the codestream's SIZ marker: three bytes for each, the first is bits - 1."""
    stream.seek(0)
    start = (content := stream.read(2**16)).find(b"\xff\x4f\xff\x51") + 4
    count = int.from_bytes(content[start + 36 : start + 38], "big")
    return 1 + max((size & 0x7F for size in content[start + 38 : start + 38 + 3 * count : 3]), default=7)


def pixel_chunks(content: bytes) -> bytes:
    """The PNG ``content`` with nothing but its (first, still) image and what tells its orientation.

    Pillow refuses a PNG for what stands beside the image (a megabyte of workflow, a profile of unknown compression, a
    short pHYs), by limits that all code in the process shares. A chunk cut off by the file's end stays: it is damage.
    """
    kept, at, kind = [content[:8]], 8, b""
    while at < len(content) and kind != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if end > len(content) or kind in PIXELS or _may_turn(kind, content[at + 8 : end - 4]):
            kept.append(content[at:end])
        at = end
    return b"".join(kept)


def _may_turn(kind: bytes, data: bytes) -> bool:
    """Whether a chunk is a text that may hold an orientation, and that Pillow can read."""
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or not data.startswith(ORIENTED) or len(data) > LIMIT:
        return False
    try:
        getattr(PngStream(BytesIO(data)), f"chunk_{kind.decode()}")(0, len(data))
    except Exception:  # too long when inflated, or damaged in any way
        return False
    return True


def _opened(stream: IO[bytes], encoding: str, reader: type[ImageFile]) -> OpenImage:
    stream.seek(0)
    try:
        with _damage(encoding), _quiet():
            # the reader itself, not Image.open: that warns of large images before anyone can look at the size
            header = reader(stream)
    except ImageError:
        if encoding != "TIFF":
            raise
    else:
        image, tags = OpenImage(encoding, header, stream, header.width, header.height), tags_of(header)
        odd = set(tags.get(SAMPLE_FORMAT) or (1,)) != {1} or image.bits > 16
        if not tags or header.mode == "F" or not (odd or (image.bits > 8 and tags.get(PLANAR_CONFIGURATION) == 2)):
            return image
    stream.seek(0)  # a TIFF that Pillow has no mode for, or unpacks wrongly
    with _damage("TIFF"):
        page = tifffile.TiffFile(stream).pages.first
        if not page.imagewidth or not page.imagelength:
            raise ValueError("its size is missing")
        return OpenImage(encoding, page, stream, int(page.imagewidth), int(page.imagelength))


def _deep_tiff(page: Any) -> Image.Image:
    """A page of float colour, 32 bits, 16 bits in planes, as stored: 8-bit RGB, with what says how it is turned."""
    kind, compression = (str(getattr(x, "name", x)) for x in (page.photometric, page.compression))
    if compression not in UNPACKED:
        raise ImageError(f"not supported: TIFF of {page.bitspersample} bits compressed as {compression}")
    if kind not in ("MINISBLACK", "MINISWHITE", "RGB") or PREMULTIPLIED in page.extrasamples:
        raise ImageError(f"not supported: TIFF of {page.bitspersample} bits in {kind}, or of premultiplied colour")
    if page.dtype is None or page.bitspersample not in (8, 16, 32, 64):
        raise ImageError(f"not supported: TIFF samples of {page.bitspersample} bits")
    with _damage("TIFF"):
        values = np.asarray(page.asarray())
    if sorted(page.axes.replace("S", "")) != ["X", "Y"]:
        raise ImageError(f"not supported: TIFF with axes {page.axes}")
    if "S" in page.axes:
        values = np.moveaxis(values, page.axes.index("S"), -1)[..., : 3 if kind == "RGB" else 1]
    pixels = to_8_bits(values if values.ndim == 3 else values[..., None])
    image = Image.fromarray(np.repeat(255 - pixels if kind == "MINISWHITE" else pixels, 3 // pixels.shape[-1], -1))
    if (turn := page.tags.get(ORIENTATION)) is not None:
        image.getexif()[ORIENTATION] = turn.value
    if (text := page.tags.get(XMP)) is not None and isinstance(text.value, bytes):
        image.info["xmp"] = text.value
    return image


def _grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, -1)


def _deep_colour(image: OpenImage, crop: int | None) -> NDArray[np.uint8]:
    """RGB of 16 bits per channel: Pillow unpacks the high bytes; in the other byte order it unpacks the low ones.

    Grey with alpha has no other order in Pillow: there the four bytes L L A A of a pixel are unpacked as R G B A.
    """
    mode = raw_mode(image.header)
    if mode == "LA;16B":
        both = np.asarray(_load(image, crop, "RGBA")).astype(np.uint16)
        return _grey(to_8_bits(both[..., 0] * np.uint16(256) + both[..., 1]))
    layout, order = mode[:-1], mode[-1].replace("N", sys.byteorder[0].upper())
    if layout not in ("RGB;16", "RGBA;16", "RGBX;16"):
        raise ImageError(f"not supported: 16-bit samples laid out as {mode}")
    high = np.asarray(_load(image, crop))[..., :3].astype(np.uint16)
    again = _opened(image.stream, image.encoding, type(image.header))
    low = np.asarray(_load(again, crop, layout + ("L" if order == "B" else "B")))[..., :3]
    return to_8_bits(high * np.uint16(256) + low)


def _load(image: OpenImage, crop: int | None, mode: str = "") -> Image.Image:
    """Decode, by another raw mode if one is given, turn upright, cut the centre."""
    header = image.header
    if mode:
        header.tile = [t._replace(args=(mode, *t[3][1:]) if isinstance(t[3], tuple) else mode) for t in header.tile]
    # all but those that may warn may decode in several threads at once
    with _damage(image.encoding), _quiet() if image.encoding in ("TIFF", "GIF") else nullcontext():
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


@contextmanager
def _damage(encoding: str) -> Iterator[None]:
    """Turn what a library raises on a damaged file, which may be any exception, into an ImageError."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except Exception as error:
        told = str(error) or type(error).__name__
        kind = f"not supported: {encoding}," if "imagecodecs" in told else f"damaged or truncated {encoding}:"
        raise ImageError(f"{kind} {told}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings of odd metadata, under a lock because all threads share one list of filters."""
    with WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
