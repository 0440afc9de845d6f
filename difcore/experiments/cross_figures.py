"""The figures of the cross-detection notebooks: matrices beside each other, in the paper's order."""

from __future__ import annotations

from typing import Any

import pandas as pd

from difcore import paper
from difcore.experiments.cross_tables import converged_blocks, separators
from difcore.matrices import parts
from difcore.matrix_figures import MatrixPanel, matrix_panels
from difcore.style import NotebookFigure

ACCURACY: dict[str, Any] = {"unit": "accuracy (%)", "vmin": 50, "vmax": 100}


def halves_figure(matrix: pd.DataFrame, whole: bool = True) -> NotebookFigure:
    """Cross-detection (or, with ``whole`` False, its symmetric part) beside the asymmetric part; fractions in."""
    symmetric, asymmetric = parts(100 * matrix)
    first = MatrixPanel(100 * matrix, "M, cross-detection", **ACCURACY)
    if not whole:
        first = MatrixPanel(symmetric, "(M + M′) / 2", **ACCURACY)
    second = MatrixPanel(asymmetric, "(M − M′) / 2", "points", diverging=True)
    return matrix_panels([first, second], separators(list(matrix.index)))


def beside_the_paper(matrix: pd.DataFrame, label: str) -> NotebookFigure:
    """Our Fig. H beside the paper's; fractions in."""
    pair = [MatrixPanel(100 * matrix, f"ours ({label})", **ACCURACY), MatrixPanel(paper.fig_h(), "paper", **ACCURACY)]
    return matrix_panels(pair, separators(list(matrix.index)))


def blocks_beside_the_paper(matrix: pd.DataFrame) -> NotebookFigure:
    """Means over the converged checkpoints for each pair of models, ours beside the paper's; fractions in."""
    titles = {"ours, epochs 40, 52, 70": 100 * matrix, "paper, epochs 40, 52, 70": paper.fig_h()}
    return matrix_panels([MatrixPanel(converged_blocks(m), t, fmt=".1f", **ACCURACY) for t, m in titles.items()])


def beside_fig_h(matrix: pd.DataFrame, correlation: pd.DataFrame, title: str) -> NotebookFigure:
    """Cross-detection (fractions in) beside correlations of fingerprints, which the values give in hundredths."""
    panels = [
        MatrixPanel(100 * matrix, "Fig. H: cross-detection", **ACCURACY),
        MatrixPanel(100 * correlation, title, "100 ρ", vmin=-100, vmax=100, diverging=True, column_title="of"),
    ]
    return matrix_panels(panels, separators(list(matrix.index)))
