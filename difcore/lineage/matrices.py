"""What a square matrix over generators says: its symmetric part, its blocks, whether labels explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr


def square(matrix: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """``matrix`` as float64 (G, G), and where it is off its diagonal; ValueError if it is not square."""
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"expected a square matrix, got {values.shape}")
    return values, ~np.eye(len(values), dtype=bool)


def parts(matrix: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """((M + M') / 2, (M - M') / 2): what two models have in common, and what one finds in the other and not back."""
    values = square(matrix)[0]
    halves = ((values + values.T) / 2, (values - values.T) / 2)
    symmetric, asymmetric = (pd.DataFrame(half, matrix.index, matrix.columns) for half in halves)
    return symmetric, asymmetric


def block_means(matrix: pd.DataFrame, groups: Sequence[str], keep: Sequence[bool] | None = None) -> pd.DataFrame:
    """Mean entry for each pair of groups, the diagonal (a model on its own images) left out; NaN where there is none.

    ``groups``: that of each row and column, "P_A" for "P_A@40". ``keep``: which of them count.
    """
    values, off = square(matrix)
    labels, used = np.asarray(groups), np.ones(len(values), bool) if keep is None else np.asarray(keep, bool)
    order = list(dict.fromkeys(labels[used]))
    found = np.full((len(order), len(order)), np.nan)
    for a, b in np.ndindex(found.shape):
        chosen = np.outer((labels == order[a]) & used, (labels == order[b]) & used) & off
        found[a, b] = values[chosen].mean() if chosen.any() else np.nan
    return pd.DataFrame(found, order, order)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two matrices' entries, the diagonal left out."""
    (x, off), (y, _) = square(a), square(b)
    return float(spearmanr(x[off], y[off]).statistic)


def matrix_permutation(a: ArrayLike, b: ArrayLike, draws: int = 9999, seed: int = 0) -> float:
    """One-sided p-value of ``rank_correlation`` when the rows and columns of ``b`` are renamed at random (Mantel 1967).

    Entries of one row are not independent, so the tables of Spearman's test do not hold for matrices; this does.
    """
    rng, ranks = np.random.default_rng(seed), []
    for values, off in (square(a), square(b)):
        table = np.zeros_like(values)
        table[off] = rankdata(values[off])
        table[off] -= table[off].mean()
        ranks.append(table)
    observed = (ranks[0] * ranks[1]).sum()
    orders = (rng.permutation(len(ranks[1])) for _ in range(draws))
    reached = sum((ranks[0] * ranks[1][np.ix_(order, order)]).sum() >= observed - 1e-6 for order in orders)
    return float(1 + reached) / (1 + draws)


@dataclass(frozen=True)
class GroupTest:
    """Are entries within groups larger than between them?

    ``within``, ``between``: mean entry of pairs of one group, of two. ``p``, one-sided: the share of relabellings that
    reach the difference, the observed one among them; ``p_less``: the same for entries within that are smaller.
    """

    within: float
    between: float
    p: float
    draws: int
    p_less: float


def group_test(matrix: ArrayLike, groups: Sequence[str], draws: int = 9999, seed: int = 0) -> GroupTest:
    """Permutation test of a matrix against its groups: the labels are dealt out anew ``draws`` times.

    The statistic is the mean entry of ordered pairs of one group minus that of pairs of two, the diagonal left out.
    p = (1 + number of relabellings with at least the observed difference) / (1 + draws), uniform if labels mean
    nothing (Phipson and Smyth 2010). ValueError without two groups, one of them of at least two members.
    """
    values, off = square(matrix)
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(codes) != len(values) or codes.max(initial=0) < 1 or np.bincount(codes).max() < 2:
        raise ValueError("a group test needs a label for each row, two groups, and one of at least two members")
    rng = np.random.default_rng(seed)
    dealt = codes[np.stack([np.arange(len(codes)), *(rng.permutation(len(codes)) for _ in range(draws))])]
    total, count = values[off].sum(), int(off.sum())
    same = (dealt[:, :, None] == dealt[:, None, :]) & off
    n_same = int(same[0].sum())  # the same for every relabelling
    sums = np.einsum("kij,ij->k", same, values)
    gaps = sums / n_same - (total - sums) / (count - n_same)
    p = (1 + int((gaps[1:] >= gaps[0] - 1e-12).sum())) / (1 + draws)
    less = (1 + int((gaps[1:] <= gaps[0] + 1e-12).sum())) / (1 + draws)
    return GroupTest(float(sums[0] / n_same), float((total - sums[0]) / (count - n_same)), p, draws, less)
