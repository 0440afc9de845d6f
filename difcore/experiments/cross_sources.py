"""The generators that are tested on one another: demo models by family, or those of a folder."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from difcore import generators, paper
from difcore.artefacts import NeedsData
from difcore.experiments.bench import Bench
from difcore.experiments.pools import Sets, make_pool, without_copies
from difcore.experiments.sources import (
    FAKE_SEED,
    FAMILIES,
    REAL_SEED,
    TEST_SEED,
    Source,
    demo_names,
    demo_sources,
    folder_sources,
)
from difcore.files import atomic_write, sha256_bytes, sha256_file
from difcore.fit import DifPlan
from difcore.residuals import cache_folder, sha256_pixels
from difcore.scenes import scene

BLOCK = 32  # scenes in one file
PROGAN_T_PREFIX = "progan_t_"  # folders of Fig. F's models, one for each class


def checkpoint_name(name: str) -> str:
    """ "hatP_A@40" for the demo model "demo-progan-ahat-e40": as the paper calls its counterpart; others unchanged."""
    run, _, epoch = name.removeprefix("demo-progan-").partition("-e")
    model = {"a": "P_A", "b": "P_B", "ahat": "hatP_A", "bhat": "hatP_B"}.get(run)
    return f"{model}@{epoch}" if model and name.startswith("demo-progan-") and epoch.isdigit() else name


def model_of(name: str) -> str:
    """The training run of a checkpoint: "hatP_A" for "hatP_A@40"."""
    return checkpoint_name(name).partition("@")[0]


def epoch_of(name: str) -> int:
    """The epoch of a checkpoint; 0 where the name has none."""
    epoch = checkpoint_name(name).partition("@")[2]
    return int(epoch) if epoch.isdigit() else 0


def converged(names: Sequence[str]) -> list[bool]:
    """Which checkpoints are of the epochs that the paper calls converged: 40, 52, 70."""
    return [epoch_of(name) in paper.PROGAN_CONVERGED for name in names]


def demo_members(family: str) -> tuple[str, ...]:
    """Demo generators of a family: "progans" (20 checkpoints), "progans_t", "gans", "decoders" (with children)."""
    if family == "progans":
        return generators.progan_checkpoints()
    if family == "progans_t":
        return generators.PROGAN_T
    return demo_names("gan") if family == "gans" else (*generators.DECODERS, *generators.CHILDREN)


def paper_members(family: str, root: Path) -> tuple[str, ...]:
    """Folders that stand for a family in a data folder, as the paper names its models."""
    if family == "progans":
        return tuple(f"{model}@{epoch}" for model in paper.PROGAN_MODELS for epoch in paper.PROGAN_EPOCHS)
    if family == "progans_t":
        return tuple(sorted(p.name for p in root.glob(f"{PROGAN_T_PREFIX}*")))
    return FAMILIES["gan" if family == "gans" else "variants"]


def styled_scenes(style: str, n: int, size: int, seed: int) -> np.ndarray:
    """``n`` scenes of a style, uint8 (n, size, size, 3), made once and kept beside the residuals, in blocks.

    Blocks are made in random order, and what another process has made meanwhile is read.
    """
    version = sha256_pixels(scene(REAL_SEED, size, style))[:12]
    folder = cache_folder() / "demo" / f"{style}-{size}-{version}"
    starts = range(seed, seed + n, BLOCK)
    for start in random.Random(os.getpid()).sample(starts, len(starts)):
        if not (path := folder / f"{start}.npy").is_file():
            made = joblib.Parallel(n_jobs=joblib.cpu_count())(
                joblib.delayed(scene)(start + k, size, style) for k in range(BLOCK)
            )
            atomic_write(path, partial(np.save, arr=np.stack(list(made))))
    return np.concatenate([np.load(folder / f"{start}.npy") for start in starts])[:n]


def progan_sets(name: str, style: str, size: int, train: int, test: int, jpeg: int | None) -> Sets:
    """``train`` and ``test`` images of each class from disjoint seeds; the reals are scenes of the model's own style.

    All checkpoints of all models are given the same latents.
    """
    pools: dict[str, Any] = {}
    for prefix, n, shift in (("", train, 0), ("test_", test, TEST_SEED)):
        real = styled_scenes(style, n, size, REAL_SEED + shift)
        fake = generators.fakes_of(name, range(FAKE_SEED + shift, FAKE_SEED + shift + n), size)
        pools[f"{prefix}real"] = make_pool(real, [f"{style} {REAL_SEED + shift + k}" for k in range(n)], jpeg)
        pools[f"{prefix}fake"] = make_pool(fake, [f"{name} {FAKE_SEED + shift + k}" for k in range(n)], jpeg)
    return without_copies(Sets(**pools))


def cross_sources(names: Sequence[str], size: int, train: int, test: int) -> tuple[dict[str, Source], dict[str, str]]:
    """Demo generators by name, in the order given, and why the others are absent."""
    progans = [name for name in names if name.startswith("demo-progan")]
    found, absent = demo_sources([name for name in names if name not in progans], size, train, test)
    versions: dict[str, str] = {}
    for name in progans:
        try:
            weights = sha256_file(generators.weights_path(name))
        except FileNotFoundError:
            absent[name] = "absent: its weights are not shipped"
            continue
        style = str(generators.read_facts(name)["plan"]["style"])
        if style not in versions:
            versions[style] = sha256_pixels(scene(REAL_SEED, size, style))
        digest = sha256_bytes(f"{name} {weights} {versions[style]} {size} {train} {test}".encode())
        found[name] = Source(name, digest, partial(progan_sets, name, style, size, train, test))
    return {name: found[name] for name in names if name in found}, absent


def open_cross(
    data_root: Path | str | None,
    profile: str,
    family: str,
    generators: Sequence[str] = (),
    size: int = 64,
    n_train: int = 128,
    test: int = 64,
    steps: int = 250,
    denoiser: str = "photos",
    bfloat16: bool = False,
    n_jobs: int = 1,
    progress: bool = False,
) -> Bench:
    """The models of one cross-detection: of a folder where it holds any of them, else the demo's.

    Parameters
    ----------
    family : {"progans", "progans_t", "gans", "decoders"}
        Of Figs. H, F, A, and of the family tree. In a folder: P_A@20 ... hatP_B@70; progan_t_*; the paper's GANs;
        fine-tuned models with their sources.
    generators : sequence of str
        Names; empty: all of the family.
    test : int
        Demo test images of each class; of a folder at most so many (0: all).

    Other parameters and errors: as ``difcore.experiments.bench.open_bench``.
    """
    shared: dict[str, Any] = {"crop": size, "plan": DifPlan(steps=steps, bfloat16=bfloat16), "denoiser": denoiser}
    shared |= {"bfloat16": bfloat16, "n_jobs": n_jobs, "progress": progress}
    if data_root:
        wanted = tuple(generators) or paper_members(family, Path(data_root))
        found, absent = folder_sources(data_root, wanted, size, others=False)
        if found:
            return Bench(found, absent, True, f"images of {', '.join(found)}", max_test=test or None, **shared)
    if profile == "paper":
        names = ", ".join(paper_members(family, Path(data_root))) if data_root else "<generator>"
        raise NeedsData(f"needs `--data-root DIR` with {names or 'the models'} as <generator>/{{0_real,1_fake}}")
    names_there = [name for name in generators if name.startswith("demo-")] or demo_members(family)
    found, absent = cross_sources(names_there, size, n_train, test)
    if not found:
        raise NeedsData(f"needs the weights of a demo generator: {'; '.join(absent.values())}")
    return Bench(found, absent, **shared)
