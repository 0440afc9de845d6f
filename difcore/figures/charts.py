"""Charts of detection tables: bars in groups, accuracy by training images with bands, box plots over draws."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from difcore import paper
from difcore.figures.style import GREY, MARKERS, PALETTE, NotebookFigure, new_figure, styled

HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")
NAMES = {"accuracy": "accuracy (%)", "auc": "AUC (%)"}


def require(frame: pd.DataFrame, columns: set[str], what: str) -> None:
    """Raise ValueError unless the frame has these columns and a row."""
    if missing := columns - set(frame.columns):
        raise ValueError(f"{what} needs the columns {sorted(missing)} too")
    if not len(frame):
        raise ValueError(f"{what} has nothing to draw")


def percent_axis(axes: Axes, lowest: float, unit: str) -> None:
    """A vertical axis in percent from below ``lowest`` to 102, with the line of chance."""
    axes.axhline(50, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylim(min(45.0, 5 * np.floor(lowest / 5)), 102)
    axes.set_ylabel(unit)
    axes.grid(axis="y")


@styled
def grouped_bars(
    frame: pd.DataFrame, group: str, series: str, value: str = "accuracy", title: str = ""
) -> NotebookFigure:
    """Bars side by side within groups, with intervals, and the paper's values as hollow diamonds.

    Parameters
    ----------
    frame : DataFrame
        One row a bar: ``group``, ``series``, ``value`` as a fraction; optionally ``low``, ``high`` (fractions) and
        ``paper`` (percent). Bars without a value say so.
    """
    require(frame, {group, series, value}, "grouped_bars")
    groups, names = list(dict.fromkeys(frame[group])), list(dict.fromkeys(frame[series]))
    groups = paper.paper_order(groups)
    figure = new_figure(max(4.2, 0.9 + 0.27 * len(groups) * (len(names) + 0.8)), 3.0)
    axes, width = figure.subplots(), 0.8 / len(names)
    lowest = [100.0]
    for k, name in enumerate(names):
        rows = frame[frame[series] == name].drop_duplicates(group).set_index(group).reindex(groups)
        x, y = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * width, 100 * rows[value].to_numpy(float)
        look: dict[str, Any] = {"color": (PALETTE[k % 7], 0.75), "edgecolor": PALETTE[k % 7], "hatch": HATCHES[k % 7]}
        axes.bar(x, np.nan_to_num(y), 0.92 * width, label=paper.label(name), linewidth=0.6, **look)
        lowest += list(y[~np.isnan(y)])
        if {"low", "high"} <= set(rows.columns):
            ends = 100 * rows[["low", "high"]].to_numpy(float)
            axes.vlines(x, ends[:, 0], ends[:, 1], color="black", linewidth=0.9)
            lowest += list(ends[~np.isnan(ends)])
        if "paper" in rows.columns and rows["paper"].notna().any():
            axes.plot(x, rows["paper"].to_numpy(float), "D", color="black", markerfacecolor="white", markersize=4.5,
                      label="paper" if k == len(names) - 1 else None)  # fmt: skip
            lowest += list(rows["paper"].dropna())
        for place in x[np.isnan(y)]:
            axes.text(place, 51, "no result", rotation=90, ha="center", va="bottom", fontsize=6, color=GREY)
    percent_axis(axes, min(lowest), NAMES.get(value, value))
    axes.set(xticks=range(len(groups)), title=title)
    many = max(len(paper.label(g)) for g in groups) > 9 and len(groups) > 2
    axes.set_xticklabels([paper.label(g) for g in groups], rotation=30 if many else 0, ha="right" if many else "center")
    axes.tick_params(axis="x", length=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def size_curves(table: pd.DataFrame, value: str = "accuracy", title: str = "", columns: int = 3) -> NotebookFigure:
    """Accuracy against N_S: a panel for each generator, a line for each method, a band from lowest to highest seed.

    Parameters
    ----------
    table : DataFrame
        Tidy: ``generator``, ``method``, ``n_train``, ``seed`` and ``value`` as a fraction; rows without it are left
        out.
    """
    require(table, {"generator", "method", "n_train", "seed", value}, "size_curves")
    table = table.dropna(subset=[value])
    require(table, set(), "size_curves")
    generators, methods = paper.paper_order(list(dict.fromkeys(table["generator"]))), list(dict.fromkeys(table.method))
    columns = min(columns, len(generators))
    rows = ceil(len(generators) / columns)
    figure = new_figure(max(3.6, 2.3 * columns + 0.5), 2.0 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    sizes = sorted(set(table["n_train"].astype(int)))
    for axes, name in zip(grid.flat, generators, strict=False):
        for k, method in enumerate(methods):
            part = table[(table["generator"] == name) & (table["method"] == method)]
            if not len(part):
                continue
            summary = 100 * part.groupby("n_train")[value].agg(["mean", "min", "max"])
            look: dict[str, Any] = {"color": PALETTE[k % 7], "marker": MARKERS[k % 7]}
            axes.plot(summary.index, summary["mean"], label=method, **look)
            axes.fill_between(summary.index, summary["min"], summary["max"], color=PALETTE[k % 7], alpha=0.2, lw=0)
        axes.set_title(paper.label(name))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        percent_axis(axes, 100 * float(table[value].min()), "")
    for axes in list(grid.flat)[len(generators) :]:
        axes.set_visible(False)
    figure.supylabel(NAMES.get(value, value), fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("N_S: training images of each class")
    draws = table["seed"].nunique()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, [f"{name}, mean and range of {draws} seeds" for name in labels], loc="outside lower center")
    if title:
        figure.suptitle(title)
    return figure


@styled
def accuracy_boxes(table: pd.DataFrame, value: str = "accuracy", title: str = "") -> NotebookFigure:
    """Fig. D: a box for each method over its draws, generators side by side; every draw as a point.

    Boxes from the first to the third quartile with the median; whiskers to the last draw within 1.5 box lengths.

    Parameters
    ----------
    table : DataFrame
        As ``size_curves``, at one N_S.
    """
    require(table, {"generator", "method", "seed", value}, "accuracy_boxes")
    table = table.dropna(subset=[value])
    require(table, set(), "accuracy_boxes")
    generators, methods = paper.paper_order(list(dict.fromkeys(table["generator"]))), list(dict.fromkeys(table.method))
    figure = new_figure(max(4.2, 1.0 + 0.36 * len(generators) * (len(methods) + 0.8)), 3.0)
    axes, width = figure.subplots(), 0.8 / len(methods)
    named: set[str] = set()
    for k, method in enumerate(methods):
        for i, name in enumerate(generators):
            y = 100 * table.loc[(table["generator"] == name) & (table["method"] == method), value].to_numpy(float)
            if not len(y):
                continue
            x, colour = i + (k - (len(methods) - 1) / 2) * width, PALETTE[k % 7]
            look: dict[str, Any] = {"patch_artist": True, "showfliers": False, "medianprops": {"color": "black"}}
            box = axes.boxplot([y], positions=[x], widths=0.8 * width, **look)
            box["boxes"][0].set(facecolor=(colour, 0.35), edgecolor=colour)
            for line in (*box["whiskers"], *box["caps"]):
                line.set(color=colour)
            axes.plot(np.full(len(y), x), y, MARKERS[k % 7], color=colour, markersize=2.5, alpha=0.7,
                      label=None if method in named else method)  # fmt: skip
            named.add(method)
    percent_axis(axes, 100 * float(table[value].min()), NAMES.get(value, value))
    axes.set(xlim=(-0.5, len(generators) - 0.5), title=title)
    set_names(axes, generators)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def set_names(axes: Axes, names: Sequence[str]) -> None:
    """Generators as the labels of the horizontal axis."""
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels([paper.label(name) for name in names])
    axes.tick_params(axis="x", length=0)
