"""Several matrices over the same models beside each other, as the paper sets Figs. H and I.

Matrices as figures: cross-detection, cross-correlation, any values that rows and columns index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from difcore import paper
from difcore.figures.style import FAKE, SEQUENTIAL, NotebookFigure, new_figure, readable_on, signed_map, styled


@styled
def matrix_heatmap(
    matrix: ArrayLike | pd.DataFrame,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    unit: str = "",
    vmin: float | None = None,
    vmax: float | None = None,
    annotate: bool = True,
    diverging: bool = False,
    title: str = "",
    intervals: ArrayLike | None = None,
    fmt: str = ".2f",
    centre: float = 0.0,
    separators: Sequence[int] = (),
    row_title: str = "fingerprint",
    column_title: str = "test images",
    highlight: tuple[int, int] | None = None,
) -> NotebookFigure:
    """A matrix with its values written in, legible from 2 x 2 to 20 x 20.

    Parameters
    ----------
    matrix : array (R, C) or DataFrame
        NaN cells stay white and show a dash. A DataFrame's own index and columns are the default labels.
    unit : str
        Label of the colour bar.
    vmin, vmax : float or None
        Ends of the colour scale; None takes the data's. With ``diverging`` the scale is symmetric about ``centre``.
    intervals : array (R, C, 2) or None
        Low and high end, written below each value.
    separators : sequence of int
        Rows and columns before which a white line is drawn (families, models).
    highlight : (row, column) or None
        A cell to frame.

    Raises
    ------
    ValueError
        If the labels or intervals do not fit the matrix.
    """
    if isinstance(matrix, pd.DataFrame):
        row_labels = list(map(str, matrix.index)) if row_labels is None else row_labels
        column_labels = list(map(str, matrix.columns)) if column_labels is None else column_labels
    values = np.asarray(matrix, float)
    row_labels, column_labels = list(row_labels or []), list(column_labels or [])
    if values.shape != (len(row_labels), len(column_labels)):
        raise ValueError(f"{len(row_labels)} row and {len(column_labels)} column labels for a matrix of {values.shape}")
    bounds = None if intervals is None else np.asarray(intervals, float)
    if bounds is not None and bounds.shape != (*values.shape, 2):
        raise ValueError(f"intervals of shape {bounds.shape} for a matrix of {values.shape}; expected (R, C, 2)")
    cell = cell_inches(values.shape, bounds is not None)
    margin = 0.085 * max(len(paper.label(n)) for n in [*row_labels, ""]) + 0.35  # inches for the row labels
    figure = new_figure(cell * values.shape[1] + margin + 0.95, cell * values.shape[0] + 0.75 * margin + 0.35)
    axes = figure.subplots()
    if diverging:
        vmin, vmax = symmetric_limits(values, vmin, vmax, centre)
    drawn = axes.imshow(values, cmap=signed_map() if diverging else SEQUENTIAL, vmin=vmin, vmax=vmax, aspect="auto")
    if annotate:
        texts = {
            (i, j): cell_text(v, None if bounds is None else bounds[i, j], fmt) for (i, j), v in np.ndenumerate(values)
        }
        longest = max(len(line) for text in texts.values() for line in text.split("\n"))
        size = min(8.0, 0.86 * cell * 72 / (0.62 * longest))
        for (i, j), text in texts.items():
            value = values[i, j]
            colour = "black" if np.isnan(value) else readable_on(drawn.to_rgba(value))
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size, linespacing=1.3)
    axes.set(
        title=title,
        xlabel=column_title,
        ylabel=row_title,
        yticks=range(len(row_labels)),
        xticks=range(len(column_labels)),
    )
    axes.set_yticklabels([paper.label(n) for n in row_labels])
    axes.set_xticklabels([paper.label(n) for n in column_labels], rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for k in separators:
        if k < len(row_labels):
            axes.axhline(k - 0.5, color="white", linewidth=2)
        if k < len(column_labels):
            axes.axvline(k - 0.5, color="white", linewidth=2)
    if highlight is not None:
        axes.add_patch(
            Rectangle((highlight[1] - 0.5, highlight[0] - 0.5), 1, 1, fill=False, edgecolor=FAKE, linewidth=2.5)
        )
    thickness, (height, width) = 0.12, (cell * n for n in values.shape)  # inches
    bar = figure.colorbar(
        drawn, ax=axes, fraction=thickness / width, pad=0.1 / width, aspect=height / thickness, label=unit
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def cell_inches(shape: tuple[int, ...], with_intervals: bool) -> float:
    """Side of a cell: small enough for a page, large enough for what is written in it."""
    if with_intervals:
        return 0.68
    return 0.5 if max(shape) <= 8 else 0.42 if max(shape) <= 14 else 0.34


def symmetric_limits(values: np.ndarray, vmin: float | None, vmax: float | None, centre: float) -> tuple[float, float]:
    """Colour limits at equal distance from ``centre`` that reach the given ends, or else the data's."""
    ends = [v for v in (vmin, vmax) if v is not None] or [v for v in values.ravel() if not np.isnan(v)]
    reach = max((abs(v - centre) for v in ends), default=0.0) or 1.0
    return centre - reach, centre + reach


def cell_text(value: float, bounds: np.ndarray | None, fmt: str) -> str:
    """What one cell of a matrix says: its value and, on a second line, its interval."""
    if np.isnan(value):
        return "–"
    if bounds is None or np.isnan(bounds).any():
        return number(value, fmt)
    return f"{number(value, fmt)}\n{number(bounds[0], fmt)} to {number(bounds[1], fmt)}"


def number(value: float, fmt: str) -> str:
    """``value`` as text with a true minus sign and no negative zero."""
    text = format(value, fmt)
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


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
