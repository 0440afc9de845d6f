"""From the bytes of one image file to 8-bit RGB, by stated rules, or to a reason why not.

What a file holds is told by its first bytes (``difcore.encodings``). Pixels become 8-bit RGB by these rules:

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
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from difcore.encodings import HEAD, ImageError, reader_of
from difcore.png_chunks import pixel_chunks
from difcore.samples import (
    beyond_pillow,
    bits_of,
    coarseness,
    grey_to_rgb,
    jpeg_2000_bits,
    raw_mode,
    tags_of,
    to_8_bits,
    unpacked_as,
)

if TYPE_CHECKING:
    from difcore.deep_tiff import DeepTiff

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
        from difcore.deep_tiff import DeepTiff

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
