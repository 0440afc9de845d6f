"""How figures look, and what they share: one style sheet, colours, a figure that notebooks show, PNG bytes."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from skimage.color import lab2rgb, rgb2lab

STYLE: dict[Any, Any] = mpl.rc_params_from_file(Path(__file__).with_name("paper.mplstyle"), use_default_template=False)
styled = mpl.rc_context(STYLE)  # decorator: draw in the project's style and leave the caller's settings alone
PALETTE, MARKERS = (STYLE["axes.prop_cycle"].by_key()[key] for key in ("color", "marker"))
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")
REAL, FAKE, GREY = PALETTE[0], PALETTE[1], "#666666"
CHANCE: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": ":", "zorder": 0}  # look of a line of reference


def signed_map(steps: int = 255) -> ListedColormap:
    """Blue, white, orange for signed data: equal steps are equal steps in CIELAB, equal magnitudes equally dark."""
    t = np.linspace(-1, 1, steps)
    chroma, hue = 48 * np.abs(t), np.deg2rad(np.where(t < 0, 274.0, 58.0))
    return ListedColormap(lab2rgb(np.stack([97 - 50 * np.abs(t), chroma * np.cos(hue), chroma * np.sin(hue)], -1)))


def readable_on(colour: np.ndarray | tuple[float, ...]) -> str:
    """Black or white, whichever can be read on ``colour``, RGB in [0, 1]."""
    return "black" if rgb2lab(np.asarray(colour[:3]))[0] > 52 else "white"


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself and that no global registry holds on to."""

    def _repr_png_(self) -> bytes:
        return png(self)


@styled
def png(figure: Figure, effort: int = 6) -> bytes:
    """``figure`` as PNG bytes; equal figures give equal bytes. ``effort``: of zlib, 1 where someone waits for it."""
    buffer = io.BytesIO()
    layout: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": effort}}
    figure.savefig(buffer, format="png", dpi=figure.dpi, **layout)
    return buffer.getvalue()


def new_figure(width: float, height: float, title: str = "") -> NotebookFigure:
    """An empty figure of so many inches, and room for its title, whose layout keeps every label inside."""
    figure = NotebookFigure(figsize=(width, height + (0.25 if title else 0)))
    figure.suptitle(title)
    return figure


def chart(width: float, height: float, title: str, xlabel: str = "", ylabel: str = "") -> tuple[NotebookFigure, Axes]:
    """A figure and its only axes."""
    figure = new_figure(width, height, title)
    return figure, figure.add_subplot(xlabel=xlabel, ylabel=ylabel)


def legend_below(figure: NotebookFigure, columns: int = 4) -> NotebookFigure:
    """The figure with one legend under all axes, each label once."""
    found = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)
    return figure


def legend_beside(axes: Axes) -> None:
    """A legend to the right of the axes."""
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
