"""What kind of image a file holds, told by its first bytes and never by its name, and which reader takes it."""

from __future__ import annotations

from importlib import import_module

from PIL import features
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
