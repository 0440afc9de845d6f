"""Artefacts: what is written, that it is the same bytes again, and that nothing is left half written or stale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from difcore.files import PROJECT_DIR
from difcore.records.artefacts import Claim, artefact_files, claims_table, git_commit, plain, read_record, save_artefact

SAVE = """
import sys
import pandas as pd
from matplotlib.figure import Figure
from difcore.records.artefacts import Claim, save_artefact
figure = Figure(figsize=(3, 2))
axes = figure.add_subplot()
axes.plot([0, 1, 4], label="AUC ρ μ")
axes.legend()
save_artefact(sys.argv[1], "00_x", tables={"t": pd.DataFrame({"a": [1, 2]})}, figures={"f": figure},
              claims=[Claim("text", 1.0, 2.0, "holds")], parameters={"crop": 64}, seed=3, n=10, seconds=1.5, weights={})
"""


def save(folder: Path, **changes: object) -> Path:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    given = {
        "tables": {"accuracy": pd.DataFrame({"generator": ["sd14"], "auc": [0.99]})},
        "figures": {"bars": figure},
        "claims": [Claim("MJ is near SD 1.4", 0.99, np.float32(0.5), "does not hold", "too few images")],
        "parameters": {"crop": np.int64(256), "root": Path("a") / "b", "rates": (0.1, float("nan"))},
        "seed": 7,
        "n": "10 + 10",
        "seconds": 2.0,
        "weights": {"dncnn": "ab12"},
    }
    return save_artefact(folder, "03_detection", **(given | changes))


def test_files_and_record(tmp_path: Path) -> None:
    folder = save(tmp_path / "out")
    record = read_record(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(artefact_files(record))
    assert record["parameters"] == {"crop": 256, "root": os.path.join("a", "b"), "rates": [0.1, None]}
    assert (record["seed"], record["n"], record["seconds"], record["weights"]) == (7, "10 + 10", 2.0, {"dncnn": "ab12"})
    assert {"python", "torch", "numpy", "pillow", "jpg", "zlib", "difcore"} <= set(record["versions"])
    assert record["versions"]["numpy"] == np.__version__
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    assert claims[0]["ours"] == 0.5
    assert claims[0]["verdict"] == "does not hold"
    assert pd.read_csv(folder / "accuracy.csv").loc[0, "auc"] == 0.99


def test_files_are_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    for name, hash_seed in (("a", "1"), ("b", "2")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "SOURCE_DATE_EPOCH": hash_seed + "00000000"}
        subprocess.run([sys.executable, "-c", SAVE, str(tmp_path / name)], check=True, env=environment, cwd=PROJECT_DIR)
    for name in ("t.csv", "f.png", "f.pdf", "claims.json", "run.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert b"CreationDate" not in (tmp_path / "a" / "f.pdf").read_bytes()


def test_png_is_200_dpi_and_the_figure_stays_open(tmp_path: Path) -> None:
    from PIL import Image

    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    save(tmp_path, figures={"bars": figure})
    with Image.open(tmp_path / "bars.png") as image:
        assert round(image.info["dpi"][0]) == 200
    assert figure.axes


def test_a_second_run_leaves_no_stale_artefact_but_other_files(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"x")
    save(tmp_path, tables={"other": pd.DataFrame({"a": [1]})}, figures={})
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"other.csv", "claims.json", "run.json", "checkpoint.safetensors"}


def test_a_matrix_keeps_its_row_names(tmp_path: Path) -> None:
    save(tmp_path, tables={"matrix": pd.DataFrame([[1.0, 2.0]], index=["sd14"], columns=["sd14", "mj"])})
    assert (tmp_path / "matrix.csv").read_text(encoding="utf-8") == ",sd14,mj\nsd14,1.0,2.0\n"


@pytest.mark.parametrize("key", ["../up", "Upper", "", "with space"])
def test_keys_that_are_no_plain_names_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        save(tmp_path, tables={key: pd.DataFrame({"a": [1]})})
    assert not list(tmp_path.iterdir())


def test_claims_need_a_known_verdict_and_a_reason() -> None:
    with pytest.raises(ValueError, match="maybe"):
        Claim("x", 1.0, 1.0, "maybe")
    with pytest.raises(ValueError, match="reason"):
        Claim("x", 1.0, 1.0, "does not hold")
    table = claims_table([Claim("x", 1.0, 2.0, "holds"), Claim("y", None, 3.0, "not comparable", "no value")])
    assert list(table.columns) == ["claim", "paper", "ours", "verdict", "why"]
    assert list(table["verdict"]) == ["holds", "not comparable"]
    tuned = claims_table([Claim("x", 1.0, 2.0, "holds", p=0.01, tuned="the scenes were chosen on them")]).iloc[0]
    assert tuned.verdict == "holds (tuned on this data)" and tuned.why == "the scenes were chosen on them"
    assert Claim("x", 1.0, 2.0, "holds", p=0.01).record()["p"] == 0.01 and "p" not in Claim("x", 1, 2, "holds").record()
    assert list(claims_table([]).columns) == list(table.columns)


def test_plain_is_strict_json() -> None:
    value = plain({"a": np.float64("inf"), 2: [np.bool_(True)], "array": np.arange(3), "path": Path("p"), "none": None})
    assert value == {"a": None, "2": [True], "array": [0, 1, 2], "path": "p", "none": None}
    json.dumps(value, allow_nan=False)


def test_git_commit_of_a_repository_and_of_none(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert git_commit(tmp_path) == head
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert git_commit(tmp_path) == f"{head}-dirty"
    (tmp_path / "sub").mkdir()
    assert git_commit(tmp_path / "sub") == "unknown"
