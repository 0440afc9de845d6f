"""The gallery: a page of Markdown per notebook, its picture first, and an index of thumbnails, from the runs' records.

Markdown reads on a forge and in a site alike. Executed notebooks hold each picture once more, as text: they stay in
the outputs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from PIL import Image

from difcore.batch.notebooks import heading
from difcore.batch.report import (
    TEMPLATES,
    VERDICT_SYMBOLS,
    duration,
    format_value,
    recorded,
    recorded_claims,
    table_text,
)
from difcore.files import atomic_text, atomic_write
from difcore.records.artefacts import read_record

TABLE_ROWS = 12
WIDTH, THUMBNAIL = 1400, 420  # px, of pictures in pages and in the index
COLOURS = 255  # of a picture's palette: charts need fewer, maps show no bands with so many


@dataclass(frozen=True)
class Page:
    """What a page shows: the notebook's heading, its record and the files of it, pictures first."""

    name: str
    title: str
    claim: str
    record: Mapping[str, Any]
    figures: list[Path]
    tables: list[Path]
    claims: list[dict[str, Any]]


def write_gallery(outputs: Path, notebooks: Path, docs: Path) -> Path:
    """Write <docs>/gallery.md, <docs>/notebooks/<name>.md and their pictures, all anew."""
    pages = [page_of(path, outputs) for path in sorted(notebooks.glob("*.ipynb"))]
    environment = Environment(loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": duration, "value": format_value, "cell": cell, "table": table_text}
    shutil.rmtree(docs / "figures", ignore_errors=True)
    for old in (docs / "notebooks").glob("*.md"):
        old.unlink()
    for page in pages:
        for k, figure in enumerate(page.figures):
            save_small(figure, docs / "figures" / page.name / f"{figure.stem}.png", WIDTH)
            if not k:
                save_small(figure, docs / "figures" / page.name / "thumbnail.png", THUMBNAIL)
        text = environment.get_template("page.md").render(page=page, symbols=VERDICT_SYMBOLS, most=TABLE_ROWS)
        atomic_text(docs / "notebooks" / f"{page.name}.md", text)
    return atomic_text(docs / "gallery.md", environment.get_template("gallery.md").render(pages=pages))


def page_of(notebook: Path, outputs: Path) -> Page:
    """The page of one notebook, from its last good run: of the batch, else of the reference."""
    homes = (folder / notebook.stem for folder in (outputs, outputs.parent / "reference"))
    home = next((home for home in homes if read_record(home)), outputs / notebook.stem)
    record = read_record(home)
    figures, tables = recorded(home, record, "figures", ".png"), recorded(home, record, "tables", ".csv")
    return Page(notebook.stem, *heading(notebook), record, figures, tables, recorded_claims(home, record))


def save_small(figure: Path, path: Path, width: int) -> Path:
    """A PNG at most ``width`` px wide, with a palette."""
    with Image.open(figure) as image:
        small = image.convert("RGB")
    if small.width > width:
        small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    palette = small.quantize(COLOURS, dither=Image.Dither.NONE)
    return atomic_write(path, lambda temporary: palette.save(temporary, format="PNG", optimize=True))


def cell(text: object) -> str:
    """Text as it may stand in a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")
