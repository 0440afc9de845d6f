"""The examples of CONTRIBUTING.md and README.md run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest
from PIL import Image

from difcore.files import PROJECT_DIR
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.fitting import FitOptions
from difcore.images.scenes import scene

LINES = 20  # of an example, at most
CROP = 48  # px


def blocks(document: str, section: str, language: str) -> list[str]:
    """The code blocks of a language in a section of a Markdown document."""
    text = (PROJECT_DIR / document).read_text(encoding="utf-8").split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_in(folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIR), "MPLBACKEND": "agg"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("difcore ")]


def test_examples_are_short() -> None:
    for section in ("A generator", "A method", "A notebook"):
        for block in blocks("CONTRIBUTING.md", section, "python"):
            assert len([line for line in block.splitlines() if line.strip()]) <= LINES, section


def test_a_generator(tmp_path: Path) -> None:
    (make,) = blocks("CONTRIBUTING.md", "A generator", "python")
    run_in(tmp_path, sys.executable, "-c", make)
    (shell,) = blocks("CONTRIBUTING.md", "A generator", "sh")
    fit, detect = commands(shell)
    run_in(tmp_path, sys.executable, "-m", "difcore.cli", *fit[1:])
    answer = run_in(tmp_path, sys.executable, "-m", "difcore.cli", *detect[1:], "--json")
    (image,) = json.loads(answer)["images"]
    assert image["image"].endswith("000.png")


def test_a_method() -> None:
    (make,) = blocks("CONTRIBUTING.md", "A method", "python")
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(make, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    rng = np.random.default_rng(0)
    smooth = np.full((4, 32, 32, 3), 128, np.uint8) + rng.integers(0, 2, (4, 32, 32, 3), dtype=np.uint8)
    rough = rng.integers(108, 148, (4, 32, 32, 3), dtype=np.uint8)
    detector = names["fit_energy"](smooth, rough)  # type: ignore[operator]
    assert (detector.score(rough) > detector.threshold).all() and (detector.score(smooth) < detector.threshold).all()


def leave_images(folder: Path, faked: bool, count: int, first: int) -> None:
    folder.mkdir()
    for seed in range(first, first + count):
        pixels = scene(seed, CROP).astype(int) + faked * 6 * (np.indices((CROP, CROP)).sum(0) % 4 == 0)[..., None]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{seed:04}.png")


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands and its call of the library, on small images and with the quick method in place of DIF."""
    for k, name in enumerate(("photos", "generated", "more_photos", "more_generated", "folder")):
        leave_images(tmp_path / name, "generated" in name, 12, 100 * k)
    shutil.copy(tmp_path / "more_generated" / "0300.png", tmp_path / "unknown.png")
    detect, fit = (commands(block) for block in blocks("README.md", "On your own images", "sh"))
    assert [line[1] for line in (*detect, *fit)] == ["detect", "fit", "evaluate", "audit"]
    for line in (*fit, *detect):
        quick = ["--method", "marra18", "--crop", str(CROP)] if line[1] == "fit" else []
        run_in(tmp_path, sys.executable, "-m", "difcore.cli", *line[1:], *quick)
    (library,) = blocks("README.md", "On your own images", "python")
    usual = Detector.fit
    quickly = {"method": "marra18", "options": FitOptions(crop=CROP)}
    monkeypatch.setattr(Detector, "fit", lambda *given, **named: usual(*given, **named, **quickly))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(library, "README.md", "exec", dont_inherit=True), names)
    assert Detector.load("mine.safetensors").name == "mine" and names["detector"].crop == CROP


@pytest.mark.parametrize("seed", [4])
def test_a_notebook(tmp_path: Path, seed: int) -> None:
    (make,) = blocks("CONTRIBUTING.md", "A notebook", "python")
    run_in(tmp_path, sys.executable, "-c", make)
    parameters = {"output_dir": str(tmp_path / "out"), "seed": seed}
    papermill.execute_notebook(
        tmp_path / "60_mine.ipynb", tmp_path / "done.ipynb", parameters, progress_bar=False, cwd=tmp_path
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["seed"] == seed and record["tables"] == ["values"] and record["n"] == 2
    (claim,) = json.loads((tmp_path / "out" / "claims.json").read_text(encoding="utf-8"))
    assert claim["ours"] == 1.0 and claim["verdict"] == "undecided"
