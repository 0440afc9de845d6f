"""A family tree, drawn."""

from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from difcore import paper
from difcore.figures.style import FAKE, GREY, PALETTE, NotebookFigure, chart, styled


def forest_layout(names: Sequence[str], edges: Collection[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """(column, -generation) of each model: parents above the middle of their children, families before the childless.

    ``edges`` are (parent, child) of a branching: at most one parent each, no circle.
    """
    children = {name: [child for parent, child in edges if parent == name] for name in names}
    roots = set(names) - {child for _, child in edges}
    places: dict[str, tuple[float, float]] = {}
    free = count()

    def place(name: str, depth: int) -> float:
        spots = [place(child, depth + 1) for child in children[name]] or [float(next(free))]
        places[name] = (spots[0] + spots[-1]) / 2, -depth
        return places[name][0]

    for root in sorted((name for name in names if name in roots), key=lambda name: not children[name]):
        place(root, 0)
    return places


@styled
def family_tree(
    names: Sequence[str], edges: pd.DataFrame, true: Collection[tuple[str, str]] | None = None, title: str = ""
) -> NotebookFigure:
    """Notebook 26, the paper's lineage as a graph: an arrow where the direction is certain, a line where it is not.

    ``edges`` has ``parent``, ``child``, ``kinship``, ``confidence``, ``directed``; with the (parent, child) pairs known
    to be ``true`` found ones are green, others orange, those not found dotted.
    """
    pairs = list(zip(edges["parent"], edges["child"], strict=True))
    places = forest_layout(names, pairs)
    columns, depth = max(x for x, _ in places.values()) + 1, max(-y for _, y in places.values()) + 1
    figure, axes = chart(max(4.0, 1.35 * columns + 0.2), max(1.4, depth - 0.1), title)
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    room: dict[str, Any] = {"ax": axes, "min_source_margin": 12, "min_target_margin": 14}
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    for pair, row in zip(pairs, edges.itertuples(), strict=True):
        colour = PALETTE[0] if true is None else PALETTE[2] if {pair, pair[::-1]} & set(true) else FAKE
        width = 0.6 + 1.8 * float(np.clip(row.kinship, 0, 1))
        arrow: dict[str, Any] = {"arrowstyle": "-|>" if row.directed else "-", "arrowsize": 11}
        nx.draw_networkx_edges(graph, places, [pair], edge_color=colour, width=width, **arrow, **room)
        note = f"{row.kinship:.2f}\n{100 * row.confidence:.0f} %"
        nx.draw_networkx_edge_labels(graph, places, {pair: note}, ax=axes, font_color=GREY, font_size=6, rotate=False,
                                     bbox=white)  # fmt: skip
    missing = [pair for pair in true or () if not {pair, pair[::-1]} & set(pairs) and set(pair) <= set(names)]
    for parent, child in missing:
        far = max(1.0, abs(places[parent][0] - places[child][0]))  # columns: a wide arc would leave the figure
        nx.draw_networkx_edges(graph, places, [(parent, child)], style=":", edge_color=FAKE, arrowsize=9,
                               connectionstyle=f"arc3,rad={0.25 / far}", **room)  # fmt: skip
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.7}
    labels = {name: paper.label(name.removeprefix("demo-")) for name in names}
    nx.draw_networkx_labels(graph, places, labels, ax=axes, font_size=7, bbox=box)
    axes.set(xlim=(-0.6, columns - 0.4), ylim=(0.7 - depth, 0.3))
    axes.set_axis_off()
    return figure
