"""Controls over cross-detection: a cell of the matrix, and all that is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from difcore import figures, paper
from difcore.widgets.controls import Means, cell_histogram, choice, explorer, plain, show

Pairs = Mapping[str, tuple[np.ndarray, np.ndarray]]


def cross_explorer(
    matrix: pd.DataFrame,
    patterns: Mapping[str, ArrayLike],
    scores: pd.DataFrame,
    means: Means,
    images: Pairs,
    scale: float = 100.0,
    **heatmap: Any,
) -> ipywidgets.VBox:
    """Choose a cell; see it framed, both fingerprints, both histograms (i on j and j on i), and images of both models.

    Parameters
    ----------
    matrix : DataFrame
        Rows are fingerprints, columns test sets.
    patterns : mapping of name to array (3, H, W)
    scores, means
        As ``difcore.widgets.controls.score_explorer`` takes them.
    images : mapping of name to (reals, fakes), uint8 (n, H, W, 3) each
    scale : float
        Factor of the values shown: 100 for percent.
    **heatmap
        Passed on to ``matrix_heatmap``.
    """
    names = list(map(str, matrix.index))
    row, column = choice("Fingerprint of", names, names[0]), choice("Images of", names, names[min(1, len(names) - 1)])
    parts = [ipywidgets.Output() for _ in range(5)]
    chart, pair, there, back, pictures = parts
    verdict = ipywidgets.HTML()

    def redraw() -> None:
        i, j = row.value, column.value
        text = f"{plain(i)} on {plain(j)}: {scale * matrix.loc[i, j]:.1f}; back: {scale * matrix.loc[j, i]:.1f}"
        cell = names.index(i), names.index(j)
        show(chart, figures.matrix_heatmap(scale * matrix, highlight=cell, **heatmap), text)
        show(pair, figures.pattern_pair(patterns[i], patterns[j], (i, j)))
        found = [cell_histogram(scores, means, a, b) for a, b in dict.fromkeys([(i, j), (j, i)])]
        show(there, found[0][0], found[0][1])
        show(back, found[-1][0] if len(found) > 1 else None, found[-1][1])
        rows = [(f"{paper.label(i)}, fake", images[i][1]), (f"{paper.label(j)}, fake", images[j][1]),
                (f"{paper.label(j)}, real", images[j][0])]  # fmt: skip
        flat = [(image, title) for title, stack in rows for image in stack]
        columns = len(images[i][1])
        show(pictures, figures.image_grid([x for x, _ in flat], [t for _, t in flat], columns=columns))
        verdict.value = escape(f"{text}. {' '.join(sentence for _, sentence in found)}")

    caption = (
        "The framed cell is the chosen one. Below: both fingerprints, the scores behind the cell and behind the one "
        "across the diagonal, images of the row's model and of the column's."
    )
    return explorer([row, column], redraw, [verdict, chart, pair, there, back, pictures], caption)
