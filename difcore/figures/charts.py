"""Charts with axes: detection tables, trainings, radial spectra, histograms of the two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from difcore import paper
from difcore.figures import style
from difcore.figures.spectra import radial_power
from difcore.figures.style import CHANCE, GREY, PALETTE, NotebookFigure, chart, legend_below, new_figure, styled

if TYPE_CHECKING:  # the audit loads networks
    from difcore.audit.findings import Audit

UNITS = {"accuracy": "accuracy (%)", "auc": "AUC (%)"}
CLASSES = {"real": "real", "fake": "generated"}
OUTLINE: dict[str, Any] = {"histtype": "stepfilled", "linewidth": 1.2}
LOOK: dict[str, dict[str, Any]] = {
    "real": OUTLINE | {"facecolor": (style.REAL, 0.35), "edgecolor": style.REAL},
    "fake": OUTLINE | {"facecolor": (style.FAKE, 0.35), "edgecolor": style.FAKE, "hatch": "//"},
}


def known(table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The rows that have a value, their generators in the paper's order, their methods."""
    table = table.dropna(subset=[value])
    if table.empty:
        raise ValueError(f"no {value} to draw")
    return table, paper.paper_order(list(table["generator"].unique())), list(table["method"].unique())


def percent_axis(axes: Axes, lowest: float, value: str) -> None:
    """A vertical axis in percent from below ``lowest`` to 102, with the line of chance."""
    axes.axhline(50, **CHANCE)
    axes.set(ylim=(min(45.0, 5 * np.floor(lowest / 5)), 102), ylabel=UNITS.get(value, value))


def side_by_side(figure: NotebookFigure, groups: Sequence[str], series: int) -> list[np.ndarray]:
    """Name the groups along the axis, slanted where they are many and long; the places of each of so many series."""
    (axes,) = figure.axes
    labels = [paper.label(name) for name in groups]
    crowded = len(" ".join(labels)) > 10 * figure.get_figwidth()  # 10 letters an inch
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(groups)), labels, **slanted)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    return [np.arange(len(groups)) + 0.8 * (k - (series - 1) / 2) / series for k in range(series)]


@styled
def grouped_bars(
    frame: pd.DataFrame, group: str, series: str, value: str = "accuracy", title: str = ""
) -> NotebookFigure:
    """Tab. A: bars side by side within groups, with intervals, and the paper's values as hollow diamonds.

    A row is a bar: ``value``, perhaps ``low`` and ``high``, as fractions, ``paper`` in percent.
    """
    groups, names = paper.paper_order(list(frame[group].unique())), list(frame[series].unique())
    if not names:
        raise ValueError("no bar to draw")
    columns = [value, "low", "high", "paper"]
    frame = frame.drop_duplicates([series, group]).set_index([series, group]).reindex(columns=columns).astype(float)
    figure, axes = chart(max(4.2, 0.9 + 0.27 * len(groups) * (len(names) + 0.8)), 3.0, title)
    for k, (name, x) in enumerate(zip(names, side_by_side(figure, groups, len(names)), strict=True)):
        y, low, high, theirs = (frame.loc[name].reindex(groups).to_numpy() * [100, 100, 100, 1]).T
        colour, hatch = PALETTE[k % 7], style.HATCHES[k % 7]
        axes.bar(x, np.nan_to_num(y), 0.74 / len(names), color=(colour, 0.75), edgecolor=colour, hatch=hatch,
                 linewidth=0.6, label=paper.label(name))  # fmt: skip
        axes.plot([x, x], [low, high], "-", color="black", linewidth=0.9)
        mark = "paper" if name == names[-1] and np.isfinite(theirs).any() else None
        axes.plot(x, theirs, "D", color="black", markerfacecolor="white", label=mark)
        for place in x[np.isnan(y)]:
            axes.annotate("no result", (place, 0.02), xycoords=axes.get_xaxis_transform(), rotation=90, ha="center",
                          fontsize=6, color=GREY)  # fmt: skip
    percent_axis(axes, (frame.min() * [100, 100, 100, 1]).min(), value)
    return legend_below(figure)


@styled
def accuracy_comparison(frame: pd.DataFrame) -> NotebookFigure:
    """The README's table: the paper's value (hollow) beside ours (filled, with its interval) for every generator.

    A row is a ``generator``, from the top; ``paper``, ``ours``, ``low``, ``high`` in percent, ``ours`` perhaps NaN.
    """
    figure, axes = chart(5.2, 0.9 + 0.24 * len(frame), "", UNITS["accuracy"])
    rows, smallest = np.arange(len(frame)), min(45.0, frame[["low", "paper"]].min().min())
    axes.hlines(rows, frame["low"], frame["high"], color=PALETTE[0], linewidth=1.6)
    axes.plot(frame["ours"], rows, "o", color=PALETTE[0], label="ours, 95 % interval")
    axes.plot(frame["paper"], rows, "D", color=PALETTE[1], markerfacecolor="none", markersize=6, label="paper")
    axes.axvline(50, **CHANCE)
    for row in rows[frame["ours"].isna()]:
        axes.text(smallest - 1, row, "not measured", color=GREY, fontsize=7, va="center")
    axes.set(xlim=(smallest - 2, 102), ylim=(len(frame) - 0.5, -0.5))
    axes.set_yticks(rows, [paper.label(name) for name in frame["generator"]])
    return legend_below(figure)


@styled
def size_curves(table: pd.DataFrame, value: str = "accuracy", title: str = "") -> NotebookFigure:
    """Fig. B and C: accuracy against N_S, a panel a generator, a line a method, a band from lowest to highest seed.

    A row is a fit: ``generator``, ``method``, ``n_train``, ``seed`` and ``value`` as a fraction or NaN.
    """
    table, generators, methods = known(table, value)
    columns, rows = min(3, len(generators)), -(-len(generators) // 3)
    figure = new_figure(max(3.6, 2.3 * columns + 0.5), 2.0 * rows + 0.6, title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    spread = 100 * table.groupby(["generator", "method", "n_train"])[value].agg(["mean", "min", "max"])
    for axes, name in zip(grid.flat, generators, strict=False):
        for method in methods:
            part = spread[(spread.index.isin([name], 0)) & (spread.index.isin([method], 1))].droplevel([0, 1])
            label = f"{method}, mean and range of {table['seed'].nunique()} seeds"
            (line,) = axes.plot(part["mean"], label=label)
            axes.fill_between(part.index, part["min"], part["max"], color=line.get_color(), alpha=0.2, lw=0)
        axes.set_title(paper.label(name))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(sorted(table["n_train"].unique())))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        percent_axis(axes, 100 * table[value].min(), value)
        axes.set_xlabel("N_S: training images of each class")
        axes.label_outer()
    for axes, above in zip(grid.flat[len(generators) :], grid.flat[len(generators) - columns :], strict=False):
        axes.remove()
        above.tick_params(labelbottom=True)
    return legend_below(figure, 1)


@styled
def accuracy_boxes(table: pd.DataFrame, value: str = "accuracy", title: str = "") -> NotebookFigure:
    """Fig. D: a box a method over its draws (rows as in ``size_curves``), generators side by side, draws as points.

    Boxes from the first to the third quartile with the median; whiskers to the last draw within 1.5 box lengths.
    """
    table, generators, methods = known(table, value)
    figure, axes = chart(max(4.2, 1.0 + 0.36 * len(generators) * (len(methods) + 0.8)), 3.0, title)
    for k, (method, x) in enumerate(zip(methods, side_by_side(figure, generators, len(methods)), strict=True)):
        part, colour, marker = table[table["method"] == method], PALETTE[k % 7], style.MARKERS[k % 7]
        draws = [100 * part.loc[part["generator"] == name, value].to_numpy(float) for name in generators]
        box, line = {"facecolor": (colour, 0.35), "edgecolor": colour}, {"color": colour}
        axes.boxplot(draws, positions=x, widths=0.64 / len(methods), patch_artist=True, showfliers=False, boxprops=box,
                     medianprops={"color": "black"}, whiskerprops=line, capprops=line, manage_ticks=False)  # fmt: skip
        axes.plot(np.repeat(x, [len(y) for y in draws]), np.concatenate(draws), marker, color=colour, markersize=2.5,
                  alpha=0.7, label=method)  # fmt: skip
    percent_axis(axes, 100 * table[value].min(), value)
    return legend_below(figure)


@styled
def training_agreement(frame: pd.DataFrame) -> NotebookFigure:
    """Agreement with the published fingerprints (top) and denoising quality (bottom) against f_D's training steps.

    A row is a value: ``denoiser`` (a column of panels each), ``step``, ``quantity`` ("auc" or "psnr"), ``series`` (a
    generator, or a noise level such as "σ = 10"), ``value`` (0 to 1, or dB).
    """
    denoisers = list(frame["denoiser"].unique())
    figure = new_figure(2.9 * len(denoisers) + 1.4, 4.6)
    grid = figure.subplots(2, len(denoisers), sharex="col", sharey="row", squeeze=False)
    units = {"auc": "AUC of the published fingerprint", "psnr": "PSNR (dB)"}
    for row, (quantity, unit) in zip(grid, units.items(), strict=True):
        part = frame[frame["quantity"] == quantity]
        for axes, denoiser in zip(row, denoisers, strict=True):
            for name in paper.paper_order(list(part["series"].unique())):
                line = part[(part["denoiser"] == denoiser) & (part["series"] == name)].sort_values("step")
                axes.plot(line["step"], line["value"], label=paper.label(name))
            axes.set(xscale="log", xlabel="training step", ylabel=unit)
            plain_log_ticks(axes.xaxis)
            axes.label_outer()
        style.legend_beside(row[-1])
    for axes, denoiser in zip(grid[0], denoisers, strict=True):
        axes.set_title(f"denoiser: {denoiser}")
        axes.axhline(0.5, **CHANCE)
    return figure


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


@styled
def limit_curves(frame: pd.DataFrame, chosen: float) -> NotebookFigure:
    """Notebook 03: AUC (``value``) against the ``limit`` of the residuals, a line for each ``series``.

    Infinite limits ("none") stand at the right, ``chosen`` is shaded; series that are no generator are dashed black.
    """
    figure, axes = chart(6.2, 3.0, "", "limit of the residual (root mean squares)", "AUC")
    limits, marks = np.sort(frame["limit"].unique()), iter("X*" * len(frame))
    for name in frame["series"].unique():
        line = frame[frame["series"] == name].sort_values("limit")
        known = name in paper.GENERATORS
        black: dict[str, Any] = {} if known else {"color": "black", "marker": next(marks), "linestyle": "--"}
        axes.plot(np.searchsorted(limits, line["limit"]), line["value"], label=paper.label(name), **black)
    axes.axvline(float(np.searchsorted(limits, chosen)), color=GREY, linewidth=3, alpha=0.25)
    axes.axhline(0.5, **CHANCE)
    axes.set_xticks(range(len(limits)), [f"{x:g}" if np.isfinite(x) else "none" for x in limits])
    style.legend_beside(axes)
    return figure


@styled
def loss_curve(
    losses: Sequence[float] | Mapping[str, Sequence[float]], title: str = "", unit: str = "loss", window: int = 50
) -> NotebookFigure:
    """Trainings (f_D, generators, ProGAN): every loss faint, the mean over the last ``window`` steps strong.

    Logarithmic if all are positive and span a decade.
    """
    curves = losses if isinstance(losses, Mapping) else {"": losses}
    figure, axes = chart(4.6, 2.5, title, "step", unit)
    for (name, values), colour in zip(curves.items(), PALETTE, strict=False):
        loss = pd.Series(np.asarray(values, float), np.arange(1, len(values) + 1))
        axes.plot(loss, "-", color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(loss.rolling(window, min_periods=1).mean(), "-", color=colour, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if 0 < 10 * min(map(min, curves.values())) <= max(map(max, curves.values())):
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    if len(curves) > 1:
        axes.legend()
    return figure


@styled
def change_by_epoch(changes: pd.DataFrame, title: str = "") -> NotebookFigure:
    """Fig. G, measured: the ``change`` of a ``run`` ``since`` the last checkpoint; dotted, its ``spread``."""
    if changes.empty:
        raise ValueError("a change needs two checkpoints of a run")
    figure, axes = chart(4.8, 2.7, title, "epochs", "change, images in [0, 1]")
    for run, rows in changes.groupby("run", sort=False):
        (line,) = axes.plot(rows["epoch"], rows["change"], label=paper.label(run))
        axes.plot(rows["epoch"], rows["spread"], ":", color=line.get_color(), linewidth=1)
    axes.plot([], [], ":", color=GREY, label="between latents")
    ticks = {epoch: f"{since}→{epoch}" for since, epoch in zip(changes["since"], changes["epoch"], strict=True)}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_ylim(bottom=0)
    return legend_below(figure, 3)


@styled
def radial_spectrum(patterns: Mapping[str, ArrayLike]) -> NotebookFigure:
    """The published fingerprints' power by frequency, one strip each; grid periods of 8, 4, 2 px marked."""
    names = paper.paper_order(list(patterns))
    figure = new_figure(5.6, 0.9 + max(1.6, 0.58 * len(names)))
    column = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name in zip(column, names, strict=True):
        axes.semilogy(*radial_power(patterns[name]), "-", color=PALETTE[0], linewidth=1)
        axes.text(1.01, 0.5, paper.label(name), transform=axes.transAxes, va="center")
        axes.tick_params(labelsize=6.5)
        axes.minorticks_off()
        for period in (8, 4, 2):
            axes.axvline(1 / period, **CHANCE)
    for period in (8, 4, 2):
        column[0].annotate(f"{period} px", (1 / period, 1), (2, -2), ("data", "axes fraction"), "offset points",
                           va="top", fontsize=6.5, color=GREY)  # fmt: skip
    column[-1].set(xlim=(0, 0.5**0.5), xlabel="spatial frequency (cycles/px)")
    figure.supylabel("power")
    return figure


def class_histogram(
    axes: Axes, name: str, values: np.ndarray, edges: np.ndarray, note: str, density: bool = False
) -> None:
    """One class as a filled outline; the two differ without colour, too."""
    axes.hist(values, list(edges), density=density, label=f"{CLASSES[name]}, {note}", **LOOK[name])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


@styled
def score_histograms(
    scores_real: ArrayLike, scores_fake: ArrayLike, mu_real: float, mu_fake: float, title: str = ""
) -> NotebookFigure:
    """Every detection: correlations of real and generated images, a tick each, the two centres and the threshold."""
    real, fake = (np.asarray(scores, float).ravel() for scores in (scores_real, scores_fake))
    if not len(real) or not len(fake):
        raise ValueError(f"a histogram needs both classes, got {len(real)} real and {len(fake)} generated scores")
    bins = int(np.clip(2 * np.sqrt(min(len(real), len(fake))), 6, 30))
    edges = np.histogram_bin_edges(np.concatenate([real, fake, [mu_real, mu_fake]]), bins)
    figure, axes = chart(4.6, 2.7, title, "correlation ρ with the fingerprint (▲ centres)", "images")
    across = axes.get_xaxis_transform()
    for name, scores, mu, level in (("real", real, mu_real, 0.955), ("fake", fake, mu_fake, 0.985)):
        class_histogram(axes, name, scores, edges, f"n = {len(scores)}")
        colour = LOOK[name]["edgecolor"]
        axes.plot(mu, -0.045, "^", color=colour, transform=across, clip_on=False, zorder=5)
        axes.plot(scores, np.full(len(scores), level), "|", color=colour, markersize=4, transform=across)
    middle = (mu_real + mu_fake) / 2
    axes.axvline(middle, color="black", linestyle="--", linewidth=1, label=f"threshold {middle:+.4f}")
    axes.set_ylim(0, 1.12 * axes.dataLim.y1)
    axes.tick_params(axis="x", pad=6)
    return legend_below(figure)


@styled
def pair_histogram(audit: Audit, title: str = "") -> NotebookFigure:
    """Notebook 44: correlations of the pairs of residuals within each class, and how strong a fingerprint's are."""
    from difcore.audit.findings import PLACED
    from difcore.audit.shared_noise import FINGERPRINT

    figure, axes = chart(4.8, 2.8, title, "correlation of two residuals", "density of pairs")
    everything = np.concatenate([shared.pairs for shared in audit.shared.values()] or [np.zeros(1)])
    edges = np.histogram_bin_edges(everything, 50, tuple(np.quantile(everything, [0.001, 0.999])))
    for name, shared in audit.shared.items():
        class_histogram(axes, name, shared.pairs, edges, f"mean {shared.mean:+.4f}", density=True)
        axes.axvline(shared.mean, color=LOOK[name]["edgecolor"], linewidth=1)
    axes.axvline(FINGERPRINT**2, color="black", linestyle="--", linewidth=1, label="of a published fingerprint")
    axes.axvline(PLACED, color=GREY, linestyle=":", linewidth=1, label="where the mean is suspect")
    axes.set_yticks([])
    return legend_below(figure, 2)


@styled
def mark_histogram(audit: Audit, title: str = "") -> NotebookFigure:
    """Notebook 44: share of wrong bits of the mark StableDiffusionV1 in each image: 0 with it, about .5 without."""
    figure, axes = chart(4.8, 2.6, title, "share of wrong bits", "images")
    for name, marks in audit.marks.items():
        known = marks.errors[np.isfinite(marks.errors)]
        class_histogram(axes, name, known, np.linspace(0, 1, 41), f"{int(marks.marked.sum())} marked")
    axes.axvline(0.5, **CHANCE, label="without a mark")
    axes.set_xlim(0, 1)
    return legend_below(figure, 3)
