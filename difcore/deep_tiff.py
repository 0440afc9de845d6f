"""TIFFs that Pillow has no mode for: float colour, 32 bits, 16 bits in planes, some BigTIFFs. tifffile reads them."""

from __future__ import annotations

from typing import IO

import numpy as np
import tifffile
from PIL import Image

from difcore.encodings import ImageError
from difcore.samples import to_8_bits

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
