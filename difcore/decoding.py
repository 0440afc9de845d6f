"""From the bytes of one image file to 8-bit RGB, by stated rules, or to a reason why not.

What a file holds is told by its first bytes, never by its suffix. Pixels become 8-bit RGB by these rules:

- EXIF orientation (JPEG, PNG, WebP) and TIFF orientation are applied. ICC profiles and gamma are ignored: the numbers
  in the file are the native pixels, and a fingerprint lives in them.
- Alpha is dropped, also a palette's or a PNG's transparent colour. Blending over a background would scale the
  residual by alpha and paste in pixels that no camera or generator made; where alpha is opaque the two are the same.
- Grey is repeated in three channels; 1, 2 and 4 bits are stretched to 0..255; a palette is looked up.
- 16 bits per channel become round(v / 257), so that 65535 is 255. Pillow alone keeps only the high byte (v // 256) of
  16-bit colour, one level off for a quarter of all values; here the low byte is read as well.
- CMYK becomes R = (255 - C)(255 - K) / 255 and so on. CMYK in JPEG is taken as stored inverted, as Adobe does.
- Of an animation, a multi-page TIFF or a multi-picture JPEG the first image is taken.
- Float, signed, 12-bit and 32-bit samples, 16-bit CMYK and Lab have no agreed way to 8-bit RGB: ``ImageError``.
"""

from __future__ import annotations

import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

READERS: dict[str, type[ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's, of up to 8 bits a channel
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
TURN = {  # EXIF orientation -> how to make it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WARNINGS_LOCK = threading.Lock()


class ImageError(ValueError):
    """An image that cannot be used; the message is the reason, "kind: detail"."""


@dataclass(frozen=True)
class OpenImage:
    """An image file whose header has been read.

    Attributes
    ----------
    encoding : str
        A key of ``READERS``, from the content.
    header : PIL.ImageFile.ImageFile
        Pillow's image, not decoded yet.
    stream : binary file
    """

    encoding: str
    header: ImageFile
    stream: IO[bytes]


def encoding_of(head: bytes) -> str | None:
    """Encoding told by a file's first 12 bytes: a key of ``READERS``, or None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    return "BMP" if head.startswith(b"BM") else None


@contextmanager
def open_image(path: Path | str) -> Iterator[OpenImage]:
    """Read an image file's header; no pixel is decoded.

    Raises
    ------
    ImageError
        If the file is missing, empty, no image of a known encoding, damaged, or has more pixels than
        ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    try:
        path = Path(path)
        if not path.is_file():
            there = "a folder" if path.is_dir() else "not a regular file" if path.exists() else ""
            raise ImageError(f"no file: {there or ('broken link' if path.is_symlink() else 'missing')}")
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(f"no file: cannot be opened ({error.strerror})") from error
    with stream:
        encoding = encoding_of(head := stream.read(12))
        if not head:
            raise ImageError("not an image: 0 bytes")
        if encoding is None:
            raise ImageError("not an image: not PNG, JPEG, WebP, BMP or TIFF by its first bytes")
        header = _header(stream, encoding)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and header.width * header.height > limit:
            raise ImageError(f"too large: {header.width}x{header.height} px, the limit is {limit} pixels")
        yield OpenImage(encoding, header, stream)


def to_rgb(image: OpenImage, crop: int | None = None) -> NDArray[np.uint8]:
    """Decode an opened image; its centre crop (or all of it) as uint8 (h, w, 3), by the rules above.

    Raises
    ------
    ImageError
        If the file is damaged or truncated or its samples have no rule. A crop that does not fit is the caller's
        mistake.
    """
    rawmode = str(_tile_argument(image.header))
    tags: Any = image.header.tag_v2 if isinstance(image.header, TiffImageFile) else {}
    deep_png = image.encoding == "PNG" and ";16" in rawmode
    bits = max(tags.get(BITS_PER_SAMPLE) or (16 if deep_png else 8,))
    if set(tags.get(SAMPLE_FORMAT) or (1,)) != {1}:
        raise ImageError("no rule: samples are signed or float, not unsigned integers")
    if image.header.mode.startswith("I;16") and bits == 16:
        grey = np.asarray(_load(image, image.header, crop)).astype(np.uint32)
        if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow inverts such TIFFs of 8 bits, but not of 16
            grey = 65535 - grey
        return _to_8_bits(np.repeat(grey[..., None], 3, -1))
    if image.header.mode not in MODES or bits > 16:
        raise ImageError(f"no rule: pixels of format {image.header.mode}, {bits} bits")
    if bits > 8 and tags.get(PLANAR_CONFIGURATION) == 2:  # Pillow unpacks these wrongly
        raise ImageError("no rule: 16-bit colour in separate planes")
    if bits > 8:
        return _deep_colour(image, crop, rawmode)
    pixels = _load(image, image.header, crop)
    pixels.info.pop("transparency", None)  # dropped like any alpha; Pillow would warn about it
    return np.array(pixels.convert("RGB"))


def _deep_colour(image: OpenImage, crop: int | None, rawmode: str) -> NDArray[np.uint8]:
    """RGB of 16 bits per channel: Pillow unpacks the high bytes; in the other byte order it unpacks the low ones.

    Grey with alpha has no other order in Pillow: there the four bytes L L A A of a pixel are unpacked as R G B A.
    """
    if rawmode == "LA;16B":
        both = np.asarray(_load(image, _unpacked_as(image.header, "RGBA"), crop)).astype(np.uint32)
        return _to_8_bits(np.repeat(both[..., :1] * 256 + both[..., 1:2], 3, -1))
    layout, order = rawmode[:-1], rawmode[-1].replace("N", sys.byteorder[0].upper())
    if layout not in ("RGB;16", "RGBA;16", "RGBX;16"):
        raise ImageError(f"no rule: 16-bit samples laid out as {rawmode}")
    other = layout + ("L" if order == "B" else "B")
    high = np.asarray(_load(image, image.header, crop))[..., :3].astype(np.uint32)
    again = _unpacked_as(_header(image.stream, image.encoding), other)
    return _to_8_bits(high * 256 + np.asarray(_load(image, again, crop))[..., :3])


def _to_8_bits(values: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return ((values + 128) // 257).astype(np.uint8)  # round(v / 257); 257 is odd, so there are no ties


def _tile_argument(header: ImageFile) -> Any:
    """How Pillow will unpack the file's bytes: its "raw mode", such as RGB;16B."""
    args = header.tile[0][3] if header.tile else ""
    return args[0] if isinstance(args, tuple) and args else args


def _unpacked_as(header: ImageFile, rawmode: str) -> ImageFile:
    """The same image, to be unpacked by another raw mode."""
    tiles: list[Any] = header.tile
    for index, tile in enumerate(tiles):
        args = (rawmode, *tile[3][1:]) if isinstance(tile[3], tuple) else rawmode
        tiles[index] = tile._replace(args=args)
    return header


def _load(image: OpenImage, header: ImageFile, crop: int | None) -> Image.Image:
    """Decode, turn upright, cut the centre."""
    # TIFF (odd tags) and animated PNG may warn while decoding; all else may decode in several threads at once
    may_warn = image.encoding == "TIFF" or getattr(header, "is_animated", False)
    with _damage(image.encoding), _quiet() if may_warn else nullcontext():
        header.load()
    upright: Image.Image = header
    turn = None if image.encoding == "TIFF" else TURN.get(exif_orientation(header.info.get("exif", b"")))
    if turn is not None:  # Pillow has turned a TIFF already
        upright = header.transpose(turn)
    if crop is None:
        return upright
    left, top = centre_offset(upright.width, crop), centre_offset(upright.height, crop)
    return upright.crop((left, top, left + crop, top + crop))


def centre_offset(size: int, crop: int) -> int:
    """First row or column of a centre crop: (size - crop) / 2, a half rounded to even, as the official code's crops.

    Those are torchvision's: with 3 px to spare the crop begins at 2, with 1 or 5 px at 0 and 2.
    """
    return round((size - crop) / 2)


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 from an EXIF block; 1 (upright) if it says nothing or cannot be read."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order:
            (start,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, start)
            for entry in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
                if tag == 0x0112 and kind == 3:
                    return int(value)
    except struct.error:
        pass
    return 1


def _header(stream: IO[bytes], encoding: str) -> ImageFile:
    stream.seek(0)
    with _damage(encoding), _quiet():
        # the reader itself, not Image.open: that warns of large images before anyone can look at the size
        return READERS[encoding](stream)


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
