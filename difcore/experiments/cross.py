"""Every model's fingerprint on every model's images (supplement, C.3 to C.5): fits, scores, tables, matrices.

A model is one cell: its images are divided, denoised and fitted to once, and what the matrices need of it is kept
beside the cells (fingerprints, residuals of the test images), so that all figures of one set of models share the work.

One model of a cross-detection as a cell: its fingerprints and what its test images are scored by, kept as files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.experiments.bench import Bench
from difcore.experiments.crossing_sources import checkpoint_name
from difcore.experiments.pools import Sets, divide
from difcore.files import NeedsData, atomic_write, derived_seed, sha256_bytes
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import PATTERNS, fit_pattern
from difcore.machine.cache import cache_folder, needed_folder, used
from difcore.machine.source_digest import code_digest
from difcore.records.cells import OK, Cell, cell_key, cluster_address, read_cell, run_cells
from difcore.records.claims import CellsFailed, failure_of
from difcore.residuals.denoisers import load_denoiser
from difcore.residuals.sets import allocate, residuals_of
from difcore.runtime import Runtime

SHOWN = 6  # test images of each class that are kept to look at


def fit_cell(
    load: Callable[[str], Sets],
    values: Mapping[str, Any],
    plan: DifPlan,
    denoiser: str,
    runtime: Runtime,
    max_test: int | None,
    folder: Path,
) -> dict[str, Any]:
    """One model: F_E and F_A of ``n_train`` images of each class, residuals of the test images; names of the files.

    ``load`` is the bench's: images are read or made where the cell is computed, by another process perhaps, which is
    told in which ``folder`` to keep the files.

    Raises
    ------
    NotEnough, LeakageError
        As ``divide``.
    ValueError
        If this machine cannot compute what the ``runtime`` says.
    """
    runtime.check()
    chosen = divide(load(f"{values['generator']}|native"), values["n_train"], values["seed"], (), max_test)
    used = load_denoiser(denoiser, runtime.device, runtime.bfloat16)
    pools = (chosen.real, chosen.fake, chosen.test_real, chosen.test_fake)
    real, fake, test_real, test_fake = (residuals_of(p.images, used, p.images.shape[1]).values for p in pools)
    row: dict[str, Any] = {"n_real": len(test_real), "n_fake": len(test_fake)}
    own = replace(plan, seed=own_seed(values["seed"], values["generator"]))
    for method in PATTERNS:
        found = fit_pattern(method, real, fake, used, own, values["generator"])
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


def own_seed(seed: int, name: str) -> int:
    """Seed of one model's fit: with one z and one set of initial weights fits have more in common than their models."""
    return derived_seed(seed, name)


def keep(values: np.ndarray, folder: Path) -> str:
    """Write an array under its content's hash, unless it is there; the file's name."""
    name = f"{sha256_bytes(str((values.dtype, values.shape)).encode(), np.ascontiguousarray(values).data)[:32]}.npy"
    if not intact(folder / name):
        atomic_write(folder / name, partial(np.save, arr=values))
    return name


def products_of(row: Mapping[str, Any]) -> list[str]:
    """Names of the files that a cell's row speaks of."""
    return [value for value in row.values() if isinstance(value, str) and value.endswith((".npy", ".safetensors"))]


def intact(file: Path) -> bool:
    """Whether a product is there and can be read: a crash may leave a file without its content."""
    try:
        np.load(file, mmap_mode="r") if file.suffix == ".npy" else Detector.load(file)
    except (OSError, ValueError, EOFError):
        return False
    return True


def all_there(row: Mapping[str, Any], folder: Path) -> bool:
    """Whether the files that a cell's row speaks of lie whole in ``folder``; if so, they count as used now."""
    files = [folder / name for name in products_of(row)]
    if there := all(map(intact, files)):
        for file in files:
            used(file)
    return there


def load(name: str) -> np.ndarray:
    """An array that ``keep`` wrote."""
    return np.load(cache_folder("fits") / name, mmap_mode="r")


@dataclass(frozen=True)
class Cross:
    """All scores of G fingerprints on G models' test images.

    Attributes
    ----------
    names : tuple of str
        The models, in the order of the figure, ProGAN checkpoints as the paper spells them ("hatP_A@40").
    fingerprints : mapping of method ("dif", "marra18") to dict of name to Detector
        F_E and F_A.
    real, fake : list of Tensor (G, N_j)
        Element j, row i: rho of the i-th DIF fingerprint with the reals (fakes) of the j-th model.
    power : ndarray (3, H, W)
        Mean power spectrum of the residuals of real training images.
    images : dict of name to (reals, fakes), uint8 (n, crop, crop, 3) each
        A few test images.
    fits : DataFrame
        The cells: one row for each model, absent ones with the reason.
    seed : int
    """

    names: tuple[str, ...]
    fingerprints: Mapping[str, dict[str, Detector]]
    real: list[Tensor]
    fake: list[Tensor]
    power: np.ndarray
    images: dict[str, tuple[np.ndarray, np.ndarray]]
    fits: pd.DataFrame
    seed: int = 0

    def thresholds(self) -> np.ndarray:
        """Midpoint of each DIF fingerprint's own centres, (G,)."""
        return np.array([self.fingerprints["dif"][name].threshold for name in self.names])

    def means(self) -> dict[str, tuple[float, float]]:
        """Centres of each DIF fingerprint, as widgets take them."""
        return {name: (f.mu_real, f.mu_fake) for name, f in self.fingerprints["dif"].items()}


def fit_all(bench: Bench, n_train: int, seed: int) -> pd.DataFrame:
    """A row for each model of the bench, absent ones at the end; what is known is read.

    One at a time, missing cells are computed in random order, so that two notebooks that need the same ones share them.
    """
    folder, cells = needed_folder("fits"), model_cells(bench, n_train, seed)
    work = partial(
        fit_cell, plan=bench.plan, denoiser=bench.denoiser, runtime=bench.runtime, max_test=bench.max_test,
        folder=folder,
    )  # fmt: skip
    code = code_digest(work)
    known = [cache_folder("cells") / f"{cell_key(cell, code)}.json" for cell in cells]
    for path in known:
        record = read_cell(path)
        if record and not all_there(record["row"], folder):
            path.unlink(missing_ok=True)  # someone tidied up
    run = partial(run_cells, work, load=lambda _: bench.load, code=code)
    if bench.runtime.workers == 1 and not cluster_address():
        order = random.SystemRandom().sample(range(len(cells)), len(cells))
        for k in tqdm(order, desc="fingerprints", unit="model", disable=not bench.progress):
            run([cells[k]])
    table = run(cells, n_jobs=bench.runtime.workers, progress=bench.progress, title="fingerprints")
    missing = pd.DataFrame([{"generator": name, "status": reason} for name, reason in bench.absent.items()])
    return pd.concat([table, missing], ignore_index=True) if len(missing) else table


def model_cells(bench: Bench, n_train: int, seed: int) -> list[Cell]:
    """The cells of ``fit_all``."""
    used = bench.filter().hash
    return [
        Cell({"generator": name, "n_train": n_train, "seed": seed},
             depends=bench.depends([name], filter_hash=used, plan=True, division=str(bench.max_test)))
        for name in bench.sources
    ]  # fmt: skip


def cross(bench: Bench, n_train: int, seed: int = 0) -> Cross:
    """Fit every model of the bench and correlate all fingerprints with all test images, in one matrix product.

    A test image that any of the models was fitted to is left out.

    Raises
    ------
    NeedsData
        If fewer than two models came to a result; the message says why.
    CellsFailed
        If that is because models failed.
    """
    fits = fit_all(bench, n_train, seed)
    done = fits[fits["status"] == OK]
    if len(done) < 2:
        if line := failure_of([fits]):
            raise CellsFailed(line)
        reasons = "; ".join(dict.fromkeys(fits.loc[fits["status"] != OK, "status"].astype(str)))
        raise NeedsData(f"needs images of at least two models ({reasons})")
    names = tuple(map(checkpoint_name, done["generator"]))
    prints = {
        method: {n: Detector.load(cache_folder("fits") / f) for n, f in zip(names, done[method], strict=True)}
        for method in PATTERNS
    }
    power = np.mean([load(name) for name in done["power"]], axis=0)
    shown = {n: (load(r.shown_real), load(r.shown_fake)) for n, r in zip(names, done.itertuples(), strict=True)}
    patterns = torch.stack([f.pattern for f in prints["dif"].values()])
    real, fake = scores_of(patterns, done)
    return Cross(names, prints, real, fake, power, shown, fits, seed)


def scores_of(patterns: Tensor, fits: pd.DataFrame) -> tuple[list[Tensor], list[Tensor]]:
    """rho of patterns (K, 3, H, W) with every model's test images but those that any model was fitted to.

    All of it is one matrix product; a set of reals that models share is in it once.

    Parameters
    ----------
    fits : DataFrame
        ``Cross.fits``; rows without a result are left out.

    Returns
    -------
    (real, fake) : list of Tensor (K, N_j), one for each model
    """
    done = fits[fits["status"] == OK]
    trained = np.unique(np.concatenate([load(name) for name in done["trained"]]))
    sets = list(dict.fromkeys([*done["test_real"], *done["test_fake"]]))
    scores = dict(zip(sets, all_scores(patterns, [load(name) for name in sets]), strict=True))
    kept: dict[str, list[Tensor]] = {"real": [], "fake": []}
    for label, parts in kept.items():
        for name, hashes in zip(done[f"test_{label}"], done[f"hashes_{label}"], strict=True):
            parts.append(scores[name][:, torch.from_numpy(~np.isin(load(hashes), trained))])
    return kept["real"], kept["fake"]


def all_scores(patterns: Tensor, sets: list[np.ndarray]) -> list[Tensor]:
    """rho of G patterns with each of several residual sets (N_k, 3, H, W), as (G, N_k) each: one matrix product."""
    ends = np.cumsum([0, *map(len, sets)])
    joined = allocate((int(ends[-1]), *sets[0].shape[1:]))
    for values, start, end in zip(sets, ends[:-1], ends[1:], strict=True):
        joined[start:end] = values
    rho = ncc(patterns, joined)
    return [rho[:, start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]
