"""What `difcore doctor` says is there or missing, and whether `difcore selftest` notices what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from difcore.cli import health
from difcore.cli.app import app
from difcore.experiments import selftest
from difcore.files import DATA_DIR, sha256_file
from difcore.images import sources
from difcore.residuals.denoisers import SHIPPED
from difcore.runtime import Runtime, supports_bfloat16


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path / "cache"))
    for name in ("DIFCORE_DATA", "DIFCORE_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIFCORE_PRECISION", "float32")


def ask(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def diagnosis() -> tuple[int, dict[str, dict[str, str]]]:
    code, document = ask("doctor")
    assert document["healthy"] is (code == 0)
    return code, {row["check"]: row for row in document["checks"]}


def test_a_healthy_machine_is_called_so() -> None:
    code, rows = diagnosis()
    assert code == 0
    assert list(rows) == ["versions", "processor", "room", "kernel", "release", "weights", "cache"]
    needed = [row for name, row in rows.items() if name not in ("release", "room")]
    assert {row["state"] for row in needed} == {"ok"} and not any(row["mend"] for row in needed)
    assert "torch" in rows["versions"]["found"] and "float32" in rows["processor"]["found"]
    assert "cores" in rows["processor"]["found"] and " ms" in rows["processor"]["found"]


def test_a_release_that_is_missing_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PROJECT_DIR", tmp_path / "elsewhere" / "project")
    code, rows = diagnosis()
    assert code == 0
    assert (rows["release"]["state"], rows["release"]["mend"]) == ("missing", "difcore fetch")


def test_what_is_needed_and_broken_is_named_with_what_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights_registry.txt").write_text(f"gone.safetensors {'0' * 64}\nother.safetensors {'1' * 64}\n")
    (tmp_path / "other.safetensors").write_bytes(b"other")
    monkeypatch.setattr(health, "DATA_DIR", tmp_path)
    monkeypatch.setenv("DIFCORE_DEVICE", "cuda:99")
    monkeypatch.setattr(health, "requires", lambda name: ["numpy>=2.0", "no-such-package>=1", 'x; extra == "test"'])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path / "file"))
    code, rows = diagnosis()
    assert code == 1
    assert {name for name, row in rows.items() if row["state"] == "broken"} == {
        "versions", "processor", "weights", "cache",
    }  # fmt: skip
    assert "gone.safetensors, other.safetensors" in rows["weights"]["found"]
    assert "no-such-package" in rows["versions"]["found"] and "numpy" not in rows["versions"]["found"]
    assert "cuda:99" in rows["processor"]["found"] and "unset DIFCORE_DEVICE" in rows["processor"]["mend"]
    assert rows["cache"]["mend"].startswith("export DIFCORE_CACHE=")
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1 and "-> export DIFCORE_CACHE=" in shown.stdout


def test_the_registry_names_every_file_of_weights() -> None:
    """After a change of weights: python scripts/selftest.py."""
    lines = (DATA_DIR / "weights_registry.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{path.name} {sha256_file(path)}" for path in sorted(DATA_DIR.glob("*.safetensors"))]


def test_the_selftest_passes_here() -> None:
    code, document = ask("selftest", "--device", "cpu")
    wrong = [row for row in document["checks"] if not row["ok"]]
    assert (code, document["passed"], wrong) == (0, True, [])
    assert len(document["checks"]) == len(pd.read_csv(selftest.PINNED)) >= 15


def test_every_shipped_filter_is_pinned() -> None:
    """After a change of filters: python scripts/selftest.py."""
    pinned = set(pd.read_csv(selftest.PINNED).check)
    assert {f"residuals of {name}, in 8-bit steps" for name in (*SHIPPED, "highpass")} <= pinned


@pytest.mark.skipif(not supports_bfloat16("cpu"), reason="this processor cannot compute in bfloat16")
def test_the_selftest_passes_in_bfloat16_too_and_not_within_float32s_tolerance() -> None:
    found = selftest.beside_pinned(Runtime(precision="bfloat16"))
    assert found.ok.all(), found[~found.ok].to_string()
    of_networks = found[found.check.str.startswith("residuals of photos")]
    assert ((of_networks.here - of_networks.pinned).abs() > 1e-5).all()


def test_another_filter_in_a_filters_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Runtime.denoiser
    other = {"highpass": "scenes"}
    monkeypatch.setattr(Runtime, "denoiser", lambda self, name, *a: load(self, other.get(name, name), *a))
    found = selftest.beside_pinned().set_index("check")
    assert list(found.index[~found.ok]) == ["residuals of highpass, in 8-bit steps"]


def test_a_number_outside_its_tolerance_ends_in_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = pd.read_csv(selftest.PINNED)
    right = dict(zip(pinned.check, pinned.pinned, strict=True))
    k = pinned.index[pinned.check == "score of fake 5"][0]
    pinned.loc[k, "pinned"] += 1.5 * pinned.loc[k, "float32"]
    pinned.to_csv(tmp_path / "pinned.csv", index=False)
    monkeypatch.setattr(selftest, "PINNED", tmp_path / "pinned.csv")
    monkeypatch.setattr(selftest, "measured", lambda runtime: right)
    code, document = ask("selftest", "--device", "cpu")
    assert (code, document["passed"]) == (1, False)
    assert [row["check"] for row in document["checks"] if not row["ok"]] == ["score of fake 5"]
