"""The demo generators as sources of images: scenes are the reals, what the shipped generators make are the fakes.

Scenes are made once and kept beside the residuals, in blocks that notebooks share.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from difcore import generators
from difcore.cache import keep, optional_folder, used
from difcore.experiments.pools import Sets, make_pool, without_copies
from difcore.experiments.sources import Source
from difcore.files import atomic_write, sha256_bytes, sha256_file
from difcore.residuals import sha256_pixels
from difcore.scenes import rendered, scene

REAL_SEED, FAKE_SEED, TEST_SEED = 40_000_000, 41_000_000, 500_000  # of demo scenes; nothing is trained on any of them
BLOCK = 16  # scenes in one file; their first seed is a multiple of it


def demo_names(family: str) -> tuple[str, ...]:
    """The demo generators that stand in for a family.

    Parameters
    ----------
    family : {"ltim", "gan", "variants", "decoders", "progans", "progans_t"}
        Decoders; GANs; parents and children; all decoders and children; 20 checkpoints of Fig. H; models of Fig. F.
    """
    if family == "variants":
        return tuple(dict.fromkeys([*(plan.parent for plan in generators.CHILDREN.values()), *generators.CHILDREN]))
    return {
        "ltim": tuple(generators.DECODERS),
        "gan": tuple(generators.GANS),
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
    """``train`` and ``test`` images of each class from disjoint seeds; the reals are scenes of ``style``.

    Generators of one style share them, and latents or scenes that fakes are made of.
    """
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
    """Demo generators by name, and why the others are absent (weights that are not there).

    The reals are scenes of ``difcore.generators.real_style``.
    """
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
    return found, absent
