"""The invisible mark that the scripts of Stable Diffusion write (library invisible-watermark, method dwtDct).

The image's U channel goes through one level of the Haar transform. In each 4 x 4 block of the low-pass band, which is
8 x 8 px of the image, the largest value but the first is moved to (q + 1/4) 36 for a 0 and (q + 3/4) 36 for a 1. Blocks
are counted in rows, and the message is repeated over them. In spite of the method's name no cosine transform is done.

A mark is the same in all images of one script, so a fingerprint can be fitted to it instead of the generator. Hence a
reader, to tell, and a writer, to give photographs the same mark as a control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCALE = 36.0
BLOCK = 8  # px; 4 values of the low-pass band
HALF = 0.7071067811865476  # sqrt(1/2), as PyWavelets has it
SEARCHED = 16  # images of one size that a mark's place is looked for in
SIGMAS = 4.0  # below one half, in standard deviations of chance, from where an image counts as marked
Bits = NDArray[np.int8]


def _bits_of(text: bytes) -> Bits:
    return np.unpackbits(np.frombuffer(text, np.uint8)).astype(np.int8)


MESSAGES: Mapping[str, Bits] = {  # what is known to be written, and by whom
    "StableDiffusionV1": _bits_of(b"StableDiffusionV1"),  # the scripts of Stable Diffusion 1.x
    "StableDiffusionXL": _bits_of(0b101100111110110010010000011110111011000110011110.to_bytes(6, "big")),
}


@dataclass(frozen=True)
class MarkReading:
    """What a message's reader found in a set of images."""

    message: str  # a key of ``MESSAGES``
    errors: NDArray[np.float64]  # (N,) share of its bits read wrongly: 0 for a mark, about .5 without; NaN: too small
    marked: NDArray[np.bool_]  # (N,) fewer errors than chance leaves, by ``SIGMAS`` standard deviations


def luma_chroma(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(3, H, W) Y, U, V of an RGB image (H, W, 3), in OpenCV's 8-bit arithmetic (fixed point, 14 bits)."""
    red, green, blue = np.moveaxis(image.astype(np.int64), -1, 0)
    luma = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14
    chroma = [((values - luma) * factor + (128 << 14) + 8192) >> 14 for values, factor in ((blue, 8061), (red, 14369))]
    return np.clip([luma, *chroma], 0, 255)


def rgb(planes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The image (H, W, 3) of Y, U, V (3, H, W), as OpenCV converts back."""
    luma, u, v = planes[0], planes[1] - 128, planes[2] - 128
    parts = (18678 * v, -6472 * u - 9519 * v, 33292 * u)
    return np.clip(np.stack([luma + ((part + 8192) >> 14) for part in parts], -1), 0, 255).astype(np.uint8)


def _haar(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four bands (2, 2, H / 2, W / 2) of one level of the Haar transform of (H, W); [0, 0] is the low-pass one.

    Rows first, each step with its own rounding, as PyWavelets does it: values at the edge of a bit fall as they fall
    there.
    """
    upper, lower = values[::2] * HALF, values[1::2] * HALF
    parts = (upper + lower, upper - lower)
    left, right = ([part[:, k::2] * HALF for part in parts] for k in (0, 1))
    return np.array([[x + y, x - y] for x, y in zip(left, right, strict=True)])


def _haar_back(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``_haar``, columns first."""
    height, width = bands.shape[2:]
    parts = np.empty((2, height, 2 * width))
    parts[..., ::2] = bands[:, 0] * HALF + bands[:, 1] * HALF
    parts[..., 1::2] = bands[:, 0] * HALF - bands[:, 1] * HALF
    values = np.empty((2 * height, 2 * width))
    values[::2] = parts[0] * HALF + parts[1] * HALF
    values[1::2] = parts[0] * HALF - parts[1] * HALF
    return values


def _blocks(low_pass: NDArray[np.float64]) -> NDArray[np.float64]:
    """Copy (rows, columns, 16) of the whole 4 x 4 blocks of the low-pass band."""
    rows, columns = low_pass.shape[0] // 4, low_pass.shape[1] // 4
    whole = low_pass[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4)
    return whole.swapaxes(1, 2).reshape(rows, columns, 16)


def _carrier_at(blocks: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each block's carrier, 1 to 15, (..., 1): the largest magnitude but the first value's."""
    return np.abs(blocks[..., 1:]).argmax(-1)[..., None] + 1


def carriers(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The value of each 8 x 8 block that carries its bit: (H // 8, W // 8), in units of ``SCALE``."""
    height, width = (side // BLOCK * BLOCK for side in image.shape[:2])
    blocks = _blocks(_haar(luma_chroma(image[:height, :width])[1].astype(float))[0, 0])
    return np.abs(np.take_along_axis(blocks, _carrier_at(blocks), -1)[..., 0]) / SCALE


def read_carriers(image: NDArray[np.uint8]) -> tuple[Bits, float]:
    """The bit of each 8 x 8 block, (H // 8, W // 8), whatever was written, if anything; and how quantised they are.

    Quantised is how much the carriers lie where a writer puts them, -mean cos(4 pi value / scale): 1 for a fresh mark,
    whatever the message, about 0 without one; of single images without a mark .3 occurs. NaN below one block.
    """
    values = carriers(image)
    quantised = float(-np.cos(4 * np.pi * values).mean()) if values.size else float("nan")
    return (values % 1 > 0.5).astype(np.int8), quantised


def write_mark(image: NDArray[np.uint8], message: Bits) -> NDArray[np.uint8]:
    """``image`` uint8 (H, W, 3) with the message in it, as the library writes it.

    Its faults are kept, for they are part of what the mark leaves: the two mixed bands change places on the way back,
    and the fractions of the new U channel are cut off.
    """
    height, width = (side // 4 * 4 for side in image.shape[:2])
    planes = luma_chroma(image)
    bands = _haar(planes[1, :height, :width].astype(float))
    blocks = _blocks(bands[0, 0])
    rows, columns = blocks.shape[:2]
    at = _carrier_at(blocks)
    old = np.take_along_axis(blocks, at, -1)
    bits = np.resize(message, rows * columns).reshape(rows, columns, 1)
    new = (np.abs(old) // SCALE + 0.25 + 0.5 * bits) * SCALE
    np.put_along_axis(blocks, at, np.where(old < 0, -new, new), -1)
    marked = blocks.reshape(rows, columns, 4, 4).swapaxes(1, 2).reshape(rows * 4, columns * 4)
    bands[0, 0, : rows * 4, : columns * 4] = marked
    u = _haar_back(bands.swapaxes(0, 1))
    planes[1, :height, :width] = u.astype(np.int64) & 255  # cut off, and round the clock, as a conversion to 8 bits
    return rgb(planes)


def alignment_errors(bits: Bits, message: Bits) -> NDArray[np.float64]:
    """Share of wrong bits (L, L) for each row length and phase that the message of length L may have been written with.

    Block (i, j) of the image is taken for number i w + j + p of the message, with w (modulo L) the blocks in a row of
    the image that was marked, of which this one may be a crop at a multiple of 8 px, and p the number of its first
    block. Bits and message are taken without their means, so that an image of one colour, whose bits are all alike,
    gives .5.
    """
    length, (rows, columns) = len(message), bits.shape
    balanced = 2.0 * (message - message.mean())
    numbers = np.arange(length)
    by_phase = 2 * (bits - bits.mean()) @ balanced[(np.arange(columns)[:, None] + numbers) % length]  # (rows, L)
    i = np.arange(rows)
    places = (numbers[:, None, None] * i + numbers[None, :, None]) % length  # (w, p, rows)
    return (1 - by_phase[i, places].sum(-1) / bits.size) / 2


def vote(bits: Bits, message: Bits, width: int, phase: int) -> tuple[float, int]:
    """(share of the message's bits that a vote over their repetitions gets wrong, number of bits seen).

    (NaN, 0) without blocks. A tied vote counts as 1, as in the library.
    """
    rows, columns = bits.shape
    number = ((np.arange(rows)[:, None] * width + np.arange(columns) + phase) % len(message)).ravel()
    votes = np.bincount(number, minlength=len(message))
    ones = np.bincount(number, bits.ravel(), minlength=len(message))
    wrong, seen = (255 * ones > 127 * votes) != message, votes > 0
    return (float(wrong[seen].mean()), int(seen.sum())) if seen.any() else (float("nan"), 0)


def find_place(bits: Sequence[Bits], message: Bits) -> tuple[int, int]:
    """(row length, phase), as in ``alignment_errors``, with the fewest wrong bits over images of one size.

    Only places that show at least half of the message: with fewer bits chance does too well.
    """
    mean = np.mean([alignment_errors(one, message) for one in bits], axis=0)
    shown = [vote(bits[0], message, width, 0)[1] for width in range(len(message))]
    mean[2 * np.array(shown) < min(len(message), 2 * max(shown))] = np.inf
    width, phase = np.unravel_index(int(mean.argmin()), mean.shape)
    return int(width), int(phase)


def read_marks(read: Sequence[Bits], message: str = "StableDiffusionV1") -> MarkReading:
    """How many bits of a known message each image holds, wherever it was cut from the one that was marked.

    Images of one size come, if from one script, from one place of one format. So the place is looked for in one half of
    them and read in the other half, and the other way round: what was searched for the best fit cannot look marked
    by that alone. Fewer than four images of a size are read as whole files. Crops must lie at multiples of 8 px.

    Parameters
    ----------
    read : sequence of (H // 8, W // 8)
        Bits of each image, see ``read_carriers``.
    """
    known = MESSAGES[message]
    errors, chance = np.full(len(read), np.nan), np.full(len(read), np.nan)
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, bits in enumerate(read):
        if bits.size:
            groups.setdefault(bits.shape, []).append(k)
    for shape, members in groups.items():
        halves = (members[::2], members[1::2])
        for judged, others in (halves, halves[::-1]):
            place = (shape[1], 0)
            if len(members) >= 4:
                place = find_place([read[k] for k in others[:SEARCHED]], known)
            for k in judged:
                errors[k], seen = vote(read[k], known, *place)
                chance[k] = 0.5 / np.sqrt(seen)
    return MarkReading(message, errors, errors < 0.5 - SIGMAS * chance)
