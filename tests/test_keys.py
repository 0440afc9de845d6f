"""What the cells of the tables depend on: change any input of a bench, and the keys of the cells that use it change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import noise_images, random_denoiser, random_dncnn

from difcore.detectors.trained import ClassifierPlan
from difcore.experiments import cross_fits, detection
from difcore.experiments.bench import Bench, table_cells
from difcore.experiments.pools import Sets, Source, make_pool
from difcore.fingerprints.dif import DifPlan
from difcore.records.cells import Cell, cell_key
from difcore.residuals.denoisers import save_denoiser
from difcore.residuals.sets import filter_code, stored_name
from difcore.runtime import Runtime

ROWS = [{"method": "dif", "n_train": 4, "seed": 0}, {"method": "resnet_m", "n_train": 4, "seed": 0}]


def table(bench: Bench, k: int) -> list[Cell]:
    """Cells of one method of a detection table."""
    return table_cells(bench, ROWS[k : k + 1])


KINDS: dict[str, Callable[[Bench], list[Cell]]] = {
    "DIF": lambda bench: table(bench, 0),
    "classifier": lambda bench: table(bench, 1),
    "borders": lambda bench: detection.border_cells(bench, 4, 0),
    "fits": lambda bench: cross_fits.model_cells(bench, 4, 0),
}
ALL, BY_RESIDUALS = set(KINDS), {"DIF", "borders", "fits"}
USED_BY: dict[str, set[str]] = {  # which cells' numbers change with a field of the bench
    "sources": ALL,
    "crop": ALL,
    "plan": {"DIF", "fits"},
    "training": {"classifier"},
    "denoiser": BY_RESIDUALS,
    "runtime": ALL,
    "qualities": {"DIF", "classifier"},
    "max_test": {"DIF", "classifier", "fits"},
    "real_data": {"DIF", "classifier"},
}
UNUSED = {"absent", "label", "progress", "tuned", "mode"}  # a mode acts by the plan and the filter


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, value[-1] + 1 if value else 1)
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) else 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    weights = save_denoiser(tmp_path / "a.safetensors", random_dncnn(3, 4), torch.zeros(3, 32, 32), {})
    return Bench({"g": Source("g", "digest", lambda jpeg: None)}, crop=32, denoiser=str(weights))  # type: ignore[arg-type,return-value]


def keys(bench: Bench) -> dict[str, tuple[str, ...]]:
    return {kind: tuple(cell_key(cell, "code") for cell in cells(bench)) for kind, cells in KINDS.items()}


def changed_kinds(before: Bench, after: Bench) -> set[str]:
    first, second = keys(before), keys(after)
    return {kind for kind in KINDS if first[kind] != second[kind]}


def test_it_is_said_of_every_field_of_a_bench_who_uses_it() -> None:
    assert {field.name for field in dataclasses.fields(Bench)} == {*USED_BY, *UNUSED}


def test_every_input_of_a_cell_is_in_its_key(bench: Bench, tmp_path: Path) -> None:
    weights = save_denoiser(tmp_path / "b.safetensors", random_dncnn(3, 4, seed=1), torch.zeros(3, 32, 32), {})
    changes: dict[str, Any] = {
        "sources": {"g": dataclasses.replace(bench.sources["g"], digest="other images")},
        "crop": 64,
        "plan": DifPlan(steps=3),
        "training": ClassifierPlan(steps=3),
        "denoiser": str(weights),
        "runtime": Runtime(precision="bfloat16"),
        "qualities": (95,),
        "max_test": 7,
        "real_data": True,
    }
    for name, users in USED_BY.items():
        assert changed_kinds(bench, dataclasses.replace(bench, **{name: changes[name]})) == users, name
    for name in UNUSED - {"absent"}:
        assert changed_kinds(bench, dataclasses.replace(bench, **{name: other(getattr(bench, name))})) == set(), name


def test_of_a_runtime_the_kind_of_device_the_precision_and_the_engine_count(bench: Bench) -> None:
    def key(**changes: Any) -> str:  # of a cell that needs no filter: there is no such device here
        return cell_key(table(dataclasses.replace(bench, runtime=Runtime(**changes)), 1)[0], "code")

    assert len({key(), key(precision="bfloat16"), key(device="cuda"), key(device="mps"), key(engine="ncnn-1")}) == 5
    assert key(device="cuda:0") == key(device="cuda:1")
    assert key() == key(threads=8, workers=4, processor="another", ratio=2.0, method="probe")


def test_the_papers_mode_has_keys_of_its_own(bench: Bench) -> None:
    plain = dataclasses.replace(bench, denoiser="highpass")  # the one filter whose F_DnCNN no mode changes
    assert changed_kinds(plain, plain.in_mode("paper")) == {"DIF", "fits"}
    assert plain.in_mode("paper").filter().hash == plain.filter().hash


@pytest.mark.parametrize(("name", "users"), [("plan", {"DIF", "fits"}), ("training", {"classifier"})])
def test_every_field_of_a_plan_is_in_the_keys_of_what_it_plans(bench: Bench, name: str, users: set[str]) -> None:
    plan = getattr(bench, name)
    for field in dataclasses.fields(plan):
        if field.name == "seed":
            continue  # a cell's own, one of its values
        after = object.__new__(type(plan))  # whatever is valid: two values suffice to tell whether it is in the key
        for each in dataclasses.fields(plan):
            value = getattr(plan, each.name)
            object.__setattr__(after, each.name, other(value) if each.name == field.name else value)
        assert users <= changed_kinds(bench, dataclasses.replace(bench, **{name: after})), field.name


def test_all_n_s_of_a_folders_grid_count_where_they_share_the_test_images(bench: Bench) -> None:
    more = [*ROWS[:1], {**ROWS[0], "n_train": 8}]
    for real_data in (False, True):
        own = dataclasses.replace(bench, real_data=real_data)
        alone, among = table_cells(own, ROWS[:1])[0], table_cells(own, more)[0]
        assert (cell_key(alone, "") != cell_key(among, "")) == real_data


@pytest.mark.parametrize("place", ["difcore.records.artefacts.features.version", "difcore.records.artefacts.version"])
def test_decoders_and_libraries_are_in_every_key(bench: Bench, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(bench)
    monkeypatch.setattr(place, lambda name: "99.9")
    after = keys(bench)
    assert all(set(before[kind]).isdisjoint(after[kind]) for kind in KINDS)


@pytest.mark.usefixtures("cache", "one_thread")
def test_borders_of_one_crop_are_not_those_of_another() -> None:
    def source(size: int) -> Source:
        images = noise_images(48, 64)[:, :size, :size]
        pools = [make_pool(part, list(map(str, range(12))), None) for part in np.split(images, 4)]
        return Source("g", "digest", lambda jpeg: Sets(*pools))

    found = [
        detection.boundary_table(Bench({"g": source(size)}, crop=size, denoiser="highpass"), 4)["border"][0]
        for size in (32, 64, 32)
    ]
    assert found[0] == found[2] != found[1] and np.isfinite(found).all()


def test_a_residuals_place_tells_pixels_filter_and_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = random_denoiser(0), random_denoiser(1)
    names = {stored_name("ab12", one), stored_name("cd34", one), stored_name("ab12", two)}
    filter_code.cache_clear()
    monkeypatch.setattr(torch, "__version__", "99.9")
    names.add(stored_name("ab12", one))
    filter_code.cache_clear()
    names.add(stored_name("ab12", dataclasses.replace(one, engine="ncnn-1")))
    assert len(names) == 5
