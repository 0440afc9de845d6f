"""What an image file's header says of its encoding: format, size, JPEG quality and subsampling. Nothing is decoded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from difcore.images.decoding import OpenImage, suffix_lies

# Luminance table of the JPEG standard (ITU-T T.81, table K.1) in rows; the IJG library scales it by the quality.
STANDARD_LUMINANCE = np.fromstring(
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 18 22 37 56 68 "
    "109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99", int, sep=" "
)  # fmt: skip


def header_facts(image: OpenImage, suffix: str) -> dict[str, Any]:
    """The columns of ``audit.formats.audit_folder`` but the path."""
    header, quality, exact, subsampling = image.header, math.nan, False, ""
    if isinstance(header, JpegImageFile) and header.quantization:
        table = header.quantization.get(header.layer[0][3]) or next(iter(header.quantization.values()))
        quality, exact = jpeg_quality(np.asarray(table))
        if header.layers == 3:
            subsampling = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(get_sampling(header), "other")
    return {
        "encoding": image.encoding, "suffix_lies": suffix_lies(suffix, image.encoding), "width": image.width,
        "height": image.height, "jpeg_quality": quality, "jpeg_exact": exact, "subsampling": subsampling,
        "coarse": image.coarse,
    }  # fmt: skip


def ijg_table(quality: int) -> NDArray[np.int64]:
    """Luminance table (64,) of the IJG library, in rows, for quality 1 to 100 (``jpeg_quality_scaling`` in libjpeg)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((STANDARD_LUMINANCE * scale + 50) // 100, 1, 255)


IJG_TABLES = np.stack([ijg_table(quality) for quality in range(1, 101)])  # (100, 64)


def jpeg_quality(table: NDArray[Any]) -> tuple[int, bool]:
    """IJG quality whose luminance table is nearest to ``table`` (64,) in rows, and whether it is the same.

    The distance is the sum of |log| ratios, so that coarse steps do not outweigh fine ones. A table that is not
    the IJG's (cameras, Photoshop) gets the nearest quality, a rough guide only.
    """
    distance = np.abs(np.log(IJG_TABLES) - np.log(np.maximum(table, 1))).sum(1)
    best = int(distance.argmin())
    return best + 1, bool(np.array_equal(IJG_TABLES[best], table))
