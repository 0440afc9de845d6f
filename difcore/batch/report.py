"""The report of a batch: one HTML page per profile that reads offline, beside the images it shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from PIL import Image

from difcore.files import atomic_text
from difcore.records.artefacts import PNG_DPI, read_record
from difcore.records.claims import TUNED

TABLE_ROWS = 25
FIGURE_SCALE = 1.35  # page size over print size
SYMBOLS = {
    "ok": "✓", "unchanged": "=", "skipped": "–", "failed": "✗", "stopped": "…", "running": "▸", "not run": "·",
}  # fmt: skip
VERDICT_SYMBOLS = {"holds": "✓", "does not hold": "✗", "undecided": "?", "consistent": "≈", "not comparable": "○"}
TEMPLATES = Path(__file__).resolve().parent / "templates"


def build_report(outputs_dir: Path | str, profile: str) -> Path:
    """Write <outputs_dir>/<profile>/index.html from that folder's summary.json and what each notebook left there."""
    folder = Path(outputs_dir) / profile
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    sections = [notebook_section(folder, entry, profile) for entry in summary["notebooks"]]
    given = [claim["verdict"] for section in sections for claim in section["claims"]]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": duration, "value": format_value}
    page = environment.get_template("report.html").render(
        summary=summary,
        sections=sections,
        failed=[section for section in sections if section["status"] == "failed"],
        symbols=SYMBOLS,
        verdict_symbols=VERDICT_SYMBOLS,
        verdicts={verdict: given.count(verdict) for verdict in VERDICT_SYMBOLS},
        tuned=TUNED,
        notebook_seconds=sum(entry["seconds"] or 0 for entry in summary["notebooks"]),
    )
    return atomic_text(folder / "index.html", page)


def notebook_section(folder: Path, entry: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """Everything the page shows of one notebook; paths relative to the page."""
    from nbconvert.filters import markdown2html

    home = folder / entry["name"]
    record = read_record(home) if entry["status"] != "running" else {}  # its files come and go
    return {
        **entry,
        "record": record,
        "label": record.get("data") or ("demo" if profile.startswith("demo") else ""),
        "claim_html": markdown2html(entry["claim"]),
        "figures": [{"key": path.stem, **figure_size(path)} for path in recorded(home, record, "figures", ".png")],
        "tables": [{"key": path.stem, **table_text(path)} for path in recorded(home, record, "tables", ".csv")],
        "claims": recorded_claims(home, record),
        "links": [name for name in ("executed.html", "executed.ipynb", "run.json") if (home / name).is_file()],
    }


def recorded(home: Path, record: Mapping[str, Any], kind: str, suffix: str) -> list[Path]:
    """Files that a record speaks of; one that was stopped while it cleared them away may lack some."""
    paths = [home / f"{key}{suffix}" for key in record.get(kind, [])]
    return [path for path in paths if path.is_file()]


def recorded_claims(home: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The claims beside a record, none without one."""
    path = home / "claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if record and path.is_file() else []


def figure_size(path: Path) -> dict[str, int]:
    """Width and height in CSS px at which a figure's 8 pt lettering suits the page's text."""
    with Image.open(path) as image:
        scale = FIGURE_SCALE * 96 / PNG_DPI
        return {"width": round(image.width * scale), "height": round(image.height * scale)}


def table_text(path: Path, rows: int = TABLE_ROWS) -> dict[str, Any]:
    """The first rows of a CSV file as text, each cell with whether it is a number; how many rows the file has."""
    try:
        table = pd.read_csv(path)
    except pd.errors.EmptyDataError:  # not even columns
        table = pd.DataFrame()
    head = table.head(rows)
    columns = {column: format_column(head[column]) for column in head.columns}
    numeric = [is_numeric_dtype(head[column]) and not is_bool_dtype(head[column]) for column in head.columns]
    cells = zip(*columns.values(), strict=True)
    names = ["" if str(column).startswith("Unnamed:") else str(column) for column in head.columns]
    return {
        "columns": list(zip(names, numeric, strict=True)),
        "rows": [list(zip(row, numeric, strict=True)) for row in cells],
        "row_count": len(table),
    }


def format_column(column: pd.Series) -> list[str]:
    """Cells as text: whole numbers grouped, others with the same decimals where that loses nothing, a dash for gaps."""
    if is_bool_dtype(column) or not is_numeric_dtype(column):
        return ["–" if pd.isna(value) else str(value) for value in column]
    present = column.dropna()
    if (present % 1 == 0).all() and (present.abs() < 1e9).all():
        return ["–" if pd.isna(value) else group(int(value)) for value in column]
    decimals = common_decimals(present.abs())
    return ["–" if pd.isna(value) else format_number(value, decimals) for value in column]


def common_decimals(sizes: pd.Series) -> int | None:
    """Decimals that give the largest of ``sizes`` four digits, or None if the smallest would vanish with them."""
    if not 1e-3 <= sizes.max() < 1e4:
        return None
    decimals = 3 - math.floor(math.log10(sizes.max()))
    return decimals if sizes[sizes > 0].min() >= 10.0**-decimals else None


def format_value(value: Any) -> str:
    """One value of a claim: numbers as in the tables, text as it is, None as a dash."""
    if value is None:
        return "–"
    return format_number(value) if isinstance(value, float) else str(value)


def format_number(value: float, decimals: int | None = None) -> str:
    """``value`` with ``decimals``, or with four significant digits; a true minus sign."""
    if decimals is not None:
        text = f"{value:.{decimals}f}"
    elif 1e4 <= abs(value) < 1e6:
        return group(round(value))
    else:
        text = f"{value:.4g}"
    return text if "e" in text else text.replace("-", "\N{MINUS SIGN}")


def group(value: int) -> str:
    """A whole number with thin spaces between thousands from five digits on."""
    text = f"{value:,}" if abs(value) >= 10_000 else str(value)
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    """Seconds as people read them: "8.2 s", "3 min 20 s", "2 h 5 min"; empty for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
