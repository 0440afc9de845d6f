"""Images of two classes, each picture once, and their division by content: a folder of generators, or the demo's.

A folder holds <root>/<generator>/{0_real,1_fake} for any generators, or another layout of ``difcore.images.folders``;
what lies under a level called test or val, as in <generator>/test/0_real, is that class's test images. The demo's reals
are scenes, made once and kept beside the residuals in blocks that notebooks share; its fakes are what the shipped
generators make.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from difcore.demo import generators
from difcore.files import NeedsData, atomic_write, sha256_bytes, sha256_file
from difcore.fingerprints.fitting import draw
from difcore.images.crops import Skipped, read_crop, sha256_pixels, through_jpeg
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images, scan_generators
from difcore.images.leakage import Trace, check_disjoint, copies, trace
from difcore.images.scenes import rendered, scene
from difcore.machine.cache import keep, optional_folder, used
from difcore.paper import DISPLAY, GAN, LTIM, VARIANTS
from difcore.records.cells import NotEnough

MIN_TEST = 10  # test images of each class below which a cell says that there are too few
LABELS = ("real", "fake", "test_real", "test_fake")
FAMILIES = {"ltim": LTIM, "gan": GAN, "variants": tuple(dict.fromkeys([*VARIANTS.values(), *VARIANTS]))}
REAL_SEED, FAKE_SEED, TEST_SEED = 40_000_000, 41_000_000, 500_000  # of demo scenes; nothing is trained on any of them
BLOCK = 16  # scenes in one file; their first seed is a multiple of it


@dataclass(frozen=True)
class Pool:
    """Images of one class, uint8 (N, crop, crop, 3): where each is from, its hash and trace before any re-encoding."""

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


@dataclass(frozen=True)
class Division:
    """Images of each class to fit on and to test on; no picture of one, nor a crop of it, is in the other."""

    real: Pool
    fake: Pool
    test_real: Pool
    test_fake: Pool


@dataclass(frozen=True)
class Source:
    """One generator: its name, a hash of its images, and how to read them (given a JPEG quality or None)."""

    name: str
    digest: str
    load: Callable[[int | None], Sets]


def make_pool(images: Sequence[np.ndarray] | np.ndarray, names: Sequence[str], jpeg: int | None) -> Pool:
    """A pool of uint8 (H, W, 3) images of one size, last encoded as JPEG of a quality if one is given."""
    hashes, traces = tuple(map(sha256_pixels, images)), tuple(map(trace, images))
    final = images if jpeg is None else [through_jpeg(np.asarray(image), jpeg) for image in images]
    return Pool(np.stack(list(final)), tuple(names), hashes, traces)


def without_copies(sets: Sets) -> Sets:
    """Each picture once: a copy or a crop of an earlier one (train before test, real before fake) is skipped."""
    pools = {label: pool for label in LABELS if (pool := getattr(sets, label)) is not None}
    names = [name for pool in pools.values() for name in pool.names]
    same = copies(*([x for pool in pools.values() for x in getattr(pool, key)] for key in ("hashes", "traces")))
    skipped = tuple(Skipped(Path(names[k]), f"copy or crop: of {names[j]}") for k, j in same.items())
    kept, start = {}, 0
    for label, pool in pools.items():
        kept[label] = pool.take([i for i in range(len(pool)) if start + i not in same]) if same else pool
        start += len(pool)
        if not len(kept[label]):
            raise ImageError(f"every {label.replace('_', ' ')} image is a copy or a crop of others")
    return replace(sets, **kept, skipped=sets.skipped + skipped)


def repeats(pool: Pool, known: Pool) -> bool:
    """Whether every picture of ``pool`` is a copy or a crop of one of ``known``, or of one that is."""
    same = copies([*known.hashes, *pool.hashes], [*known.traces, *pool.traces])
    return all(len(known) + i in same for i in range(len(pool)))


def divide(sets: Sets, n_train: int, seed: int, sizes: Sequence[int] = (), max_test: int | None = None) -> Division:
    """Draw ``n_train`` images of each class, and take at most ``max_test`` test images that go with them.

    A class with test images of its own is tested on those, whatever the seed. Otherwise on what is left after drawing
    the most of ``sizes``, all N_S of the grid, that still leave ``MIN_TEST``: they then meet the same test images.
    Drawing goes by the seed and the images' content, and more training images are those and others.
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
    pools = [parts[label] for label in LABELS]
    hashes, traces = ([x for pool in pools for x in getattr(pool, key)] for key in ("hashes", "traces"))
    check_disjoint(hashes, traces, 2 * n_train)
    return Division(**parts)


def folder_sets(paths: Mapping[str, Sequence[Path]], crop: int, jpeg: int | None) -> Sets:
    """Centre crops of each class's files; what cannot be used is ``skipped``. ImageError if that is all of a class."""
    pools: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for label, files in paths.items():
        images, names = [], []
        for path in files:
            try:
                images.append(read_crop(path, crop))
                names.append(str(path))
            except ImageError as error:
                skipped.append(Skipped(path, str(error)))
        if not images:
            raise ImageError(f"none of {len(files)} {label.replace('_', ' ')} images could be used")
        pools[label] = make_pool(images, names, jpeg)
    return without_copies(Sets(**pools, skipped=tuple(skipped)))


def folder_sources(
    root: Path | str, wanted: Sequence[str], crop: int, others: bool = True
) -> tuple[dict[str, Source], dict[str, str]]:
    """Generators of ``root`` by name in the order of ``wanted``, and why the others of ``wanted`` are absent."""
    scanned, problems = scan_generators(root)
    there = {generator.name: generator for generator in scanned}
    extra = [name for name in sorted([*there, *problems]) if name not in (*wanted, *DISPLAY)] if others else []
    found, absent = {}, {}
    for name in (*wanted, *extra):
        if name not in there:
            reason = problems.get(name, "not in the data folder").partition(";")[0].replace(f"{Path(root)}/", "")
            absent[name] = f"absent: {reason}"
            continue
        folders = {label: where for label in LABELS if (where := getattr(there[name], label))}
        paths = {label: [path for folder in where for path in list_images(folder)] for label, where in folders.items()}
        hashes = [f"{label} {sha256_file(path)}" for label, files in paths.items() for path in files if path.is_file()]
        found[name] = Source(name, sha256_bytes(" ".join(hashes).encode()), partial(folder_sets, paths, crop))
    return found, absent


def demo_names(family: str) -> tuple[str, ...]:
    """The demo generators that stand in for a family.

    "ltim": decoders; "gan": GANs; "variants": parents and children; "decoders": all decoders and children; "progans":
    the 20 checkpoints of Fig. H; "progans_t": the models of Fig. F.
    """
    parents = [plan.parent for plan in generators.CHILDREN.values()]
    return {
        "ltim": tuple(generators.DECODERS),
        "gan": tuple(generators.GANS),
        "variants": tuple(dict.fromkeys([*parents, *generators.CHILDREN])),
        "decoders": (*generators.DECODERS, *generators.CHILDREN),
        "progans": generators.progan_checkpoints(),
        "progans_t": generators.PROGAN_T,
    }[family]


@cache
def scene_version(style: str, size: int) -> str:
    """A hash that changes when scenes do."""
    return sha256_pixels(scene(REAL_SEED, size, style))


def kept_block(path: Path, start: int, size: int, style: str) -> np.ndarray:
    """The scenes of one file, made unless another process has done so; a damaged file counts as none."""
    with suppress(OSError, ValueError, EOFError):
        block = np.load(path)
        if (block.shape, block.dtype) == ((BLOCK, size, size, 3), np.uint8):
            used(path)
            return block
    block = rendered(range(start, start + BLOCK), size, style)
    keep(partial(atomic_write, path, partial(np.save, arr=block)))
    return block


def kept_scenes(seeds: Sequence[int], size: int, style: str = generators.SOURCE_STYLE) -> np.ndarray:
    """The scenes of some seeds, uint8 (n, size, size, 3), made once.

    Blocks are made in random order, so that processes that need the same ones share the work.
    """
    folder = optional_folder("scenes")
    if folder is None:
        return rendered(seeds, size, style)
    folder /= f"{style}-{size}-{scene_version(style, size)[:12]}"
    tasks = [(folder / f"{start}.npy", start, size, style) for start in {seed // BLOCK * BLOCK for seed in seeds}]
    missing = [task for task in tasks if not task[0].is_file()]
    random.Random(os.getpid()).shuffle(missing)
    jobs = min(joblib.cpu_count(), max(1, len(missing)))
    made = joblib.Parallel(n_jobs=jobs)(joblib.delayed(kept_block)(*task) for task in missing)
    blocks = {task[1]: block for task, block in zip(missing, made, strict=True)}
    blocks |= {task[1]: kept_block(*task) for task in tasks if task[1] not in blocks}
    return np.stack([blocks[seed // BLOCK * BLOCK][seed % BLOCK] for seed in seeds])


def demo_sets(name: str, style: str, size: int, train: int, test: int, jpeg: int | None) -> Sets:
    """``train`` and ``test`` images of each class from disjoint seeds; the reals are scenes of ``style``."""
    pools: dict[str, Any] = {}
    for prefix, n, shift in (("", train, 0), ("test_", test, TEST_SEED)):
        reals, fakes = (range(first + shift, first + shift + n) for first in (REAL_SEED, FAKE_SEED))
        for label, images, names in (
            ("real", kept_scenes(reals, size, style), [f"{style} scene {seed}" for seed in reals]),
            ("fake", generators.fakes_of(name, fakes, size, scenes_of=kept_scenes), [f"{name} {k}" for k in fakes]),
        ):
            pools[f"{prefix}{label}"] = make_pool(images, names, jpeg)
    return without_copies(Sets(**pools))


def demo_sources(names: Sequence[str], size: int, train: int, test: int) -> tuple[dict[str, Source], dict[str, str]]:
    """Demo generators by name, and why the others are absent; the reals are scenes of ``generators.real_style``."""
    found, absent = {}, {}
    for name in names:
        try:
            weights = sha256_file(generators.weights_path(name))
        except FileNotFoundError:
            absent[name] = "absent: its weights are not shipped"
            continue
        style, source = generators.real_style(name), generators.read_facts(name)["plan"].get("source")
        versions = [scene_version(used, size) for used in (style, source) if used]
        digest = sha256_bytes(f"{name} {weights} {versions} {size} {train} {test}".encode())
        found[name] = Source(name, digest, partial(demo_sets, name, style, size, train, test))
    if not found:
        raise NeedsData(f"needs the weights of a demo generator: {'; '.join(absent.values())}")
    return found, absent
