"""All notebooks of a profile, each in its own process: parameters in, executed notebooks and one report out."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from difcore.artefacts import git_commit, plain
from difcore.files import PROJECT_DIR, atomic_json
from difcore.notebooks import Job, is_current, read_state, worker_environment
from difcore.plan import BatchError, discover, plan_jobs, select
from difcore.report import SYMBOLS, build_report, duration

POLL_SECONDS = 0.2


def run_batch(
    profile: str = "demo",
    only: Sequence[str] = (),
    jobs: int = 1,
    data_root: Path | str | None = None,
    force: bool = False,
    grid: Mapping[str, Sequence[Any]] | None = None,
    notebooks_dir: Path | str = PROJECT_DIR / "notebooks",
    params_dir: Path | str = PROJECT_DIR / "params",
    outputs_dir: Path | str = PROJECT_DIR / "outputs",
    progress: bool = True,
    full: bool = False,
) -> int:
    """Run a profile's notebooks and write <outputs_dir>/<profile>/{index.html, summary.json, <notebook>/...}.

    A notebook whose sources, parameters, code, weights and data are those of its last good run is left as it is. One
    that fails, or lacks data (``NeedsData``), does not stop the others. A killed batch resumes where it was.

    Parameters
    ----------
    profile : str
        Names the parameter file <params_dir>/<profile>.yml.
    only : sequence of str
        Numbers, names or topics of the notebooks to run; default all.
    jobs : int
        Notebooks at a time; each gets its share of the cores.
    data_root : path, optional
        Data folder, in place of the environment variable DIFCORE_DATA.
    force : bool
        Run unchanged notebooks too.
    grid : mapping of parameter to values, optional
        Run each notebook once per combination of those it declares, into <notebook>--<parameter>=<value>/.
    progress : bool
        Print progress (stderr) and the summary table (stdout); False prints nothing.
    full : bool
        Whole grids: <params_dir>/grids/full.yml over the profile's parameters; output goes to <profile>-full/.

    Returns
    -------
    int
        0, or 1 if a notebook failed.

    Raises
    ------
    BatchError
        For an unknown profile, notebook or parameter, before anything runs.
    """
    if jobs < 1:
        raise BatchError(f"jobs must be at least 1, not {jobs}")
    started = time.perf_counter()
    notebooks = discover(Path(notebooks_dir))
    name = profile_name(profile, full)
    folder = Path(outputs_dir) / name
    root = None if data_root is None else Path(data_root).resolve()
    chosen = select(list(notebooks), only)
    plan = plan_jobs(notebooks, chosen, Path(params_dir), folder, profile, root, grid or {}, full)
    todo = [job for job in plan if force or not is_current(folder / job.name, job.digest)]
    environment = worker_environment(max(1, joblib.cpu_count() // jobs), root)
    with _progress(progress) as display:
        _run(todo, folder, Path(notebooks_dir), jobs, environment, display)
    ran = {job.name for job in todo}
    statuses = {job.name: read_state(folder / job.name)["status"] if job.name in ran else "unchanged" for job in plan}
    summary = _summary(name, folder, notebooks, statuses, time.perf_counter() - started)
    atomic_json(folder / "summary.json", summary)
    index = build_report(outputs_dir, name)
    if progress:
        _print_summary(summary, statuses, index)
    return int("failed" in statuses.values())


def profile_name(profile: str, full: bool) -> str:
    """Name of a profile's output folder: with whole grids one of its own."""
    return f"{profile}-full" if full else profile


def _progress(show: bool) -> Progress:
    """One line per running notebook: name, bar towards the time of its last run, elapsed time."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=Console(stderr=True, quiet=not show), transient=True)


def _run(
    todo: Sequence[Job], folder: Path, cwd: Path, slots: int, environment: dict[str, str], display: Progress
) -> None:
    """Run the jobs, ``slots`` at a time; each leaves its state.json."""
    waiting = list(todo)
    running: dict[str, tuple[subprocess.Popen[bytes], TaskID, float]] = {}
    if todo:
        known = [state.get("estimate") for state in (read_state(folder / job.name) for job in todo)]
        total = f", about {duration(sum(filter(None, known)) / slots)}" if all(known) else ""
        display.console.print(f"{len(todo)} notebooks to run{total}", highlight=False)
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                job = waiting.pop(0)
                process, task = _start(job, folder / job.name, cwd, environment, display)
                running[job.name] = process, task, time.perf_counter()
            time.sleep(POLL_SECONDS)
            for name, (process, task, started) in list(running.items()):
                display.update(task, completed=time.perf_counter() - started)
                if process.poll() is not None:
                    del running[name]
                    process.communicate()  # closes its stdin
                    display.remove_task(task)
                    _finish(folder / name, process.returncode, display)
    finally:
        for process, *_ in running.values():
            process.kill()
            process.communicate()


def _start(
    job: Job, output: Path, cwd: Path, environment: dict[str, str], display: Progress
) -> tuple[subprocess.Popen[bytes], TaskID]:
    """Start one notebook's process; until it ends, its state says "interrupted"."""
    output.mkdir(parents=True, exist_ok=True)
    estimate = read_state(output).get("estimate")
    marker = {"name": job.name, "title": job.title, "claim": job.claim, "seconds": None, "estimate": estimate}
    atomic_json(output / "state.json", {**marker, "status": "interrupted", "reason": "", "traceback": ""})
    command = [sys.executable, "-m", "difcore.notebooks", json.dumps(plain(dataclasses.asdict(job)))]
    with open(output / "log.txt", "wb") as log:  # papermill's and nbclient's chatter
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
    note = f"last time {duration(estimate)}" if estimate else ""
    return process, display.add_task(job.name, total=estimate, note=note)


def _finish(output: Path, returncode: int, display: Progress) -> None:
    """Print one notebook's outcome; a process that died without recording one counts as failed."""
    state = read_state(output)
    if state["status"] == "interrupted":
        log = (output / "log.txt").read_text(encoding="utf-8", errors="replace")
        reason = f"its process ended with status {returncode}"
        state |= {"status": "failed", "reason": reason, "traceback": log[-4000:]}
        atomic_json(output / "state.json", state)
    note = f": {state['reason']}" if state["reason"] else ""
    line = f"{SYMBOLS[state['status']]} {state['name']} {state['status']}{note} {duration(state['seconds'])}"
    display.console.print(escape(line), highlight=False)


def _summary(
    profile: str, folder: Path, notebooks: Mapping[str, Path], statuses: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """What the report shows: this run's notebooks, and the last state of the others."""
    entries = []
    for path in sorted(folder.glob("*/state.json")):
        name = path.parent.name
        if name.split("--")[0] in notebooks:
            state = read_state(path.parent)
            entries.append({**state, "status": statuses.get(name, state["status"])})
    return {
        "profile": profile,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "seconds": round(seconds, 1),
        "counts": dict(Counter(entry["status"] for entry in entries)),
        "notebooks": entries,
    }


def _print_summary(summary: Mapping[str, Any], statuses: Mapping[str, str], index: Path) -> None:
    """The summary table and, below it, the traceback of each failed notebook."""
    console = Console()
    table = Table("notebook", "status", "time", "", box=None, pad_edge=False)
    chosen = [entry for entry in summary["notebooks"] if entry["name"] in statuses]
    for entry in chosen:
        status = f"{SYMBOLS[entry['status']]} {entry['status']}"
        table.add_row(entry["name"], status, duration(entry["seconds"]), escape(entry["reason"]))
    console.print(table)
    for entry in chosen:
        if entry["status"] == "failed":
            console.rule(entry["name"])
            console.print(entry["traceback"], markup=False, highlight=False)
    console.print(f"{duration(summary['seconds'])}, report: {os.path.relpath(index)}", highlight=False, soft_wrap=True)
