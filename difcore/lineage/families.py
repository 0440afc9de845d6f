"""From cross-detection to a family tree: which models are kin, with what confidence.

Cross-detection shows kinship only if models that are no kin have nothing in common; what all of them lack beside
photographs (a camera's mosaic, say) breaks it. So the background may be other images than reals: those of all the
models together. From the scores rho_i(x):

- Does i detect j at all? AUC of j's images against the background, its interval at a level that holds for all pairs
  at once (Bonferroni); it has to exclude 50 %. A descendant that kept less than half of i's fingerprint is beyond the
  midpoint of two centres, and an accuracy would miss it.
- How much of i is in j? The share s_ij = (mean rho_i of j's images - of the background) / (the same for i's own):
  1 if j's images carry i's fingerprint in full, 0 if no more than the background.
- Kinship k_ij = sqrt(s_ij s_ji), symmetric. If v_i is what model i adds to the mean residual and its fingerprint points
  along v_i, then s_ij = <v_i, v_j> / |v_i|^2, and k_ij is the cosine between v_i and v_j.

Two children of one parent, v + d and v + d', are farther from each other than from the parent, so a parent is a
child's nearest kin. What remains, s_ij / s_ji = |v_j|^2 / |v_i|^2, tells which of two has the stronger fingerprint;
edges have a direction only where the first ancestors are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import pandas as pd
from scipy.stats import t as student

from difcore.stats import auc, auc_interval, wilson

Pair = tuple[str, str]
LEAST = 0.5  # kinship of a link where no ancestor is known: s = 1/2 is as near to i's centre as to the background's


@dataclass(frozen=True)
class Evidence:
    """What trees are built from, for G models; entry [i, j]: fingerprint i on images of model j.

    ``auc``, ``low`` (G, G): AUC, and the low end of its interval at 95 % for all pairs at once. ``share`` (G, G): s_ij.
    ``draws`` (B, G, G): s_ij of B bootstrap samples of the test images.
    """

    names: tuple[str, ...]
    auc: np.ndarray
    low: np.ndarray
    share: np.ndarray
    draws: np.ndarray


def evidence(
    names: Sequence[str],
    background: Sequence[np.ndarray],
    fake: Sequence[np.ndarray],
    draws: int = 1000,
    seed: int = 0,
    owners: np.ndarray | None = None,
) -> Evidence:
    """AUC, shares, and the shares of bootstrap samples of the test images.

    A fingerprint that does not respond more to its own model's images than to the background has no share in any.

    Parameters
    ----------
    background, fake : sequence of G arrays (G, N_j)
        Element j, row i: rho of fingerprint i with the images that j's are to be told from, and with j's.
    owners : (N,) int or None
        Where the background is images of the models: whose each is. Neither i's own nor j's own are then among those
        that the AUC tells j's from.
    """
    rng, size = np.random.default_rng(seed), len(names)
    gaps, areas, low = np.empty((draws + 1, size, size)), np.empty((size, size)), np.zeros((size, size))
    level = 1 - (1 - 0.95) / max(1, size * (size - 1))
    for j, (ground, found) in enumerate(zip(background, fake, strict=True)):
        for i in range(size):
            others = ground[i] if owners is None else ground[i][(owners != i) & (owners != j)]
            areas[i, j] = auc(others, found[i])
            low[i, j] = auc_interval(areas[i, j], len(others), found.shape[1], level)[0]
        gaps[:, :, j] = resampled_means(found, draws, rng) - resampled_means(ground, draws, rng)
    own = np.einsum("bii->bi", gaps)
    shares = np.where(own[:, :, None] > 0, gaps / np.maximum(own, 1e-12)[:, :, None], 0.0)
    return Evidence(tuple(names), areas, low, shares[0], shares[1:])


def resampled_means(scores: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Row means of ``scores`` (G, N), then those of ``draws`` bootstrap samples of its columns: (draws + 1, G)."""
    n = scores.shape[1]
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)]) / n
    return weights @ np.asarray(scores, float).T


def kinship(share: np.ndarray) -> np.ndarray:
    """sqrt(s_ij s_ji) of shares (..., G, G); 0 where either is below 0."""
    positive = np.maximum(share, 0)
    return np.sqrt(positive * np.swapaxes(positive, -1, -2))


def nearest_ancestor(kin: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Row index of the largest allowed entry of each column of ``kin`` (..., G, G); -1 where none is allowed."""
    return np.where(allowed.any(0), np.where(allowed, kin, -np.inf).argmax(-2), -1)


def forest(kin: np.ndarray, allowed: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (i < j) of the spanning forest of largest total kinship among the allowed pairs."""
    graph = nx.Graph()
    pairs = zip(*np.nonzero(np.triu(allowed, 1)), strict=True)
    graph.add_weighted_edges_from((int(i), int(j), float(kin[i, j])) for i, j in pairs)
    return {(min(a, b), max(a, b)) for a, b in nx.maximum_spanning_edges(graph, data=False)}


def family(found: Evidence, founders: Sequence[str] = (), least: float = LEAST) -> pd.DataFrame:
    """The family tree.

    With ``founders``, models known to descend from none of the others: each other model is linked to the founder of
    largest kinship among those that detect it, if any does; the edge points from the founder. Without: the spanning
    forest of largest kinship among the pairs that detect each other and are at least ``least`` kin; no direction.

    Returns
    -------
    DataFrame
        parent, child (or two kin in the order of the names); kinship with its bootstrap interval (kinship_low,
        kinship_high: 2.5th and 97.5th percentile); share of parent in child and back; auc; confidence: share of
        bootstrap samples whose tree has the edge; forward: share of them with s(parent, child) > s(child, parent);
        directed.
    """
    kin, kin_draws = kinship(found.share), kinship(found.draws)
    detects = (found.low > 0.5) & ~np.eye(len(found.names), dtype=bool)  # i detects j above chance
    if founders:
        allowed = detects & np.isin(found.names, founders)[:, None] & ~np.isin(found.names, founders)[None]
        edges = [(int(i), j) for j, i in enumerate(nearest_ancestor(kin, allowed)) if i >= 0]
        chosen = nearest_ancestor(kin_draws, allowed)
        confidence = [float((chosen[:, j] == i).mean()) for i, j in edges]
    else:
        mutual = detects & detects.T
        edges = sorted(forest(kin, mutual & (kin >= least)))
        forests = [forest(draw, mutual & (draw >= least)) for draw in kin_draws]
        confidence = [float(np.mean([edge in drawn for drawn in forests])) for edge in edges]
    rows = []
    for (i, j), sure in zip(edges, confidence, strict=True):
        interval = np.percentile(kin_draws[:, i, j], [2.5, 97.5])
        forward = float((found.draws[:, i, j] > found.draws[:, j, i]).mean())
        rows.append(
            (found.names[i], found.names[j], kin[i, j], *interval, found.share[i, j], found.share[j, i],
             found.auc[i, j], sure, forward, bool(founders))
        )  # fmt: skip
    columns = ["parent", "child", "kinship", "kinship_low", "kinship_high", "share", "back", "auc", "confidence",
               "forward", "directed"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def orphans(found: Evidence, founders: Sequence[str]) -> pd.DataFrame:
    """Of each model that is no founder: how often one that is kin to no founder is as similar to one of them.

    The nearest founder's similarity a = max_i (s_ij + s_ji) / 2 is compared with those of the F (F - 1) / 2 pairs of
    founders, which are unrelated: taken for normal, with their own mean m and standard deviation d, another unrelated
    pair reaches a with p1 = P(t_{n-1} >= (a - m) / (d sqrt(1 + 1 / n))), and the largest of F with
    p = 1 - (1 - p1)^F (Sidak), n the number of pairs. p = 1 with fewer than three founders.

    Returns
    -------
    DataFrame
        model, nearest (founder), similarity, p (small: it has an ancestor among the founders), founders, pairs.
    """
    place = {name: k for k, name in enumerate(found.names)}
    known = [place[name] for name in founders if name in place]
    alike = (found.share + found.share.T) / 2
    null = alike[np.ix_(known, known)][np.triu_indices(len(known), 1)]
    rows = []
    for name, j in place.items():
        if j in known or not known:
            continue
        nearest = max(known, key=lambda i: alike[i, j])
        p = 1.0
        if len(null) > 2:
            t = (alike[nearest, j] - null.mean()) / (null.std(ddof=1) * np.sqrt(1 + 1 / len(null)))
            p = -float(np.expm1(len(known) * np.log1p(-student.sf(t, len(null) - 1))))
        rows.append((name, found.names[nearest], alike[nearest, j], p, len(known), len(null)))
    return pd.DataFrame(rows, columns=["model", "nearest", "similarity", "p", "founders", "pairs"])


@dataclass(frozen=True)
class EdgeScores:
    """Precision and recall of edges with Wilson's intervals (low, high), and the counts behind them."""

    precision: float
    precision_interval: tuple[float, float]
    recall: float
    recall_interval: tuple[float, float]
    right: int
    found: int
    true: int


def edge_scores(found: Iterable[Pair], true: Iterable[Pair], directed: bool = True) -> EdgeScores:
    """How many of the edges found are true, and how many of the true ones were found.

    Without edges found precision is undefined: NaN with the interval (0, 1). ``directed`` False: (a, b) is (b, a).
    """
    key = tuple if directed else frozenset
    mine, truth = {key(pair) for pair in found}, {key(pair) for pair in true}
    right = len(mine & truth)
    precision, recall = (right / n if n else float("nan") for n in (len(mine), len(truth)))
    intervals = wilson(right, len(mine)), wilson(right, len(truth))
    return EdgeScores(precision, intervals[0], recall, intervals[1], right, len(mine), len(truth))


def first_ancestors(parents: Mapping[str, str]) -> dict[str, str]:
    """Child to first ancestor, from child to parent; ValueError if somebody is their own ancestor."""
    found = {}
    for child in parents:
        seen, at = {child}, child
        while at in parents:
            at = parents[at]
            if at in seen:
                raise ValueError(f"{at} is its own ancestor")
            seen.add(at)
        found[child] = at
    return found


def direction_share(found: Evidence, true: Iterable[Pair]) -> tuple[int, int]:
    """(right, all) of the true (parent, child) pairs with s(parent, child) > s(child, parent)."""
    place = {name: k for k, name in enumerate(found.names)}
    pairs = [(place[a], place[b]) for a, b in true if a in place and b in place]
    return sum(bool(found.share[i, j] > found.share[j, i]) for i, j in pairs), len(pairs)
