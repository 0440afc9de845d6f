"""A grid of experiments, cell by cell: in parallel, resumable, with a time estimate; one that fails stops no other.

What a cell gives is kept in one file, whose name is a hash of everything the numbers depend on: a killed run loses the
cells it was at, and notebooks share what they have in common. Cells go through joblib, to the cores here or, if
``DIFCORE_DASK`` holds a scheduler's address, to a Dask cluster; nothing but their data and results travel.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from tqdm.auto import tqdm

import difcore
from difcore.files import NeedsData, atomic_json, read_json, sha256_bytes
from difcore.images.leakage import LeakageError
from difcore.machine.cache import keep, optional_folder
from difcore.machine.source_digest import code_digest
from difcore.records.artefacts import plain
from difcore.records.claims import FAILED, OK, failure_of

Work = Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Dependence:
    """All that the numbers of a cell depend on besides its values and its code; "" says that something is not used."""

    images: tuple[str, ...]  # digests of the image sets
    crop: int  # side of the images, px
    encoding: str  # their last one
    division: str  # into train and test: all N_S of the grid, largest test set
    filter: str  # SHA-256 of weights, bias, precision, limit
    plan: str  # of the fit of a fingerprint
    training: str  # of a classifier
    computed_on: tuple[str, ...]  # kind of device, precision; threads order sums and no more
    libraries: tuple[tuple[str, str], ...]  # name and version of what decodes images and computes


@dataclass(frozen=True)
class Cell:
    """One cell: its row's first columns, the name of the data that it shares with others, what it depends on."""

    values: Mapping[str, Any]
    data: str = ""
    depends: Dependence | None = None


class NotEnough(ValueError):
    """A cell that cannot be computed with the data there is; the message is what the table says in its place."""


def cell_key(cell: Cell, code: str) -> str:
    """SHA-256 of a cell's values, dependence, difcore's version and its ``code``; the data's name does not count."""
    depends = asdict(cell.depends) if cell.depends else None
    facts = [plain(dict(cell.values)), plain(depends), difcore.__version__, code]
    return sha256_bytes(json.dumps(facts, sort_keys=True).encode())


def compute(work: Work, data: Any, cell: Cell) -> dict[str, Any]:
    """One cell: its record, also when it or its data fail; but a leak is a mistake in the program, and is raised."""
    started = time.perf_counter()
    record: dict[str, Any] = {"values": cell.values, "row": {}, "status": OK}
    try:
        if isinstance(data, Exception):
            raise data
        record["row"] = dict(work(data, cell.values))
    except LeakageError:
        raise
    except (NotEnough, NeedsData) as error:
        record["status"] = str(error)
    except Exception as error:  # whatever it is, the other cells are worth having
        record |= {"status": f"{FAILED}{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    record["seconds"] = round(time.perf_counter() - started, 3)
    return plain(record)


def numbered(k: int, task: Callable[[Cell], dict[str, Any]], cell: Cell) -> tuple[int, dict[str, Any]]:
    """A cell's record with its place in the table: they come as they are done."""
    return k, task(cell)


def read_cell(path: Path) -> dict[str, Any] | None:
    """A kept cell; None if there is none, it is damaged, or it did not come to a result: then it is tried again."""
    record = read_json(path)
    return record if record.get("status") == OK else None


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
    """``work(load(cell.data), cell.values)`` for every cell, as one tidy table in the cells' order.

    Its columns: values, what ``work`` gave, ``seconds``, and ``status``: "ok", what data the cell lacks, or "failed: "
    and the error, of which the first one's traceback goes to stderr; a LeakageError is raised. Cells are kept in
    ``folder`` (default: difcore's cache). ``load`` is called here, once for each name of which a cell is missing.
    ``n_jobs``: as joblib counts; 1 lets ``joblib.parallel_config`` decide. ``code``: ``code_digest(work)``, if known.
    """
    home, code = Path(folder) if folder else optional_folder("cells"), code or code_digest(work)
    paths = [home / f"{cell_key(cell, code)}.json" if home else None for cell in cells]
    records = [read_cell(path) if path else None for path in paths]
    missing = [k for k, record in enumerate(records) if record is None]
    bar = tqdm(total=len(missing), desc=f"{title} ({len(cells) - len(missing)} of {len(cells)} known)", unit="cell",
               disable=not progress or not missing)  # fmt: skip
    for name in dict.fromkeys(cells[k].data for k in missing):
        try:
            data = load(name)
        except Exception as error:  # a generator whose images cannot be read must not stop the others
            data = error
        task = partial(compute, work, data)
        with cluster():
            # None leaves the number of jobs to joblib.parallel_config, and is 1 without it.
            parallel = joblib.Parallel(n_jobs=None if n_jobs == 1 else n_jobs, return_as="generator_unordered")
            chosen = (joblib.delayed(numbered)(k, task, cells[k]) for k in missing if cells[k].data == name)
            for k, record in parallel(chosen):
                records[k] = record
                if path := paths[k]:  # here: workers of a cluster need not share the disk
                    keep(partial(atomic_json, path, record))
                bar.update()
    bar.close()
    found = [record for record in records if record is not None]
    rows = [record["values"] | record["row"] | {key: record[key] for key in ("seconds", "status")} for record in found]
    table = pd.DataFrame(rows)
    if line := failure_of([table]):
        first = next((record["traceback"] for record in found if "traceback" in record), "")
        print(f"{first}{line}", file=sys.stderr)
    return table


def cluster_address() -> str:
    """``DIFCORE_DASK``: the scheduler's address, empty without a cluster."""
    return os.environ.get("DIFCORE_DASK", "")


@contextmanager
def cluster() -> Iterator[None]:
    """Within, joblib sends its work to the Dask cluster of ``DIFCORE_DASK``; OSError if none answers."""
    if not (address := cluster_address()):
        yield
        return
    from distributed import Client  # slow to import

    with Client(address), joblib.parallel_config(backend="dask"):
        yield
