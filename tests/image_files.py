"""Image files of every kind, made of their bytes, that the tests of reading share."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from difcore.images.crops import read_crop
from difcore.images.decoding import ImageError

Write = Callable[..., Path]  # (content, name) -> file

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {"quality": 90}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"quality": 80}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("GIF", {}),
    ("AVIF", {}),
    ("JPEG2000", {}),
    ("PPM", {}),
    ("QOI", {}),
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
