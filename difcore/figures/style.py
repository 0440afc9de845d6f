"""How figures look: one style, a palette that colour-blind readers can use, two colour maps, PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

P = ParamSpec("P")

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure everywhere
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "figure.titlesize": 9.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "text.usetex": False,
}
# Okabe and Ito's palette without its yellow, which white paper swallows.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REAL, FAKE, GREY = PALETTE[0], PALETTE[1], "#666666"
SPECTRUM = "magma"
SEQUENTIAL = "viridis"


def oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in [0, 1] of OKLab colours (..., 3) (Ottosson 2020); values outside the gamut are clipped."""
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def signed_map(steps: int = 255) -> ListedColormap:
    """Diverging map for signed data: blue, near-white, orange; equal steps of the data are equal steps in OKLab.

    Lightness falls on both sides at the same rate, so that equal magnitudes look equally strong in grey as well.
    """
    t = np.linspace(-1, 1, steps)
    chroma, angle = 0.12 * np.abs(t), np.deg2rad(np.where(t < 0, 250.0, 48.0))
    lab = np.stack([0.97 - 0.50 * np.abs(t), chroma * np.cos(angle), chroma * np.sin(angle)], -1)
    return ListedColormap(oklab_to_rgb(lab), name="signed")


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself and that no global registry holds on to."""

    def _repr_png_(self) -> bytes:
        return png(self)


def style() -> AbstractContextManager[None]:
    """Context in which figures of this project are drawn and saved."""
    return mpl.rc_context(STYLE)


def styled(draw: Callable[P, NotebookFigure]) -> Callable[P, NotebookFigure]:
    """Decorator: draw in the project's style and leave the caller's settings alone."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> NotebookFigure:
        with style():
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, pad: float = 0.03, space: float = 0.02) -> NotebookFigure:
    """An empty figure of ``width`` x ``height`` inches whose layout keeps every label inside.

    ``pad`` is the room in inches around each part, ``space`` the further gap between parts as a share of the figure.
    """
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=space, hspace=space)
    return NotebookFigure(figsize=(width, height), layout=layout)


def png(figure: Figure, dpi: float | None = None) -> bytes:
    """``figure`` as PNG bytes; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi or figure.dpi, metadata={"Software": None})
    return buffer.getvalue()


def readable_on(colour: Sequence[float] | np.ndarray) -> str:
    """Black or white, whichever contrasts more with ``colour`` (WCAG relative luminance)."""
    rgb = np.asarray(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"
