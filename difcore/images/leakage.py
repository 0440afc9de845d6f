"""No image, and no crop of one, in both train and test: by hashes of the images and of windows inside them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

WINDOW = 16  # px: two JPEG blocks a side, so that equal windows in unrelated pictures do not happen
ONE_IN = 256  # windows are kept by their own hash, so that a crop keeps those of its original, wherever it was cut
CONTRAST = 24  # grey levels between a window's ends: a flat sky is like any other
SHARED = 0.2  # of the smaller set of windows: a copied logo is less, a crop more

Trace = frozenset[int]


class LeakageError(AssertionError):
    """The same picture is in train and test; the message names it."""


def trace(image: np.ndarray) -> Trace:
    """What identifies a picture, uint8 (H, W, 3), under cropping: hashes of about one in ``ONE_IN`` of its windows.

    The windows are chosen by their content (hash divisible by ``ONE_IN``), not by their place, so an exact crop keeps
    those that lie inside it, whatever its offset. Windows without contrast are left out. A crop that was also resized
    or encoded with loss is another set of pixels: it is not recognised.
    """
    if min(image.shape[:2]) < WINDOW:
        return frozenset()
    pixels = image.astype(np.uint64)
    mixed = pixels[..., 0] + (pixels[..., 1] << np.uint64(8)) + (pixels[..., 2] << np.uint64(16)) + np.uint64(1)
    hashes = _rolling(_rolling(mixed, 0, 0x9E3779B97F4A7C15), 1, 0xC2B2AE3D27D4EB4F)
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    rows, columns = np.nonzero(hashes % np.uint64(ONE_IN) == 0)
    windows = [image[y : y + WINDOW, x : x + WINDOW, 1] for y, x in zip(rows, columns, strict=True)]
    kept = [k for k, window in enumerate(windows) if int(window.max()) - int(window.min()) >= CONTRAST]
    return frozenset(int(hashes[rows[k], columns[k]]) for k in kept)


def _rolling(values: np.ndarray, axis: int, base: int) -> np.ndarray:
    """sum_i base^i v_{k+i} modulo 2^64 over ``WINDOW`` neighbours along ``axis``."""
    length = values.shape[axis] - WINDOW + 1
    total = np.zeros_like(values.take(range(length), axis))
    for i in range(WINDOW):
        total *= np.uint64(base)
        total += values.take(range(WINDOW - 1 - i, WINDOW - 1 - i + length), axis)
    return total


def copies(hashes: Sequence[str], traces: Sequence[Trace]) -> dict[int, int]:
    """Index of each picture that is a copy or a crop of an earlier one, to that one's index.

    Two are the same if their hashes are, or if they share at least two windows and ``SHARED`` of those of the one
    that has fewer.
    """
    found: dict[int, int] = {}
    by_hash: dict[str, int] = {}
    by_window: dict[int, list[int]] = defaultdict(list)
    for k, (digest, windows) in enumerate(zip(hashes, traces, strict=True)):
        earlier = by_hash.get(digest)
        if earlier is None:
            shared = Counter(j for window in windows for j in by_window[window])
            needed = {j: max(2, SHARED * min(len(windows), len(traces[j]))) for j in shared}
            earlier = next((j for j in sorted(shared) if shared[j] >= needed[j]), None)
        if earlier is not None:
            found[k] = earlier
        by_hash.setdefault(digest, k)
        for window in windows:
            by_window[window].append(k)
    return found


def check_disjoint(hashes: Sequence[str], traces: Sequence[Trace], n_train: int) -> None:
    """Raise LeakageError if one of the first ``n_train`` pictures, or a crop of one, is among the others."""
    leaks = {k: j for k, j in copies(hashes, traces).items() if k >= n_train > j}
    if leaks:
        test, train = next(iter(leaks.items()))
        raise LeakageError(
            f"{len(leaks)} test images are copies or crops of training images, first: "
            f"test image {test - n_train} and training image {train} ({hashes[train][:12]})"
        )
