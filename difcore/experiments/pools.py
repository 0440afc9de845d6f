"""Images of two classes, each picture once, and their division into train and test by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from difcore.cells import NotEnough
from difcore.experiments.folders import draw
from difcore.images import ImageError, Skipped, through_jpeg
from difcore.leakage import Trace, check_disjoint_traces, copies, trace
from difcore.residuals import sha256_pixels

MIN_TEST = 10  # test images of each class below which a cell says that there are too few
LABELS = ("real", "fake", "test_real", "test_fake")


@dataclass(frozen=True)
class Pool:
    """Images of one class to draw from.

    Attributes
    ----------
    images : uint8 (N, crop, crop, 3)
    names, hashes, traces : tuples of length N
        Where each is from; hash of its pixels and ``leakage.trace`` before any re-encoding.
    """

    images: np.ndarray
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    traces: tuple[Trace, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Sequence[int]) -> Pool:
        """The images at ``index``."""
        chosen = list(index)
        names, hashes = (tuple(values[i] for i in chosen) for values in (self.names, self.hashes))
        return Pool(self.images[np.array(chosen, int)], names, hashes, tuple(self.traces[i] for i in chosen))


@dataclass(frozen=True)
class Sets:
    """One generator's images. A class without test images of its own is tested on what a draw leaves of its pool."""

    real: Pool
    fake: Pool
    test_real: Pool | None = None
    test_fake: Pool | None = None
    skipped: tuple[Skipped, ...] = ()


def make_pool(images: Sequence[np.ndarray] | np.ndarray, names: Sequence[str], jpeg: int | None) -> Pool:
    """A pool of uint8 (H, W, 3) images of one size, last encoded as JPEG of a quality if one is given."""
    hashes, traces = tuple(map(sha256_pixels, images)), tuple(map(trace, images))
    final = images if jpeg is None else [through_jpeg(np.asarray(image), jpeg) for image in images]
    return Pool(np.stack(list(final)), tuple(names), hashes, traces)


def without_copies(sets: Sets) -> Sets:
    """Each picture once: what is a copy or a crop of an earlier image (train before test, real before fake) is skipped.

    Raises
    ------
    ImageError
        If nothing is left of a pool.
    """
    pools = {label: pool for label in LABELS if (pool := getattr(sets, label)) is not None}
    names = [name for pool in pools.values() for name in pool.names]
    same = copies(*([x for pool in pools.values() for x in getattr(pool, key)] for key in ("hashes", "traces")))
    if not same:
        return sets
    skipped = tuple(Skipped(Path(names[k]), f"copy or crop: of {names[j]}") for k, j in same.items())
    kept, start = {}, 0
    for label, pool in pools.items():
        kept[label] = pool.take([i for i in range(len(pool)) if start + i not in same])
        start += len(pool)
        if not len(kept[label]):
            raise ImageError(f"every {label.replace('_', ' ')} image is a copy or a crop of others")
    return replace(sets, **kept, skipped=sets.skipped + skipped)


def repeats(pool: Pool, known: Pool) -> bool:
    """Whether every picture of ``pool`` is a copy or a crop of one of ``known``, or of one that is."""
    same = copies([*known.hashes, *pool.hashes], [*known.traces, *pool.traces])
    return all(len(known) + i in same for i in range(len(pool)))


@dataclass(frozen=True)
class Division:
    """Images of each class to fit on and to test on; no picture of one, nor a crop of it, is in the other."""

    real: Pool
    fake: Pool
    test_real: Pool
    test_fake: Pool

    def check(self) -> Division:
        """Itself.

        Raises
        ------
        LeakageError
            If a picture, or a crop of one, is in both train and test.
        """
        train, test = (self.real, self.fake), (self.test_real, self.test_fake)
        hashes = [digest for pool in (*train, *test) for digest in pool.hashes]
        traces = [windows for pool in (*train, *test) for windows in pool.traces]
        check_disjoint_traces(hashes, traces, sum(map(len, train)))
        return self


def divide(sets: Sets, n_train: int, seed: int, sizes: Sequence[int] = (), max_test: int | None = None) -> Division:
    """Draw ``n_train`` images of each class, and take the test images that go with them.

    A class with test images of its own is tested on those, whatever the seed. Otherwise the test images are what is
    left after drawing the most images of ``sizes`` that still leave ``MIN_TEST``: all N_S of one grid then meet the
    same test images. Drawing goes by the seed and the images' content, and more training images are those and others.

    Parameters
    ----------
    sizes : sequence of int
        All N_S of the grid.
    max_test : int or None
        At most so many test images of each class.

    Raises
    ------
    NotEnough
        If a class has fewer than ``n_train`` images to train on, or none to test on: ``MIN_TEST`` have to be left.
    LeakageError
        If a picture is in both train and test.
    """
    parts: dict[str, Pool] = {}
    for label, pool, own in (("real", sets.real, sets.test_real), ("fake", sets.fake, sets.test_fake)):
        left = 0 if own is not None else MIN_TEST
        if len(pool) < n_train + left:
            needed = f"{n_train} to train on" + (f" and {left} to test on" if left else "")
            raise NotEnough(f"too few images: {len(pool)} {label}, needed {needed}")
        parts[label] = pool.take(draw(pool.hashes, n_train, seed))
        test = own
        if test is None:
            reserved = max(n for n in (n_train, *sizes) if n <= len(pool) - MIN_TEST)
            taken = set(draw(pool.hashes, reserved, seed))
            test = pool.take([i for i in range(len(pool)) if i not in taken])
        if max_test is not None and len(test) > max_test:
            test = test.take(draw(test.hashes, max_test, 0))
        parts[f"test_{label}"] = test
    return Division(**parts).check()
