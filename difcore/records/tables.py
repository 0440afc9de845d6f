"""How a table looks in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from difcore.files import shown

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

DIGITS = 3  # significant ones of a column's largest value


def decimals(values: pd.Series) -> int:
    """Decimal places that give the largest magnitude of ``values`` its ``DIGITS`` significant digits, 0 at least."""
    sizes = np.abs(values[np.isfinite(values)].to_numpy(float))
    largest = sizes.max(initial=0.0)
    return max(0, DIGITS - int(np.ceil(np.log10(largest)))) if largest > 0 else 0


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with each ``x``, ``x_low``, ``x_high`` as one column of text, "0.850 [0.640, 0.948]"."""
    out = table.copy()
    for name in table.columns:
        low, high = f"{name}_low", f"{name}_high"
        if {low, high} <= set(table.columns):
            values = table[[name, low, high]].itertuples(index=False)
            text = [None if np.isnan(v) else f"{v:.3f} [{bottom:.3f}, {top:.3f}]" for v, bottom, top in values]
            out[name] = pd.Series(text, index=table.index, dtype=object)
            out = out.drop(columns=[low, high])
    return out


def show_table(table: pd.DataFrame) -> Styler:
    """``table`` for reading: no row numbers, sensible decimals, intervals in brackets, sentences that are not cut."""
    joined = with_intervals(table)
    floats = list(joined.select_dtypes("floating").columns)
    texts = [c for c in joined.columns if not pd.api.types.is_numeric_dtype(joined[c])]
    written: dict[Any, Any] = {c: f"{{:.{decimals(joined[c])}f}}" for c in floats}
    left = {"text-align": "left", "white-space": "normal", "max-width": "22em", "vertical-align": "top"}
    styler = joined.style.format(dict.fromkeys(texts, shown), na_rep="–", escape="html")
    styler = styler.format(written, na_rep="–", subset=floats) if floats else styler
    styler = styler.hide(axis="index").set_properties(subset=texts, **left)
    return styler.set_table_styles({c: [{"selector": "th", "props": "text-align: left"}] for c in texts})
