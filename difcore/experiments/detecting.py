"""One cell of a detection table, and the table that a list of them gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from difcore import methods
from difcore.cells import OK, Cell, run_cells
from difcore.classifiers import ClassifierPlan
from difcore.denoisers import load_denoiser
from difcore.experiments.bench import Bench, encoding_label
from difcore.experiments.pools import Sets, divide
from difcore.failures import check_results
from difcore.fit import DifPlan
from difcore.runtime import Runtime
from difcore.stats import as_row, detection

PRIOR_LABELS = {"unet": "U-Net", "u1net": "U1-Net", "dnet": "D-Net", "cnet": "C-Net"}
FILTER_LABELS = {"highpass": "Gaussian high-pass"}


def detect(
    sets: Sets,
    values: Mapping[str, Any],
    plan: DifPlan,
    training: ClassifierPlan,
    runtime: Runtime = Runtime(),
    sizes: Sequence[int] = (),
    max_test: int | None = None,
) -> dict[str, Any]:
    """One cell: fit ``values["method"]`` to ``n_train`` images of each class and test it on others.

    Returns
    -------
    dict
        ``difcore.stats.as_row``: accuracy by the method's own threshold, AUC, intervals, n_real, n_fake.

    Raises
    ------
    NotEnough, LeakageError
        As ``divide``.
    ValueError
        If this machine cannot compute what the ``runtime`` says.
    """
    runtime.check()
    parts = divide(sets, values["n_train"], values["seed"], sizes, max_test)
    denoiser = load_denoiser(values["filter"] or "highpass", runtime.device, runtime.bfloat16)  # classifiers ignore it
    plan = replace(plan, prior=values["prior"] or plan.prior)
    detector = methods.fit(
        values["method"], parts.real.images, parts.fake.images, values["seed"], denoiser, plan=plan, training=training,
        device=runtime.device,
    )  # fmt: skip
    real, fake = (detector.score(pool.images) for pool in (parts.test_real, parts.test_fake))
    return as_row(detection(real, fake, detector.threshold))


def run_table(bench: Bench, rows: Sequence[Mapping[str, Any]], title: str) -> pd.DataFrame:
    """Every row's setting on every generator and encoding, as a tidy table; absent generators are listed at its end.

    Parameters
    ----------
    rows : sequence of mappings
        ``method``, ``n_train``, ``seed`` and, where they differ from the bench's, ``filter``, ``prior``; ``generator``
        for one generator alone, and ``fitted_on`` where the detector is fitted to another one's images.

    Returns
    -------
    DataFrame
        generator, encoding, method, filter, prior, n_train, seed, accuracy, auc, their intervals, n_real, n_fake,
        seconds, status ("ok", or why there is no result).

    Raises
    ------
    CellsFailed, NeedsData
        If no cell has a result.
    """
    sizes = tuple(sorted({row["n_train"] for row in rows}))
    cells = table_cells(bench, rows)
    work = partial(
        detect, plan=bench.plan, training=bench.training, runtime=bench.runtime, sizes=sizes,
        max_test=bench.max_test,
    )  # fmt: skip
    table = run_cells(work, cells, bench.load, n_jobs=bench.runtime.workers, progress=bench.progress, title=title)
    return readable(check_results(table), bench.absent)


def table_cells(bench: Bench, rows: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The cells of ``run_table``."""
    hashes: dict[str, str] = {}
    sizes = tuple(sorted({row["n_train"] for row in rows}))
    return [
        make_cell(bench, row, name, quality, sizes, hashes)
        for row in rows
        for name in ([row["generator"]] if "generator" in row else bench.sources)
        for quality in bench.qualities
    ]


def make_cell(
    bench: Bench, row: Mapping[str, Any], name: str, quality: int | None, sizes: tuple[int, ...], hashes: dict[str, str]
) -> Cell:
    """The cell of one row on one generator; what its method does not use is left out of what it depends on."""
    method = row["method"]
    by_residuals = method in methods.FINGERPRINTS
    used = row.get("filter", bench.denoiser) if by_residuals else ""
    prior = row.get("prior", bench.plan.prior) if method == "dif" else ""
    if used and used not in hashes:
        hashes[used] = bench.filter(used).hash
    fitted_on = row.get("fitted_on", name)
    values = {"generator": name, "encoding": encoding_label(quality), "method": method, "filter": used, "prior": prior}
    values |= {"n_train": row["n_train"], "seed": row["seed"]}
    pair = name if fitted_on == name else f"{fitted_on}>{name}"
    values |= {} if fitted_on == name else {"fitted_on": fitted_on}
    depends = bench.depends(
        (fitted_on, name), encoding=encoding_label(quality), filter_hash=hashes.get(used, ""),
        plan=method == "dif", training=not by_residuals,
        # Demo images have test images of their own, so that the other N_S of the table change nothing.
        division=f"{sizes if bench.real_data else ()} {bench.max_test}",
    )  # fmt: skip
    return Cell(values, f"{pair}|{encoding_label(quality)}", depends)


def readable(table: pd.DataFrame, absent: Mapping[str, str]) -> pd.DataFrame:
    """A table of cells with the names that figures show, and a row for every absent generator."""
    labels = {"method": methods.LABELS, "prior": PRIOR_LABELS}
    for column, names in labels.items():
        table[column] = table[column].map(lambda name, names=names: names.get(name, name))
    table["filter"] = table["filter"].map(filter_label)
    missing = pd.DataFrame([{"generator": name, "status": reason} for name, reason in absent.items()])
    table = pd.concat([table, missing], ignore_index=True) if len(missing) else table
    counts = table.columns.intersection(["n_train", "seed", "n_real", "n_fake"])
    return table.astype(dict.fromkeys(counts, "Int64"))  # whole numbers also beside rows without a result


def filter_label(name: str) -> str:
    """How tables call a residual filter: "Gaussian high-pass", or "DnCNN" with its weights' name."""
    return FILTER_LABELS.get(name, f"DnCNN ({Path(name).stem})" if name else "")


def good(table: pd.DataFrame, encoding: str = "native") -> pd.DataFrame:
    """Rows of one encoding that have a result."""
    return table[(table["status"] == OK) & (table["encoding"] == encoding)]
