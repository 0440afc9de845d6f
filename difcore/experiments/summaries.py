"""Tidy detection tables made smaller: means over seeds and generators, matrices, the control beside the native."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from difcore.cells import OK
from difcore.experiments.detecting import good
from difcore.paper import paper_order
from difcore.stats import mean_interval, wilson

SETTING = ("generator", "fitted_on", "method", "filter", "prior", "n_train")
MEAN = "mean"


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each generator and setting: means over the seeds, and the control with one last encoding beside.

    Returns
    -------
    DataFrame
        Columns of the setting; ``seeds``; ``n_real``, ``n_fake``; ``accuracy`` with Wilson's interval for one test set
        (accuracy_low, accuracy_high: what the images leave open); ``seeds_low``, ``seeds_high``: t interval of the
        mean over the seeds (what the draws leave open; empty below two); ``auc``; for each further encoding
        ``accuracy_jpeg_q95`` and ``auc_jpeg_q95``; ``status``, which also says which generators are absent.
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
    """Mean accuracy of repetitions with both its intervals, and mean AUC."""
    accuracy, n = rows["accuracy"].mean(), int((rows["n_real"] + rows["n_fake"]).min())
    low, high = wilson(round(accuracy * n), n)
    found = {"accuracy": accuracy, "accuracy_low": min(low, accuracy), "accuracy_high": max(high, accuracy)}
    seeds_low, seeds_high = mean_interval(rows["accuracy"])
    return {**found, "seeds_low": seeds_low, "seeds_high": seeds_high, "auc": rows["auc"].mean()}


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


def paired_gap(table: pd.DataFrame, column: str, first: str, second: str) -> tuple[float, float, float]:
    """Mean accuracy of ``first`` minus ``second`` over all (generator, seed) that both have, with its t interval.

    (nan, nan, nan) if there is no pair.
    """
    part = good(table).pivot_table(index=["generator", "n_train", "seed"], columns=column, values="accuracy")
    if not {first, second} <= set(part.columns):
        return (np.nan,) * 3
    gaps = (part[first] - part[second]).dropna()
    low, high = mean_interval(gaps, bounds=(-1.0, 1.0))
    return float(gaps.mean()) if len(gaps) else np.nan, low, high


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
