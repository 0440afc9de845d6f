"""One model of a cross-detection as a cell: its fingerprints and what its test images are scored by, kept as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from difcore.cache import cache_folder, used
from difcore.denoisers import load_denoiser
from difcore.experiments.pools import Sets, divide
from difcore.files import atomic_write, derived_seed, sha256_bytes
from difcore.fingerprints import load_fingerprint, save_fingerprint
from difcore.fit import DifPlan
from difcore.methods import PATTERNS, fit_pattern
from difcore.residuals import residuals_of
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
        found = fit_pattern(method, real, fake, used, own, values["generator"], runtime.device)
        row["fits"] = found.metadata.get("fits", row.get("fits"))
        digest = sha256_bytes(found.pattern.numpy().tobytes(), repr((found.mu_real, found.mu_fake)).encode())
        row[method] = f"{digest[:32]}.safetensors"
        save_fingerprint(folder / row[method], found)
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
        np.load(file, mmap_mode="r") if file.suffix == ".npy" else load_fingerprint(file)
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
