"""An executed notebook: as a page that reads offline, and what it printed of cells that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from difcore.failures import LINE
from difcore.files import atomic_text

PROGRESS_BAR = re.compile(r"\d+%\|")  # what tqdm's widget says where widgets cannot be shown
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def render(executed: Path) -> Path:
    """Write ``executed``.html beside an executed notebook: one page that opens offline."""
    import nbformat
    from nbconvert import HTMLExporter

    document = nbformat.read(executed, as_version=4)
    document.metadata.pop("widgets", None)
    for cell in document.cells:
        for output in cell.get("outputs", []):
            # A widget needs a kernel; the page says so where the notebook would show it. Progress bars are over.
            if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
                bar = PROGRESS_BAR.search("".join(output["data"].get("text/plain", "")))
                notice = "" if bar else "<em>Widget: open the notebook in Jupyter to use it.</em>"
                output["data"] = {"text/html": notice}
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(document)
    page = re.sub(r"<script[^>]*\bsrc=[^>]*>\s*</script>", "", page)  # MathJax, RequireJS: from the network
    return atomic_text(executed.with_suffix(".html"), page)


def failed_cells(executed: Path) -> tuple[str, str]:
    """("3 of 30 cells failed: ...", the first one's traceback) as ``run_cells`` printed them; empty if it did not.

    What fails later for want of these cells is an echo of it.
    """
    import nbformat

    document = nbformat.read(executed, as_version=4)
    outputs: list[Any] = [output for cell in document.cells for output in cell.get("outputs", [])]
    text = ANSI.sub("", "".join(o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stderr"))
    line = LINE.search(text)
    if line is None:
        return "", ""
    begin = text.rfind("Traceback (most recent call last)", 0, line.start())
    return line.group(), text[begin : line.start()].strip() if begin >= 0 else ""
