"""Tidy detection tables made smaller: means over seeds and generators, matrices, the control beside the native.

One cell of a detection table, and the table that a list of them gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from difcore.detectors import methods
from difcore.detectors.trained import ClassifierPlan
from difcore.experiments.bench import Bench, encoding_label
from difcore.experiments.pools import Sets, divide
from difcore.fingerprints.dif import DifPlan
from difcore.paper import paper_order
from difcore.records.cells import OK, Cell, run_cells
from difcore.records.claims import check_results
from difcore.residuals.denoisers import load_denoiser
from difcore.runtime import Runtime
from difcore.stats import (
    Estimate,
    as_row,
    balanced_interval,
    detection,
    mean_interval,
    nowhere,
    share_estimate,
    sum_estimate,
    t_estimate,
    widest,
)

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
        values["method"], parts.real.images, parts.fake.images, denoiser, values["seed"], plan, training
    )
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


SETTING = ("generator", "fitted_on", "method", "filter", "prior", "n_train")
MEAN = "mean"
ENOUGH = 3  # generators, or draws, from which on their spread says how sure a mean is


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each generator and setting: means over the seeds, and the control with one last encoding beside.

    Returns
    -------
    DataFrame
        Columns of the setting; ``seeds``; ``n_real``, ``n_fake``; ``accuracy``, the balanced one, with its interval for
        one test set (accuracy_low, accuracy_high: what the images leave open); ``accuracy_real``, ``accuracy_fake``;
        ``seeds_low``, ``seeds_high``: t interval of the mean over the seeds (what the draws leave open; empty below
        two); ``auc``; for each further encoding ``accuracy_jpeg_q95`` and ``auc_jpeg_q95``; ``status``, which also
        says which generators are absent.
    """
    by = [column for column in SETTING if column in table]
    rows = []
    for key, part in table[table["status"] == OK].groupby(by, sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": part["seed"].nunique()}
        native = part[part["encoding"] == "native"]
        if len(native):
            row |= {"n_real": int(native["n_real"].min()), "n_fake": int(native["n_fake"].min())}
            row |= means(native)
        for encoding, control in part[part["encoding"] != "native"].groupby("encoding"):
            suffix = encoding.lower().replace(" ", "_")
            row |= {f"accuracy_{suffix}": control["accuracy"].mean(), f"auc_{suffix}": control["auc"].mean()}
        rows.append({**row, "status": OK})
    missing = table[table["status"] != OK]
    columns = [column for column in (*by, "status") if column in missing]
    return pd.concat([pd.DataFrame(rows), missing[columns].drop_duplicates()], ignore_index=True)


def means(rows: pd.DataFrame) -> dict[str, float]:
    """Mean accuracies of repetitions with both intervals of the balanced one, and mean AUC."""
    real, fake = (float(rows[f"accuracy_{label}"].mean()) for label in ("real", "fake"))
    n_real, n_fake = int(rows["n_real"].min()), int(rows["n_fake"].min())
    low, high = balanced_interval(real * n_real, n_real, fake * n_fake, n_fake)
    found = {"accuracy": (real + fake) / 2, "accuracy_low": low, "accuracy_high": high}
    seeds_low, seeds_high = mean_interval(rows["accuracy"])
    found |= {"accuracy_real": real, "accuracy_fake": fake, "seeds_low": seeds_low, "seeds_high": seeds_high}
    return {**found, "auc": rows["auc"].mean()}


def matrix(
    table: pd.DataFrame, rows: str, columns: str = "generator", value: str = "accuracy", encoding: str | None = "native"
) -> pd.DataFrame:
    """Means over the seeds as a matrix with a last column "mean" over those columns that every row has.

    Empty where a cell has no result; rows in the order of the table, generators in the paper's. ``encoding`` None
    takes the rows as they are.

    Raises
    ------
    ValueError
        If no cell has a result.
    """
    part = good(table, encoding) if encoding else table[table["status"] == OK]
    if not len(part):
        raise ValueError("no cell has a result")
    order = list(dict.fromkeys(part[rows]))
    found = part.groupby([rows, columns], sort=False)[value].mean().unstack(columns).reindex(order)
    names = paper_order(list(found.columns)) if columns == "generator" else sorted(found.columns)
    found = found[names]
    complete = found.dropna(axis=1)
    return found.assign(**{MEAN: complete.mean(axis=1) if complete.shape[1] else np.nan})


def mean_of(table: pd.DataFrame, column: str, value: str = "accuracy") -> dict[str, float]:
    """Mean of ``value`` over the generators, for each entry of ``column``: generators that every entry has."""
    if not len(good(table)):
        return {}
    return matrix(table, column, value=value)[MEAN].to_dict()


def paired_gap(table: pd.DataFrame, column: str, first: object, second: object, value: str = "accuracy") -> Estimate:
    """Mean ``value`` of ``first`` minus that of ``second``, over the (generator, seed) that both have.

    Draws on one generator are no independent evidence on generators: they are averaged first. With three generators or
    more the interval is over generators; with fewer over the draws, and with fewer than three of those over the test
    images, and ``basis`` says that it holds for these generators, or these fits, alone. Accuracies of all these were
    measured on the same images, so no interval is narrower than what the images leave open.

    NaN without an interval if there is no pair.
    """
    part = good(table)
    index = [name for name in ("generator", "n_train", "seed") if name != column and name in part]
    cells = part.pivot_table(index=index, columns=column, values=value)
    if not {first, second} <= set(cells.columns):
        return Estimate(float("nan"), nowhere, "no pair")
    gaps = (cells[first] - cells[second]).dropna()
    by_generator, by_draw = (gaps.groupby(name).mean() for name in ("generator", "seed"))
    count = f"{len(by_generator)} generator" + "s" * (len(by_generator) != 1)
    if len(by_generator) >= ENOUGH:
        spread = t_estimate(by_generator, count)
    else:
        spread = t_estimate(by_draw, f"{len(by_draw)} draws, {count} alone")
    if value != "accuracy":
        return spread
    used = part.set_index(index).loc[gaps.index].reset_index()
    images = sum_estimate(
        [0.5, 0.5, -0.5, -0.5],
        [e for name in (first, second) for e in class_estimates(used[used[column] == name])],
        f"the test images, {count} and these fits alone",
    )
    if max(len(by_generator), len(by_draw)) < ENOUGH:
        return images
    return widest(spread, images)


def class_estimates(rows: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """Mean accuracy of the reals and of the fakes, with intervals over the test images.

    Generators may share their reals, so these count once; each has fakes of its own.
    """
    n_fake = rows.groupby("generator")["n_fake"].min().sum()
    counts = {"accuracy_real": rows["n_real"].min(), "accuracy_fake": n_fake}
    real, fake = (share_estimate(float(rows[name].mean()), int(n), f"{n} images") for name, n in counts.items())
    return real, fake


def bars(
    table: pd.DataFrame,
    group: str,
    series: str,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    value: str = "accuracy",
) -> pd.DataFrame:
    """Means over the generators for ``plots.grouped_bars``, with the lowest and the highest generator.

    Parameters
    ----------
    table : DataFrame
        Rows of one encoding.
    paper : mapping of group to mapping of series to percent
        An entry of ``series`` is looked up as far as its bracket: "DnCNN (photos)" as "DnCNN".

    Returns
    -------
    DataFrame
        ``group``, ``series``, ``value``, low, high (fractions), paper (percent).
    """
    done = table[table["status"] == OK]
    each = done.groupby([group, series, "generator"], sort=False)[value].mean()
    found = each.groupby(level=[0, 1], sort=False).agg(["mean", "min", "max"]).reset_index()
    found = found.rename(columns={"mean": value, "min": "low", "max": "high"})
    known = paper or {}
    printed = [known.get(a, {}).get(b.split(" (")[0], np.nan) for a, b in zip(found[group], found[series], strict=True)]
    return found.assign(paper=printed)
