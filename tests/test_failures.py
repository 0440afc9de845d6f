"""Cells that fail: the cause is what a notebook fails with, its record is kept, and no claim is judged by the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from difcore.batch.notebooks import failed_cells, failure
from difcore.detectors import methods
from difcore.files import PROJECT_DIR, NeedsData
from difcore.records import Claim, artefact
from difcore.records.cells import Cell, NotEnough, run_cells
from difcore.records.claims import CellsFailed, check_results, failure_of, over_cells, qualified

GOOD = Claim("DIF is best", "1", "2", "holds")


def table(*statuses: str) -> pd.DataFrame:
    return pd.DataFrame({"x": range(len(statuses)), "status": statuses})


def test_the_line_counts_what_failed_and_not_what_lacks_data() -> None:
    assert failure_of([table("ok", "too few images: 3 fake", "absent: not in the data folder")]) == ""
    assert failure_of([pd.DataFrame({"x": [1]}), table()]) == ""
    one = table("ok", "failed: RuntimeError: no\n primitive", "failed: RuntimeError: no\n primitive")
    assert failure_of([one]) == "2 of 3 cells failed: RuntimeError: no primitive"
    assert failure_of([table("failed: A: a", "failed: B: b", "failed: C: c", "ok"), one]) == (
        "3 of 4 cells failed: A: a (and 2 other reasons)"
    )
    assert len(failure_of([table("failed: " + "long " * 1000)])) < 400


def test_without_any_result_the_cause_is_raised_at_once() -> None:
    some = table("ok", "failed: KeyError: 'x'")
    assert check_results(some) is some
    with pytest.raises(CellsFailed, match="1 of 2 cells failed: KeyError: 'x'"):
        check_results(table("too few images", "failed: KeyError: 'x'"))
    with pytest.raises(NeedsData, match="^too few images; absent$"):
        check_results(table("too few images", "absent", "absent"))


def test_claims_beside_failed_cells_are_not_comparable_and_say_why() -> None:
    undecided = Claim("x", None, None, "does not hold", "another is better")
    found = qualified([GOOD, undecided], "1 of 2 cells failed: E")
    assert [claim.verdict for claim in found] == ["not comparable"] * 2
    assert [claim.why for claim in found] == ["1 of 2 cells failed: E", "1 of 2 cells failed: E; another is better"]
    assert qualified(found, "1 of 2 cells failed: E") == found  # said once
    assert qualified([GOOD], "") == [GOOD]


def test_a_judge_of_cells_neither_decides_by_half_of_them_nor_hides_its_own_mistakes() -> None:
    @over_cells
    def claims_of(cells: pd.DataFrame, data: str) -> list[Claim]:
        cells["accuracy"]
        return [GOOD]

    whole, half = table("ok", "ok").assign(accuracy=1.0), table("ok", "failed: E: e").assign(accuracy=1.0)
    assert claims_of(whole, "x") == [GOOD]
    assert claims_of(half, data="x")[0].verdict == "not comparable"
    (claim,) = claims_of(table("ok", "failed: E: e"), "x")  # without a column "accuracy"
    assert (claim.verdict, claim.why) == ("not comparable", "1 of 2 cells failed: E: e")
    with pytest.raises(KeyError):
        claims_of(table("ok"), "x")


def test_all_is_written_before_the_notebook_fails(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    a = artefact("x", {"output_dir": tmp_path})
    a.figure("f", figure)
    a.claims([GOOD])
    with pytest.raises(CellsFailed, match="1 of 2 cells failed: E: e"):
        a.save(1, {"cells": table("ok", "failed: E: e")})
    assert {path.name for path in tmp_path.iterdir()} == {"cells.csv", "f.png", "f.pdf", "claims.json", "run.json"}
    (claim,) = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert (claim["verdict"], claim["why"]) == ("not comparable", "1 of 2 cells failed: E: e")


def work(data: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    if values["x"] == 0:
        raise RuntimeError("could not create a primitive")
    if values["x"] == 1:
        raise NeedsData("needs `difcore fetch`")
    return {"accuracy": 1.0}


def executed(path: Path, stderr: str) -> Path:
    """A notebook that printed something."""
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", name="stderr", text=stderr)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_the_cause_is_told_and_not_its_echo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_cells(work, [Cell({"x": x}) for x in range(3)], folder=tmp_path / "cells")
    line = "1 of 3 cells failed: RuntimeError: could not create a primitive"
    assert failure_of([found]) == line
    assert found["status"][1] == "needs `difcore fetch`"  # lacks data: no failure
    assert "traceback" not in found
    path = executed(tmp_path / "executed.ipynb", "a bar\r" + capsys.readouterr().err)
    told, traceback = failed_cells(path)
    assert told == line and traceback.startswith("Traceback (most") and traceback.endswith("create a primitive")

    echo = SimpleNamespace(ename="KeyError", evalue="'accuracy'", traceback=["\x1b[31mKeyError\x1b[0m"])
    outcome = failure(echo, path)  # type: ignore[arg-type]
    assert outcome["reason"] == f"{line} (then KeyError: 'accuracy')"
    assert outcome["traceback"].startswith("Traceback") and outcome["traceback"].endswith("\nKeyError")
    own = SimpleNamespace(ename="CellsFailed", evalue=line, traceback=["in save"])
    assert failure(own, path) == {"status": "failed", "reason": line, "traceback": traceback}  # type: ignore[arg-type]
    silent = executed(tmp_path / "silent.ipynb", "a warning")
    assert failure(echo, silent)["reason"] == "KeyError: 'accuracy'"  # type: ignore[arg-type]


# The notebooks on grids of which a part fails


class Coin:
    """A detector that costs nothing."""

    threshold = 0.5

    def score(self, images: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).random(len(images))


def run_here(name: str, given: Mapping[str, Any]) -> None:
    """Execute a notebook's code in this process."""
    cells = json.loads((PROJECT_DIR / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    space: dict[str, Any] = {"display": lambda *shown: None}
    with pytest.MonkeyPatch.context() as patch:
        declared = lambda: {key: space[key] for key in space["__annotations__"]}  # noqa: E731
        patch.setattr("difcore.records.artefacts.notebook_parameters", declared)  # this is no kernel
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), space)
                if "parameters" in cell["metadata"].get("tags", []):
                    space |= given


BROKEN: dict[str, Callable[[dict[str, Any]], bool]] = {
    "one method or prior": lambda cell: cell["method"] != "dif" or cell["prior"] == "cnet",
    "DIF": lambda cell: cell["method"] == "dif" and cell["prior"] in ("unet", "dnet"),
    "a draw": lambda cell: cell["seed"] == 0,
}
TWO = ["demo-deconv2", "demo-deconv4"]
ONE: dict[str, Any] = {"generators": TWO, "n_train": 4}
GRIDS: list[tuple[str, str, dict[str, Any]]] = [
    ("10_tab_A_denoising_filter", "DIF", ONE),
    ("10_tab_A_denoising_filter", "one method or prior", ONE),
    ("12_tab_C_architectures", "DIF", ONE),
    ("12_tab_C_architectures", "one method or prior", ONE),
    ("13_fig_B_train_size_gans", "DIF", {"generators": ["demo-dcgan", "demo-stylegan"], "sizes": [3, 4]}),
    ("13_fig_B_train_size_gans", "a draw", {"generators": ["demo-dcgan", "demo-stylegan"], "sizes": [3, 4]}),
    ("15_fig_D_consistency", "DIF", ONE),
    ("16_fig_E_variants", "a draw", {"generators": ["demo-deconv4", "demo-deconv4-foliage"], "n_train": 4}),
    ("17_detection_methods", "one method or prior", ONE),
]


@pytest.mark.parametrize(
    ("name", "broken", "own"), [pytest.param(*g, marks=[] if k < 1 else pytest.mark.slow) for k, g in enumerate(GRIDS)]
)
@pytest.mark.usefixtures("cache", "one_thread")
def test_a_notebook_of_which_a_part_fails_shows_the_rest_and_fails_by_the_cause(
    name: str, broken: str, own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(method: str, real: Any, fake: Any, denoiser: Any, seed: int, plan: Any, training: Any) -> Coin:
        if BROKEN[broken]({"method": method, "prior": plan.prior, "seed": seed}):
            raise RuntimeError("could not create a primitive")
        return Coin()

    monkeypatch.setattr(methods, "fit", fit)
    given = {"output_dir": str(tmp_path / "out"), "size": 32, "pool": 6, "test": 4, "draws": 2, "denoiser": "highpass"}
    given["precision"] = "float32"
    cause = r"^\d+ of \d+ cells failed: RuntimeError: could not create a primitive$"
    with pytest.raises(CellsFailed, match=cause):
        run_here(name, {**given, **own})
    if (tmp_path / "out").exists():  # a part had a result
        record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
        claims = json.loads((tmp_path / "out" / "claims.json").read_text(encoding="utf-8"))
        assert record["tables"] and record["figures"] and claims
        assert {claim["verdict"] for claim in claims} == {"not comparable"}
        assert all("could not create a primitive" in claim["why"] for claim in claims)
    else:
        assert (name[:2], broken) == ("13", "DIF")  # whose cells are all of DIF's U-Net


@pytest.mark.usefixtures("cache", "one_thread")
def test_a_notebook_whose_data_are_too_few_is_skipped_with_the_reason(tmp_path: Path) -> None:
    given = {"output_dir": str(tmp_path / "out"), "size": 32, "pool": 6, "test": 4, "draws": 1, "denoiser": "highpass"}
    given["precision"] = "float32"
    with pytest.raises(NeedsData, match="too few images: 6 real, needed 9 to train on"):
        run_here("17_detection_methods", {**given, "generators": TWO, "n_train": 9})
    assert issubclass(NotEnough, ValueError) and not (tmp_path / "out").exists()
