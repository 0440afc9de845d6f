"""Figs. A, F, H, I and J: every model's fingerprint on every model's images, and fingerprints with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from difcore import paper
from difcore.experiments.claiming import decide, judge_above, percent
from difcore.experiments.cross_fits import Cross, converged, runs_of
from difcore.experiments.cross_scores import pair_table
from difcore.figures.heatmaps import MatrixPanel, matrix_panels
from difcore.figures.style import NotebookFigure
from difcore.files import NeedsData
from difcore.lineage.matrices import (
    GroupTest,
    block_means,
    group_test,
    matrix_permutation,
    parts,
    rank_correlation,
)
from difcore.records.claims import Claim
from difcore.stats import SURE, Estimate, jackknife, t_estimate, two_sided
from difcore.widgets import matrix_explorer

DIAGONAL = 0.97  # "approximately 99": what the demo is asked for
UNRELATED = 0.65  # mean accuracy up to which cross-detection counts as low; the paper's Fig. H has 62 between models
DETECTED = 0.75  # accuracy both ways from which on two checkpoints count as one cluster of Fig. H
CLUSTER = 0.5  # F_A correlation above which the paper speaks of a cluster (Fig. I, caption)
ACCURACY: dict[str, Any] = {"unit": "accuracy (%)", "vmin": 50, "vmax": 100}


def run_test(matrix: pd.DataFrame, draws: int, seed: int) -> GroupTest:
    """``group_test`` of a matrix of checkpoints by training run; NeedsData without two runs and two of one."""
    names = list(matrix.index)
    try:
        return group_test(matrix, runs_of(names), draws, seed)
    except ValueError as error:
        line = f"needs two training runs, and two checkpoints of one, not {', '.join(names)}"
        raise NeedsData(line) from error


def late_test(matrix: pd.DataFrame, draws: int, seed: int) -> GroupTest | None:
    """``run_test`` of the converged checkpoints alone; None if they are too few."""
    late = converged(list(matrix.index))
    with suppress(NeedsData):
        return run_test(matrix.loc[late, late], draws, seed)
    return None


def tests_frame(tests: Mapping[str, GroupTest | None]) -> pd.DataFrame:
    """Those tests that there are, a row each, under the name of their matrix."""
    return pd.DataFrame([{"matrix": name, **vars(found)} for name, found in tests.items() if found])


def converged_blocks(matrix: pd.DataFrame) -> pd.DataFrame:
    """Means over the converged checkpoints (epochs 40, 52, 70) for each pair of training runs."""
    names = list(matrix.index)
    return block_means(matrix, runs_of(names), converged(names))


def block_table(matrix: pd.DataFrame) -> pd.DataFrame:
    """Block means in percent beside those of Fig. H: train, test, ours, paper (NaN where it has no such model)."""
    mine, printed = converged_blocks(100 * matrix), converged_blocks(paper.fig_h())
    printed = printed.reindex(index=mine.index, columns=mine.columns)
    return pair_table(mine, "ours").assign(paper=printed.to_numpy().ravel()).rename(columns={"a": "train", "b": "test"})


def asymmetry(matrix: pd.DataFrame) -> tuple[float, float]:
    """Mean |M - M'| / 2 among the converged checkpoints of one run, and between runs; NaN where there is no pair."""
    blocks = converged_blocks(parts(matrix)[1].abs()).to_numpy()
    ends = np.diag(blocks), blocks[~np.eye(len(blocks), dtype=bool)]
    within, between = (float(np.nanmean(x)) if np.isfinite(x).any() else np.nan for x in ends)
    return within, between


# Figures


def separators(names: Sequence[str]) -> list[int]:
    """Rows before which another training run begins; none where no model has more than one checkpoint."""
    runs = runs_of(names)
    return [k for k in range(1, len(runs)) if runs[k] != runs[k - 1]] if len(set(runs)) < len(runs) else []


def beside(matrix: pd.DataFrame, title: str, other: MatrixPanel) -> NotebookFigure:
    """Accuracies in percent beside another matrix."""
    return matrix_panels([MatrixPanel(matrix, title, **ACCURACY), other], separators(list(matrix.index)))


def halves_figure(matrix: pd.DataFrame, whole: bool = True) -> NotebookFigure:
    """Cross-detection (or, with ``whole`` False, its symmetric part) beside the asymmetric part."""
    symmetric, asymmetric = parts(100 * matrix)
    second = MatrixPanel(asymmetric, "(M − M′) / 2", "points", diverging=True)
    return beside(100 * matrix, "M, cross-detection", second) if whole else beside(symmetric, "(M + M′) / 2", second)


def beside_the_paper(matrix: pd.DataFrame, label: str) -> NotebookFigure:
    """Our Fig. H beside the paper's."""
    return beside(100 * matrix, f"ours ({label})", MatrixPanel(paper.fig_h(), "paper", **ACCURACY))


def blocks_beside_the_paper(matrix: pd.DataFrame) -> NotebookFigure:
    """Means over the converged checkpoints for each pair of models, ours beside the paper's."""
    titles = {"ours, epochs 40, 52, 70": 100 * matrix, "paper, epochs 40, 52, 70": paper.fig_h()}
    return matrix_panels([MatrixPanel(converged_blocks(m), t, fmt=".1f", **ACCURACY) for t, m in titles.items()])


def beside_fig_h(matrix: pd.DataFrame, correlation: pd.DataFrame, title: str) -> NotebookFigure:
    """Cross-detection beside correlations of fingerprints, which the values give in hundredths."""
    look: dict[str, Any] = {"vmin": -100, "vmax": 100, "diverging": True, "column_title": "of"}
    return beside(100 * matrix, "Fig. H: cross-detection", MatrixPanel(100 * correlation, title, "100 ρ", **look))


def look_around(models: Cross, averages: bool = False) -> ipywidgets.VBox:
    """``matrix_explorer`` of a cross-detection; the fingerprints shown are F_E, or F_A."""
    patterns = {n: f.pattern.numpy() for n, f in (models.averages if averages else models.fingerprints).items()}
    return matrix_explorer(
        100 * models.matrix, patterns, models.frame(), models.centres(), models.images, fmt=".0f", **ACCURACY
    )


# Claims


def by_model(matrix: pd.DataFrame, statistic: Callable[[np.ndarray], float]) -> Estimate:
    """A statistic of a square matrix, with its interval over training runs: checkpoints of one are one sample."""
    runs, values = runs_of(list(matrix.index)), matrix.to_numpy()
    return jackknife(lambda kept: statistic(values[np.ix_(kept, kept)]), runs, f"{len(set(runs))} trainings")


def with_interval(found: Estimate) -> str:
    """A fraction as percent, with its interval if there is one."""
    low, high = np.clip(found.interval, 0, 1)
    return percent(found.value) if np.isnan(low) else f"{percent(found.value, low, high)} over {found.basis}"


def off_diagonal(values: np.ndarray) -> np.ndarray:
    """Entries of pairs of two models."""
    return values[~np.eye(len(values), dtype=bool)]


def diagonal_claim(matrix: pd.DataFrame, data: str) -> Claim:
    """Every fingerprint detects its own model."""
    own = np.diag(matrix.to_numpy())
    found = by_model(matrix, lambda values: float(np.diag(values).mean()))
    return judge_above(
        f"Each fingerprint detects its own model: mean of the diagonal above {percent(DIAGONAL)} (on {data})",
        f"{np.diag(paper.fig_h()).mean():.1f} % (Fig. H)",
        f"{with_interval(found)}, lowest {percent(own.min())}",
        found,
        DIAGONAL,
        f"lowest: {matrix.index[int(own.argmin())]}",
    )


def separate_claims(matrix: pd.DataFrame, figure: str, data: str) -> list[Claim]:
    """Of Figs. A and F: models that were trained separately do not detect each other."""
    pair = matrix.where(~np.eye(len(matrix), dtype=bool)).stack().idxmax()
    found = by_model(matrix, lambda values: float(off_diagonal(values).mean()))
    return [
        diagonal_claim(matrix, data),
        decide(
            f"Cross-detection between separately trained models is low: below {percent(UNRELATED)} on average "
            f"(on {data})",
            f"low for all the models ({figure})",
            f"mean {with_interval(found)}, highest {percent(matrix.loc[pair])} ({pair[0]} on {pair[1]})",
            found.value < UNRELATED,
            found.p(UNRELATED),
            "they share what sets them all apart from real images",
            found.basis,
        ),
    ]


def labels_claim(text: str, told: str, ours: str, test: GroupTest | None, otherwise: str, more: bool = True) -> Claim:
    """A claim that entries within a group are larger than between groups, by relabelling; if ``more`` is so, too."""
    if test is None:
        return Claim(text, told, ours, "not comparable", "too few models for a test")
    holds = test.p < test.p_less and more
    return decide(text, told, ours, holds, two_sided(test.p, test.p_less), otherwise, f"{test.draws} relabellings")


def block_ends(blocks: pd.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """Block means of a model with itself, and of pairs of models, those that there are."""
    entries = {(a, b): v for a, row in blocks.iterrows() for b, v in row.items() if not np.isnan(v)}
    own = {str(a): v for (a, b), v in entries.items() if a == b}
    return own, {f"{a} on {b}": v for (a, b), v in entries.items() if a != b}


def listed(values: Mapping[str, float]) -> str:
    """ "P_A 91.2 %, P_B 95.0 %" """
    return ", ".join(f"{name} {percent(value)}" for name, value in values.items()) or "none"


def checkpoint_claims(matrix: pd.DataFrame, data: str, draws: int = 9999, seed: int = 0) -> list[Claim]:
    """Of Fig. H: converged checkpoints of one model detect each other, symmetrically; other models do not."""
    printed = paper.fig_h() / 100
    ends = [block_ends(converged_blocks(m)) for m in (printed, matrix)]
    own, between = ends[1]
    apart = bool(own and between and min(own.values()) > max(between.values()))
    their_blocks, blocks = (
        f"{listed(own)}; between models at most {percent(max(between.values(), default=np.nan))}"
        for own, between in ends
    )
    their_halves, halves = (
        f"{100 * within:.1f} points within, {100 * between:.1f} between models"
        for within, between in map(asymmetry, (printed, matrix))
    )
    claims = [
        diagonal_claim(matrix, data),
        labels_claim(
            "Converged checkpoints (epochs 40, 52, 70) of one model detect each other: each such block's mean is "
            f"above every block's between models (on {data})",
            their_blocks,
            blocks,
            late_test(matrix, draws, seed),
            "blocks overlap",
            apart,
        ),
        labels_claim(
            "Converged checkpoints of one model detect each other symmetrically, different models do not: "
            f"mean |M - M'| / 2 (on {data})",
            their_halves,
            halves,
            late_test(-parts(matrix)[1].abs(), draws, seed),
            "less symmetric within a model",
        ),
    ]
    shared = [name for name in matrix.index if name in printed.index]
    if len(shared) > 2:
        a, b = (m.loc[shared, shared].to_numpy() for m in (matrix, printed))
        rho, p, less = rank_correlation(a, b), *(matrix_permutation(a, m, draws, seed) for m in (b, -b))
        text = f"Our matrix orders the pairs as the paper's does: rank correlation above 0 (on {data})"
        claims.append(
            decide(text, "1 by definition", f"{rho:.2f}, p = {p:.2g} (Mantel, {draws} relabellings)", rho > 0,
                   two_sided(p, less), "it orders them the other way", f"{draws} relabellings")
        )  # fmt: skip
    return claims


def average_claims(detection: pd.DataFrame, correlation: pd.DataFrame, test: GroupTest, data: str) -> list[Claim]:
    """Of Fig. I: correlations of F_A show the clusters of Fig. H, smaller. That they are symmetric needs no test."""
    runs = np.array(runs_of(list(correlation.index)))
    r, m = correlation.to_numpy(), detection.to_numpy()
    shares = []
    for run in dict.fromkeys(runs):
        pairs = np.triu(np.equal.outer(runs, runs) & (runs == run), 1)
        if pairs.any():
            shares.append([(np.minimum(m, m.T) > DETECTED)[pairs].mean(), (r > CLUSTER)[pairs].mean()])
    in_h, in_i = np.array(shares).T
    return [
        labels_claim(
            f"Correlations of averaged residuals F_A are higher within a model than between models (on {data})",
            "clusters as in Fig. H",
            f"{test.within:.3f} within, {test.between:.3f} between, p = {test.p:.2g}",
            test,
            "lower than of relabelled checkpoints",
        ),
        judge_above(
            f"The clusters are smaller than in Fig. H: fewer pairs of one model correlate above {CLUSTER} than detect "
            f"each other above {percent(DETECTED)} (on {data})",
            "smaller (Fig. I, caption)",
            f"{percent(float(in_i.mean()))} against {percent(float(in_h.mean()))} of a model's pairs",
            t_estimate(in_h - in_i, f"{len(in_h)} trainings"),
            0.0,
            "more",
        ),
    ]


def extracted_claims(test: GroupTest, late: GroupTest | None, average: GroupTest, data: str) -> list[Claim]:
    """Of Fig. J: correlations of the extracted fingerprints look random: labels do not explain |rho|."""
    ours = f"|ρ| {test.within:.3f} within, {test.between:.3f} between models: p = {test.p:.2g}"
    if late:
        ours += f"; converged alone {late.within:.3f} and {late.between:.3f}: p = {late.p:.2g}"
    tests = [t for t in (test, late) if t]
    p = min(1.0, len(tests) * min(t.p for t in tests))  # of two looks, either could show more
    why = "fingerprints of one model correlate more than permuted labels allow"
    if p > SURE:
        why = f"p = {p:.2g}: no more than with permuted labels, which does not prove that there is nothing"
    return [
        Claim(
            f"Correlations of extracted fingerprints F_E look random: no larger within a model than with permuted "
            f"labels (on {data})",
            "relation appears to be random (Fig. J, by eye)",
            f"{ours}; F_A: p = {average.p:.2g} ({test.draws} relabellings)",
            "does not hold" if p <= SURE else "consistent",
            why,
            p,
            open="consistent",
        )
    ]
