"""All notebooks of a profile, each in its own process: parameters in, executed notebooks and one report out."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from difcore.batch_jobs import Batch, run_jobs
from difcore.files import PROJECT_DIR
from difcore.locks import only_writer
from difcore.notebooks import is_current, worker_environment
from difcore.plan import BatchError, discover, plan_jobs, select
from difcore.summary import print_summary, publish

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


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
    wait: bool = False,
) -> int:
    """Run a profile's notebooks and write <outputs_dir>/<profile>/{index.html, summary.json, <notebook>/...}.

    A notebook whose sources, parameters, code, weights and data are those of its last good run is left as it is. One
    that fails, or lacks data (``NeedsData``), does not stop the others. The report is written anew after each. A batch
    that is stopped (SIGINT, SIGTERM, SIGHUP) says in it what was not run; stopped or killed, it resumes where it was.

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
    wait : bool
        Wait while another batch writes to the same folder.

    Returns
    -------
    int
        0; 1 if a notebook failed; 128 + the signal's number if the batch was stopped.

    Raises
    ------
    BatchError
        For an unknown profile, notebook or parameter, before anything runs.
    LockedError
        If another batch writes to the same folder.
    """
    if jobs < 1:
        raise BatchError(f"jobs must be at least 1, not {jobs}")
    started = time.perf_counter()
    notebooks = discover(Path(notebooks_dir))
    folder = Path(outputs_dir) / profile_name(profile, full)
    root = None if data_root is None else Path(data_root).expanduser().resolve()
    chosen = select(list(notebooks), only)
    plan = plan_jobs(notebooks, chosen, Path(params_dir), folder, profile, root, grid or {}, full)
    console = Console(stderr=True, quiet=not progress)
    environment = worker_environment(max(1, joblib.cpu_count() // jobs), root)
    with only_writer(folder, wait, lambda line: console.print(line, highlight=False)), stop_signals() as signals:
        todo = [job for job in plan if force or not is_current(folder / job.name, job.digest)]
        statuses = {job.name: "unchanged" for job in plan} | {job.name: "not run" for job in todo}
        cwd = Path(notebooks_dir)
        batch = Batch(folder, cwd, notebooks, plan, jobs, environment, statuses, signals, started)
        with _progress(console) as display:
            run_jobs(todo, batch, display)
        summary = batch.summary()
        index = publish(folder, summary)
        if progress:
            print_summary(summary, statuses, index)
    return 128 + signals[0] if signals else int("failed" in statuses.values())


def profile_name(profile: str, full: bool) -> str:
    """Name of a profile's output folder: with whole grids one of its own."""
    return f"{profile}-full" if full else profile


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Within, a signal to stop is only noted, in the list that this gives; one that is ignored stays so."""
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda got, frame: received.append(got))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(console: Console) -> Progress:
    """What is done of all and how long it still takes; below, a bar towards its expected end for each that runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=console, transient=True)
