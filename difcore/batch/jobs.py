"""The notebooks of one batch at work: their processes, what they print, how long they still take.

How long a batch still takes: by what its notebooks took before, else by what they cost relative to one another.

What a batch tells of itself: the summary that its report shows, and the table at its end.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from difcore.batch.notebooks import Job, read_state
from difcore.batch.report import SYMBOLS, build_report, duration
from difcore.files import atomic_json
from difcore.records.artefacts import git_commit, plain

# Seconds in one run of the demo (README's table). Only their ratios are used: a machine's own pace is told by the
# notebooks that it has run.
COSTS = {
    "00_start_here": 43,
    "01_gray_image": 69,
    "02_fingerprints": 40,
    "03_published_detection": 60,
    "04_published_lineage": 14,
    "05_train_denoiser": 56,
    "06_train_generators": 12,
    "10_tab_A_denoising_filter": 63,
    "11_tab_B_unet": 8,
    "12_tab_C_architectures": 113,
    "13_fig_B_train_size_gans": 101,
    "14_fig_C_train_size_ltims": 68,
    "15_fig_D_consistency": 71,
    "16_fig_E_variants": 52,
    "17_detection_methods": 33,
    "18_train_your_own": 36,
    "19_detect_your_own": 33,
    "20_fig_A_cross_detection_gans": 80,
    "21_fig_F_cross_detection_progan_t": 127,
    "22_fig_G_checkpoints": 11,
    "23_fig_H_cross_detection_progans": 160,
    "24_fig_I_cross_correlation_FA": 110,
    "25_fig_J_cross_correlation_FE": 12,
    "26_lineage_tree": 113,
    "27_train_progan": 19,
    "44_controls": 30,
}


def notebook_of(run: str) -> str:
    """The notebook of a run: its name without the values of a sweep."""
    return run.partition("--")[0]


def expected_seconds(runs: Iterable[str], known: Mapping[str, float]) -> dict[str, float | None]:
    """What each run is expected to take, s: what it took before, else its cost at the pace of those known.

    Parameters
    ----------
    known : mapping of run to s
        What runs took on this machine.

    Returns
    -------
    dict
        None where nothing is known: no run of any costed notebook, or no cost of this one.
    """
    costed = [(COSTS[notebook_of(run)], seconds) for run, seconds in known.items() if notebook_of(run) in COSTS]
    pace = sum(seconds for _, seconds in costed) / sum(cost for cost, _ in costed) if costed else None
    found: dict[str, float | None] = {}
    for run in runs:
        cost = COSTS.get(notebook_of(run))
        found[run] = known.get(run, None if pace is None or cost is None else pace * cost)
    return found


def seconds_left(running: Sequence[float], waiting: Sequence[float], slots: int) -> float:
    """Time until all are done, s: each that waits begins where one of ``slots`` becomes free, in order.

    Parameters
    ----------
    running : sequence of float
        What each that runs still takes, s; at most ``slots`` of them.
    waiting : sequence of float
        What each of the others takes, s.
    """
    ends = [max(0.0, rest) for rest in running]
    ends += [0.0] * (slots - len(ends))
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)


DONE = "done"


def summarise(
    folder: Path,
    plan: Sequence[Job],
    notebooks: Collection[str],
    statuses: Mapping[str, str],
    seconds: float,
    state: str = DONE,
) -> dict[str, Any]:
    """What the report shows: this batch's notebooks, and the last state of the others.

    Parameters
    ----------
    folder : Path
        The profile's; its name is the profile's.
    plan : sequence of Job
        What the batch was asked for.
    notebooks : names of all notebooks
        Folders of others are left out.
    statuses : mapping of a run to its status in this batch
    seconds : float
        Time since the batch began.
    state : str
        "done", "running" or "stopped by SIGNAL".
    """
    blank = {"seconds": None, "reason": "", "traceback": ""}
    entries = {job.name: {"name": job.name, "title": job.title, "claim": job.claim, **blank} for job in plan}
    for path in folder.glob("*/state.json"):
        if path.parent.name.split("--")[0] in notebooks:
            entries[path.parent.name] = read_state(path.parent)
    for name, entry in entries.items():
        entry["status"] = statuses.get(name, entry.get("status"))
        if entry["status"] == "not run" and state not in ("running", DONE):
            entry["reason"] = "the batch was stopped before" + (
                ", an earlier run is shown" if "digest" in entry else ""
            )
    shown = [entries[name] for name in sorted(entries)]
    return {
        "profile": folder.name,
        "state": state,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "seconds": round(seconds, 1),
        "counts": dict(Counter(entry["status"] for entry in shown)),
        "notebooks": shown,
    }


def publish(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Write summary.json and index.html, each whole or not at all; the path of the latter."""
    atomic_json(folder / "summary.json", summary)
    return build_report(folder.parent, folder.name)


def print_summary(summary: Mapping[str, Any], chosen: Collection[str], index: Path) -> None:
    """The table of the notebooks ``chosen`` and, below it, the traceback of each that failed."""
    console = Console()
    table = Table("notebook", "status", "time", "", box=None, pad_edge=False)
    entries = [entry for entry in summary["notebooks"] if entry["name"] in chosen]
    for entry in entries:
        status = f"{SYMBOLS[entry['status']]} {entry['status']}"
        table.add_row(entry["name"], status, duration(entry["seconds"]), escape(entry["reason"]))
    console.print(table)
    for entry in entries:
        if entry["status"] == "failed":
            console.rule(entry["name"])
            console.print(entry["traceback"], markup=False, highlight=False)
    note = "" if summary["state"] == DONE else f", {summary['state']}"
    line = f"{duration(summary['seconds'])}{note}, report: {os.path.relpath(index)}"
    console.print(line, highlight=False, soft_wrap=True)


POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch at work.

    Attributes
    ----------
    folder, cwd : Path
        The profile's output folder; the notebooks' folder, where they run.
    notebooks : names of all notebooks
    plan : list of Job
        What was asked for.
    slots : int
        Notebooks at a time.
    environment : mapping
        Of their processes.
    statuses : dict
        What has become of each run by now.
    signals : list of int
        Signals to stop that came.
    started : float
        ``time.perf_counter()`` of the beginning.
    """

    folder: Path
    cwd: Path
    notebooks: Collection[str]
    plan: list[Job]
    slots: int
    environment: Mapping[str, str]
    statuses: dict[str, str]
    signals: list[int]
    started: float

    @property
    def state(self) -> str:
        """As ``summarise`` takes it."""
        if self.signals:
            return f"stopped by {signal.Signals(self.signals[0]).name}"
        return "running" if {"running", "not run"} & set(self.statuses.values()) else DONE

    def summary(self) -> dict[str, Any]:
        """What is known by now."""
        seconds = time.perf_counter() - self.started
        return summarise(self.folder, self.plan, self.notebooks, self.statuses, seconds, self.state)


@dataclasses.dataclass(frozen=True)
class Running:
    """A notebook at work: its process, its bar, when it began."""

    process: subprocess.Popen[bytes]
    bar: TaskID
    started: float

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.started


def run_jobs(todo: Sequence[Job], batch: Batch, display: Progress) -> None:
    """Run the jobs, so many at a time, until all are done or a signal came; each leaves its state.json."""
    waiting = list(todo)
    running: dict[str, Running] = {}
    states = {job.name: read_state(batch.folder / job.name) for job in batch.plan}
    known = {name: state["estimate"] for name, state in states.items() if state.get("estimate")}
    total = display.add_task("", total=len(todo), note="")
    if todo:
        display.console.print(f"{len(todo)} notebooks to run{left_of(waiting, running, known, batch)}", highlight=False)
    try:
        while (waiting or running) and not batch.signals:
            changed = False
            while waiting and len(running) < batch.slots:
                job, changed = waiting.pop(0), True
                running[job.name] = start(job, batch, expected_seconds([job.name], known)[job.name], display)
            time.sleep(POLL_SECONDS)
            for name, one in list(running.items()):
                display.update(one.bar, completed=one.elapsed)
                if one.process.poll() is not None:
                    del running[name]
                    changed = True
                    one.process.communicate()  # closes its stdin
                    display.remove_task(one.bar)
                    state = finish(name, one.process.returncode, batch)
                    if state["status"] == "ok":
                        known[name] = state["seconds"]
                    tell(state, f"{done_of(batch, todo)}{left_of(waiting, running, known, batch)}", display)
            note = left_of(waiting, running, known, batch).removeprefix(", ")
            display.update(total, description=done_of(batch, todo), completed=len(todo) - len(waiting) - len(running),
                           note=note)  # fmt: skip
            if changed:
                publish(batch.folder, batch.summary())
    finally:
        for one in running.values():
            one.process.kill()
            one.process.communicate()
    for name, one in running.items():
        batch.statuses[name] = "stopped"
        state = read_state(batch.folder / name)
        if state["status"] == "stopped":  # it had not ended by itself just then
            atomic_json(batch.folder / name / "state.json", state | {"reason": f"{batch.state} after "
                                                                     f"{duration(one.elapsed)}"})  # fmt: skip


def done_of(batch: Batch, todo: Sequence[Job]) -> str:
    """ "3 of 25 notebooks" """
    ended = sum(batch.statuses[job.name] not in ("running", "not run") for job in todo)
    return f"{ended} of {len(todo)} notebooks"


def left_of(waiting: Sequence[Job], running: Mapping[str, Running], known: Mapping[str, float], batch: Batch) -> str:
    """ ", about 3 min left", "at least" where only a part is known, or what stands against saying so; or nothing."""
    if not (waiting or running):
        return ""
    expected = expected_seconds([*running, *(job.name for job in waiting)], known)
    unknown = sum(seconds is None for seconds in expected.values())
    if unknown == len(expected):
        return ", no time known yet" if not known else ""
    rest = [(expected[name] or 0.0) - one.elapsed for name, one in running.items()]
    left = seconds_left(rest, [expected[job.name] or 0.0 for job in waiting], batch.slots)
    if left < 1:
        return "" if unknown else ", longer than expected"
    return f", {'at least' if unknown else 'about'} {duration(round(left))} left"


def start(job: Job, batch: Batch, expected: float | None, display: Progress) -> Running:
    """Start one notebook's process; until it ends, its state says "stopped"."""
    output = batch.folder / job.name
    output.mkdir(parents=True, exist_ok=True)
    estimate = read_state(output).get("estimate")
    marker = {"name": job.name, "title": job.title, "claim": job.claim, "seconds": None, "estimate": estimate}
    atomic_json(output / "state.json", {**marker, "status": "stopped", "reason": "", "traceback": ""})
    command = [sys.executable, "-m", "difcore.batch.notebooks", json.dumps(plain(dataclasses.asdict(job)))]
    with open(output / "log.txt", "wb") as log:  # papermill's and nbclient's chatter
        # In a session of its own: Ctrl-C in a terminal is the batch's to answer, not every notebook's.
        process = subprocess.Popen(
            command, cwd=batch.cwd, env=batch.environment, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    batch.statuses[job.name] = "running"
    note = f"about {duration(round(expected))}" if expected else ""
    if not display.console.is_terminal:  # no bars there
        display.console.print(f"  {job.name} begins{': ' if note else ''}{note}", highlight=False)
    return Running(process, display.add_task(job.name, total=expected, note=note), time.perf_counter())


def finish(name: str, returncode: int, batch: Batch) -> dict[str, Any]:
    """The state of a notebook whose process ended; one that died without recording its outcome counts as failed."""
    output = batch.folder / name
    state = read_state(output)
    if state["status"] == "stopped":
        log = (output / "log.txt").read_text(encoding="utf-8", errors="replace")
        reason = f"its process ended with status {returncode}"
        state |= {"status": "failed", "reason": reason, "traceback": log[-4000:]}
        atomic_json(output / "state.json", state)
    batch.statuses[name] = state["status"]
    return state


def tell(state: Mapping[str, Any], progress: str, display: Progress) -> None:
    """Print one notebook's outcome, and how far the batch is."""
    note = f": {state['reason']}" if state["reason"] else ""
    line = f"{SYMBOLS[state['status']]} {state['name']} {state['status']}{note} {duration(state['seconds'])}"
    display.console.print(f"{escape(line.rstrip())} ({progress})", highlight=False, soft_wrap=True)
