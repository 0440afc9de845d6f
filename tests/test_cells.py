"""Grids of cells: resumed cell by cell, failures kept, keys that change with what the numbers depend on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dask
import joblib
import pytest
from distributed import LocalCluster
from hypothesis import given
from hypothesis import strategies as st

import difcore
from difcore.files import PROJECT_DIR
from difcore.images.leakage import LeakageError
from difcore.machine.source_digest import code_digest, imported
from difcore.records import cells
from difcore.records.cells import Cell, Dependence, NotEnough, cell_key, run_cells

CALLS: list[int] = []


def square(data: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the tests compute: fails where it is told to."""
    CALLS.append(values["x"])
    if values["x"] < 0:
        raise RuntimeError("no squares of negative numbers")
    if values["x"] == 99:
        raise NotEnough("too few numbers: 99")
    return {"square": values["x"] ** 2, "data": data}


def leak(data: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    raise LeakageError("a training image is in the test set")


def grid(*xs: int, data: str = "a") -> list[Cell]:
    return [Cell({"x": x}, data) for x in xs]


@pytest.fixture(autouse=True)
def forget() -> None:
    CALLS.clear()


def test_every_cell_is_a_row_in_the_cells_order(tmp_path: Path) -> None:
    loaded: list[str] = []
    cells_ = [*grid(3, data="b"), *grid(1, 2, data="a")]
    table = run_cells(square, cells_, lambda name: loaded.append(name) or name.upper(), tmp_path)
    assert list(table["x"]) == [3, 1, 2] and list(table["square"]) == [9, 1, 4]
    assert list(table["data"]) == ["B", "A", "A"]
    assert loaded == ["b", "a"]  # once for each
    assert set(table["status"]) == {"ok"} and (table["seconds"] >= 0).all()


def test_a_run_goes_on_where_it_was_and_loads_only_what_is_missing(tmp_path: Path) -> None:
    first = run_cells(square, grid(1, 2), folder=tmp_path)
    (tmp_path / f"{cell_key(grid(2)[0], code_digest(square))}.json").unlink()  # as if killed before the second
    CALLS.clear()
    loaded: list[str] = []
    second = run_cells(square, [*grid(1, 2, data="a"), *grid(3, data="b")], loaded.append, tmp_path)
    assert CALLS == [2, 3] and loaded == ["a", "b"]
    assert list(second["square"]) == [1, 4, 9]
    assert second["seconds"][0] == first["seconds"][0]  # the time that it took then
    loaded.clear()
    run_cells(square, grid(1, 2, 3), loaded.append, tmp_path)
    assert loaded == []


def test_each_file_is_written_as_soon_as_its_cell_is_done(tmp_path: Path) -> None:
    def interrupted(data: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        if values["x"] == 2:
            raise KeyboardInterrupt
        return {"square": values["x"] ** 2}

    with pytest.raises(KeyboardInterrupt):
        run_cells(interrupted, grid(1, 2, 3), folder=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text(encoding="utf-8"))["row"] == {"square": 1}


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    run_cells(square, grid(4), folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text("{", encoding="utf-8")
    assert list(run_cells(square, grid(4), folder=tmp_path)["square"]) == [16]
    assert CALLS == [4, 4]


def test_a_failure_is_kept_with_its_reason_and_the_others_run(tmp_path: Path) -> None:
    table = run_cells(square, grid(1, -1, 99, 2), folder=tmp_path)
    failed, short = "failed: RuntimeError: no squares of negative numbers", "too few numbers: 99"
    assert list(table["status"]) == ["ok", failed, short, "ok"]
    assert table["square"].isna().tolist() == [False, True, True, False]
    assert failed in [json.loads(p.read_text(encoding="utf-8"))["status"] for p in tmp_path.iterdir()]
    CALLS.clear()
    run_cells(square, grid(1, -1, 99, 2), folder=tmp_path)
    assert CALLS == [-1, 99]  # what failed is tried again, what did not is not


def test_data_that_cannot_be_loaded_fail_their_own_cells_only(tmp_path: Path) -> None:
    def load(name: str) -> str:
        if name == "gone":
            raise FileNotFoundError("no such generator")
        if name == "few":
            raise NotEnough("too few images: 3 fake")
        return name

    table = run_cells(square, [*grid(1, data="gone"), *grid(2, data="few"), *grid(3)], load, tmp_path)
    assert list(table["status"]) == ["failed: FileNotFoundError: no such generator", "too few images: 3 fake", "ok"]
    assert CALLS == [3]


def test_a_leak_stops_everything(tmp_path: Path) -> None:
    with pytest.raises(LeakageError, match="in the test set"):
        run_cells(leak, grid(1, 2), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


TEXT = st.text(max_size=3)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "images": st.lists(TEXT, max_size=2).map(tuple),
    "crop": st.integers(16, 18),
    "computed_on": st.lists(TEXT, max_size=2).map(tuple),
    "libraries": st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    **dict.fromkeys(("encoding", "division", "filter", "plan", "training"), TEXT),
}
DEPENDENCES = st.builds(Dependence, **FIELDS)


def test_the_fields_of_a_dependence_have_no_defaults() -> None:
    assert {field.name for field in dataclasses.fields(Dependence)} == set(FIELDS)
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(Dependence))


@given(st.lists(DEPENDENCES, min_size=2, max_size=6))
def test_keys_are_equal_where_all_is_equal_and_nowhere_else(found: list[Dependence]) -> None:
    keys = [cell_key(Cell({"x": 1}, "a", depends), "code") for depends in found]
    assert len(set(keys)) == len(set(found))


@given(DEPENDENCES, st.data())
def test_a_change_of_any_field_changes_the_key(depends: Dependence, data: st.DataObject) -> None:
    for name, values in FIELDS.items():
        other = data.draw(values.filter(lambda value, name=name: value != getattr(depends, name)))
        changed = dataclasses.replace(depends, **{name: other})
        assert cell_key(Cell({}, depends=changed), "") != cell_key(Cell({}, depends=depends), ""), name


def test_the_key_changes_with_values_code_and_version_and_not_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell({"x": 1, "method": "dif"}, "a")
    key = cell_key(cell, "code")
    assert key == cell_key(Cell({"method": "dif", "x": 1}, "another name"), "code")
    others = [Cell({"x": 2, "method": "dif"}), Cell({"x": 1, "method": "dif", "seed": 0}), Cell({"x": "1"})]
    keys = {key, *(cell_key(other, "code") for other in others), cell_key(cell, "other code")}
    monkeypatch.setattr(difcore, "__version__", "99.0")
    keys.add(cell_key(cell, "code"))
    assert len(keys) == 6


def test_the_code_of_a_cell_is_its_module_and_what_that_imports() -> None:
    from difcore.experiments.bench import detect

    files = set()
    waiting = [PROJECT_DIR / "difcore" / "experiments" / "bench.py"]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting += imported(path)
    names = {path.stem for path in files}
    assert {"methods", "dif", "priors", "trained", "sets", "denoisers", "scenes", "generators", "pools"} <= names
    drawing = {"heatmaps", "charts", "controls", "report", "detection_claims", "claiming"}
    assert not names & drawing  # it changes no number
    assert code_digest(detect) == code_digest(partial(detect, bfloat16=True)) != code_digest(square)


@pytest.mark.slow
def test_cells_run_in_other_processes(tmp_path: Path) -> None:
    table = run_cells(square, grid(1, -1, 2), lambda name: name, tmp_path, n_jobs=2)
    assert table["status"].str.startswith("failed").tolist() == [False, True, False]
    assert list(table["square"].dropna()) == [1, 4]
    assert CALLS == []  # not in this process


def test_the_users_backend_is_used(tmp_path: Path) -> None:
    with joblib.parallel_config(backend="threading", n_jobs=2):
        table = run_cells(square, grid(*range(6)), folder=tmp_path)
    assert list(table["square"]) == [x * x for x in range(6)]
    assert sorted(CALLS) == list(range(6))


@pytest.mark.slow
def test_cells_go_to_a_dask_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None
    )  # of one thread, joblib would use none
    with one:
        monkeypatch.setenv("DIFCORE_DASK", one.scheduler_address)
        table = run_cells(square, grid(1, -1, 2), lambda name: name, tmp_path)
    assert table["status"].str.startswith("failed").tolist() == [False, True, False]
    assert list(table["square"].dropna()) == [1, 4]
    assert CALLS == []  # not in this process
    assert len(list(tmp_path.iterdir())) == 3  # kept on this side


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFCORE_DASK", "tcp://127.0.0.1:1")
    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}), pytest.raises(OSError), cells.cluster():
        pass


def test_progress_is_shown_with_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cells(square, grid(1), folder=tmp_path)
    run_cells(square, grid(1, 2, 3), folder=tmp_path, progress=True, title="squares")
    shown = capsys.readouterr().err
    assert "squares (1 of 3 known)" in shown and "2/2" in shown
    run_cells(square, grid(1, 2, 3), folder=tmp_path, progress=True)
    assert capsys.readouterr().err == ""  # nothing left to do


def test_cells_are_kept_beside_the_residuals(cache: Path) -> None:
    run_cells(square, grid(5))
    assert len(list((cache / "cells").glob("*.json"))) == 1
