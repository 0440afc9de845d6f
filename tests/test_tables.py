"""Tables for reading: decimals, intervals, whole and harmless text."""

import numpy as np
import pandas as pd
import pytest

from difcore.records.claims import Claim, claims_table
from difcore.records.tables import decimals, show_table, with_intervals


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 0.5], 3),
        ([0.97, 0.2], 3),
        ([-0.0131, 0.001], 4),
        ([34.154], 1),
        ([12345.6], 0),
        ([0.0], 0),
        ([np.nan], 0),
    ],
)
def test_decimals_follow_the_largest_value(values: list[float], expected: int) -> None:
    assert decimals(pd.Series(values)) == expected


def test_intervals_join_their_value() -> None:
    table = pd.DataFrame({"n": [10, 9], "auc": [0.85, np.nan], "auc_low": [0.6, np.nan], "auc_high": [0.95, np.nan]})
    assert list(with_intervals(table).columns) == ["n", "auc"]
    assert with_intervals(table)["auc"].tolist() == ["0.850 [0.600, 0.950]", None]
    assert list(table.columns) == ["n", "auc", "auc_low", "auc_high"]
    assert "0.850 [0.600, 0.950]" in show_table(table).to_html() and "nan" not in show_table(table).to_html()


def test_a_table_shows_sentences_whole_and_markup_as_text() -> None:
    sentence = "a statement that is longer than the fifty characters that pandas shows of a text " * 2
    page = show_table(claims_table([Claim(sentence, "<b>99</b>", None, "not comparable", "because")])).to_html()
    assert sentence.strip() in page
    assert "&lt;b&gt;99" in page and "<b>" not in page
    assert ">–</td>" in page  # no value of ours
    assert "row_heading" not in page


def test_an_empty_table_is_shown() -> None:
    assert "<table" in show_table(pd.DataFrame({"a": pd.Series(dtype=float)})).to_html()
    assert "verdict" in show_table(claims_table([])).to_html()
