"""Train ProGANs by name or on a folder, see how much a checkpoint still differs from the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from difcore.demo.generators import (
    PROGAN_EPOCHS,
    PROGAN_FILES,
    PROGAN_T,
    PROGANS,
    build,
    fakes_of,
    load_generator,
    save_generator,
)
from difcore.demo.progan import ProGanPlan
from difcore.demo.training import train
from difcore.experiments.claiming import decide
from difcore.experiments.train_generators import SHOWN_SEED, training_scenes
from difcore.files import NeedsData, sha256_bytes, sha256_file
from difcore.images.crops import Skipped, read_crop, skip_report
from difcore.images.decoding import ImageError
from difcore.images.folders import is_image, list_images
from difcore.records.claims import Claim
from difcore.stats import page_trend, two_sided

SCENES = 384  # that each shipped ProGAN was trained on
CHECKPOINT_SEED = 92_000_000  # of the latents of ``22_fig_G_checkpoints``
ByEpoch = dict[int, np.ndarray]


@dataclass(frozen=True)
class ProGanRun:
    """What a training leaves: its data in words, weights files by epoch, the two losses of each step (steps, 2)."""

    plan: ProGanPlan
    data: str
    paths: dict[int, Path]
    losses: np.ndarray


def train_run(
    name: str,
    learned: tuple[Sequence[np.ndarray], str],
    plan: ProGanPlan,
    folder: Path | str,
    epochs: Sequence[int],
    device: str = "cpu",
    progress: bool = True,
) -> ProGanRun:
    """Train a ProGAN on images, which are ``learned`` with what they are in words; resumes."""
    images, data = learned
    facts = {"name": name, "style": plan.style, "data": data}
    facts["data_sha256"] = sha256_bytes(*(np.ascontiguousarray(image).data for image in images))
    work = Path(folder) / f"{name}-{sha256_bytes(repr((plan, data, facts['data_sha256'])).encode())[:8]}"
    train(images, plan, work, kept=epochs, device=device, progress=progress)
    saved, paths = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=True), {}
    for epoch in sorted({*epochs, plan.epochs}):
        model = build(plan)
        model.load_state_dict(saved["kept"][epoch])
        path = Path(folder) / f"{name}-e{epoch}.safetensors"
        paths[epoch] = save_generator(path, model, plan, {**facts, "epoch": epoch, "device": device})
    return ProGanRun(plan, data, paths, np.array(saved["losses"], np.float32))


def train_shipped(
    name: str, folder: Path | str, device: str = "cpu", progress: bool = True, **changes: Any
) -> ProGanRun:
    """Train one of ``PROGANS`` as it was shipped, or with ``changes`` to its plan."""
    if name not in PROGANS:
        raise ValueError(f"unknown ProGAN {name!r}; choose from {', '.join(PROGANS)}")
    plan = replace(PROGANS[name], **changes)
    learned = training_scenes(folder, plan.style, SCENES, plan.size, progress)
    epochs = () if name in PROGAN_T else [epoch for epoch in PROGAN_EPOCHS if epoch <= plan.epochs]
    return train_run(name, learned, plan, folder, epochs, device, progress)


def images_to_learn(
    data_dir: Path | str, style: str, scenes: int, size: int, output_dir: Path | str
) -> tuple[list[np.ndarray], str]:
    """The images of a training, uint8 (size, size, 3) each, and what they are in words."""
    if not data_dir:
        return training_scenes(output_dir, style, scenes or SCENES, size)
    images, skipped = [], []
    for path in [path for path in list_images(data_dir) if not scenes or is_image(path)][: scenes or None]:
        try:
            images.append(read_crop(path, size))
        except ImageError as error:
            skipped.append(Skipped(path, str(error)))
    note = skip_report(skipped, len(images) + len(skipped))
    if not images:
        raise ValueError(f"no image of {data_dir} can be learned from: {note}")
    text = f"{len(images)} images of {Path(data_dir).name}, centre crops of {size} px"
    return images, f"{text}; {note}" if note else text


def own_plan(
    epochs: int,
    size: int,
    batch: int,
    images_per_epoch: int,
    learning_rate: float,
    network: Mapping[str, int],
    decay_from: float = 0.0,
    **fields: Any,
) -> ProGanPlan:
    """A plan of any length in the proportions of the shipped ones: grown after a quarter, decaying from the middle on.

    ``network``: width, narrow and latent; ``decay_from``: the epoch from which the learning rate decays, if not 0.
    """
    fields |= {"grown": epochs / 4, "decay_from": decay_from or epochs / 2, "half_life": max(1.0, epochs / 17)}
    fields |= {"size": size, "batch": batch, "images_per_epoch": images_per_epoch, "learning_rate": learning_rate}
    return ProGanPlan(epochs=epochs, **{**network, **fields})


def shipped_runs() -> dict[str, dict[int, str]]:
    """The shipped runs of which every checkpoint is there: run to epoch to name."""
    runs = {run: {epoch: f"{run}-e{epoch}" for epoch in PROGAN_EPOCHS} for run in PROGANS if run not in PROGAN_T}
    return {run: names for run, names in runs.items() if all(PROGAN_FILES[name].is_file() for name in names.values())}


def images_by_epoch(
    runs: Mapping[str, Mapping[int, str | Path]], count: int, first_seed: int = SHOWN_SEED
) -> dict[str, ByEpoch]:
    """What each checkpoint of each run makes of the same latents: run to epoch to uint8 (count, size, size, 3)."""
    seeds = range(first_seed, first_seed + count)
    return {
        run: {epoch: fakes_of(name, seeds, load_generator(name)[1].size) for epoch, name in sorted(names.items())}
        for run, names in runs.items()
    }


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference, in [0, 1], of two arrays of uint8 images."""
    a, b = (images.reshape(-1).astype(np.float32) / 255 for images in (one, other))
    return float(np.sqrt(np.square(a - b).mean()))


def changes_of(images: Mapping[str, ByEpoch]) -> pd.DataFrame:
    """Change of each run's output from each checkpoint to the next, small where it has converged.

    Columns: run, epoch, since (the epoch before), change (root mean square, over latents, pixels and colours, of the
    difference in [0, 1]), spread (the same between the images of different latents at ``epoch``: no change beyond it
    tells more).
    """
    rows = [
        (run, epoch, since, difference(x[epoch], x[since]), difference(x[epoch], np.roll(x[epoch], 1, 0)))
        for run, x in images.items()
        for since, epoch in pairwise(x)
    ]
    return pd.DataFrame(rows, columns=["run", "epoch", "since", "change", "spread"])


def shipped_changes(latents: int, shown: int, seed: int = 0) -> tuple[pd.DataFrame, dict[str, ByEpoch]]:
    """``changes_of`` the shipped runs, over ``latents``, and the images of the first ``shown`` of these."""
    if not (runs := shipped_runs()):
        raise NeedsData("needs the shipped ProGANs: `scripts/train_progans.py` trains them")
    images = images_by_epoch(runs, max(latents, shown), CHECKPOINT_SEED + seed)
    changes = changes_of({run: {epoch: x[:latents] for epoch, x in stacks.items()} for run, stacks in images.items()})
    return changes, {run: {epoch: x[:shown] for epoch, x in stacks.items()} for run, stacks in images.items()}


def hashes(run: ProGanRun | None = None) -> dict[str, str]:
    """SHA-256 of the files of a run, or of the shipped runs, by name."""
    if run:
        return {f"this run, epoch {epoch}": sha256_file(path) for epoch, path in run.paths.items()}
    return {name: sha256_file(PROGAN_FILES[name]) for names in shipped_runs().values() for name in names.values()}


def progan_claims(changes: pd.DataFrame) -> list[Claim]:
    """By how much less the output of a run still changes at its end."""
    rows = changes.sort_values("epoch", kind="stable").groupby("run", sort=False)
    first, last = rows.head(1), rows.tail(1)
    ratio, spread = (
        f"{values.min():.2f} to {values.max():.2f}" if len(values) > 1 else f"{values[0]:.2f}"
        for values in (last.change.to_numpy() / first.change.to_numpy(), (last.change / last.spread).to_numpy())
    )
    curves = changes.sort_values("epoch", kind="stable").assign(k=rows.cumcount())
    curves = curves.pivot(index="run", columns="k", values="change").dropna(axis=1)
    grow, shrink = page_trend(curves.to_numpy())
    return [
        decide(
            "Each training converges: the later two checkpoints in a row, the less the images of fixed latents change "
            "from one to the next",
            "from epoch 40 on the images are visually appealing (S C.4); no number",
            f"at the end {ratio} times as much as at the beginning; {spread} of the difference between latents; "
            f"n = {len(last)} trainings, {curves.shape[1]} steps each",
            shrink < grow,
            two_sided(grow, shrink),
            "the changes grow",
            f"{len(last)} trainings (Page's L)",
        )
    ]
