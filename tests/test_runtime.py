"""What computations run on: as asked for, as the machine and the probe say, and what the user is told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from difcore import runtime
from difcore import runtime as probe
from difcore.cli.app import app
from difcore.files import PROJECT_DIR
from difcore.machine.cache import CacheWarning
from difcore.machine.devices import processor_name
from difcore.runtime import WORTH_WHILE, Runtime, resolve

Machine = Callable[[bool, float], list[str]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Machine:
    """Pretend to a machine that can or cannot compute in bfloat16, with a ratio to probe; the probes that are made."""
    monkeypatch.delenv("DIFCORE_DEVICE")
    monkeypatch.delenv("DIFCORE_PRECISION")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def pretend(able: bool, ratio: float = 1.0) -> list[str]:
        probes: list[str] = []
        monkeypatch.setattr(runtime, "supports_bfloat16", lambda device: able)
        monkeypatch.setattr(runtime, "probe", lambda device, engine: probes.append(device) or ratio)
        return probes

    return pretend


@pytest.mark.parametrize("ratio", [0.05, WORTH_WHILE - 0.01, WORTH_WHILE, 9.0])
def test_auto_is_bfloat16_only_where_it_is_possible_and_worth_while(ratio: float, machine: Machine) -> None:
    probes = machine(True, ratio)
    found = resolve()
    assert (found.device, found.bfloat16, found.ratio, found.method) == ("cpu", ratio >= WORTH_WHILE, ratio, "probe")
    assert resolve() == found and probes == ["cpu"]  # kept
    assert (found.processor, found.threads) == (processor_name(), torch.get_num_threads())
    assert found.wanted() is (None if found.bfloat16 else False)  # what was fitted in bfloat16 is not emulated
    asked = resolve(precision="float32")
    assert (asked.bfloat16, asked.ratio, asked.wanted()) == (False, ratio, False)


def test_without_support_there_is_no_probe_and_no_bfloat16(machine: Machine) -> None:
    probes = machine(False, 9.0)
    assert resolve() == replace(resolve(precision="float32"), method="no bfloat16 here")
    assert probes == [] and not resolve().bfloat16 and resolve().wanted() is False
    with pytest.raises(ValueError, match=r"^.+ cannot compute in bfloat16; use --precision float32, or auto$"):
        resolve(precision="bfloat16")
    with pytest.raises(ValueError, match="cannot compute in bfloat16"):
        Runtime(precision="bfloat16").check()
    Runtime().check()


def test_the_environment_says_what_auto_is(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(True, 9.0)
    monkeypatch.setenv("DIFCORE_PRECISION", "float32")
    assert (resolve().precision, resolve().wanted()) == ("float32", False)
    assert resolve(precision="bfloat16").wanted() is True
    for variable, value, said in (
        ("DIFCORE_PRECISION", "float64", "unknown precision 'float64' .DIFCORE_PRECISION.; choose auto, float32 or"),
        ("DIFCORE_DEVICE", "cuda:7", "there is no device 'cuda:7' here; use --device cpu"),
        ("DIFCORE_DEVICE", "tpu", "unknown device 'tpu'; choose cpu, cuda"),
    ):
        monkeypatch.setenv(variable, value)
        with pytest.raises(ValueError, match=said):
            resolve()
        monkeypatch.delenv(variable)


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_words_resolve_or_give_one_line(device: str, precision: str) -> None:
    try:
        found = resolve(device, precision)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found.precision in runtime.PRECISIONS and found.device != "auto"


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    machine(False)
    assert resolve().device == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve().device == "mps" and not resolve().bfloat16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert (resolve().device, resolve().processor) == ("cuda", "GPU cuda")
    assert resolve("cuda:1").numbers() == ("cuda", "float32", "torch") != resolve("cpu").numbers()


def test_the_probe_measures_both_operations_in_time_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are counted, not taken: the ratio is that of the operation that gains less."""
    state = torch.get_rng_state()
    works = [probe.filter_layers("cpu"), probe.prior_step("cpu")]
    for work in works:
        work(False)
    assert torch.equal(torch.get_rng_state(), state)
    gains = iter([4.0, 2.0])
    for name in ("filter_layers", "prior_step"):
        monkeypatch.setattr(probe, name, lambda *_: next(gains))
    monkeypatch.setattr(probe, "timed", lambda gain, other, device: 1.0 if other else gain)
    assert probe.probe("cpu") == 2.0


def test_on_a_gpu_the_probe_waits_for_that_gpu_and_float32_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    coarse: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for name in ("filter_layers", "prior_step"):
        monkeypatch.setattr(probe, name, lambda *_: lambda bfloat16: coarse.append(torch.backends.cudnn.allow_tf32))
    probe.probe("cuda:1")
    assert waited == ["cuda:1"] * 2 * len(coarse) and coarse and not any(coarse)
    assert torch.backends.cudnn.allow_tf32
    probe.timed(lambda bfloat16: None, True, "cpu")
    assert len(waited) == 2 * len(coarse)


@pytest.mark.skipif(not runtime.supports_bfloat16("cpu"), reason="this processor does not compute in bfloat16")
def test_the_layers_of_the_probe_are_the_filters_own() -> None:
    work = probe.filter_layers("cpu")
    exact, rounded = work(False), work(True)
    assert rounded.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert (rounded.float() - exact).norm() / exact.norm() < 0.02


def test_what_cannot_be_kept_is_probed_again(machine: Machine, cache: Path) -> None:
    probes = machine(True, 2.0)
    resolve()
    (kept,) = cache.glob("probes/*.json")
    assert json.loads(kept.read_text())["ratio"] == 2.0
    kept.write_text("{", encoding="utf-8")
    assert resolve().ratio == 2.0 and len(probes) == 2
    kept.unlink()
    kept.mkdir()  # in the file's place: nothing can be written
    with pytest.warns(CacheWarning, match="nothing is kept"):
        assert resolve().bfloat16
    assert len(probes) == 3


def test_threads_and_workers(machine: Machine, one_thread: None) -> None:
    machine(False)
    assert resolve(threads=2).threads == 2 == torch.get_num_threads()
    assert resolve(workers=3).workers == 3 and resolve(workers=-1).workers >= 1


@pytest.mark.parametrize("command", ["fit", "evaluate", "detect", "cross-detect", "run"])
def test_a_precision_that_cannot_run_is_one_line_and_exit_2(
    command: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(False)
    from PIL import Image

    from difcore.fingerprints.detector import Detector

    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    known = Detector(torch.rand(3, 32, 32), 0, 1, "dif", "x").save(tmp_path / "f.safetensors")
    here = str(tmp_path)
    arguments = {
        "fit": [here, here, "--out", str(tmp_path / "g.safetensors")],
        "evaluate": [str(known), "--real", here, "--fake", here],
        "detect": [str(known), here],
        "cross-detect": [here],
        "run": ["--only", "01"],
    }[command]
    monkeypatch.setattr(os, "environ", os.environ.copy())
    answer = CliRunner().invoke(app, [command, *arguments, "--precision", "bfloat16"])
    assert answer.exit_code == 2
    assert re.fullmatch(r"difcore: .+ cannot compute in bfloat16; use --precision float32, or auto\n", answer.stderr)


def test_importing_resolves_nothing() -> None:
    code = "import difcore.cli.app, difcore.runtime, sys; sys.exit('torch' not in sys.modules)"
    environment = os.environ | {"DIFCORE_PRECISION": "nonsense", "PYTHONPATH": str(PROJECT_DIR)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_no_notebook_profile_or_recipe_asks_for_bfloat16() -> None:
    """Each says "auto", or nothing; what a file of weights records of its own training is another matter."""
    files = [*(PROJECT_DIR / "notebooks").glob("*.ipynb"), *(PROJECT_DIR / "params").rglob("*.yml")]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"bfloat16\W+(bool\s*=\s*)?true", text, re.IGNORECASE), path
        assert not re.search(r"precision\W{1,4}(str\W{1,5})?bfloat16", text), path
    for path in (PROJECT_DIR / "difcore").rglob("*.py"):
        assert not re.search(r"bfloat16(: bool)? ?= ?True", path.read_text(encoding="utf-8")), path
    for path in (PROJECT_DIR / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        declared = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
        for name in ("precision", "device"):
            assert re.findall(rf"^{name}: str = (\S+)", declared[0], re.MULTILINE) in ([], ['"auto"']), path
