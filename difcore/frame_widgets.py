"""A control over any figure drawn from a table: choose rows and the quantity, see the figure again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets
import pandas as pd

from difcore.style import NotebookFigure
from difcore.widgets import choice, explorer, show

ALL = "all"


def frame_explorer(
    table: pd.DataFrame,
    draw: Callable[[pd.DataFrame, str], NotebookFigure],
    columns: Sequence[str] = (),
    values: Sequence[str] = ("accuracy", "auc"),
    caption: str = "",
) -> ipywidgets.VBox:
    """Choose the quantity and, for each of ``columns``, one of its entries or all; ``draw`` makes the figure.

    Parameters
    ----------
    table : DataFrame
        Tidy. Columns with one entry get no control; in "encoding" there is no "all".
    draw : callable
        Maps the chosen rows and the quantity's name to a figure. A ValueError of it is shown in place of one.
    """
    controls = {
        name: choice(name.capitalize(), entries(table, name)) for name in columns if len(entries(table, name)) > 1
    }
    quantity = choice("Quantity", values)
    output, note = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        rows = table
        for name, control in controls.items():
            if control.value != ALL:
                rows = rows[rows[name].astype(str) == control.value]
        try:
            show(output, draw(rows, quantity.value), quantity.value)
            note.value = escape(f"{len(rows)} of {len(table)} rows")
        except ValueError as error:
            show(output, None)
            note.value = escape(str(error))

    return explorer([*controls.values(), quantity], redraw, [output, note], caption)


def entries(table: pd.DataFrame, column: str) -> list[str]:
    """What a control over a column offers: "all" and its entries, for "encoding" the entries alone."""
    found = list(dict.fromkeys(table[column].dropna().astype(str)))
    return found if column == "encoding" or len(found) < 2 else [ALL, *found]
