"""The figures of the cross-detection notebooks: matrices beside each other, in the paper's order.

Tables and matrices of a cross-detection: accuracies and AUC of all pairs, correlations of the fingerprints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import torch

from difcore import paper
from difcore.experiments.cross import Cross
from difcore.experiments.crossing_sources import converged, model_of
from difcore.figures.heatmaps import MatrixPanel, matrix_panels
from difcore.figures.style import NotebookFigure
from difcore.files import NeedsData
from difcore.fingerprints.correlation import ncc
from difcore.lineage.matrices import GroupTest, block_means, group_test, parts
from difcore.stats import as_row, detection
from difcore.widgets.crossing import cross_explorer


def cross_table(cross: Cross) -> pd.DataFrame:
    """A row for each pair: accuracy on the images of ``test`` of the fingerprint and the centres fitted to ``train``.

    Returns
    -------
    DataFrame
        train, test, accuracy and AUC as fractions with their intervals (``difcore.stats.as_row``), n_real, n_fake, seed
    """
    rows = []
    for j, test in enumerate(cross.names):
        for i, (train, threshold) in enumerate(zip(cross.names, cross.thresholds(), strict=True)):
            result = detection(cross.real[j][i].numpy(), cross.fake[j][i].numpy(), threshold)
            rows.append({"train": train, "test": test, **as_row(result), "seed": cross.seed})
    return pd.DataFrame(rows)


def cross_matrix(table: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    """``cross_table`` as a matrix: rows are train sets, columns test sets, in the table's order; fractions."""
    order = list(dict.fromkeys(table["train"]))
    return table.pivot(index="train", columns="test", values=value).loc[order, order]


def correlation_matrix(cross: Cross, method: str) -> pd.DataFrame:
    """rho of all fingerprints of a method ("dif": F_E, "marra18": F_A) with each other, in [-1, 1]."""
    patterns = torch.stack([cross.fingerprints[method][name].pattern for name in cross.names])
    return pd.DataFrame(ncc(patterns, patterns).double().numpy(), list(cross.names), list(cross.names))


def pair_table(matrix: pd.DataFrame, value: str) -> pd.DataFrame:
    """A matrix as rows: a, b and the entry, under the name ``value``."""
    rows = [{"a": a, "b": b, value: matrix.loc[a, b]} for a in matrix.index for b in matrix.columns]
    return pd.DataFrame(rows)


def runs_of(names: Sequence[str]) -> list[str]:
    """The training run of each checkpoint."""
    return [model_of(name) for name in names]


def run_test(matrix: pd.DataFrame, draws: int, seed: int) -> GroupTest:
    """``group_test`` of a matrix of checkpoints by training run.

    Raises
    ------
    NeedsData
        Unless there are two runs, and two checkpoints of one.
    """
    runs = runs_of(list(matrix.index))
    if len(set(runs)) < 2 or len(set(runs)) == len(runs):
        raise NeedsData(f"needs two training runs, and two checkpoints of one, not {', '.join(matrix.index)}")
    return group_test(matrix, runs, draws, seed)


def converged_blocks(matrix: pd.DataFrame) -> pd.DataFrame:
    """Means over the converged checkpoints (epochs 40, 52, 70) for each pair of training runs."""
    names = list(matrix.index)
    return block_means(matrix, runs_of(names), converged(names))


def block_table(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Block means side by side, in the units given: train, test, ours, paper (NaN where it has no such model)."""
    mine, printed = converged_blocks(ours), converged_blocks(theirs)
    printed = printed.reindex(index=mine.index, columns=mine.columns)
    return pair_table(mine, "ours").assign(paper=printed.to_numpy().ravel()).rename(columns={"a": "train", "b": "test"})


def separators(names: Sequence[str]) -> list[int]:
    """Rows before which another training run begins; none where no model has more than one checkpoint."""
    runs = runs_of(names)
    if len(set(runs)) == len(runs):
        return []
    return [k for k in range(1, len(runs)) if runs[k] != runs[k - 1]]


def asymmetry(matrix: pd.DataFrame) -> tuple[float, float]:
    """Mean |M - M'| / 2 among the converged checkpoints of one run, and between runs; NaN where there is no pair."""
    names = list(matrix.index)
    sizes = np.abs(parts(matrix)[1])
    blocks = block_means(sizes, runs_of(names), converged(names)).to_numpy()
    off = blocks[~np.eye(len(blocks), dtype=bool)]
    within = np.diag(blocks)
    return tuple(float(np.nanmean(x)) if np.isfinite(x).any() else np.nan for x in (within, off))  # type: ignore


def score_frame(cross: Cross) -> pd.DataFrame:
    """Every correlation as a row: fingerprint, generator (whose images), label ("real" or "fake"), score."""
    found = []
    for j, generator in enumerate(cross.names):
        for label, rho in (("real", cross.real[j]), ("fake", cross.fake[j])):
            frame = pd.DataFrame(rho.numpy().T, columns=list(cross.names))
            frame = frame.melt(var_name="fingerprint", value_name="score")
            found.append(frame.assign(generator=generator, label=label))
    return pd.concat(found, ignore_index=True)


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


def look_around(cross: Cross, matrix: pd.DataFrame, method: str = "dif") -> ipywidgets.VBox:
    """``cross_explorer`` of a cross-detection; the fingerprints shown are those of ``method`` ("dif" or "marra18")."""
    patterns = {name: f.pattern.numpy() for name, f in cross.fingerprints[method].items()}
    look: dict[str, Any] = {"vmin": 50, "vmax": 100, "unit": "accuracy (%)", "fmt": ".0f"}
    return cross_explorer(matrix, patterns, score_frame(cross), cross.means(), cross.images, **look)
