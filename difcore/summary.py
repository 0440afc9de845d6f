"""What a batch tells of itself: the summary that its report shows, and the table at its end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from difcore.artefacts import git_commit
from difcore.files import atomic_json
from difcore.notebooks import Job, read_state
from difcore.report import SYMBOLS, build_report, duration

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
