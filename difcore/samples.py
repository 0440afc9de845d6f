"""How a file's samples lie, and how those of other depths become 8 bits."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from difcore.encodings import ImageError

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
