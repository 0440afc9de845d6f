"""One notebook: what it declares, what its result depends on, and its execution in a process of its own.

``python -m difcore.notebooks JOB`` is that process; the batch starts one per notebook and reads the state.json that
it leaves.

An executed notebook: as a page that reads offline, and what it printed of cells that failed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets.config import Config

from difcore.files import DATA_DIR, PROJECT_DIR, atomic_json, atomic_text, sha256_bytes, sha256_file
from difcore.images.release import locate
from difcore.machine.cache import cache_root
from difcore.records.artefacts import NeedsData, artefact_files, clear_artefacts, plain, read_record, versions
from difcore.records.claims import LINE, CellsFailed

if TYPE_CHECKING:
    from papermill.exceptions import PapermillExecutionError

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


SOCKET_PATH = 103  # bytes that a Unix socket's path may have: 107 on Linux, 103 on macOS


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of one notebook. Paths are relative to the notebook's folder, which is the kernel's working folder.

    Attributes
    ----------
    name : str
        Of the run and of its output folder: the notebook's, with the grid's values appended in a sweep.
    notebook, output_dir : str
    parameters : mapping
        Values for the notebook's ``parameters`` cell.
    digest : str
        Of everything the result depends on; equal digests need no second run.
    title, claim : str
        From the notebook's first markdown cell.
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
    try:
        locate(data_root)
        release = True
    except NeedsData:
        release = False
    root = data_root or os.environ.get("DIFCORE_DATA") or PROJECT_DIR.parent / "shared" / "data"
    sets = data_entries(Path(os.path.expanduser(root)))
    chosen = [os.environ.get(name) or "auto" for name in ("DIFCORE_DEVICE", "DIFCORE_PRECISION")]
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
            facts = None
            with suppress(OSError):  # a link to nothing
                facts = os.stat(os.path.join(folder, file))
            size, changed = (facts.st_size, facts.st_mtime_ns) if facts else (0, 0)
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
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    paths = [str(PROJECT_DIR), os.environ.get("PYTHONPATH", "")]
    environment = (
        os.environ
        | counts
        | {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the user's own
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
    )
    environment.pop("MPLBACKEND", None)  # the kernel's inline backend shows figures in the notebook
    if data_root:
        environment["DIFCORE_DATA"] = str(data_root)
    # Kernels stand in the notebooks' folder, the user somewhere else.
    if environment.get("DIFCORE_DATA"):
        environment["DIFCORE_DATA"] = os.path.abspath(os.path.expanduser(environment["DIFCORE_DATA"]))
    if environment.get("DIFCORE_CACHE"):
        environment["DIFCORE_CACHE"] = str(cache_root())
    return environment


def socket_folder() -> Path | None:
    """A folder in which a kernel's sockets have paths that are short enough; None if there is none.

    A batch system's own temporary folder may lie deep.
    """
    for place in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        longest = Path(place, "difcore-" + 8 * "x", "kernel-ipc-5")
        if place and len(os.fsencode(longest)) <= SOCKET_PATH and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    return None


@contextmanager
def kernel_settings() -> Iterator[Config]:
    """Settings with which a kernel's answers always arrive: a patient client, and, where there are, files for ports.

    A kernel chooses free ports before it binds them: two that start at once may choose the same. So ports are used
    only where there are no such files: off POSIX, or where no short path can be had.
    """
    manager = {"client_class": "difcore.batch.kernel_client.PatientClient"}
    place = socket_folder() if os.name == "posix" else None
    if place is None:
        yield Config({"KernelManager": manager})
        return
    with tempfile.TemporaryDirectory(prefix="difcore-", dir=place) as folder:
        yield Config({"KernelManager": manager | {"transport": "ipc", "ip": str(Path(folder) / "kernel")}})


def execute(job: Job) -> dict[str, Any]:
    """Run the notebook with papermill; its status ("ok", "skipped" or "failed"), reason and traceback.

    An error in the notebook is an outcome, not raised: executed.ipynb and executed.html show it in its place.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    output = Path(job.output_dir)
    clear_artefacts(output)
    outcome = {"status": "ok", "reason": "", "traceback": ""}
    try:
        with kernel_settings() as config:
            papermill.execute_notebook(
                job.notebook,
                str(output / "executed.ipynb"),
                parameters=dict(job.parameters),
                progress_bar=False,
                start_timeout=180,
                config=config,
            )
    except PapermillExecutionError as error:
        if error.ename == NeedsData.__name__:
            outcome |= {"status": "skipped", "reason": str(error.evalue)}
        else:
            outcome |= failure(error, output / "executed.ipynb")
    render(output / "executed.ipynb")
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


def _exit_with_parent() -> None:
    """End this process when the batch's end of stdin closes, however the batch ended: no orphan goes on writing."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main(job_text: str) -> None:
    """Execute the job and record its outcome in <output_dir>/state.json."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    job = Job(**json.loads(job_text))
    started = time.perf_counter()
    outcome = execute(job)
    seconds = time.perf_counter() - started
    output = Path(job.output_dir)
    files = ["executed.ipynb", "executed.html", *artefact_files(read_record(output))]
    estimate = seconds if outcome["status"] == "ok" else read_state(output).get("estimate")
    state = {
        **outcome,
        "name": job.name,
        "title": job.title,
        "claim": job.claim,
        "digest": job.digest,
        "seconds": round(seconds, 2),
        "estimate": estimate,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    atomic_json(output / "state.json", state)


if __name__ == "__main__":
    main(sys.argv[1])
