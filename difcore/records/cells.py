"""A grid of experiments, cell by cell: in parallel, resumable, with a time estimate; one that fails stops no other.

A cell is a mapping of JSON values, its row's first columns. What it gives is kept in one file, whose name is a hash of
everything the numbers depend on, so that a killed run loses the cells it was at and notebooks share what they have in
common. Cells go through joblib, to the cores here or, if ``DIFCORE_DASK`` holds a scheduler's address, to a Dask
cluster whose workers have difcore installed; nothing but the cells' data and results need travel.

A cell of a grid, all that its numbers depend on, and the key under which they are kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from tqdm.auto import tqdm

import difcore
from difcore.files import NeedsData, atomic_json, sha256_bytes
from difcore.images.leakage import LeakageError
from difcore.machine.cache import keep, optional_folder
from difcore.machine.source_digest import code_digest
from difcore.records.artefacts import plain
from difcore.records.claims import FAILED, OK, failure_of


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Attributes
    ----------
    values : mapping of str to JSON values
        What distinguishes it: columns of its row.
    data : str
        Name of the data that it needs; cells of one name share what ``load`` gives for it.
    depends : Dependence, optional
        What its numbers depend on besides; None: nothing.
    """

    values: Mapping[str, Any]
    data: str = ""
    depends: Dependence | None = None


@dataclass(frozen=True)
class Dependence:
    """All that the numbers of a cell depend on besides its values and its code.

    No field has a default, so that who makes a cell says of each what it is, or "" that it is not used.

    Attributes
    ----------
    images : tuple of str
        Digests of the image sets.
    crop : int
        Side of the images, px.
    encoding : str
        Their last encoding.
    division : str
        How they are divided into train and test: all N_S of the grid, largest test set.
    filter : str
        SHA-256 of the residual filter: weights, bias, precision, limit.
    plan, training : str
        Of the fit of a fingerprint, of a classifier.
    computed_on : tuple of str
        Kind of device, precision. How many threads there were is not in it: that orders sums and no more.
    libraries : tuple of (name, version)
        What decodes images and computes.
    """

    images: tuple[str, ...]
    crop: int
    encoding: str
    division: str
    filter: str
    plan: str
    training: str
    computed_on: tuple[str, ...]
    libraries: tuple[tuple[str, str], ...]


def cell_key(cell: Cell, code: str) -> str:
    """SHA-256 of the cell's values, of what it depends on, of difcore's version and of the ``code`` that computes it.

    The data's name is left out: what counts is in ``depends``.
    """
    depends = asdict(cell.depends) if cell.depends else None
    facts = [plain(dict(cell.values)), plain(depends), difcore.__version__, code]
    return sha256_bytes(json.dumps(facts, sort_keys=True).encode())


Work = Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]


class NotEnough(ValueError):
    """A cell that cannot be computed with the data there is; the message is what the table says in its place."""


def compute(work: Work, data: Any, cell: Cell) -> dict[str, Any]:
    """One cell: its record, also when it fails.

    Raises
    ------
    LeakageError
        A leak is a mistake in the program, not a cell's bad luck: nothing goes on after it.
    """
    started = time.perf_counter()
    record: dict[str, Any] = {"values": cell.values, "row": {}, "status": OK}
    try:
        record["row"] = dict(work(data, cell.values))
    except LeakageError:
        raise
    except (NotEnough, NeedsData) as error:
        record["status"] = str(error)
    except Exception as error:  # whatever it is, the other cells are worth having
        record |= {"status": f"{FAILED}{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    record["seconds"] = round(time.perf_counter() - started, 3)
    return plain(record)


def read_cell(path: Path) -> dict[str, Any] | None:
    """A kept cell; None if there is none, it is damaged, or it did not come to a result: then it is tried again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("status") == OK else None


def run_cells(
    work: Work,
    cells: Sequence[Cell],
    load: Callable[[str], Any] = lambda name: None,
    folder: Path | str | None = None,
    n_jobs: int = 1,
    progress: bool = False,
    title: str = "cells",
    code: str = "",
) -> pd.DataFrame:
    """``work(data, values)`` for every cell, as one tidy table in the cells' order.

    Parameters
    ----------
    work : callable
        Maps (what ``load`` gave, the cell's values) to the rest of the row. With ``n_jobs`` above 1: picklable.
    cells : sequence of Cell
    load : callable
        Maps a cell's ``data`` to its data: called in this process, once for each name of which a cell is missing.
    folder : path or None
        Where the cells are kept; None: difcore's cache, as far as it can be written.
    n_jobs : int
        Cells at a time, as joblib counts (-1: one per core). 1 lets ``joblib.parallel_config`` decide.
    progress : bool
        Show a bar with the time that remains.
    code : str
        ``code_digest(work)``, where it is known already.

    Returns
    -------
    DataFrame
        The cells' values, the rows' values, ``seconds`` and ``status``: "ok", or why the cell has no result:
        what data it lacks, or "failed: " and the error. The first failed one's traceback is printed on stderr.

    Raises
    ------
    LeakageError
    """
    home, code = Path(folder) if folder else optional_folder("cells"), code or code_digest(work)
    paths = [home / f"{cell_key(cell, code)}.json" if home else None for cell in cells]
    records = [read_cell(path) if path else None for path in paths]
    missing = [k for k, record in enumerate(records) if record is None]
    bar = tqdm(total=len(missing), desc=f"{title} ({len(cells) - len(missing)} of {len(cells)} known)", unit="cell",
               disable=not progress or not missing)  # fmt: skip
    for name in dict.fromkeys(cells[k].data for k in missing):
        chosen = [k for k in missing if cells[k].data == name]
        task = partial(compute, work, load_or_fail(load, name))
        if isinstance(task.args[1], Failure):
            task = partial(compute, fail, task.args[1])
        with cluster():
            for k, record in results(task, chosen, cells, n_jobs):
                records[k] = record
                if path := paths[k]:  # here: workers of a cluster need not share the disk
                    keep(partial(atomic_json, path, record))
                bar.update()
    bar.close()
    table = pd.DataFrame([row_of(record) for record in records if record is not None])
    if line := failure_of([table]):
        first = next((record["traceback"] for record in records if record and "traceback" in record), "")
        print(f"{first}{line}", file=sys.stderr)
    return table


@dataclass(frozen=True)
class Failure:
    """Why data could not be loaded, for the cells that need them."""

    reason: str


def load_or_fail(load: Callable[[str], Any], name: str) -> Any:
    """What ``load`` gives, or a Failure that says why it does not."""
    try:
        return load(name)
    except (NotEnough, NeedsData) as error:
        return Failure(str(error))
    except Exception as error:  # a generator whose images cannot be read must not stop the others
        return Failure(f"{FAILED}{type(error).__name__}: {error}")


def fail(failure: Failure, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The work of a cell whose data are not there."""
    raise NotEnough(failure.reason)


def cluster_address() -> str:
    """``DIFCORE_DASK``: the scheduler's address, empty without a cluster."""
    return os.environ.get("DIFCORE_DASK", "")


@contextmanager
def cluster() -> Iterator[None]:
    """Within, joblib sends its work to the Dask cluster of ``DIFCORE_DASK``, if there is one.

    Raises
    ------
    OSError
        If no scheduler answers.
    """
    if not (address := cluster_address()):
        yield
        return
    from distributed import Client  # slow to import

    with Client(address), joblib.parallel_config(backend="dask"):
        yield


def results(
    task: Callable[[Cell], dict[str, Any]], chosen: Sequence[int], cells: Sequence[Cell], n_jobs: int
) -> Iterable[tuple[int, dict[str, Any]]]:
    """(index, record) of the chosen cells as they are done."""
    # None leaves the number of jobs to joblib.parallel_config, and is 1 without it.
    parallel = joblib.Parallel(n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator_unordered")
    return parallel(joblib.delayed(with_index)(k, task, cells[k]) for k in chosen)


def with_index(k: int, task: Callable[[Cell], dict[str, Any]], cell: Cell) -> tuple[int, Any]:
    """The cell's record with its place in the table."""
    return k, task(cell)


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row: values, results, seconds, status."""
    return {**record["values"], **record["row"], "seconds": record["seconds"], "status": record["status"]}
