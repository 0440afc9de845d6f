"""The notebooks of one batch at work: their processes, what they print, how long they still take."""

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
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from difcore.batch.notebooks import Job, read_state
from difcore.batch.report import SYMBOLS, build_report, duration
from difcore.files import PROJECT_DIR, atomic_json
from difcore.records.artefacts import git_commit, plain

COSTS = PROJECT_DIR / "params" / "seconds.csv"  # of one run of the demo; only their ratios are used
POLL_SECONDS = 0.2
DONE = "done"


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch at work: where, what was asked for, what has become of each run by now, signals to stop that came."""

    folder: Path
    cwd: Path
    notebooks: Collection[str]
    plan: list[Job]
    slots: int
    environment: Mapping[str, str]
    statuses: dict[str, str]
    signals: list[int] = dataclasses.field(default_factory=list)
    started: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def state(self) -> str:
        """ "done", "running" or "stopped by SIGNAL"."""
        if self.signals:
            return f"stopped by {signal.Signals(self.signals[0]).name}"
        return "running" if {"running", "not run"} & set(self.statuses.values()) else DONE

    def publish(self) -> tuple[dict[str, Any], Path]:
        """Write summary.json and index.html: this batch's notebooks, and the last state of the others."""
        blank = {"seconds": None, "reason": "", "traceback": ""}
        entries = {job.name: {"name": job.name, "title": job.title, "claim": job.claim, **blank} for job in self.plan}
        for path in self.folder.glob("*/state.json"):
            if notebook_of(path.parent.name) in self.notebooks:
                entries[path.parent.name] = read_state(path.parent)
        for name, entry in entries.items():
            entry["status"] = self.statuses.get(name, entry.get("status"))
            if entry["status"] == "not run" and self.signals:
                entry["reason"] = "the batch was stopped before" + (
                    ", an earlier run is shown" if "digest" in entry else ""
                )
        summary = {
            "profile": self.folder.name,
            "state": self.state,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": git_commit(),
            "seconds": round(time.perf_counter() - self.started, 1),
            "counts": dict(Counter(entries[name]["status"] for name in sorted(entries))),
            "notebooks": [entries[name] for name in sorted(entries)],
        }
        atomic_json(self.folder / "summary.json", summary)
        return summary, build_report(self.folder.parent, self.folder.name)


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
    waiting, running = list(todo), dict[str, Running]()
    states = {job.name: read_state(batch.folder / job.name) for job in batch.plan}
    known = {name: state["estimate"] for name, state in states.items() if state.get("estimate")}
    total = display.add_task("", total=len(todo), note="")
    if todo:
        display.console.print(f"{len(todo)} notebooks to run{left_of(waiting, running, known, batch)}", highlight=False)
    try:
        while (waiting or running) and not batch.signals:
            changed = bool(waiting) and len(running) < batch.slots
            while waiting and len(running) < batch.slots:
                job = waiting.pop(0)
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
                    known |= {name: state["seconds"]} if state["status"] == "ok" else {}
                    note = f": {state['reason']}" if state["reason"] else ""
                    line = f"{SYMBOLS[state['status']]} {name} {state['status']}{note} {duration(state['seconds'])}"
                    far = f"{done_of(batch, todo)}{left_of(waiting, running, known, batch)}"
                    display.console.print(f"{escape(line.rstrip())} ({far})", highlight=False, soft_wrap=True)
            note = left_of(waiting, running, known, batch).removeprefix(", ")
            ended = len(todo) - len(waiting) - len(running)
            display.update(total, description=done_of(batch, todo), completed=ended, note=note)
            if changed:
                batch.publish()
    finally:
        for one in running.values():
            one.process.kill()
            one.process.communicate()
    for name, one in running.items():
        batch.statuses[name] = "stopped"
        state = read_state(batch.folder / name)
        if state["status"] == "stopped":  # it had not ended by itself just then
            state["reason"] = f"{batch.state} after {duration(one.elapsed)}"
            atomic_json(batch.folder / name / "state.json", state)


def start(job: Job, batch: Batch, expected: float | None, display: Progress) -> Running:
    """Start one notebook's process; until it ends, its state says "stopped"."""
    output = batch.folder / job.name
    output.mkdir(parents=True, exist_ok=True)
    state = {"name": job.name, "title": job.title, "claim": job.claim, "seconds": None, "status": "stopped"}
    state |= {"estimate": read_state(output).get("estimate"), "reason": "", "traceback": ""}
    atomic_json(output / "state.json", state)
    command = [sys.executable, "-m", "difcore.batch.notebooks", json.dumps(plain(dataclasses.asdict(job)))]
    with open(output / "log.txt", "wb") as log:  # papermill's and nbclient's chatter
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        # In a session of its own: Ctrl-C in a terminal is the batch's to answer, not every notebook's.
        process = subprocess.Popen(command, cwd=batch.cwd, env=batch.environment, start_new_session=True, **streams)
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


def notebook_of(run: str) -> str:
    """The notebook of a run: its name without the values of a sweep."""
    return run.partition("--")[0]


@cache
def costs() -> dict[str, float]:
    """``COSTS`` by notebook; empty without the file."""
    return pd.read_csv(COSTS, index_col="notebook")["seconds"].to_dict() if COSTS.is_file() else {}


def expected_seconds(runs: Iterable[str], known: Mapping[str, float]) -> dict[str, float | None]:
    """What each run is expected to take, s: what it took before, else its cost at the pace of those known, or None."""
    cost = costs()
    costed = [(cost[notebook_of(run)], seconds) for run, seconds in known.items() if notebook_of(run) in cost]
    pace = sum(seconds for _, seconds in costed) / sum(one for one, _ in costed) if costed else None
    guess = {run: pace * cost[notebook_of(run)] for run in runs if pace and notebook_of(run) in cost}
    return {run: known.get(run, guess.get(run)) for run in runs}


def seconds_left(running: Sequence[float], waiting: Sequence[float], slots: int) -> float:
    """Time until all are done, s: each that waits begins where one of ``slots`` becomes free, in order."""
    ends = [max(0.0, rest) for rest in running]
    ends += [0.0] * (slots - len(ends))
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)


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


def print_summary(summary: Mapping[str, Any], chosen: Collection[str], index: Path) -> None:
    """The table of the notebooks ``chosen`` and, below it, the traceback of each that failed."""
    console = Console()
    table = Table("notebook", "status", "time", "", box=None, pad_edge=False)
    entries = [entry for entry in summary["notebooks"] if entry["name"] in chosen]
    for entry in entries:
        status = f"{SYMBOLS[entry['status']]} {entry['status']}"
        table.add_row(entry["name"], status, duration(entry["seconds"]), escape(entry["reason"]))
    console.print(table)
    for entry in (entry for entry in entries if entry["status"] == "failed"):
        console.rule(entry["name"])
        console.print(entry["traceback"], markup=False, highlight=False)
    note = "" if summary["state"] == DONE else f", {summary['state']}"
    line = f"{duration(summary['seconds'])}{note}, report: {os.path.relpath(index)}"
    console.print(line, highlight=False, soft_wrap=True)
