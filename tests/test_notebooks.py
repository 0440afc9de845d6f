"""The notebooks themselves, each run headless with tiny parameters: what they leave, and what they do without data."""

import io
import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from tiny import random_dncnn

from difcore.batch.run import Places, Selection, run_batch
from difcore.files import PROJECT_DIR
from difcore.records.claims import VERDICTS
from difcore.residuals.denoisers import save_denoiser

NOTEBOOKS = PROJECT_DIR / "notebooks"
DEMO = {"train": 6, "size": 48, "steps": 5}
CELLS = {"size": 32, "pool": 6, "test": 4, "draws": 2, "steps": 2, "denoiser": "tiny", "precision": "float32"}
DECODER: dict[str, Any] = {**CELLS, "generators": ["demo-deconv2"], "n_train": 4}
SIZES: dict[str, Any] = {**CELLS, "sizes": [3, 4]}
CLASSIFIER: dict[str, Any] = {"classifier": {"steps": 1, "batch": 4, "crop": 32}}
OWN: dict[str, Any] = {"crop": 32, "n_train": 4, "steps": 2, "denoiser": "tiny", "precision": "float32"}
CROSS: dict[str, Any] = {"n_train": 4, "test": 4, "steps": 2, "denoiser": "tiny", "precision": "float32"}
CHECKPOINTS = ["demo-progan-a-e52", "demo-progan-a-e70", "demo-progan-b-e70"]
PROGANS: dict[str, Any] = {**CROSS, "draws": 19, "generators": CHECKPOINTS}
OFFLINE: dict[str, dict[str, Any]] = {
    "00_start_here": {**DEMO, "test": 4, "denoiser": "tiny"},
    "01_gray_image": {"size": 32, "steps": 20, "kept": [1, 5, 20]},
    "05_train_denoiser": {"scenes": 4, "scene_size": 64, "steps": 3, "bias_size": 48},
    "06_train_generators": {"scenes": 2, "size": 64, "steps": 3, "test": 1, "shown": 2},
    "10_tab_A_denoising_filter": DECODER,
    "11_tab_B_unet": {"size": 32},
    "12_tab_C_architectures": DECODER,
    "13_fig_B_train_size_gans": {**SIZES, "generators": ["demo-dcgan"], "mode": "paper"},
    "14_fig_C_train_size_ltims": {**SIZES, "generators": ["demo-deconv2"]},
    "15_fig_D_consistency": {**DECODER, **CLASSIFIER},
    "16_fig_E_variants": {**DECODER, "generators": ["demo-deconv4", "demo-deconv4-foliage"]},
    "17_detection_methods": {**DECODER, **CLASSIFIER},
    "18_train_your_own": {**OWN, "demo_images": 15},
    "19_detect_your_own": {**OWN, "demo_images": 2},
    "20_fig_A_cross_detection_gans": {**CROSS, "size": 32, "generators": ["demo-dcgan", "demo-stylegan"]},
    "21_fig_F_cross_detection_progan_t": CROSS,
    "22_fig_G_checkpoints": {"shown": 2, "latents": 3},
    "23_fig_H_cross_detection_progans": PROGANS,
    "24_fig_I_cross_correlation_FA": PROGANS,
    "25_fig_J_cross_correlation_FE": PROGANS,
    "26_lineage_tree": {
        **CROSS,
        "size": 32,
        "families": ["decoders"],
        "draws": 9,
        "generators": ["demo-deconv2", "demo-deconv2-mixed", "demo-shuffle"],
    },  # fmt: skip
    "27_train_progan": {"scenes": 3, "size": 16, "epochs": 3, "images_per_epoch": 8, "kept": [1, 2, 3], "shown": 2},
    "30_inspector": {"fingerprints": ["demo"], "demo_images": 1, "most": 1},
    "31_detect_by_drop": {"demo_images": 1},
    "32_compare": {"demo_images": 2, "draws": 9},
    "40_robustness": {**DECODER, "size": 64, "crop": 32, "draws": 1, "methods": ["marra18", "joslin20"]},
    "44_controls": {"demo_images": 12, "crop": 64, "planted": 10, "most": 10},
    "45_filter": {
        **{**DECODER, "generators": ["demo-deconv2", "demo-deconv4"], "draws": 1},
        "filters": ["highpass", "wavelet", "scenes"],
        "methods": ["marra18"],
        "fitted": ["demo-deconv2"],
    },
}
RELEASE: dict[str, dict[str, Any]] = {
    "02_fingerprints": {**DEMO, "denoiser": "tiny"},
    "03_published_detection": {"denoiser": "tiny"},
    "04_published_lineage": {"denoiser": "tiny"},
}
ROWS = {  # of every table
    "00_start_here": {"detection": 2},
    "01_gray_image": {"gray_image": 3},
    "02_fingerprints": {"fingerprints": 14},
    "03_published_detection": {"detection": 12, "limits": 7 * 22},
    "04_published_lineage": {"cross_detection": 78, "cross_correlation": 169, "parts": 312},
    "05_train_denoiser": {"psnr": None, "agreement_recorded": None},
    "06_train_generators": {"generators": 19},
    "10_tab_A_denoising_filter": {"filters": 6, "cells": 12},
    "11_tab_B_unet": {"blocks": 9, "details": 8, "parameters": 4},
    "12_tab_C_architectures": {"architectures": 4, "borders": 1, "cells": 8},
    "13_fig_B_train_size_gans": {"train_size": 2, "cells": 4},
    "14_fig_C_train_size_ltims": {"train_size": 2, "cells": 4},
    "15_fig_D_consistency": {"consistency": 4, "cells": 8},
    "16_fig_E_variants": {"variants": 3, "cells": 6},
    "17_detection_methods": {"methods": 6, "cells": 12},
    "18_train_your_own": {"held_out": 2, "null": 1},
    "19_detect_your_own": {"detection": 12},
    "20_fig_A_cross_detection_gans": {"cross_detection": 4, "fits": 2},
    "21_fig_F_cross_detection_progan_t": {"cross_detection": 36, "fits": 6},
    "22_fig_G_checkpoints": {"changes": None},
    "23_fig_H_cross_detection_progans": {"cross_detection": 9, "blocks": 4, "fits": 3},
    "24_fig_I_cross_correlation_FA": {"cross_correlation": 9, "test": 1, "fits": 3},
    "25_fig_J_cross_correlation_FE": {"cross_correlation": 9, "tests": None, "fits": 3},
    "26_lineage_tree": {"edges": None, "orphans": 2, "cross_detection": 9, "fits": 3},
    "27_train_progan": {"changes": None},
    "30_inspector": {"rho": 4, "peaks": None},
    "31_detect_by_drop": {"images": 4, "detection": 12, "stated": 2, "refused": 1},
    "32_compare": {"pairs": 3},
    "40_robustness": {"operations": 62},
    "44_controls": {"findings": 7, "planted": 4},
    "45_filter": {"filters": 6, "cells": 24},
}
FIGURES = {
    "00_start_here": ["images", "fingerprint", "scores"],
    "01_gray_image": ["gray_image"],
    "02_fingerprints": ["fingerprints", "radial_spectra"],
    "03_published_detection": ["detection", "limits"],
    "04_published_lineage": ["cross_detection", "cross_correlation", "parts"],
    "05_train_denoiser": ["loss", "example", "agreement"],
    "06_train_generators": ["loss", "images"],
    "10_tab_A_denoising_filter": ["filters"],
    "11_tab_B_unet": ["untrained"],
    "12_tab_C_architectures": ["architectures"],
    "13_fig_B_train_size_gans": ["train_size"],
    "14_fig_C_train_size_ltims": ["train_size"],
    "15_fig_D_consistency": ["consistency"],
    "16_fig_E_variants": ["examples", "variants"],
    "17_detection_methods": ["methods"],
    "18_train_your_own": ["fingerprint", "scores"],
    "19_detect_your_own": ["z", "evidence"],
    "20_fig_A_cross_detection_gans": ["cross_detection"],
    "21_fig_F_cross_detection_progan_t": ["cross_detection"],
    "22_fig_G_checkpoints": ["checkpoints", "change"],
    "23_fig_H_cross_detection_progans": ["fig_h", "blocks", "parts"],
    "24_fig_I_cross_correlation_FA": ["fig_i"],
    "25_fig_J_cross_correlation_FE": ["fig_j"],
    "26_lineage_tree": ["tree_founders", "tree_forest", "tree_detection"],
    "27_train_progan": ["loss", "images", "change"],
    "30_inspector": ["panes", "charts"],
    "31_detect_by_drop": ["z", "evidence"],
    "32_compare": ["first", "last"],
    "40_robustness": ["operations"],
    "44_controls": ["pairs", "marks"],
    "45_filter": ["filters"],
}


def run_tiny(root: Path, notebooks: dict[str, dict[str, Any]], data_root: Path | None = None) -> Path:
    """Run ``notebooks`` with these parameters in one batch under ``root``; the folder with one folder for each."""
    weights = save_denoiser(root / "tiny.safetensors", random_dncnn(3, 4), torch.zeros(3, 48, 48), {})
    sections = {
        name: {key: str(weights) if key == "denoiser" else value for key, value in values.items()}
        for name, values in notebooks.items()
    }
    (root / "params").mkdir()
    (root / "params" / "tiny.yml").write_text(yaml.safe_dump({"common": {"seed": 3}, **sections}), encoding="utf-8")
    places = Places(params=root / "params", outputs=root / "outputs")
    run_batch(Selection("tiny", list(notebooks), data_root), jobs=2, progress=False, places=places)
    return root / "outputs" / "tiny"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A residual cache of this module's own, for its kernels too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def offline(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_tiny(tmp_path_factory.mktemp("offline"), OFFLINE)


@pytest.fixture(scope="module")
def with_release(own_cache: None, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_tiny(tmp_path_factory.mktemp("release"), RELEASE, shared_data)


@pytest.fixture(params=[*OFFLINE, *(pytest.param(name, marks=pytest.mark.slow) for name in RELEASE)])
def output(request: pytest.FixtureRequest) -> Path:
    """The output folder of one notebook that ran to its end."""
    folder = request.getfixturevalue("offline" if request.param in OFFLINE else "with_release") / request.param
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["status"] == "ok", state["traceback"] or state["reason"]
    return folder


def code_cells(executed: Path) -> list[dict[str, Any]]:
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def outputs(executed: Path) -> list[dict[str, Any]]:
    return [output for cell in code_cells(executed) for output in cell["outputs"]]


def assert_shows_something(png: bytes) -> None:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert min(image.size) > 100
    assert len(image.getcolors(2**24)) > 2


def test_every_notebook_is_run_here() -> None:
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert names == sorted([*OFFLINE, *RELEASE]) == sorted(ROWS) == sorted(FIGURES)


@pytest.mark.parametrize("path", sorted((PROJECT_DIR / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_a_notebook_is_short_and_its_record_corrects_its_claims_together(path: Path) -> None:
    parameters, *others = ("".join(cell["source"]) for cell in code_cells(path))
    lines = [line for source in others for line in source.splitlines() if line.strip()]
    assert "output_dir: str" in parameters and len(lines) <= 35
    code = "\n".join(lines)
    assert f'artefact("{path.stem}")' in code and "a.claims(" in code and "globals()" not in code


def test_artefacts(output: Path) -> None:
    name = output.name
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert sorted(record["tables"]) == sorted(ROWS[name])
    assert sorted(record["figures"]) == sorted(FIGURES[name])
    for key, rows in ROWS[name].items():
        table = pd.read_csv(output / f"{key}.csv")
        if key == "edges" and table.empty:
            continue  # four images of each model may show no kinship
        assert len(table) > 0 if rows is None else len(table) == rows
        empty = table.columns[table.isna().all()]
        assert set(empty) <= {"reason", "log10_lr"}  # of verdicts: none needs a reason here; fingerprints without fakes
    for key in FIGURES[name]:
        assert_shows_something((output / f"{key}.png").read_bytes())
        assert (output / f"{key}.pdf").read_bytes().startswith(b"%PDF-")
    claims = json.loads((output / "claims.json").read_text(encoding="utf-8"))
    assert claims
    assert {claim["verdict"] for claim in claims} <= set(VERDICTS)
    assert all(claim["why"] for claim in claims if claim["verdict"] != "holds")


def test_the_record_says_how(output: Path) -> None:
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert record["name"] == output.name
    assert record["seed"] == 3
    assert record["n"]
    assert record["seconds"] > 0
    assert {"python", "torch", "numpy", "difcore"} <= set(record["versions"])
    assert all(record["versions"].values())
    hashes = list(record["weights"].values())
    assert bool(hashes) is (
        output.name not in ("01_gray_image", "11_tab_B_unet", "44_controls")
    )  # the ones without a filter
    assert all(len(digest) == 64 for digest in hashes)
    asked = {**OFFLINE, **RELEASE}[output.name]
    assert {key for key in asked if key not in record["parameters"]} == set()
    assert all(record["parameters"][key] == value for key, value in asked.items() if key != "denoiser")


def test_the_papers_mode_says_what_it_used(offline: Path) -> None:
    theirs, ours = (
        json.loads((offline / name / "run.json").read_text(encoding="utf-8"))["parameters"]
        for name in ("13_fig_B_train_size_gans", "14_fig_C_train_size_ltims")
    )
    assert (theirs["mode"], theirs["margin"]) == ("paper", 0.01) and theirs["F_DnCNN"].startswith("border profile: the")
    assert (ours["mode"], ours["margin"]) == ("ours", 0.03)


def test_the_executed_notebook_shows_its_figures_and_no_error(output: Path) -> None:
    shown = outputs(output / "executed.ipynb")
    told = [o for o in shown if o["output_type"] in ("error", "stream")]
    # Where the training photographs are not here, the paper's mode says what stands in for its F_DnCNN.
    assert [o for o in told if "StandIn" not in "".join(o.get("text", ""))] == []
    assert not told or OFFLINE.get(output.name, {}).get("mode") == "paper"
    pngs = [b64decode(o["data"]["image/png"]) for o in shown if "image/png" in o.get("data", {})]
    assert len(pngs) == len(FIGURES[output.name])
    for png in pngs:
        assert_shows_something(png)
    tables = [o["data"]["text/html"] for o in shown if "text/html" in o.get("data", {})]
    assert len([html for html in tables if "<table" in "".join(html)]) >= 2  # the result, and the paper beside ours


def test_the_last_cell_is_a_widget_that_shows_a_figure(output: Path) -> None:
    executed = output / "executed.ipynb"
    kind = "application/vnd.jupyter.widget-view+json"
    (view,) = [o["data"][kind] for o in code_cells(executed)[-1]["outputs"] if kind in o["data"]]
    states = json.loads(executed.read_text(encoding="utf-8"))["metadata"]["widgets"]
    models = states["application/vnd.jupyter.widget-state+json"]["state"]
    assert models[view["model_id"]]["model_name"] == "VBoxModel"
    shown = [o for m in models.values() if m["model_name"] == "OutputModel" for o in m["state"]["outputs"]]
    assert any("image/png" in o.get("data", {}) for o in shown)
    page = executed.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("Widget: open the notebook in Jupyter to use it.") == 1  # and nothing of the progress bars


@pytest.fixture(scope="module")
def without_release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A batch of 02 to 04 in a copy of the project that finds no release anywhere."""
    root = tmp_path_factory.mktemp("alone")
    project, home, empty = root / "project" / "main", root / "home", root / "empty"
    for folder in ("difcore", "notebooks", "params", "data"):
        shutil.copytree(PROJECT_DIR / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    empty.mkdir()
    homes = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(home))
    environment = os.environ | homes | {"DIFCORE_DATA": str(empty), "PYTHONPATH": str(project)}
    environment |= {"IPYTHONDIR": str(home / "ipython"), "OMP_NUM_THREADS": "1"}
    only = [word for name in RELEASE for word in ("--only", name)]
    command = [sys.executable, "-m", "difcore.cli", "run", "--jobs", "2", *only]
    answer = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return project / "outputs" / "demo", answer


@pytest.mark.parametrize("name", RELEASE)
def test_without_the_release_a_notebook_is_skipped_and_says_why(
    name: str, without_release: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    folder, answer = without_release
    assert answer.returncode == 0, answer.stderr
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in summary["notebooks"] if entry["name"] == name]
    assert (entry["status"], entry["reason"]) == ("skipped", "needs `difcore fetch`")
    (error,) = [o for o in outputs(folder / name / "executed.ipynb") if o["output_type"] == "error"]
    assert error["ename"] == "NeedsData"
    assert not (folder / name / "run.json").exists()


def test_the_report_tells_of_skipped_notebooks(
    without_release: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, answer = without_release
    assert answer.stdout.count("skipped") == len(RELEASE)
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in RELEASE:
        assert name in page
    assert "needs <code>difcore fetch</code>" in page or "needs `difcore fetch`" in page


TIMES = ["seconds"]  # columns of tables that say how long something took: they alone differ from run to run


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_tables_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("17_detection_methods", "23_fig_H_cross_detection_progans")
    runs = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path / f"cache-{k}"))  # cold: nothing is read of the other's
        folder = run_tiny(tmp_path / str(k), {name: OFFLINE[name] for name in chosen})
        assert all(json.loads((folder / name / "state.json").read_text())["status"] == "ok" for name in chosen)
        tables = {p.relative_to(folder): pd.read_csv(p, dtype=str) for p in sorted(folder.glob("*/*.csv"))}
        claims = [(folder / name / "claims.json").read_text(encoding="utf-8") for name in chosen]
        runs.append((tables, claims))
    (first, first_claims), (second, second_claims) = runs
    assert list(first) == list(second) and len(first) >= 5
    for path, table in first.items():
        shown = [column for column in table if column not in TIMES]
        pd.testing.assert_frame_equal(table[shown], second[path][shown], obj=str(path))
    assert first_claims == second_claims
    fits = next(table for path, table in first.items() if path.stem == "fits")
    assert fits["dif"].str.endswith(".safetensors").all()  # named by the hash of their bits
