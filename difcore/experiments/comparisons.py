"""The detection tables and figures of the supplement: Tables A and C, Figures B, C, D and E, methods by generators.

Each takes a bench (the generators, the schedule) and gives a tidy frame, see ``run_table``: one row for each generator,
last encoding, method, filter, prior, N_S and seed, with accuracy, AUC, intervals, counts and status. Cells that several
of them ask for are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from difcore.demo.generators import CHILDREN
from difcore.detectors.methods import FINGERPRINTS, METHODS
from difcore.experiments.bench import Bench
from difcore.experiments.detecting import run_table
from difcore.experiments.pools import Sets, divide
from difcore.files import NeedsData
from difcore.fingerprints.priors import PRIORS
from difcore.paper import LOW_SAMPLES, VARIANTS
from difcore.records.cells import Cell, run_cells
from difcore.records.claims import check_results
from difcore.residuals.denoisers import load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime

FRAME = 8  # px: width of the border whose share of a pattern is measured
SMALL_SAMPLE_METHODS = ("dif", "resnet50", "grag21", "resnet_m")  # of Fig. D


def filter_selection(
    bench: Bench,
    n_train: int,
    seeds: Sequence[int] = (0, 1, 2),
    filters: Sequence[str] = ("highpass", "photos"),
    methods: Sequence[str] = FINGERPRINTS,
) -> pd.DataFrame:
    """Tab. A: every fingerprint method on residuals of a Gaussian high-pass and of DnCNN (supplement, A.1)."""
    rows = [
        {"method": method, "filter": name, "n_train": n_train, "seed": seed}
        for method in methods
        for name in filters
        for seed in seeds
    ]
    return run_table(bench, rows, "Tab. A")


def architecture_selection(
    bench: Bench, n_train: int, seeds: Sequence[int] = (0, 1, 2), priors: Sequence[str] = tuple(PRIORS)
) -> pd.DataFrame:
    """Tab. C: DIF with each architecture of g_theta (supplement, A.4), fitted once each, as there.

    An architecture whose fits do not set out is a result here, not bad luck to be mended by further ones.
    """
    bench = replace(bench, plan=replace(bench.plan, fits=1))
    rows = [{"method": "dif", "prior": prior, "n_train": n_train, "seed": seed} for prior in priors for seed in seeds]
    return run_table(bench, rows, "Tab. C")


def train_size(
    bench: Bench, sizes: Sequence[int], seeds: Sequence[int] = (0, 1, 2), methods: Sequence[str] = ("dif",)
) -> pd.DataFrame:
    """Figs. B and C: accuracy against N_S, the training images of each class (supplement, C.1).

    A seed's draws are nested, and all its N_S meet the same test images. What the data are too few for is said in the
    column ``status``.
    """
    rows = [{"method": m, "n_train": n, "seed": seed} for m in methods for n in sorted(sizes) for seed in seeds]
    return run_table(bench, rows, "accuracy by N_S")


def consistency(
    bench: Bench,
    n_train: int = LOW_SAMPLES,
    seeds: Sequence[int] = tuple(range(10)),
    methods: Sequence[str] = SMALL_SAMPLE_METHODS,
) -> pd.DataFrame:
    """Fig. D: every method fitted to ten random draws of N_S = 128 (supplement, C.2)."""
    return detection_table(bench, n_train, seeds, methods, "Fig. D")


def detection_table(
    bench: Bench,
    n_train: int,
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = METHODS,
    title: str = "methods",
) -> pd.DataFrame:
    """All methods under the same conditions: the same images to train on, the same to test on."""
    rows = [{"method": method, "n_train": n_train, "seed": seed} for method in methods for seed in seeds]
    return run_table(bench, rows, title)


def variants(
    bench: Bench, parents: Mapping[str, str], n_train: int, seeds: Sequence[int] = (0, 1, 2), method: str = "dif"
) -> pd.DataFrame:
    """Fig. E's models: does a parent's fingerprint find the images of the children that were fine-tuned from it?

    Each parent's is tested on the other parents' images, too: a fingerprint that finds any model's shows no kinship.

    Parameters
    ----------
    parents : mapping of child to parent
        As ``variant_parents`` gives it.

    Returns
    -------
    DataFrame
        As ``run_table``, with the column ``fitted_on``: the generator whose images the detector was fitted to.

    Raises
    ------
    CellsFailed, NeedsData
        If no cell has a result, or there is no pair.
    """
    if not parents:
        asked = ", ".join(f"{child} from {parent}" for child, parent in known_variants(bench).items())
        raise NeedsData(f"needs a fine-tuned model together with its source: {asked}; has {', '.join(bench.sources)}")
    sources = list(dict.fromkeys(parents.values()))
    pairs = [(tested, fitted) for fitted in sources for tested in sources]
    pairs += [pair for child, parent in parents.items() for pair in ((child, parent), (child, child))]
    rows = [
        {"method": method, "n_train": n_train, "seed": seed, "generator": tested, "fitted_on": fitted}
        for tested, fitted in dict.fromkeys(pairs)
        for seed in seeds
    ]
    table = run_table(bench, rows, "Fig. E")
    if "fitted_on" not in table:
        table["fitted_on"] = np.nan
    return table.assign(fitted_on=table["fitted_on"].fillna(table["generator"]))


def known_variants(bench: Bench) -> dict[str, str]:
    """Child to parent: the paper's fine-tuned models, or the demo's children."""
    return VARIANTS if bench.real_data else {child: plan.parent for child, plan in CHILDREN.items()}


def variant_parents(bench: Bench) -> dict[str, str]:
    """``known_variants`` of which the bench has both."""
    return {child: parent for child, parent in known_variants(bench).items() if {child, parent} <= set(bench.sources)}


def variant_images(bench: Bench, parents: Mapping[str, str], n: int = 6) -> tuple[list[np.ndarray], list[str]]:
    """The first ``n`` test images of every parent and child, a line each, and whose they are.

    The demo's models all show the same scenes; of a folder the first images are taken.
    """
    images: list[np.ndarray] = []
    titles: list[str] = []
    for name in dict.fromkeys(name for child, parent in parents.items() for name in (parent, child)):
        sets = bench.load(f"{name}|native")
        pool = sets.test_fake or sets.fake
        images += list(pool.images[:n])
        titles += [name.removeprefix("demo-")] * len(pool.images[:n])
    return images, titles


def boundary_table(bench: Bench, n_train: int, seed: int = 0) -> pd.DataFrame:
    """How much of each generator's pattern sits at the image's border: generator, border, n_real, n_fake, status.

    ``border`` is the energy per pixel of (mean fake residual - mean real residual) within 8 px of the border over that
    inside. 1: no boundary artefacts; the filter's own border cancels in the difference.
    """
    cells = border_cells(bench, n_train, seed)
    work = partial(border_energy, denoiser=bench.denoiser, runtime=bench.runtime)
    return check_results(
        run_cells(work, cells, bench.load, n_jobs=bench.runtime.workers, progress=bench.progress, title="borders")
    )


def border_cells(bench: Bench, n_train: int, seed: int) -> list[Cell]:
    """The cells of ``boundary_table``."""
    used = bench.filter().hash
    return [
        Cell({"generator": name, "n_train": n_train, "seed": seed}, f"{name}|native",
             bench.depends([name], filter_hash=used))
        for name in bench.sources
    ]  # fmt: skip


def border_energy(sets: Sets, values: Mapping[str, Any], denoiser: str, runtime: Runtime) -> dict[str, Any]:
    """One cell of ``boundary_table``."""
    runtime.check()
    parts = divide(sets, values["n_train"], values["seed"])
    used = load_denoiser(denoiser, runtime.device, runtime.bfloat16)
    pools = (parts.real.images, parts.fake.images)
    real, fake = (residuals_of(images, used, images.shape[1]).values for images in pools)
    energy = (fake.astype(np.float32).mean(0) - real.astype(np.float32).mean(0)) ** 2
    inside = np.zeros(energy.shape[1:], bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    border = float(energy[:, ~inside].mean() / max(float(energy[:, inside].mean()), 1e-30))
    return {"border": border, "n_real": len(real), "n_fake": len(fake)}
