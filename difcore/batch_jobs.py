"""The notebooks of one batch at work: their processes, what they print, how long they still take."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import Progress, TaskID

from difcore.artefacts import plain
from difcore.estimates import expected_seconds, seconds_left
from difcore.files import atomic_json
from difcore.notebooks import Job, read_state
from difcore.report import SYMBOLS, duration
from difcore.summary import DONE, publish, summarise

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
    command = [sys.executable, "-m", "difcore.notebooks", json.dumps(plain(dataclasses.asdict(job)))]
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
