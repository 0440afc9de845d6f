"""The gallery: a page per notebook with every figure of its record, and no broken link."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difcore.batch.gallery import WIDTH, write_gallery
from difcore.files import PROJECT_DIR

NOTEBOOKS = PROJECT_DIR / "notebooks"
LINK = re.compile(r"\]\(([^)#]+)\)")


def broken(docs: Path) -> list[str]:
    """Links and pictures of Markdown pages that lead nowhere within the project."""
    found = []
    for page in docs.rglob("*.md"):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if not target.startswith("http") and not (page.parent / target).exists():
                found.append(f"{page.relative_to(docs)}: {target}")
    return found


def leave_record(home: Path) -> None:
    home.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (80, 2 * WIDTH, 3), dtype=np.uint8)
    for key in ("first", "second"):
        Image.fromarray(noise).save(home / f"{key}.png")
    (home / "values.csv").write_text("name,value\na|b,1\n" + "c,2\n" * 40, encoding="utf-8")
    claim = {"text": "It is so", "paper": 0.5, "ours": "1 of 2", "verdict": "holds", "why": "", "p": 0.01, "tuned": ""}
    (home / "claims.json").write_text(json.dumps([claim]), encoding="utf-8")
    record = {"name": home.name, "n": "2", "seed": 7, "seconds": 61.0, "data": "demo data", "commit": "abcdef0123",
              "runtime": {"processor": "Some CPU", "precision": "float32"}, "tables": ["values"],
              "figures": ["first", "second"]}  # fmt: skip
    (home / "run.json").write_text(json.dumps(record), encoding="utf-8")


def test_every_notebook_has_a_page_with_its_figures(tmp_path: Path) -> None:
    names = [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    leave_record(tmp_path / "outputs" / "demo" / names[0])
    leave_record(tmp_path / "outputs" / "reference" / names[1])
    docs = tmp_path / "docs"
    (docs / "notebooks").mkdir(parents=True)
    (docs / "notebooks" / "gone.md").write_text("of a notebook that is no more", encoding="utf-8")
    index = write_gallery(tmp_path / "outputs" / "demo", NOTEBOOKS, docs).read_text(encoding="utf-8")
    assert sorted(path.stem for path in (docs / "notebooks").glob("*.md")) == names
    assert all(f"(notebooks/{name}.md)" in index for name in names)
    for name in names[:2]:
        page = (docs / "notebooks" / f"{name}.md").read_text(encoding="utf-8")
        assert page.index("first.png") < page.index("| claim |") < page.index("second.png")  # the picture first
        assert "| It is so | 0.5 | 1 of 2 | ✓ holds |" in page and r"| a\|b | 1 |" in page
        assert "seed 7 · 1 min 1 s on Some CPU, float32 · commit abcdef0" in page and "first 12 of 41 rows" in page
        with Image.open(docs / "figures" / name / "first.png") as picture:
            assert picture.width == WIDTH
    assert "Not run here" in (docs / "notebooks" / f"{names[2]}.md").read_text(encoding="utf-8")
    assert broken(docs) == []


def test_the_published_pages_show_every_figure_of_the_reference() -> None:
    docs = PROJECT_DIR / "docs"
    assert broken(docs) == [] and broken(PROJECT_DIR / "docs" / "notebooks") == []
    for path in NOTEBOOKS.glob("*.ipynb"):
        page = (docs / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
        shown = set(re.findall(r"\.\./(figures/[^)]+)\)", page))
        assert shown == {f"figures/{path.stem}/{p.name}" for p in (docs / "figures" / path.stem).glob("*.png")
                         if p.stem != "thumbnail"}  # fmt: skip


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    settings = load_config(str(PROJECT_DIR / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    build(settings)
    for path in NOTEBOOKS.glob("*.ipynb"):
        page = (tmp_path / "site" / "notebooks" / path.stem / "index.html").read_text(encoding="utf-8")
        assert all(name in page for name in (p.name for p in (PROJECT_DIR / "docs/figures" / path.stem).glob("*.png")
                                             if p.stem != "thumbnail"))  # fmt: skip
    assert (tmp_path / "site" / "search" / "search_index.json").is_file()
