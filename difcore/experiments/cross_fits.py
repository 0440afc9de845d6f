"""Each model of a family fitted once, in cells that notebooks 20 to 26 share (supplement, C.3 to C.5).

A cell keeps its model's fingerprints and the residuals of its test images beside it. Nothing here draws or judges, so
that a change there leaves the cells valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore import paper
from difcore.experiments.bench import Bench, with_absent
from difcore.experiments.cross_scores import CrossScores, patterns_of
from difcore.experiments.pools import FAMILIES, Sets, demo_names, demo_sources, divide, folder_sources
from difcore.files import LockedError, NeedsData, atomic_write, derived_seed, only_writer, sha256_bytes
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import PATTERNS, fit_pattern
from difcore.machine.cache import cache_folder, needed_folder, used
from difcore.machine.source_digest import code_digest
from difcore.records.cells import OK, Cell, cell_key, cluster_address, read_cell, run_cells
from difcore.records.claims import CellsFailed, failure_of
from difcore.residuals.sets import allocate, residuals_of
from difcore.runtime import Runtime

TUNED = "size, N_S and steps of the demo's cross-detections were chosen by what they show on these models"
SHOWN = 6  # test images of each class that are kept to look at


@dataclass(frozen=True)
class CrossPlan:
    """What a notebook's parameters say of a cross-detection.

    ``family``: "gan", "progans_t", "progans" (Figs. A, F, H) or "decoders" (the family tree); in a folder the paper's
    GANs; progan_t_*; P_A@20 ... hatP_B@70; fine-tuned models with their sources. No ``generators``: all of it.
    ``test`` images of each class: of a folder at most so many, 0 for all.
    """

    family: str = ""
    profile: str = "demo"
    mode: str = "ours"
    data_root: Path | str = ""
    generators: Sequence[str] = ()
    size: int = 64
    n_train: int = 128
    test: int = 64
    steps: int = 250
    denoiser: str = "photos"
    seed: int = 0
    runtime: Runtime = Runtime()
    progress: bool = False


def checkpoint_name(name: str) -> str:
    """ "hatP_A@40" for the demo model "demo-progan-ahat-e40": as the paper calls its counterpart; others unchanged."""
    run, _, epoch = name.removeprefix("demo-progan-").partition("-e")
    model = {"a": "P_A", "b": "P_B", "ahat": "hatP_A", "bhat": "hatP_B"}.get(run)
    return f"{model}@{epoch}" if model and name.startswith("demo-progan-") and epoch.isdigit() else name


def runs_of(names: Sequence[str]) -> list[str]:
    """The training run of each checkpoint: "hatP_A" of "hatP_A@40"."""
    return [checkpoint_name(name).partition("@")[0] for name in names]


def converged(names: Sequence[str]) -> list[bool]:
    """Which checkpoints are of the epochs that the paper calls converged: 40, 52, 70."""
    return [checkpoint_name(name).partition("@")[2] in map(str, paper.PROGAN_CONVERGED) for name in names]


def open_cross(plan: CrossPlan) -> Bench:
    """The models of a plan, of a folder where it holds any, else the demo's; NeedsData if there is none of them."""
    members = FAMILIES.get(plan.family, FAMILIES["variants"])
    if plan.family == "progans":
        members = tuple(f"{model}@{epoch}" for model in paper.PROGAN_MODELS for epoch in paper.PROGAN_EPOCHS)
    elif plan.family == "progans_t" and plan.data_root:
        members = tuple(sorted(p.name for p in Path(plan.data_root).glob("progan_t_*")))
    fit = DifPlan(steps=plan.steps, bfloat16=plan.runtime.bfloat16)
    shared: dict[str, Any] = {"crop": plan.size, "plan": fit, "denoiser": plan.denoiser}
    shared |= {"runtime": plan.runtime, "progress": plan.progress}
    if plan.data_root:
        found, absent = folder_sources(plan.data_root, tuple(plan.generators) or members, plan.size, others=False)
        if found:
            label, most = f"images of {', '.join(found)}", plan.test or None
            return Bench(found, absent, True, label, max_test=most, **shared).in_mode(plan.mode)
    if plan.profile == "paper":
        names = ", ".join(members) or "the models" if plan.data_root else "<generator>"
        raise NeedsData(f"needs `--data-root DIR` with {names} as <generator>/{{0_real,1_fake}}")
    names_there = [name for name in plan.generators if name.startswith("demo-")] or demo_names(plan.family)
    found, absent = demo_sources(names_there, plan.size, plan.n_train, plan.test)
    return Bench(found, absent, tuned=TUNED, **shared).in_mode(plan.mode)


def fit_cell(
    load: Callable[[str], Sets],
    values: Mapping[str, Any],
    plan: DifPlan,
    denoiser: str,
    runtime: Runtime,
    max_test: int | None,
    folder: Path,
) -> dict[str, Any]:
    """One model: F_E and F_A of ``n_train`` images of each class, residuals of its test images; names of the files."""
    runtime.check()
    chosen = divide(load(f"{values['generator']}|native"), values["n_train"], values["seed"], (), max_test)
    filter_ = runtime.denoiser(denoiser)
    pools = (chosen.real, chosen.fake, chosen.test_real, chosen.test_fake)
    real, fake, test_real, test_fake = (residuals_of(p.images, filter_, p.images.shape[1]).values for p in pools)
    row: dict[str, Any] = {"n_real": len(test_real), "n_fake": len(test_fake)}
    # With one z and one set of initial weights fits would have more in common than their models.
    own = replace(plan, seed=derived_seed(values["seed"], values["generator"]))
    for method in PATTERNS:
        found = fit_pattern(method, real, fake, filter_, own, values["generator"])
        row["fits"] = found.metadata.get("fits", row.get("fits"))
        digest = sha256_bytes(found.pattern.numpy().tobytes(), repr((found.mu_real, found.mu_fake)).encode())
        row[method] = f"{digest[:32]}.safetensors"
        found.save(folder / row[method])
    row["trained"] = keep(np.array([*chosen.real.hashes, *chosen.fake.hashes]), folder)
    row["power"] = keep(np.mean([np.abs(np.fft.fft2(r.astype(np.float32))) ** 2 for r in real], axis=0), folder)
    for label, residuals, pool in (("real", test_real, chosen.test_real), ("fake", test_fake, chosen.test_fake)):
        row[f"test_{label}"] = keep(residuals, folder)
        row[f"hashes_{label}"] = keep(np.array(pool.hashes), folder)
        row[f"shown_{label}"] = keep(pool.images[:SHOWN], folder)
    return row


def keep(values: np.ndarray, folder: Path) -> str:
    """Write an array under its content's hash; the file's name."""
    name = f"{sha256_bytes(str((values.dtype, values.shape)).encode(), np.ascontiguousarray(values).data)[:32]}.npy"
    atomic_write(folder / name, partial(np.save, arr=values))
    return name


def kept(name: str) -> np.ndarray:
    """An array that ``keep`` wrote."""
    return np.load(cache_folder("fits") / name, mmap_mode="r")


def all_there(row: Mapping[str, Any], folder: Path) -> bool:
    """Whether the files that a cell's row names can be read (a crash may empty one); if so, they count as used now."""
    files = [folder / v for v in row.values() if isinstance(v, str) and v.endswith((".npy", ".safetensors"))]
    try:
        for file in files:
            np.load(file, mmap_mode="r") if file.suffix == ".npy" else Detector.load(file)
    except (OSError, ValueError, EOFError):
        return False
    for file in files:
        used(file)
    return True


def model_cells(bench: Bench, n_train: int, seed: int) -> list[Cell]:
    """A cell for each model of the bench."""
    hash_, division = bench.filter().hash, str(bench.max_test)
    return [
        Cell({"generator": name, "n_train": n_train, "seed": seed},
             depends=bench.depends([name], filter_hash=hash_, plan=True, division=division))
        for name in bench.sources
    ]  # fmt: skip


def fit_all(bench: Bench, n_train: int, seed: int) -> pd.DataFrame:
    """A row for each model of the bench, absent ones at the end; what is known is read.

    One at a time, a cell that another process is at is left to it and read in the end: none is computed twice.
    """
    folder, cells = needed_folder("fits"), model_cells(bench, n_train, seed)
    work = partial(
        fit_cell, plan=bench.plan, denoiser=bench.denoiser, runtime=bench.runtime, max_test=bench.max_test,
        folder=folder,
    )  # fmt: skip
    code = code_digest(work)
    paths = [cache_folder("cells") / f"{cell_key(cell, code)}.json" for cell in cells]
    for path in paths:
        record = read_cell(path)
        if record and not all_there(record["row"], folder):
            path.unlink(missing_ok=True)  # someone tidied up
    run = partial(run_cells, work, load=lambda _: bench.load, code=code)
    if bench.runtime.workers == 1 and not cluster_address():
        bar = tqdm(total=len(cells), desc="fingerprints", unit="model", disable=not bench.progress)
        waiting = list(range(len(cells)))
        for wait in (False, True):
            for k in list(waiting):
                with suppress(LockedError), only_writer(folder, wait, name=f".{paths[k].stem}.lock"):
                    run([cells[k]])
                    waiting.remove(k)
                    bar.update()
        bar.close()
    return with_absent(run(cells, n_jobs=bench.runtime.workers, progress=bench.progress, title="fingerprints"), bench)


@dataclass(frozen=True)
class Cross(CrossScores):
    """The extracted fingerprints (F_E) of a family's models on the test images of all of them, in the figure's order.

    ``averages`` are the F_A; ``power`` (3, H, W) the mean power spectrum of the residuals of real training images;
    ``images`` a few test images (reals, fakes); ``fits`` a row for each model, absent ones with the reason.
    """

    averages: dict[str, Detector]
    power: np.ndarray
    images: dict[str, tuple[np.ndarray, np.ndarray]]
    fits: pd.DataFrame
    bench: Bench
    plan: CrossPlan

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each pair: accuracy on ``test`` of the fingerprint and the centres fitted to ``train``."""
        return self.pairs(self.plan.seed, "train", "test")

    @cached_property
    def matrix(self) -> pd.DataFrame:
        """The accuracies, fractions: rows are train sets, columns test sets."""
        order = list(self.fingerprints)
        return self.table.pivot(index="train", columns="test", values="accuracy").loc[order, order]

    def record(self) -> dict[str, Any]:
        """What ``Artefact.save`` keeps beside tables and figures."""
        n = f"N_S = {self.plan.n_train}, {self.plan.test} + {self.plan.test} test images a model"
        return {"n": n, **self.bench.record(n_train=[self.plan.n_train], seeds=[self.plan.seed])}


def cross(plan: CrossPlan) -> Cross:
    """Fit every model of a family and correlate all fingerprints with all test images."""
    bench = open_cross(plan)
    fits = fit_all(bench, plan.n_train, plan.seed)
    done = fits[fits["status"] == OK]
    if len(done) < 2:
        if line := failure_of([fits]):
            raise CellsFailed(line)
        reasons = "; ".join(dict.fromkeys(fits.loc[fits["status"] != OK, "status"].astype(str)))
        raise NeedsData(f"needs images of at least two models ({reasons})")
    names, folder = list(map(checkpoint_name, done["generator"])), cache_folder("fits")
    extracted, averages = (
        {n: Detector.load(folder / f) for n, f in zip(names, done[method], strict=True)} for method in PATTERNS
    )
    power = np.mean([kept(name) for name in done["power"]], axis=0)
    shown = {n: (kept(r.shown_real), kept(r.shown_fake)) for n, r in zip(names, done.itertuples(), strict=True)}
    real, fake = scores_of(patterns_of(extracted), fits)
    return Cross(extracted, real, fake, averages, power, shown, fits.drop(columns="seconds"), bench, plan)


def scores_of(patterns: Tensor, fits: pd.DataFrame) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """rho of patterns (K, 3, H, W) with every model's reals and fakes of the test but those that any was fitted to."""
    done = fits[fits["status"] == OK]
    trained = np.unique(np.concatenate([kept(name) for name in done["trained"]]))
    sets = {name: kept(name) for name in [*done["test_real"], *done["test_fake"]]}
    sizes = [len(values) for values in sets.values()]
    joined = allocate((sum(sizes), *patterns.shape[1:]))
    np.concatenate(list(sets.values()), out=joined)
    rho = dict(zip(sets, ncc(patterns, joined).split(sizes, 1), strict=True))

    def of(label: str) -> dict[str, Tensor]:
        rows = zip(done["generator"], done[f"test_{label}"], done[f"hashes_{label}"], strict=True)
        return {
            checkpoint_name(model): rho[name][:, torch.from_numpy(~np.isin(kept(hashes), trained))]
            for model, name, hashes in rows
        }

    return of("real"), of("fake")
