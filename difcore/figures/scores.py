"""Distributions of scores, and accuracies beside the paper's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from difcore import paper
from difcore.figures.style import FAKE, GREY, PALETTE, REAL, NotebookFigure, new_figure, styled


@styled
def score_histograms(
    scores_real: ArrayLike, scores_fake: ArrayLike, mu_real: float, mu_fake: float, title: str = "", bins: int = 30
) -> NotebookFigure:
    """Correlations of real and generated images, one tick per image, with the two centres and the threshold.

    Parameters
    ----------
    scores_real, scores_fake : array
        rho of every image with one fingerprint.
    mu_real, mu_fake : float
        The two centres; an image belongs to the nearer one, so the threshold is their midpoint.

    Raises
    ------
    ValueError
        If a class is empty.
    """
    real, fake = np.asarray(scores_real, float).ravel(), np.asarray(scores_fake, float).ravel()
    if not len(real) or not len(fake):
        raise ValueError(f"a histogram needs both classes, got {len(real)} real and {len(fake)} generated scores")
    midpoint = (mu_real + mu_fake) / 2
    everything = np.concatenate([real, fake, [mu_real, mu_fake]])
    count = int(np.clip(2 * np.sqrt(min(len(real), len(fake))), 6, bins))
    edges = np.histogram_bin_edges(everything, count)
    figure = new_figure(4.6, 2.7)
    axes = figure.subplots()
    for scores, colour, name, mu in ((real, REAL, "real", mu_real), (fake, FAKE, "generated", mu_fake)):
        hatch = "//" if name == "generated" else None  # the classes differ without colour, too
        look: dict[str, Any] = {
            "facecolor": (colour, 0.35),
            "edgecolor": colour,
            "hatch": hatch,
            "label": f"{name}, n = {len(scores)}",
        }
        axes.hist(scores, list(edges), histtype="stepfilled", linewidth=1.2, **look)
        axes.plot(mu, -0.045, "^", color=colour, transform=axes.get_xaxis_transform(), clip_on=False, zorder=5)
    axes.axvline(midpoint, color="black", linestyle="--", linewidth=1, label=f"threshold {midpoint:+.4f}")
    axes.margins(y=0.1)
    limits = axes.get_ylim()
    for scores, colour, level in ((real, REAL, 0.955), (fake, FAKE, 0.985)):
        axes.plot(
            scores, np.full(len(scores), level), "|", color=colour, markersize=4, transform=axes.get_xaxis_transform()
        )
    axes.set(ylim=limits, xlabel="correlation ρ with the fingerprint (▲ centres)", ylabel="images", title=title)
    axes.tick_params(axis="x", pad=6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def accuracy_comparison(frame: pd.DataFrame, title: str = "", unit: str = "accuracy (%)") -> NotebookFigure:
    """The paper's value (hollow) beside ours (filled, with its interval) for every generator.

    Parameters
    ----------
    frame : DataFrame
        Columns ``generator`` (id or name), ``paper``, ``ours``, ``low``, ``high``, in percent. Where ``ours`` is NaN
        the figure says so.
        Rows are drawn from the top.
    """
    missing = {"generator", "paper", "ours", "low", "high"} - set(frame.columns)
    if missing:
        raise ValueError(f"accuracy_comparison needs the columns {sorted(missing)} too")
    figure = new_figure(5.2, 0.9 + 0.24 * len(frame) + (0.2 if title else 0))
    axes = figure.subplots()
    rows = np.arange(len(frame))
    ours = frame["ours"].to_numpy(float)
    low, high = frame["low"].to_numpy(float), frame["high"].to_numpy(float)
    axes.hlines(rows, low, high, color=PALETTE[0], linewidth=1.6)
    axes.plot(ours, rows, "o", color=PALETTE[0], label="ours, 95 % interval")
    axes.plot(frame["paper"], rows, "D", color=PALETTE[1], markerfacecolor="none", markersize=6, label="paper")
    axes.axvline(50, color=GREY, linewidth=0.8, linestyle=":")
    smallest = np.nanmin([45.0, *low, *frame["paper"].to_numpy(float)])
    axes.set(yticks=rows, yticklabels=[paper.label(g) for g in frame["generator"]], xlabel=unit, title=title)
    axes.set(xlim=(smallest - 2, 102), ylim=(len(frame) - 0.5, -0.5))
    for row in rows[np.isnan(ours)]:
        axes.text(smallest - 1, row, "not measured", color=GREY, fontsize=7, va="center")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
