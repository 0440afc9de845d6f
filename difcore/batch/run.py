"""All notebooks of a profile, each in its own process: parameters in, executed notebooks and one report out."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from difcore.batch.jobs import Batch, print_summary, run_jobs
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
from difcore.records.artefacts import check_clean

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class BatchError(ValueError):
    """A profile, a notebook's name or a parameter that does not exist; the message names it."""


def discover(notebooks_dir: Path) -> dict[str, Path]:
    """Name to path of the notebooks NN_*.ipynb, in order; BatchError if there is none."""
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
    """Parameters per notebook from a profile's YAML file: ``common`` where declared, then the notebook's own."""
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


def parse_grid(entries: Sequence[str]) -> dict[str, list[Any]]:
    """{"crop": [64, 128]} from ["crop=64,128"]; values are read as JSON where that works, else as text.

    Folders (NAME ends in _dir or _root) are made absolute: they are meant from here, a notebook runs in another folder.
    ValueError for an entry that is not NAME=VALUE,VALUE,...
    """

    def read(name: str, text: str) -> Any:
        if name.endswith(("_dir", "_root")):
            return str(Path(text).expanduser().resolve())
        try:
            return json.loads(text)
        except ValueError:
            return text

    grid: dict[str, list[Any]] = {}
    for entry in entries:
        name, _, values = entry.partition("=")
        if not name or not values:
            raise ValueError(f"--grid {entry!r}: expected NAME=VALUE,VALUE,...")
        grid.setdefault(name, []).extend(read(name, value) for value in values.split(","))
    return grid


@dataclass(frozen=True)
class Selection:
    """What a batch runs."""

    profile: str = "demo"  # names the parameter file <params>/<profile>.yml
    only: Sequence[str] = ()  # numbers, names or topics of the notebooks; none: all
    data_root: Path | str | None = None  # in place of the environment variable DIFCORE_DATA
    # Each notebook once per combination of these that it declares, into <notebook>--<parameter>=<value>/.
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    full: bool = False  # whole grids: <params>/grids/full.yml over the profile's parameters, into <profile>-full/

    @property
    def output(self) -> str:
        """Name of the profile's output folder: with whole grids one of its own."""
        return f"{self.profile}-full" if self.full else self.profile

    @property
    def root(self) -> Path | None:
        """The data folder, from where the user stands."""
        return None if self.data_root is None else Path(self.data_root).expanduser().resolve()


@dataclass(frozen=True)
class Places:
    """Folders of notebooks, of profiles, of outputs."""

    notebooks: Path = PROJECT_DIR / "notebooks"
    params: Path = PROJECT_DIR / "params"
    outputs: Path = PROJECT_DIR / "outputs"


def plan_jobs(selection: Selection, places: Places) -> list[Job]:
    """The runs asked for, each with its parameters and digest; BatchError for a name that does not exist."""
    notebooks = discover(places.notebooks)
    chosen = select(list(notebooks), selection.only)
    declared = {name: declared_parameters(path) for name, path in notebooks.items()}
    parameters = load_parameters(places.params / f"{selection.profile}.yml", declared)
    if selection.full:
        whole = load_parameters(places.params / "grids" / "full.yml", declared)
        parameters = {notebook: values | whole[notebook] for notebook, values in parameters.items()}
    for name in selection.grid:
        if not any(name in declared[notebook] for notebook in chosen):
            raise BatchError(f"no selected notebook declares the grid's parameter {name!r}")
    project = project_digest(selection.root)
    plan = []
    for notebook in chosen:
        path = notebooks[notebook]
        for suffix, values in combinations(selection.grid, declared[notebook]):
            output = os.path.relpath(places.outputs / selection.output / f"{notebook}{suffix}", path.parent)
            given = {"output_dir": output, "profile": selection.profile}
            given |= {"data_root": str(selection.root)} if selection.root else {}
            given = {name: value for name, value in given.items() if name in declared[notebook]}
            every = parameters[notebook] | values | given
            digest = notebook_digest(path, every, project)
            plan.append(Job(f"{notebook}{suffix}", path.name, output, every, digest, *heading(path)))
    return plan


def run_batch(
    selection: Selection = Selection(),
    jobs: int = 1,
    force: bool = False,
    wait: bool = False,
    progress: bool = True,
    places: Places = Places(),
) -> int:
    """Run a profile's notebooks and write <outputs>/<profile>/{index.html, summary.json, <notebook>/...}.

    A notebook whose sources, parameters, code, weights and data are those of its last good run is left as it is. One
    that fails, or lacks data (``NeedsData``), does not stop the others. The report is written anew after each. A batch
    that is stopped (SIGINT, SIGTERM, SIGHUP) says in it what was not run; stopped or killed, it resumes where it was.
    """
    if jobs < 1:
        raise BatchError(f"jobs must be at least 1, not {jobs}")
    folder = places.outputs / selection.output
    check_clean(folder)
    plan = plan_jobs(selection, places)
    console = Console(stderr=True, quiet=not progress)
    environment = worker_environment(max(1, joblib.cpu_count() // jobs), selection.root)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    with only_writer(folder, wait, lambda line: console.print(line, highlight=False)), stop_signals() as signals:
        todo = [job for job in plan if force or not is_current(folder / job.name, job.digest)]
        statuses = {job.name: "unchanged" for job in plan} | {job.name: "not run" for job in todo}
        names = list(discover(places.notebooks))
        batch = Batch(folder, places.notebooks, names, plan, jobs, environment, statuses, signals)
        with Progress(*columns, console=console, transient=True) as display:
            run_jobs(todo, batch, display)
        summary, index = batch.publish()
        if progress:
            print_summary(summary, statuses, index)
    return 128 + signals[0] if signals else int("failed" in statuses.values())


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
