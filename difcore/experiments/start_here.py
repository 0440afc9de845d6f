"""The whole method on data the repository makes itself: scenes, a small decoder's fakes of others, a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from difcore.demo.generators import fakes_of, real_style
from difcore.experiments.claiming import measured, percent
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan, fit_dif, fit_marra18
from difcore.images.scenes import rendered
from difcore.paper import LOW_SAMPLES, LOW_SAMPLES_DROP
from difcore.records.claims import Claim
from difcore.residuals.denoisers import Denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime
from difcore.stats import as_row, detection

DEMO = "demo data: procedural scenes and a small decoder, not the paper's generators"


@dataclass(frozen=True)
class DemoResult:
    """Table (method, n_train, accuracy, auc, intervals, n_real, n_fake, seed) and what a notebook draws."""

    table: pd.DataFrame
    fingerprints: dict[str, Detector]
    rho: dict[str, dict[str, np.ndarray]]
    real: np.ndarray
    fake: np.ndarray


def demo_images(
    n: int, size: int = 128, generator: str = "demo-deconv2", first_seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """``n`` real scenes and ``n`` fakes of any shipped generator, uint8 (n, size, size, 3) each.

    A decoder or translator makes its fakes of ``n`` other scenes: reals take the even seeds, fakes the odd ones.
    """
    real = rendered(range(first_seed, first_seed + 2 * n, 2), size, real_style(generator))
    return real, fakes_of(generator, range(first_seed + 1, first_seed + 2 * n, 2), size)


def start_here(
    denoiser: Denoiser,
    train: int = 48,
    test: int = 48,
    size: int = 96,
    steps: int = 120,
    runtime: Runtime = Runtime(),
    generator: str = "demo-deconv2",
    seed: int = 0,
) -> DemoResult:
    """Scenes to fakes to residuals to fingerprint to verdict, offline: ``train`` and ``test`` images of each class."""
    plan = DifPlan(steps=steps, batch=min(64, 2 * train), bfloat16=runtime.bfloat16, seed=seed)
    real, fake = demo_images(train + test, size, generator, first_seed=1_000_000 * (seed + 1))
    sets = {name: residuals_of(x, denoiser, size, progress=True).values for name, x in (("real", real), ("fake", fake))}
    x_real, x_fake = (residuals[:train] for residuals in sets.values())
    prints = {
        "DIF": fit_dif(x_real, x_fake, plan, generator, runtime.device, progress=True),
        "Marra18": fit_marra18(x_real, x_fake, generator),
    }
    rows, rho = [], {}
    for method, fingerprint in prints.items():
        rho[method] = {name: fingerprint.rho(x[train:]).numpy() for name, x in sets.items()}
        result = detection(rho[method]["real"], rho[method]["fake"], fingerprint.threshold)
        rows.append({"method": method, "data": "demo", "n_train": train, **as_row(result), "seed": seed})
    return DemoResult(pd.DataFrame(rows), prints, rho, real[train:], fake[train:])


def demo_claims(table: pd.DataFrame) -> list[Claim]:
    """DIF detects, and beats averaging, with few training images."""
    dif, mean = (table[table.method == m].iloc[0] for m in ("DIF", "Marra18"))
    detects = f"DIF detects images of a known generator from {dif.n_train}+{dif.n_train} training images"
    few = f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)"
    better = f"{percent(dif.accuracy)} against {percent(mean.accuracy)}"
    averaged = "DIF is better than the averaged residual (Marra18)"
    return [
        Claim(detects, few, measured(dif), "not comparable", DEMO),
        Claim(averaged, "92.3 % against 62.6 % (Tab. A)", better, "not comparable", DEMO),
    ]
