"""Figures of the audit: how much pairs of residuals share, how many bits of a mark are wrong."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from difcore.audit.findings import PLACED, Audit
from difcore.audit.shared_noise import FINGERPRINT
from difcore.figures.style import FAKE, GREY, REAL, NotebookFigure, new_figure, styled

LOOK = {"real": (REAL, "real", None), "fake": (FAKE, "generated", "//")}


@styled
def pair_histogram(audit: Audit, title: str = "") -> NotebookFigure:
    """Correlations of the pairs of residuals within each class; a fingerprint's strength and the audit's limit."""
    figure = new_figure(4.8, 2.8)
    axes = figure.subplots()
    values = [shared.pairs for shared in audit.shared.values()]
    everything = np.concatenate(values) if values else np.zeros(1)
    edges = np.histogram_bin_edges(everything, 50, tuple(np.quantile(everything, [0.001, 0.999])))
    for name, shared in audit.shared.items():
        colour, label, hatch = LOOK[name]
        axes.hist(shared.pairs, list(edges), density=True, histtype="stepfilled", facecolor=(colour, 0.35),
                  edgecolor=colour, hatch=hatch, label=f"{label}, mean {shared.mean:+.4f}")  # fmt: skip
        axes.axvline(shared.mean, color=colour, linewidth=1)
    axes.axvline(FINGERPRINT**2, color="black", linestyle="--", linewidth=1, label="of a published fingerprint")
    axes.axvline(PLACED, color=GREY, linestyle=":", linewidth=1, label="where the mean is suspect")
    axes.set(xlabel="correlation of two residuals", ylabel="density of pairs", title=title, yticks=[])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def mark_histogram(audit: Audit, title: str = "") -> NotebookFigure:
    """Share of wrong bits of the mark StableDiffusionV1 in each image: 0 with the mark, about .5 without."""
    figure = new_figure(4.8, 2.6)
    axes = figure.subplots()
    for name, marks in audit.marks.items():
        colour, label, hatch = LOOK[name]
        known = marks.errors[np.isfinite(marks.errors)]
        axes.hist(known, list(np.linspace(0, 1, 41)), histtype="stepfilled", facecolor=(colour, 0.35),
                  edgecolor=colour, hatch=hatch, label=f"{label}, {int(marks.marked.sum())} marked")  # fmt: skip
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1, label="without a mark")
    axes.set(xlabel="share of wrong bits", ylabel="images", title=title, xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
