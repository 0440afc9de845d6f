"""One model of a cross-detection as a cell: its fingerprints and what its test images are scored by, kept as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from difcore.cells import cells_folder
from difcore.denoisers import Denoiser, load_denoiser
from difcore.experiments.pools import Sets, divide
from difcore.files import atomic_write, sha256_bytes
from difcore.fingerprints import Fingerprint, save_fingerprint
from difcore.fit import DifPlan
from difcore.methods import fit_pattern
from difcore.residuals import residuals_of

FITS = 3  # of a model at most
SHOWN = 6  # test images of each class that are kept to look at


def products_folder() -> Path:
    """Where fingerprints and test residuals of cells are kept."""
    return cells_folder() / "cross"


def fit_cell(
    load: Callable[[str], Sets],
    values: Mapping[str, Any],
    plan: DifPlan,
    denoiser: str,
    bfloat16: bool,
    max_test: int | None,
) -> dict[str, Any]:
    """One model: F_E and F_A of ``n_train`` images of each class, residuals of the test images; names of the files.

    ``load`` is the bench's: images are read or made where the cell is computed.

    Raises
    ------
    NotEnough, LeakageError
        As ``divide``.
    """
    chosen = divide(load(f"{values['generator']}|native"), values["n_train"], values["seed"], (), max_test)
    used = load_denoiser(denoiser, bfloat16=bfloat16)
    pools = (chosen.real, chosen.fake, chosen.test_real, chosen.test_fake)
    real, fake, test_real, test_fake = (residuals_of(p.images, used, p.images.shape[1]).values for p in pools)
    row: dict[str, Any] = {"n_real": len(test_real), "n_fake": len(test_fake)}
    prints, row["fits"] = fit_both(real, fake, used, plan, values["generator"], values["seed"])
    for method, found in prints.items():
        digest = sha256_bytes(found.pattern.numpy().tobytes(), repr((found.mu_real, found.mu_fake)).encode())
        row[method] = f"{digest[:32]}.safetensors"
        save_fingerprint(products_folder() / row[method], found)
    row["trained"] = keep(np.array([*chosen.real.hashes, *chosen.fake.hashes]))
    row["power"] = keep(np.mean([np.abs(np.fft.fft2(r.astype(np.float32))) ** 2 for r in real], axis=0))
    for label, residuals, pool in (("real", test_real, chosen.test_real), ("fake", test_fake, chosen.test_fake)):
        row[f"test_{label}"] = keep(residuals)
        row[f"hashes_{label}"] = keep(np.array(pool.hashes))
        row[f"shown_{label}"] = keep(pool.images[:SHOWN])
    return row


def fit_both(
    real: np.ndarray, fake: np.ndarray, denoiser: Denoiser, plan: DifPlan, name: str, seed: int
) -> tuple[dict[str, Fingerprint], int]:
    """F_E and F_A of a model by method, and how many fits F_E took.

    Now and then a DIF fit does not set out: its loss is flat where the classes' correlations are equal. One whose
    centres are less than half the margin apart, on the images that it was trained on, is begun again from another
    seed; the best of ``FITS`` is kept.
    """
    tried: list[Fingerprint] = []
    while len(tried) < FITS and (not tried or gap(tried[-1]) < plan.margin / 2):
        other = replace(plan, seed=own_seed(seed, name, len(tried)))
        tried.append(fit_pattern("dif", real, fake, denoiser, other, name))
    return {"dif": max(tried, key=gap), "marra18": fit_pattern("marra18", real, fake, denoiser, plan, name)}, len(tried)


def gap(fingerprint: Fingerprint) -> float:
    """mu_fake - mu_real."""
    return fingerprint.mu_fake - fingerprint.mu_real


def own_seed(seed: int, name: str, attempt: int = 0) -> int:
    """Seed of one model's fit: with one z and one set of initial weights fits have more in common than their models."""
    return int(sha256_bytes(f"{seed} {name}{f' {attempt}' if attempt else ''}".encode())[:8], 16)


def keep(values: np.ndarray) -> str:
    """Write an array under its content's hash; the file's name."""
    name = f"{sha256_bytes(str((values.dtype, values.shape)).encode(), np.ascontiguousarray(values).data)[:32]}.npy"
    if not (products_folder() / name).is_file():
        atomic_write(products_folder() / name, partial(np.save, arr=values))
    return name


def products_of(row: Mapping[str, Any]) -> list[str]:
    """Names of the files that a cell's row speaks of."""
    return [value for value in row.values() if isinstance(value, str) and value.endswith((".npy", ".safetensors"))]


def load(name: str) -> np.ndarray:
    """An array that ``keep`` wrote."""
    return np.load(products_folder() / name, mmap_mode="r")
