"""The report: what it shows of each outcome, how it writes numbers, and that it reads without a network."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from difcore.batch.report import build_report, duration, format_column, format_number, format_value, table_text
from difcore.files import atomic_json
from difcore.records import Claim, artefact


class Page(HTMLParser):
    """Addresses, ids and the nesting of a page."""

    VOID = {"meta", "link", "img", "br", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def entry(name: str, status: str, **changes: Any) -> dict[str, Any]:
    base = {
        "title": f"Title of {name}",
        "claim": "A claim with *weight*.",
        "reason": "",
        "traceback": "",
        "seconds": 75.0,
    }
    return {"name": name, "status": status, **base, **changes}


def write_outputs(root: Path, profile: str = "demo", data: str = "") -> Path:
    folder = root / profile
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    claims = [
        Claim("MJ stands out", 0.97, 0.9712345, "holds"),
        Claim("GLIDE <b> too", "98.1 %", None, "does not hold", "weak filter"),
        Claim("speed", None, 3, "not comparable", "another machine"),
        Claim("children", None, 3, "undecided", "p = 0.2", 0.2, "their scenes were chosen on them"),
        Claim("few", None, 3, "consistent", "n = 20", 0.6, open="consistent"),
    ]
    a = artefact("00_good", {"output_dir": folder / "00_good", "seed": 4})
    a.table("accuracy", pd.DataFrame({"generator": ["<i>"] * 30, "auc": np.linspace(0, 1, 30), "n": range(30)}))
    a.figure("bars", figure)
    a.claims(claims)
    a.save("10 + 10", data=data)
    (folder / "00_good" / "executed.html").write_text("<p>", encoding="utf-8")
    entries = [
        entry("00_good", "ok"),
        entry("01_bad", "failed", reason="KeyError: 'plumbus'", traceback="Traceback <cell 3>"),
        entry("02_needs", "skipped", reason="needs `difcore fetch`", seconds=None),
        entry("03_old", "unchanged"),
    ]
    counts = {"ok": 1, "failed": 1, "skipped": 1, "unchanged": 1}
    finished = "2026-01-02T03:04:05+00:00"
    summary = {"profile": profile, "finished": finished, "commit": "0123456789abcdef-dirty", "seconds": 3725.0}
    atomic_json(folder / "summary.json", {**summary, "counts": counts, "notebooks": entries})
    return folder


def test_the_page_shows_every_outcome(tmp_path: Path) -> None:
    write_outputs(tmp_path)
    index = build_report(tmp_path, "demo")
    assert index == tmp_path / "demo" / "index.html"
    text = index.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.ids == ["00_good", "01_bad", "02_needs", "03_old"]
    for expected in (
        "✓ 1 ok",
        "✗ 1 failed",
        "– 1 skipped",
        "= 1 unchanged",
        "2026-01-02 03:04:05 UTC",
        "0123456789ab with changes",
        "this run 1 h 2 min",
        "A claim with <em>weight</em>.",
        "skipped: needs `difcore fetch`",
        "Traceback &lt;cell 3&gt;",
        "✓ holds",
        "✗ does not hold",
        "○ not comparable",
        '? undecided<br><span class="tuned">tuned on this data</span></td>',
        "<td>p = 0.2; their scenes were chosen on them</td>",
        "≈ consistent</td><td>n = 20</td>",
        "GLIDE &lt;b&gt; too",
        "<td>0.97</td><td>0.9712</td>",
        "<td>98.1 %</td><td>–</td>",
        "weak filter",
        "n = 10 + 10",
        "seed 4",
        "First 25 of 30 rows.",
        "&lt;i&gt;",
    ):
        assert expected in text, expected


def test_what_failed_and_why_is_on_the_first_screen(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path)
    head = build_report(tmp_path, "demo").read_text(encoding="utf-8").split("<nav")[0]
    assert '<a href="#01_bad">Title of 01_bad</a> failed: KeyError: &#39;plumbus&#39;' in head
    assert "Still running" not in head and "was stopped" not in head
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for state, told in (("running", "Still running"), ("stopped by SIGTERM", "The batch was stopped by SIGTERM")):
        atomic_json(folder / "summary.json", summary | {"state": state})
        assert told in build_report(tmp_path, "demo").read_text(encoding="utf-8").split("<nav")[0]


def test_what_a_stopped_notebook_left_half_is_left_out(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path)
    (folder / "00_good" / "bars.png").unlink()
    (folder / "00_good" / "accuracy.csv").write_text("", encoding="utf-8")
    text = build_report(tmp_path, "demo").read_text(encoding="utf-8")
    assert "bars.png" not in text and "accuracy.csv" in text


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_demo_data_is_labelled(tmp_path: Path, profile: str) -> None:
    write_outputs(tmp_path, profile)
    labels = build_report(tmp_path, profile).read_text(encoding="utf-8").count('<span class="demo">demo</span></h2>')
    assert labels == (4 if profile == "demo" else 0)


def test_a_notebook_that_names_its_data_gets_that_label(tmp_path: Path) -> None:
    write_outputs(tmp_path, data="the authors' release")
    text = build_report(tmp_path, "demo").read_text(encoding="utf-8")
    assert text.count('<span class="demo">the authors&#39; release</span></h2>') == 1
    assert text.count('<span class="demo">demo</span></h2>') == 3


def test_every_address_is_a_file_beside_the_page_or_an_anchor_in_it(tmp_path: Path) -> None:
    folder = write_outputs(tmp_path)
    text = build_report(tmp_path, "demo").read_text(encoding="utf-8")
    page = Page(text)
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert (folder / address).is_file(), address
    for name in ("bars.png", "bars.pdf", "accuracy.csv", "executed.html", "run.json"):
        assert f"00_good/{name}" in page.addresses
    assert not re.search(r"https?://|@import|url\(", text)
    assert str(tmp_path) not in text


def test_a_table_without_rows_and_one_with_gaps(tmp_path: Path) -> None:
    pd.DataFrame({"a": []}).to_csv(tmp_path / "empty.csv", index=False)
    assert table_text(tmp_path / "empty.csv")["rows"] == []
    pd.DataFrame({"a": [1.5, None], "b": ["x", None], "c": [True, False]}).to_csv(tmp_path / "gaps.csv", index=False)
    table = table_text(tmp_path / "gaps.csv")
    assert table["columns"] == [("a", True), ("b", False), ("c", False)]
    assert [[cell for cell, _ in row] for row in table["rows"]] == [["1.500", "x", "True"], ["–", "–", "False"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.123456, "0.1235"), (-0.5, "−0.5"), (99.0, "99"), (12345.6, "12\u202f346"), (1e-7, "1e-07"), (2e9, "2e+09")],
)
def test_numbers(value: float, expected: str) -> None:
    assert format_number(value) == expected


def test_values_and_columns() -> None:
    assert [format_value(v) for v in (None, "98 %", 7, 0.98765)] == ["–", "98 %", "7", "0.9877"]
    assert format_column(pd.Series([3, 1234567])) == ["3", "1\u202f234\u202f567"]
    assert format_column(pd.Series([3.0, None, -4.0])) == ["3", "–", "−4"]
    assert format_column(pd.Series([0.5, 0.97123, None])) == ["0.5000", "0.9712", "–"]
    assert format_column(pd.Series([0.0127, -0.0013, 0.0])) == ["0.01270", "−0.00130", "0.00000"]
    assert format_column(pd.Series([0.5, 1e-9])) == ["0.5", "1e-09"]  # common decimals would hide the small one
    assert format_column(pd.Series([float("inf"), 0.25])) == ["inf", "0.25"]
    assert format_column(pd.Series([None, None], dtype=float)) == ["–", "–"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (9.4, "9.4 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_the_summary_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        build_report(tmp_path, "demo")


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_fits_a_phone_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("needs Chromium at /usr/bin/chromium (run_tests.sh installs it on Debian as root)")
    from playwright.sync_api import sync_playwright

    write_outputs(tmp_path)
    index = build_report(tmp_path, "demo")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(index.as_uri())
        page.locator("img").first.scroll_into_view_if_needed()
        width = page.evaluate("document.documentElement.scrollWidth")
        loaded = page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        browser.close()
    assert width <= 390
    assert loaded
    assert all(address.startswith("file://") for address in requested)
    assert json.loads((tmp_path / "demo" / "summary.json").read_text(encoding="utf-8"))["profile"] == "demo"
