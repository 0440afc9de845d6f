"""Train ProGANs by name or on a folder, see how much a checkpoint still differs from the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from difcore.demo import generators
from difcore.demo.generators import PROGAN_EPOCHS, PROGAN_FILES, PROGAN_T, PROGANS
from difcore.demo.progan import ProGanPlan, ProGenerator
from difcore.demo.progan_training import train_progan
from difcore.experiments.claiming import decide
from difcore.experiments.train_generators import describe, training_scenes
from difcore.files import sha256_bytes
from difcore.images.crops import ImageError, Skipped, read_crop, skip_report
from difcore.images.folders import is_image, list_images
from difcore.records.artefacts import Claim
from difcore.stats import page_trend, two_sided

SCENES = 384  # that each shipped ProGAN was trained on


@dataclass(frozen=True)
class ProGanRun:
    """What a training leaves: weights files by epoch, their generators, the two losses of each step (steps, 2)."""

    name: str
    plan: ProGanPlan
    paths: dict[int, Path]
    models: dict[int, ProGenerator]
    losses: np.ndarray


def train_run(
    name: str,
    images: Sequence[np.ndarray],
    data: str,
    plan: ProGanPlan,
    folder: Path | str,
    epochs: Sequence[int],
    device: str = "cpu",
    progress: bool = True,
    grid_every: int = 10,
) -> ProGanRun:
    """Train a ProGAN on ``images`` and write a half-precision weights file for each of ``epochs``; resumes.

    Parameters
    ----------
    data : str
        The images in words, for the files' metadata.
    folder : path
        Gets <name>-eNN.safetensors, and a folder of checkpoints and sample grids for each plan and data.
    """
    facts: dict[str, Any] = {"name": name, "style": plan.style, "data": data}
    facts["data_sha256"] = sha256_bytes(*(np.ascontiguousarray(image).data for image in images))
    key = sha256_bytes(repr((plan, facts["data_sha256"])).encode())[:8]
    work = Path(folder) / f"{name}-{key}"
    models = train_progan(images, plan, work, epochs, device, progress, grid_every)
    paths = {
        epoch: generators.save_generator(
            Path(folder) / f"{name}-e{epoch}.safetensors", model, plan, facts | {"epoch": epoch, "device": device}
        )
        for epoch, model in models.items()
    }
    losses = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=True)["losses"]
    return ProGanRun(name, plan, paths, models, np.array(losses, np.float32))


def train_shipped(
    name: str, folder: Path | str, device: str = "cpu", progress: bool = True, **changes: Any
) -> ProGanRun:
    """Train one of ``PROGANS`` as it was shipped, or with ``changes`` to its plan.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in PROGANS:
        raise ValueError(f"unknown ProGAN {name!r}; choose from {', '.join(PROGANS)}")
    plan = replace(PROGANS[name], **changes)
    images = training_scenes(folder, plan.style, SCENES, plan.size, progress)
    epochs = (plan.epochs,) if name in PROGAN_T else tuple(e for e in PROGAN_EPOCHS if e <= plan.epochs)
    return train_run(name, images, describe(images, plan.style), plan, folder, epochs, device, progress)


def shipped_name(run: str, epoch: int) -> str:
    """Name of the shipped generator of a run of ``PROGANS`` at an epoch."""
    return run if run in PROGAN_T else f"{run}-e{epoch}"


def own_plan(epochs: int, decay_from: float = 0.0, **fields: Any) -> ProGanPlan:
    """A plan of any length in the proportions of the shipped ones: grown after a quarter, decaying from the middle on.

    Parameters
    ----------
    decay_from : float
        Epoch from which the learning rate decays instead, if not 0.
    """
    fields |= {"grown": epochs / 4, "decay_from": decay_from or epochs / 2, "half_life": max(1.0, epochs / 17)}
    return ProGanPlan(epochs=epochs, **fields)


def images_to_learn(
    folder: Path | str, style: str, count: int, size: int, cache: Path | str, progress: bool = True
) -> tuple[list[np.ndarray], str]:
    """The images of a training, uint8 (size, size, 3) each, and what they are in words.

    Parameters
    ----------
    folder : path
        Folder of images, of which the centre crops are taken (native pixels, as in S C.4); empty for scenes.
    style, cache : str, path
        Style of the scenes, and where they are kept once rendered.
    count : int
        How many scenes, or the most that are taken from the folder, in the order of their names; 0 for all of them.

    Raises
    ------
    FolderError
        If the folder is none, or holds no images.
    ValueError
        If no image of the folder can be read or is large enough.
    """
    if not folder:
        images = training_scenes(cache, style, count or SCENES, size, progress)
        return images, describe(images, style)
    images, skipped = [], []
    for path in [path for path in list_images(folder) if not count or is_image(path)][: count or None]:
        try:
            images.append(read_crop(path, size))
        except ImageError as error:
            skipped.append(Skipped(path, str(error)))
    note = skip_report(skipped, len(images) + len(skipped))
    if not images:
        raise ValueError(f"no image of {folder} can be learned from: {note}")
    text = f"{len(images)} images of {Path(folder).name}, centre crops of {size} px"
    return images, f"{text}; {note}" if note else text


def images_by_epoch(files: Mapping[int, str | Path], seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """What each checkpoint of a run makes of the same latents: epoch to uint8 (N, size, size, 3), epochs ascending.

    Parameters
    ----------
    files : mapping of epoch to a generator's name or weights file
    """
    out = {}
    for epoch in sorted(files):
        plan = generators.load_with_plan(files[epoch])[1]
        assert isinstance(plan, ProGanPlan)
        out[epoch] = generators.fakes_of(files[epoch], seeds, plan.size)
    return out


def output_change(names: Sequence[str | Path], latents: Sequence[int]) -> np.ndarray:
    """How much the images of fixed latents differ between ProGANs, (len(names), len(names)) in [0, 1].

    Entry (i, j) is the root mean square, over latents, pixels and colours, of the difference between the images of
    i and of j in [0, 1]. Small between the checkpoints of a run that has converged.

    Parameters
    ----------
    names : sequence of str or path
        Shipped ProGANs or weights files, of one size.
    latents : sequence of int
        Latent seeds.
    """
    return differences([images_by_epoch({0: name}, latents)[0] for name in names])


def differences(images: Sequence[np.ndarray]) -> np.ndarray:
    """Root mean square difference in [0, 1] of each two of several arrays of uint8 images, (len(images),) * 2."""
    flat = [x.reshape(-1).astype(np.float32) / 255 for x in images]
    return np.array([[float(np.sqrt(np.square(one - other).mean())) for other in flat] for one in flat])


def adjacent_changes(images: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Change of the output from each checkpoint of a run to the next.

    Columns: epoch, since (the epoch before), change (see ``output_change``), spread (the same measure between the
    images of different latents at ``epoch``: no change beyond it tells more).

    Parameters
    ----------
    images : mapping of epoch to ndarray uint8 (N, size, size, 3)
        Of ``images_by_epoch``.
    """
    epochs = sorted(images)
    rows = []
    for since, epoch in zip(epochs, epochs[1:], strict=False):
        change, spread = differences([images[epoch], images[since], np.roll(images[epoch], 1, 0)])[0, 1:]
        rows.append({"epoch": epoch, "since": since, "change": change, "spread": spread})
    return pd.DataFrame(rows, columns=["epoch", "since", "change", "spread"])


def shipped_runs() -> dict[str, dict[int, str]]:
    """The shipped runs of which every checkpoint is there: run to epoch to name."""
    runs = {run: {epoch: f"{run}-e{epoch}" for epoch in PROGAN_EPOCHS} for run in PROGANS if run not in PROGAN_T}
    return {run: names for run, names in runs.items() if all(PROGAN_FILES[name].is_file() for name in names.values())}


def changes_between(images: Mapping[str, Mapping[int, np.ndarray]]) -> pd.DataFrame:
    """``adjacent_changes`` of the images of each run, with a column run in front."""
    table = pd.concat([adjacent_changes(x).assign(run=run) for run, x in images.items()], ignore_index=True)
    return table[["run", *table.columns.drop("run")]]


def changes_of(runs: Mapping[str, Mapping[int, str | Path]], latents: Sequence[int]) -> pd.DataFrame:
    """``changes_between`` for the weights of each run, see ``images_by_epoch``."""
    return changes_between({run: images_by_epoch(files, latents) for run, files in runs.items()})


def progan_claims(changes: pd.DataFrame) -> list[Claim]:
    """Of ``27_train_progan``: by how much less the output of a run still changes at its end.

    Parameters
    ----------
    changes : DataFrame
        Of ``changes_of``.
    """
    changes = changes.sort_values("epoch", kind="stable")
    last = changes.groupby("run", sort=False).tail(1)
    first = changes.groupby("run", sort=False).head(1)
    ratio = last.change.to_numpy() / first.change.to_numpy()
    spread = (last.change / last.spread).to_numpy()
    ranges = f"{ratio.min():.2f} to {ratio.max():.2f}" if len(ratio) > 1 else f"{ratio[0]:.2f}"
    shares = f"{spread.min():.2f} to {spread.max():.2f}" if len(spread) > 1 else f"{spread[0]:.2f}"
    curves = changes.assign(k=changes.groupby("run").cumcount()).pivot(index="run", columns="k", values="change")
    curves = curves.dropna(axis=1)
    grow, shrink = page_trend(curves.to_numpy())
    return [
        decide(
            "Each training converges: the later two checkpoints in a row, the less the images of fixed latents change "
            "from one to the next",
            "from epoch 40 on the images are visually appealing (S C.4); no number",
            f"at the end {ranges} times as much as at the beginning; {shares} of the difference between latents; "
            f"n = {len(ratio)} trainings, {curves.shape[1]} steps each",
            shrink < grow,
            two_sided(grow, shrink),
            "the changes grow",
            f"{len(ratio)} trainings (Page's L)",
        )
    ]
