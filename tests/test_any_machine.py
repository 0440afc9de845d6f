"""Processors other than this one: one without AVX-512, as oneDNN and torch see it, and one that is emulated whole."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_notebooks import OFFLINE, run_tiny
from tiny import random_dncnn

from difcore.detectors.trained import ClassifierPlan
from difcore.experiments.bench import detect
from difcore.files import PROJECT_DIR
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.records.cells import Cell, compute
from difcore.residuals.denoisers import save_denoiser
from difcore.runtime import Runtime

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}  # what most laptops and servers have
QEMU = "qemu-x86_64"
EMULATED_SECONDS = 300
SECONDS = 600  # of any other process
only_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="what is taken away is of x86 processors"
)


@pytest.fixture
def without_avx512(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes that are started meet a processor that refuses bfloat16, and nothing says what precision to use."""
    for name, value in AVX2.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DIFCORE_PRECISION")  # DIFCORE_DEVICE stays: a GPU may be here
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path / "cache"))


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIR)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)


@only_x86
@pytest.mark.slow
def test_a_detection_notebook_runs_whole_without_avx512(without_avx512: None, tmp_path: Path) -> None:
    """Its filter and its fits: left to the machine, they are in float32."""
    name = "10_tab_A_denoising_filter"
    given = {key: value for key, value in OFFLINE[name].items() if key != "precision"}
    folder = run_tiny(tmp_path, {name: given}) / name
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["status"] == "ok", state["traceback"] or state["reason"]
    runtime = json.loads((folder / "run.json").read_text(encoding="utf-8"))["runtime"]
    assert (runtime["device"], runtime["precision"], runtime["ratio"]) == ("cpu", "float32", None)
    assert runtime["method"] == "no bfloat16 here" and runtime["processor"]


@only_x86
@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "run"])
def test_bfloat16_without_avx512_is_one_line(command: str, without_avx512: None, tmp_path: Path) -> None:
    given = {"fit": [tmp_path, tmp_path, "--out", tmp_path / "f.safetensors"], "run": ["--only", "01"]}[command]
    answer = python("-m", "difcore.cli", command, *given, "--precision", "bfloat16")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert re.fullmatch(r"difcore: .+ cannot compute in bfloat16; use --precision float32, or auto\n", answer.stderr)


def test_a_worker_that_cannot_compute_as_asked_says_so_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difcore.runtime.supports_bfloat16", lambda device: False)

    def work(sets: object, values: Mapping[str, object]) -> Mapping[str, object]:
        runtime = Runtime(precision="bfloat16")
        return detect(None, values, DifPlan(), ClassifierPlan(), runtime)  # type: ignore[arg-type]

    record = compute(work, None, Cell({"method": "dif"}))
    assert record["row"] == {}
    assert re.fullmatch(
        r"failed: ValueError: .+ cannot compute in bfloat16; use --precision float32.*", record["status"]
    )


def emulated(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """A Python process on an emulated Haswell, on one thread."""
    if not shutil.which(QEMU):
        pytest.skip(f"needs {QEMU} (Debian: apt-get install qemu-user)")
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIR), "OMP_NUM_THREADS": "1", "DIFCORE_DEVICE": "cpu"}
    environment.pop("DIFCORE_PRECISION")
    command = [QEMU, "-cpu", "Haswell", os.path.realpath(sys.executable), *map(str, arguments)]
    environment["PYTHONPATH"] = os.pathsep.join([str(PROJECT_DIR), *filter(None, sys.path)])
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=EMULATED_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the emulated processor was not done within {EMULATED_SECONDS} s: this machine is slow or busy")


@only_x86
@pytest.mark.slow
def test_detect_runs_on_an_emulated_haswell(tmp_path: Path) -> None:
    """Every instruction is interpreted: one that a processor of 2013 lacks would end the process."""
    weights = save_denoiser(tmp_path / "d.safetensors", random_dncnn(), torch.zeros(3, 96, 96), {})
    rng = np.random.default_rng(0)
    pattern = torch.from_numpy(rng.standard_normal((3, 96, 96)).astype(np.float32))
    known = Detector(pattern, 0.0, 0.1, "dif", "G").save(tmp_path / "f.safetensors")
    Image.fromarray(rng.integers(0, 256, (100, 100, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["-m", "difcore.cli", "detect", known, tmp_path / "a.png", "--denoiser", weights, "--json"]
    found = emulated(arguments)
    assert found.returncode == 0, found.stderr[-2000:]
    (image,) = json.loads(found.stdout)["images"]
    here = json.loads(python(*arguments).stdout)["images"][0]
    assert abs(image["matches"][0]["rho"] - here["matches"][0]["rho"]) < 1e-4
