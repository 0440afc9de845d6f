"""A family tree, drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import networkx as nx
import pandas as pd

from difcore import paper
from difcore.figures.style import FAKE, GREY, PALETTE, NotebookFigure, new_figure, styled

COLUMN, ROW = 1.35, 1.0  # inches between two leaves, between two generations
RIGHT = PALETTE[2]


def forest_layout(names: Sequence[str], edges: Collection[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """(column, -generation) of each model: parents above the middle of their children, families side by side.

    Parameters
    ----------
    edges : (parent, child) pairs of a branching: at most one parent each, no circle
    """
    children: dict[str, list[str]] = {name: [] for name in names}
    for parent, child in edges:
        children[parent].append(child)
    roots = [name for name in names if name not in {child for _, child in edges}]
    places: dict[str, tuple[float, float]] = {}
    free = 0.0

    def place(name: str, depth: int) -> float:
        nonlocal free
        if children[name]:
            spots = [place(child, depth + 1) for child in children[name]]
            column = (spots[0] + spots[-1]) / 2
        else:
            column, free = free, free + 1
        places[name] = (column, -float(depth))
        return column

    for root in sorted(roots, key=lambda name: not children[name]):  # families first, the childless after them
        place(root, 0)
    return places


@styled
def family_tree(
    names: Sequence[str],
    edges: pd.DataFrame,
    true: Collection[tuple[str, str]] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> NotebookFigure:
    """Models and the edges found: parents above, an arrow where the direction is certain, a line where it is not.

    Parameters
    ----------
    edges : DataFrame
        ``parent``, ``child``, ``kinship``, ``confidence``, ``directed`` (bool), see ``lineage.families.family``.
    true : (parent, child) pairs or None
        Edges that are known: found ones are green, others orange, those not found dotted.
    """
    pairs = list(zip(edges["parent"], edges["child"], strict=True))
    known = None if true is None else {frozenset(pair) for pair in true}
    places = forest_layout(names, pairs)
    width = max(x for x, _ in places.values()) + 1
    depth = max(-y for _, y in places.values()) + 1
    figure = new_figure(max(4.0, COLUMN * width + 0.2), max(1.4, ROW * (depth - 1) + 0.9))
    axes = figure.subplots()
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    text = {name: (labels or {}).get(name, paper.label(name.removeprefix("demo-"))) for name in names}
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.7}
    for (a, b), row in zip(pairs, edges.itertuples(), strict=True):
        colour = PALETTE[0] if known is None else RIGHT if frozenset((a, b)) in known else FAKE
        look = {"edge_color": colour, "width": 0.6 + 1.8 * min(1.0, max(0.0, float(row.kinship)))}
        arrows = {"arrowstyle": "-|>" if row.directed else "-", "arrowsize": 11, "min_source_margin": 12}
        nx.draw_networkx_edges(graph, places, [(a, b)], ax=axes, min_target_margin=14, **look, **arrows)
        note = f"{row.kinship:.2f}\n{100 * row.confidence:.0f} %"
        place = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.6}, "rotate": False, "font_size": 6}
        nx.draw_networkx_edge_labels(graph, places, {(a, b): note}, ax=axes, font_color=GREY, **place)
    missing = [] if true is None else [p for p in true if not {p, p[::-1]} & set(pairs) and set(p) <= set(names)]
    bow = {"style": ":", "edge_color": FAKE, "connectionstyle": "arc3,rad=0.25", "min_source_margin": 12}
    nx.draw_networkx_edges(graph, places, missing, ax=axes, arrowsize=9, min_target_margin=14, **bow)
    nx.draw_networkx_labels(graph, places, text, ax=axes, font_size=7, bbox=box)
    axes.set(xlim=(-0.6, width - 0.4), ylim=(0.7 - depth, 0.3))
    axes.set_axis_off()
    axes.set_title(title)
    return figure
