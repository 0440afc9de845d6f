"""All notebooks of a profile, each in its own process: parameters in, executed notebooks and one report out.

What a batch is going to run: notebooks, their parameters from the profile and the grid, their digests.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from difcore.batch.jobs import Batch, print_summary, publish, run_jobs
from difcore.batch.notebooks import (
    Job,
    declared_parameters,
    heading,
    is_current,
    notebook_digest,
    project_digest,
    worker_environment,
)
from difcore.files import PROJECT_DIR, only_writer


class BatchError(ValueError):
    """A profile, a notebook's name or a parameter that does not exist; the message names it."""


def discover(notebooks_dir: Path) -> dict[str, Path]:
    """Name to path of the notebooks NN_*.ipynb, in order.

    Raises
    ------
    BatchError
        If there is none: an installed package has no notebooks beside it.
    """
    if not notebooks_dir.is_dir():
        raise BatchError(
            f"there are no notebooks at {notebooks_dir}: they come with the repository, not with the installed "
            "package; run ./run_all.sh in a clone of it"
        )
    found = {path.stem: path for path in sorted(notebooks_dir.glob("*.ipynb")) if re.match(r"\d+_", path.name)}
    if not found:
        raise BatchError(f"no notebook NN_*.ipynb in {notebooks_dir}")
    return found


def select(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """Those of ``names`` ("03_gray_image") that ``only`` asks for by number, name or topic; all if it is empty."""

    def matches(name: str, wanted: str) -> bool:
        number, _, topic = name.partition("_")
        return wanted in (name, topic) or (wanted.isdigit() and int(wanted) == int(number))

    for wanted in only:
        if not any(matches(name, wanted) for name in names):
            raise BatchError(f"no notebook {wanted!r}; there are {', '.join(names)}")
    return [name for name in names if not only or any(matches(name, wanted) for wanted in only)]


def load_parameters(path: Path, declared: Mapping[str, set[str]]) -> dict[str, dict[str, Any]]:
    """Parameters per notebook from a profile's YAML file: ``common`` where declared, then the notebook's own.

    Raises
    ------
    BatchError
        For a missing file, a section that is no notebook, or a name that the notebook does not declare.
    """
    if not path.is_file():
        profiles = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml"))) or "none"
        raise BatchError(f"no profile {path.stem!r} in {path.parent}; there are: {profiles}")
    sections = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    common = sections.pop("common", None) or {}
    for name in common:
        if not any(name in names for names in declared.values()):
            raise BatchError(f"{path.name}: no notebook declares the common parameter {name!r}")
    for notebook, values in sections.items():
        if notebook not in declared:
            raise BatchError(f"{path.name}: there is no notebook {notebook!r}")
        for name in values or {}:
            if name not in declared[notebook]:
                raise BatchError(f"{path.name}: {notebook} does not declare a parameter {name!r}")
    return {
        notebook: {name: value for name, value in common.items() if name in names} | (sections.get(notebook) or {})
        for notebook, names in declared.items()
    }


def combinations(grid: Mapping[str, Sequence[Any]], declared: set[str]) -> list[tuple[str, dict[str, Any]]]:
    """(suffix of the run's name, values) for each combination of the grid's parameters that a notebook declares."""
    axes = [[(name, value) for value in values] for name, values in grid.items() if name in declared]
    runs = []
    for chosen in itertools.product(*axes):
        suffix = "".join(f"--{name}={re.sub(r'[^A-Za-z0-9.+-]+', '-', str(value))}" for name, value in chosen)
        runs.append((suffix, dict(chosen)))
    return runs


def plan_jobs(
    notebooks: Mapping[str, Path],
    chosen: Sequence[str],
    params_dir: Path,
    folder: Path,
    profile: str,
    data_root: Path | None,
    grid: Mapping[str, Sequence[Any]],
    full: bool = False,
) -> list[Job]:
    """The runs asked for, each with its parameters and digest.

    ``folder`` is the profile's output folder; the other parameters are those of ``run_batch``.

    Raises
    ------
    BatchError
        For an unknown profile, notebook, parameter or grid parameter.
    """
    declared = {name: declared_parameters(path) for name, path in notebooks.items()}
    parameters = load_parameters(params_dir / f"{profile}.yml", declared)
    if full:
        whole = load_parameters(params_dir / "grids" / "full.yml", declared)
        parameters = {notebook: values | whole[notebook] for notebook, values in parameters.items()}
    for name in grid:
        if not any(name in declared[notebook] for notebook in chosen):
            raise BatchError(f"no selected notebook declares the grid's parameter {name!r}")
    project = project_digest(data_root)
    plan = []
    for notebook in chosen:
        path = notebooks[notebook]
        for suffix, values in combinations(grid, declared[notebook]):
            output = os.path.relpath(folder / f"{notebook}{suffix}", path.parent)
            given = {"output_dir": output, "profile": profile} | ({"data_root": str(data_root)} if data_root else {})
            given = {name: value for name, value in given.items() if name in declared[notebook]}
            chosen_values = parameters[notebook] | values | given
            digest = notebook_digest(path, chosen_values, project)
            plan.append(Job(f"{notebook}{suffix}", path.name, output, chosen_values, digest, *heading(path)))
    return plan


def parse_grid(entries: Sequence[str]) -> dict[str, list[Any]]:
    """{"crop": [64, 128]} from ["crop=64,128"]; values are read as JSON where that works, else as text.

    Folders (NAME ends in _dir or _root) are made absolute: they are meant from here, a notebook runs in another folder.

    Raises
    ------
    ValueError
        For an entry that is not NAME=VALUE,VALUE,...
    """
    grid: dict[str, list[Any]] = {}
    for entry in entries:
        name, _, values = entry.partition("=")
        if not name or not values:
            raise ValueError(f"--grid {entry!r}: expected NAME=VALUE,VALUE,...")
        read = _absolute if name.endswith(("_dir", "_root")) else _json_or_text
        grid.setdefault(name, []).extend(read(value) for value in values.split(","))
    return grid


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
