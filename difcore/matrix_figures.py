"""Several matrices over the same models beside each other, as the paper sets Figs. H and I."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from difcore import paper
from difcore.heatmap import cell_text, symmetric_limits
from difcore.style import SEQUENTIAL, NotebookFigure, new_figure, readable_on, signed_map, styled


@dataclass(frozen=True)
class MatrixPanel:
    """One matrix and how it is drawn.

    Attributes
    ----------
    matrix : DataFrame (R, C)
        NaN cells show a dash.
    title, unit : str
        Above it; beside its colour bar.
    vmin, vmax : float or None
        Ends of the colour scale; None: the data's.
    diverging : bool
        Blue and orange, ``centre`` in the middle, instead of viridis.
    centre : float
    fmt : str
        Of the values written in; empty: none are.
    row_title, column_title : str
    """

    matrix: pd.DataFrame
    title: str = ""
    unit: str = ""
    vmin: float | None = None
    vmax: float | None = None
    diverging: bool = False
    centre: float = 0.0
    fmt: str = ".0f"
    row_title: str = "fingerprint of"
    column_title: str = "images of"


@styled
def matrix_panels(
    panels: Sequence[MatrixPanel], separators: Sequence[int] = (), columns: int = 2, title: str = ""
) -> NotebookFigure:
    """Matrices side by side, each with its own colour bar, values written in, legible up to 20 x 20.

    Parameters
    ----------
    separators : sequence of int
        Rows and columns before which a white line is drawn.

    Raises
    ------
    ValueError
        If there is no panel.
    """
    if not panels:
        raise ValueError("no matrix to draw")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    largest = max(max(p.matrix.shape) for p in panels)
    cell = 0.29 if largest > 12 else 0.36 if largest > 6 else 0.5
    names = [str(n) for p in panels for n in (*p.matrix.index, *p.matrix.columns)]
    margin = 0.07 * max(len(shown(n)) for n in names) + 0.4  # inches for the labels
    side, across = (max(cell * max(p.matrix.shape[k] for p in panels), 1.6) for k in (0, 1))
    width, height = columns * (across + margin + 0.75), rows * (side + margin + 0.35)
    figure = new_figure(width, height + (0.3 if title else 0), pad=0.05)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        drawn = draw_matrix(axes, panel, separators, cell)
        thickness = 0.11  # inches
        bar = figure.colorbar(
            drawn, ax=axes, fraction=thickness / across, pad=0.1 / across, aspect=side / thickness, label=panel.unit
        )
        bar.outline.set_visible(False)  # type: ignore[operator]
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure


def shown(name: str) -> str:
    """About what a label takes on paper: formulas without their mark-up."""
    text = paper.label(name)
    return text.replace("$", "").replace("\\hat{P}", "P") if "$" in text else text


def draw_matrix(axes: Axes, panel: MatrixPanel, separators: Sequence[int], cell: float) -> AxesImage:
    """One matrix with values, labels, and white lines between groups; what the colour bar is drawn from."""
    values = panel.matrix.to_numpy(float)
    vmin, vmax = panel.vmin, panel.vmax
    if panel.diverging:
        vmin, vmax = symmetric_limits(values, vmin, vmax, panel.centre)
    colours = signed_map() if panel.diverging else SEQUENTIAL
    drawn = axes.imshow(values, cmap=colours, vmin=vmin, vmax=vmax, aspect="auto")
    axes.set_box_aspect(values.shape[0] / values.shape[1])
    if panel.fmt:
        texts = {at: cell_text(v, None, panel.fmt) for at, v in np.ndenumerate(values)}
        size = min(8.0, 0.84 * cell * 72 / (0.62 * max(map(len, texts.values()))))
        for (i, j), text in texts.items():
            value = values[i, j]
            colour = "black" if np.isnan(value) else readable_on(drawn.to_rgba(value))
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    axes.set(title=panel.title, xlabel=panel.column_title, ylabel=panel.row_title)
    axes.set_yticks(range(values.shape[0]), [paper.label(n) for n in panel.matrix.index])
    axes.set_xticks(range(values.shape[1]), [paper.label(n) for n in panel.matrix.columns])
    for tick in axes.get_xticklabels():
        tick.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.yaxis.labelpad = 10  # formulas reach farther than their boxes
    axes.spines[:].set_visible(False)
    for k in separators:
        if k < values.shape[0]:
            axes.axhline(k - 0.5, color="white", linewidth=2)
        if k < values.shape[1]:
            axes.axvline(k - 0.5, color="white", linewidth=2)
    return drawn
