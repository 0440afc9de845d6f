"""The generators that are tested on one another: demo models by family, or those of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from difcore import paper
from difcore.experiments.bench import Bench
from difcore.experiments.pools import FAMILIES, demo_names, demo_sources, folder_sources
from difcore.files import NeedsData
from difcore.fingerprints.dif import DifPlan
from difcore.runtime import Runtime

CROSS_TUNED = "size, N_S and steps of the demo's cross-detections were chosen by what they show on these models"
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


def paper_members(family: str, root: Path) -> tuple[str, ...]:
    """Folders that stand for a family in a data folder, as the paper names its models."""
    if family == "progans":
        return tuple(f"{model}@{epoch}" for model in paper.PROGAN_MODELS for epoch in paper.PROGAN_EPOCHS)
    if family == "progans_t":
        return tuple(sorted(p.name for p in root.glob(f"{PROGAN_T_PREFIX}*")))
    return FAMILIES.get(family, FAMILIES["variants"])


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
    runtime: Runtime = Runtime(),
    progress: bool = False,
) -> Bench:
    """The models of one cross-detection: of a folder where it holds any of them, else the demo's.

    Parameters
    ----------
    family : {"progans", "progans_t", "gan", "decoders"}
        Of Figs. H, F, A, and of the family tree. In a folder: P_A@20 ... hatP_B@70; progan_t_*; the paper's GANs;
        fine-tuned models with their sources.
    generators : sequence of str
        Names; empty: all of the family.
    test : int
        Demo test images of each class; of a folder at most so many (0: all).

    Other parameters and errors: as ``difcore.experiments.bench.open_bench``.
    """
    shared: dict[str, Any] = {
        "crop": size,
        "plan": DifPlan(steps=steps, bfloat16=runtime.bfloat16),
        "denoiser": denoiser,
    }
    shared |= {"runtime": runtime, "progress": progress}
    if data_root:
        wanted = tuple(generators) or paper_members(family, Path(data_root))
        found, absent = folder_sources(data_root, wanted, size, others=False)
        if found:
            return Bench(found, absent, True, f"images of {', '.join(found)}", max_test=test or None, **shared)
    if profile == "paper":
        names = ", ".join(paper_members(family, Path(data_root))) if data_root else "<generator>"
        raise NeedsData(f"needs `--data-root DIR` with {names or 'the models'} as <generator>/{{0_real,1_fake}}")
    names_there = [name for name in generators if name.startswith("demo-")] or demo_names(family)
    found, absent = demo_sources(names_there, size, n_train, test)
    if not found:
        raise NeedsData(f"needs the weights of a demo generator: {'; '.join(absent.values())}")
    return Bench(found, absent, tuned=CROSS_TUNED, **shared)
