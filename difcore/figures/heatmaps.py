"""Matrices as figures: cross-detection, cross-correlation, any values that rows and columns index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from difcore import paper
from difcore.figures.style import FAKE, NotebookFigure, new_figure, readable_on, signed_map, styled


@dataclass(frozen=True)
class MatrixPanel:
    """One matrix (R, C) and how it is drawn; NaN cells stay white and show a dash."""

    matrix: pd.DataFrame
    title: str = ""
    unit: str = ""  # beside the colour bar
    vmin: float | None = None  # ends of the colour scale; None: the data's
    vmax: float | None = None
    diverging: bool = False  # blue and orange at equal distance from the centre, instead of viridis
    centre: float = 0.0
    fmt: str = ".0f"  # of the values written in
    row_title: str = "fingerprint of"
    column_title: str = "images of"
    highlight: tuple[int, int] | None = None  # (row, column) of a cell to frame

    def limits(self) -> tuple[float | None, float | None]:
        """Ends of the colour scale; of a diverging one at equal distance from its centre."""
        if not self.diverging:
            return self.vmin, self.vmax
        known = [v for v in (self.vmin, self.vmax) if v is not None]
        reach = np.nanmax(np.abs(np.asarray(known or self.matrix, float) - self.centre)) or 1.0
        return self.centre - reach, self.centre + reach


def matrix_heatmap(matrix: pd.DataFrame, separators: Sequence[int] = (), **look: Any) -> NotebookFigure:
    """Tab. C, Fig. E and notebooks 04, 17, 19: one matrix, its values written in; ``look`` as in ``MatrixPanel``."""
    return matrix_panels([MatrixPanel(matrix, **{"fmt": ".2f"} | look)], separators)


@styled
def matrix_panels(panels: Sequence[MatrixPanel], separators: Sequence[int] = ()) -> NotebookFigure:
    """Fig. A, F, H, I, J: matrices in twos, a white line before each of the rows and columns ``separators``."""
    largest = max(max(p.matrix.shape) for p in panels)
    inches = (0.5, 0.42, 0.34) if len(panels) == 1 else (0.5, 0.36, 0.29)  # of a cell: legible, on one page
    cell = inches[(largest > 7) + (largest > 13)]
    margin = 0.075 * max(len(spelled(n)) for p in panels for n in (*p.matrix.index, *p.matrix.columns)) + 0.45
    side, across = (max(cell * max(p.matrix.shape[k] for p in panels), 1.6) for k in (0, 1))
    columns, rows = min(2, len(panels)), -(-len(panels) // 2)
    figure = new_figure(columns * (across + margin + 0.8), rows * (side + 0.8 * margin + 0.4))
    for k, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, k + 1)
        drawn = draw_matrix(axes, panel, separators, cell)
        bar: dict[str, Any] = {"fraction": 0.11 / across, "pad": 0.1 / across, "aspect": side / 0.11}
        figure.colorbar(drawn, ax=axes, label=panel.unit, **bar).outline.set_visible(False)  # type: ignore[operator]
    return figure


def spelled(name: str) -> str:
    """About what a label takes on paper: formulas without their mark-up."""
    return paper.label(name).replace("$", "").replace(r"\hat{P}", "P")


def draw_matrix(axes: Axes, panel: MatrixPanel, separators: Sequence[int], cell: float) -> AxesImage:
    """One matrix with values, labels, and white lines between groups; what the colour bar is drawn from."""
    values = panel.matrix.to_numpy(float)
    (vmin, vmax), colours = panel.limits(), signed_map() if panel.diverging else "viridis"
    drawn = axes.imshow(values, cmap=colours, vmin=vmin, vmax=vmax, aspect="auto")
    texts = {at: number(value, panel.fmt) for at, value in np.ndenumerate(values)}
    size = min(8.0, 0.85 * cell * 72 / (0.62 * max(map(len, texts.values()))))
    for (i, j), text in texts.items():
        colour = "black" if text == "–" else readable_on(drawn.to_rgba(values[i, j]))
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set(title=panel.title, xlabel=panel.column_title, ylabel=panel.row_title)
    axes.set_yticks(range(values.shape[0]), [paper.label(n) for n in panel.matrix.index])
    axes.set_xticks(range(values.shape[1]), [paper.label(n) for n in panel.matrix.columns], **slanted)
    axes.tick_params(length=0)
    axes.yaxis.labelpad = 10  # formulas reach farther than their boxes
    axes.spines[:].set_visible(False)
    axes.grid(False)
    for draw, count in zip((axes.axhline, axes.axvline), values.shape, strict=True):
        for k in separators:
            if k < count:
                draw(k - 0.5, color="white", linewidth=2)
    if panel.highlight is not None:
        row, column = panel.highlight
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=FAKE, linewidth=2.5))
    return drawn


def number(value: float, fmt: str) -> str:
    """``value`` as text with a true minus sign and no negative zero; a dash for NaN."""
    text = "–" if np.isnan(value) else format(value, fmt)
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "\N{MINUS SIGN}")
