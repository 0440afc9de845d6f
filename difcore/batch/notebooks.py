"""One notebook: what it declares, what its result depends on, and its execution in a process of its own.

``python -m difcore.batch.notebooks JOB`` is that process; the batch starts one per notebook and reads its state.json.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difcore.files import DATA_DIR, PROJECT_DIR, NeedsData, atomic_json, atomic_text, sha256_bytes, sha256_file
from difcore.images.sources import locate
from difcore.machine.cache import cache_root
from difcore.records.artefacts import artefact_files, clear_artefacts, plain, read_record, versions
from difcore.records.claims import LINE, CellsFailed

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError

PROGRESS_BAR = re.compile(r"\d+%\|")  # what tqdm's widget says where widgets cannot be shown
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of one notebook. Paths are relative to the notebook's folder, which is the kernel's working folder.

    ``name`` is that of its output folder: the notebook's, with the grid's values appended in a sweep. Equal digests, of
    all that the result depends on, need no second run. Title and claim are the notebook's heading.
    """

    name: str
    notebook: str
    output_dir: str
    parameters: Mapping[str, Any]
    digest: str
    title: str
    claim: str


def declared_parameters(notebook: Path) -> set[str]:
    """Names that the notebook's cell tagged ``parameters`` assigns."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    return set(papermill.inspect_notebook(str(notebook)))


def heading(notebook: Path) -> tuple[str, str]:
    """Title and claim: the first heading and the text below it, from the notebook's first markdown cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = next(("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"), "").strip()
    first, _, rest = text.partition("\n")
    return (first.lstrip("# ").strip(), rest.strip()) if first.startswith("#") else (notebook.stem, text)


def project_digest(data_root: Path | None) -> str:
    """SHA-256 of what every notebook's result depends on: sources, data, versions, what "auto" stands for."""
    files = [*sorted((PROJECT_DIR / "difcore").rglob("*.py")), *sorted(p for p in DATA_DIR.rglob("*") if p.is_file())]
    hashes = {str(path.relative_to(PROJECT_DIR)): sha256_file(path) for path in files}
    release = False
    with suppress(NeedsData):
        release = bool(locate(data_root))
    root = data_root or os.environ.get("DIFCORE_DATA") or PROJECT_DIR.parent / "shared" / "data"
    sets = data_entries(Path(os.path.expanduser(root)))
    chosen = [os.environ.get(name) or "auto" for name in ("DIFCORE_DEVICE", "DIFCORE_PRECISION", "DIFCORE_ENGINE")]
    return sha256_bytes(json.dumps([hashes, release, sets, versions(), chosen]).encode())


def data_entries(root: Path) -> list[tuple[str, str, int, int]]:
    """All that lies below ``root``, links followed: where, in which real folder, size in bytes, time of change in ns.

    A real folder is listed once, where it is met first, so links that lead back up end.
    """
    found, real_root, listed = [], os.path.realpath(root), set()
    for folder, inner, files in os.walk(root, followlinks=True):
        inner.sort()
        real, name = os.path.realpath(folder), os.path.relpath(folder, root)
        place = os.path.relpath(real, real_root)
        found.append((name, place, 0, 0))
        if real in listed:
            inner.clear()
            continue
        listed.add(real)
        for file in sorted(files):
            size, changed = 0, 0
            with suppress(OSError):  # a link to nothing
                facts = os.stat(os.path.join(folder, file))
                size, changed = facts.st_size, facts.st_mtime_ns
            found.append((os.path.join(name, file), place, size, changed))
    return found


def notebook_digest(notebook: Path, parameters: Mapping[str, Any], project: str) -> str:
    """SHA-256 of the notebook's sources, its parameters and the project's digest; outputs do not count."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = [[cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells]
    return sha256_bytes(json.dumps([sources, plain(parameters), project], sort_keys=True).encode())


def read_state(output_dir: Path) -> dict[str, Any]:
    """What the last run in ``output_dir`` recorded (status, digest, seconds, ...); empty if there was none."""
    path = output_dir / "state.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def is_current(output_dir: Path, digest: str) -> bool:
    """Whether the last run in ``output_dir`` went well with the same digest and all its files are still there."""
    state = read_state(output_dir)
    same = state.get("status") == "ok" and state.get("digest") == digest
    return same and all((output_dir / name).is_file() for name in state["files"])


def worker_environment(threads: int, data_root: Path | None) -> dict[str, str]:
    """Environment of a notebook's process: its share of the cores, this project's sources, the data folder."""
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT_DIR), os.environ.get("PYTHONPATH", ""))))
    environment["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one of the user's own
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    environment.pop("MPLBACKEND", None)  # the kernel's inline backend shows figures in the notebook
    # Kernels stand in the notebooks' folder, the user somewhere else.
    if root := data_root or environment.get("DIFCORE_DATA"):
        environment["DIFCORE_DATA"] = os.path.abspath(os.path.expanduser(root))
    if environment.get("DIFCORE_CACHE"):
        environment["DIFCORE_CACHE"] = str(cache_root())
    return environment


def execute(job: Job) -> dict[str, Any]:
    """Run the notebook with papermill; its status ("ok", "skipped" or "failed"), reason and traceback."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from difcore.batch.kernels import kernel_settings

    output = Path(job.output_dir)
    executed = output / "executed.ipynb"
    clear_artefacts(output)
    outcome = {"status": "ok", "reason": "", "traceback": ""}
    options: dict[str, Any] = {"parameters": dict(job.parameters), "progress_bar": False, "start_timeout": 180}
    try:
        with kernel_settings() as config:
            papermill.execute_notebook(job.notebook, str(executed), config=config, **options)
    except PapermillExecutionError as error:
        skipped = error.ename == NeedsData.__name__
        outcome |= {"status": "skipped", "reason": str(error.evalue)} if skipped else failure(error, executed)
    render(executed)
    return outcome


def failure(error: PapermillExecutionError, executed: Path) -> dict[str, str]:
    """Status, reason and traceback of a notebook that raised: those of cells that failed before, not of their echo."""
    text, reason = ANSI.sub("", "\n".join(error.traceback)), f"{error.ename}: {error.evalue}"
    cause, first = failed_cells(executed)
    if error.ename == CellsFailed.__name__:
        reason, text = str(error.evalue), first or text
    elif cause:
        reason, text = f"{cause} (then {reason})", f"{first}\n\n{text}".strip()
    return {"status": "failed", "reason": reason, "traceback": text}


def failed_cells(executed: Path) -> tuple[str, str]:
    """("3 of 30 cells failed: ...", the first one's traceback) as ``run_cells`` printed them; empty if it did not."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    printed = [output for cell in cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    text = ANSI.sub("", "".join("".join(output["text"]) for output in printed))
    if not (line := LINE.search(text)):
        return "", ""
    begin = text.rfind("Traceback (most recent call last)", 0, line.start())
    return line.group(), text[begin : line.start()].strip() if begin >= 0 else ""


def render(executed: Path) -> Path:
    """Write ``executed``.html beside an executed notebook: one page that opens offline."""
    import nbformat
    from nbconvert import HTMLExporter

    document = nbformat.read(executed, as_version=4)
    document.metadata.pop("widgets", None)
    for output in (output for cell in document.cells for output in cell.get("outputs", [])):
        # A widget needs a kernel; the page says so where the notebook would show it. Progress bars are over.
        if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
            bar = PROGRESS_BAR.search("".join(output["data"].get("text/plain", "")))
            output["data"] = {"text/html": "" if bar else "<em>Widget: open the notebook in Jupyter to use it.</em>"}
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(document)
    page = re.sub(r"<script[^>]*\bsrc=[^>]*>\s*</script>", "", page)  # MathJax, RequireJS: from the network
    return atomic_text(executed.with_suffix(".html"), page)


def exit_with_parent() -> None:
    """End this process when the batch's end of stdin closes, however the batch ended: no orphan goes on writing."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(job_text: str) -> None:
    """Execute the job and record its outcome in <output_dir>/state.json."""
    threading.Thread(target=exit_with_parent, daemon=True).start()
    job = Job(**json.loads(job_text))
    started = time.perf_counter()
    outcome = execute(job)
    seconds = time.perf_counter() - started
    output = Path(job.output_dir)
    state = outcome | {key: getattr(job, key) for key in ("name", "title", "claim", "digest")}
    state["seconds"] = round(seconds, 2)
    state["estimate"] = seconds if outcome["status"] == "ok" else read_state(output).get("estimate")
    state["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    state["files"] = ["executed.ipynb", "executed.html", *artefact_files(read_record(output))]
    atomic_json(output / "state.json", state)


if __name__ == "__main__":
    main(sys.argv[1])
