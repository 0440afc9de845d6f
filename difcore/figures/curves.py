"""Line charts: training against agreement, losses, ROC curves, radial spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from difcore import paper
from difcore.figures.spectra import radial_power
from difcore.figures.style import GREY, MARKERS, PALETTE, NotebookFigure, new_figure, styled


@styled
def training_agreement(frame: pd.DataFrame, title: str = "") -> NotebookFigure:
    """Agreement with the published fingerprints (top) and denoising quality (bottom) against training steps.

    Parameters
    ----------
    frame : DataFrame
        Tidy, one value per row: ``denoiser`` (a column of panels each), ``step``, ``quantity`` ("auc" or "psnr"),
        ``series`` (a generator for AUC, a noise level such as "σ = 10" for PSNR), ``value`` (0 to 1, or dB).
    """
    missing = {"denoiser", "step", "quantity", "series", "value"} - set(frame.columns)
    if missing:
        raise ValueError(f"training_agreement needs the columns {sorted(missing)} too")
    denoisers = list(dict.fromkeys(frame["denoiser"]))
    figure = new_figure(2.9 * len(denoisers) + 1.4, 4.6)
    grid = figure.subplots(2, len(denoisers), sharex="col", sharey="row", squeeze=False)
    rows = (("auc", "AUC of the published fingerprint"), ("psnr", "PSNR (dB)"))
    for axes_row, (quantity, unit) in zip(grid, rows, strict=True):
        part = frame[frame["quantity"] == quantity]
        series = list(dict.fromkeys(part["series"]))
        series = paper.paper_order(series) if quantity == "auc" else series
        for axes, denoiser in zip(axes_row, denoisers, strict=True):
            for k, name in enumerate(series):
                line = part[(part["denoiser"] == denoiser) & (part["series"] == name)].sort_values("step")
                look = {"color": PALETTE[k % len(PALETTE)], "marker": MARKERS[k % len(MARKERS)]}
                axes.plot(line["step"], line["value"], label=paper.label(name), **look)
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis)
            axes.grid()
        if quantity == "auc":
            for axes in axes_row:
                axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes_row[0].set_ylabel(unit)
        axes_row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    for axes, denoiser in zip(grid[0], denoisers, strict=True):
        axes.set_title(f"denoiser: {denoiser}")
    for axes in grid[1]:
        axes.set_xlabel("training step")
    if title:
        figure.suptitle(title)
    return figure


@styled
def limit_curves(frame: pd.DataFrame, chosen: float, title: str = "") -> NotebookFigure:
    """AUC against the limit of the residuals; infinite limits ("none") stand at the right, ``chosen`` is shaded.

    Series that are no generator are dashed black.

    Parameters
    ----------
    frame : DataFrame
        ``limit`` (in root mean squares of the image's residual), ``series`` (a generator, or any text), ``value``.
    """
    missing = {"limit", "series", "value"} - set(frame.columns)
    if missing:
        raise ValueError(f"limit_curves needs the columns {sorted(missing)} too")
    limits = np.sort(frame["limit"].unique())
    figure = new_figure(6.2, 3.0)
    axes = figure.subplots()
    names = list(dict.fromkeys(frame["series"]))
    summaries = [name for name in names if name not in paper.GENERATORS]
    for k, name in enumerate(names):
        line = frame[frame["series"] == name].sort_values("limit")
        look: dict[str, Any] = {"color": PALETTE[k % (len(PALETTE) - 1)], "marker": MARKERS[k % len(MARKERS)]}
        if name in summaries:  # black, for no generator is
            look = {"color": PALETTE[-1], "marker": "X*"[summaries.index(name) % 2], "linestyle": "--"}
        axes.plot(np.searchsorted(limits, line["limit"]), line["value"], label=paper.label(name), **look)
    axes.axvline(float(np.searchsorted(limits, chosen)), color=GREY, linewidth=3, alpha=0.25)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(limits)), [f"{x:g}" if np.isfinite(x) else "none" for x in limits])
    axes.set(xlabel="limit of the residual (root mean squares)", ylabel="AUC", title=title)
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


@styled
def loss_curve(
    losses: Sequence[float] | Mapping[str, Sequence[float]], title: str = "", unit: str = "loss", window: int = 50
) -> NotebookFigure:
    """Loss by step: every value faint, the mean over the last ``window`` steps strong.

    Logarithmic if all are positive and span a decade.
    """
    curves = losses if isinstance(losses, Mapping) else {"": losses}
    figure = new_figure(4.6, 2.5)
    axes = figure.subplots()
    for k, (name, values) in enumerate(curves.items()):
        loss = pd.Series(np.asarray(values, float), index=np.arange(1, len(values) + 1))
        colour = PALETTE[k % len(PALETTE)]
        axes.plot(loss.index, loss, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(loss.index, loss.rolling(window, min_periods=1).mean(), color=colour, label=name)
    lowest, highest = (pick(pick(values) for values in curves.values()) for pick in (min, max))
    decade = 0 < 10 * lowest <= highest
    axes.set(yscale="log" if decade else "linear", xlabel="step", ylabel=unit, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if decade:
        plain_log_ticks(axes.yaxis)
    axes.grid()
    if isinstance(losses, Mapping):
        axes.legend()
    return figure


@styled
def roc_curve_plot(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str = "") -> NotebookFigure:
    """ROC curves with their areas.

    Parameters
    ----------
    curves : mapping of name to (scores of reals, scores of fakes)
        Higher means generated.
    """
    figure = new_figure(4.9, 3.1)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for k, (name, (real, fake)) in enumerate(curves.items()):
        false, true = roc_points(real, fake)
        area = float(np.trapezoid(true, false))
        dashes = ("-", "--", "-.", ":")[(k // len(PALETTE)) % 4]
        text = f"{paper.label(name)}, AUC {area:.3f}"
        axes.plot(false, true, dashes, color=PALETTE[k % len(PALETTE)], label=text, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="reals called generated", ylabel="fakes called generated", title=title)
    axes.set_aspect("equal")
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def roc_points(real: ArrayLike, fake: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); equal scores move together."""
    real, fake = np.sort(np.ravel(real)), np.sort(np.ravel(fake))
    thresholds = np.unique(np.concatenate([real, fake]))[::-1]
    false = 1 - np.searchsorted(real, thresholds, side="left") / len(real)
    true = 1 - np.searchsorted(fake, thresholds, side="left") / len(fake)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


@styled
def radial_spectrum(patterns: ArrayLike | Mapping[str, ArrayLike], title: str = "", bins: int = 128) -> NotebookFigure:
    """Power against spatial frequency, averaged over rings, one strip per pattern; grid periods 8, 4, 2 px marked.

    Parameters
    ----------
    patterns : array (3, H, W), or mapping of name to such arrays
    """
    named = patterns if isinstance(patterns, Mapping) else {"": patterns}
    names = paper.paper_order(list(named))
    figure = new_figure(5.6, 0.9 + max(1.6, 0.58 * len(names)))
    column = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name in zip(column, names, strict=True):
        axes.semilogy(*radial_power(named[name], bins), color=PALETTE[0], linewidth=1)
        axes.text(1.01, 0.5, paper.label(name), transform=axes.transAxes, va="center")
        mark_periods(axes, named=axes is column[0])
        axes.tick_params(labelsize=6.5)
        axes.minorticks_off()
    column[0].set_title(title)
    column[-1].set(xlim=(0, 0.5**0.5), xlabel="spatial frequency (cycles/px)")
    figure.supylabel("power", fontsize=8)
    return figure


def mark_periods(axes: Axes, periods: Sequence[int] = (8, 4, 2), named: bool = True) -> None:
    """Thin lines at the frequencies of grids with these periods in px, ``named`` at the top."""
    for period in periods:
        axes.axvline(1 / period, color=GREY, linewidth=0.7, linestyle=":", zorder=0)
        if not named:
            continue
        axes.annotate(
            f"{period} px",
            (1 / period, 1),
            xytext=(2, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=6.5,
            color=GREY,
        )
