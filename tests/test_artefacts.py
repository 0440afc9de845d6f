"""Artefacts: what is written, that it is the same bytes again, and that nothing is left half written or stale."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

from difcore.batch.kernels import kernel_settings
from difcore.files import PROJECT_DIR
from difcore.records import artefact
from difcore.records.artefacts import artefact_files, check_clean, git_commit, plain, read_record
from difcore.records.claims import Claim, claims_table

SAVE = """
import sys
import pandas as pd
from matplotlib.figure import Figure
from difcore.records import Claim, artefact
figure = Figure(figsize=(3, 2))
axes = figure.add_subplot()
axes.plot([0, 1, 4], label="AUC ρ μ")
axes.legend()
a = artefact("00_x", {"output_dir": sys.argv[1], "crop": 64, "seed": 3})
a.figure("f", figure)
a.claims([Claim("text", 1.0, 2.0, "holds")])
a.save(10, {"t": pd.DataFrame({"a": [1, 2]})})
"""
CLAIM = Claim("MJ is near SD 1.4", 0.99, np.float32(0.5), "does not hold", "too few images")


def save(folder: Path, tables: dict[str, pd.DataFrame] | None = None, figure: Figure | None = None) -> Path:
    given = {"output_dir": folder, "seed": 7, "crop": np.int64(256), "root": Path("a") / "b", "rates": (0.1, math.nan)}
    with artefact("03_detection", given) as a:
        time.sleep(0.01)
    if figure:
        a.figure("bars", figure)
    a.claims([CLAIM])
    tables = {"accuracy": pd.DataFrame({"generator": ["sd14"], "auc": [0.99]})} if tables is None else tables
    return a.save("10 + 10", tables, weights={"dncnn": "ab12"})


def drawn() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    return figure


def test_files_and_record(tmp_path: Path) -> None:
    folder = save(tmp_path / "out", figure=drawn())
    record = read_record(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(artefact_files(record))
    assert record["parameters"] == {"seed": 7, "crop": 256, "root": os.path.join("a", "b"), "rates": [0.1, None]}
    assert (record["seed"], record["n"], record["weights"]) == (7, "10 + 10", {"dncnn": "ab12"})
    assert 0.01 <= record["seconds"] < 5
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

    figure = drawn()
    save(tmp_path, figure=figure)
    with Image.open(tmp_path / "bars.png") as image:
        assert round(image.info["dpi"][0]) == 200
    assert figure.axes


def test_a_second_run_leaves_no_stale_artefact_but_other_files(tmp_path: Path) -> None:
    save(tmp_path, figure=drawn())
    (tmp_path / "checkpoint.safetensors").write_bytes(b"x")
    save(tmp_path, {"other": pd.DataFrame({"a": [1]})})
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"other.csv", "claims.json", "run.json", "checkpoint.safetensors"}


def test_a_matrix_keeps_its_row_names(tmp_path: Path) -> None:
    save(tmp_path, {"matrix": pd.DataFrame([[1.0, 2.0]], index=["sd14"], columns=["sd14", "mj"])})
    assert (tmp_path / "matrix.csv").read_text(encoding="utf-8") == ",sd14,mj\nsd14,1.0,2.0\n"


@pytest.mark.parametrize("key", ["../up", "Upper", "", "with space"])
def test_keys_that_are_no_plain_names_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        save(tmp_path, {key: pd.DataFrame({"a": [1]})})
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
    reference = tmp_path / "outputs" / "reference" / "00_x"
    assert git_commit(tmp_path) == "unknown"
    with pytest.raises(ValueError, match="there is no commit"):
        check_clean(reference, tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    reference.mkdir(parents=True)
    (reference / "run.json").write_text("1", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (reference / "run.json").write_text("2", encoding="utf-8")  # results are no sources
    assert git_commit(tmp_path) == head
    check_clean(reference, tmp_path)
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert git_commit(tmp_path) == f"{head}-dirty"
    check_clean(tmp_path / "outputs" / "demo", tmp_path)
    with pytest.raises(ValueError, match="differ from the commit; commit first"):
        check_clean(reference, tmp_path)
    (tmp_path / "sub").mkdir()
    assert git_commit(tmp_path / "sub") == "unknown"


CELLS = (
    """output_dir: str = "nowhere"
seed: int = 0
size: int = 64  # px
steps: int = 480
root: str = ""
device: str = "cpu"
""",
    "# what papermill puts in\nseed = 3\nsteps = 7\nroot = __import__('os').path.abspath('photos')\noutput_dir = 'out'",
    """%matplotlib inline
import time
import pandas as pd
from difcore.records import Claim, artefact
def measure(size, steps, runtime, factor=1):
    time.sleep(0.05)
    return pd.DataFrame({"size": [size * factor], "steps": [steps], "device": [runtime.device]})
with artefact("00_x") as a:
    table = a.call(measure, factor=2)
    highpass = a.filter("highpass")
a.table("measured", table)""",
    "a.claims([Claim('x', 1, 2, 'holds', p=0.04), Claim('y', 1, 2, 'holds', p=0.03)])",
    "import matplotlib.pyplot as plt\na.figure('line', plt.figure().add_subplot().figure)",
    "a.save('2 images', {'hidden': table}, parameters={'margin': 0.03}, data='made up')",
)


def test_a_notebook_keeps_its_record_by_itself(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    with kernel_settings() as config:
        client = NotebookClient(notebook, config=config, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
    record = read_record(tmp_path / "out")
    used = {"seed": 3, "size": 64, "steps": 7, "root": "photos", "device": "cpu", "margin": 0.03}
    assert record["parameters"] == used and (record["seed"], record["n"]) == (3, "2 images")
    assert 0.05 < record["seconds"] < 60 and record["data"] == "made up"
    assert list(record["weights"]) == ["highpass"] and len(record["weights"]["highpass"]) == 64
    assert (record["runtime"]["device"], record["runtime"]["precision"]) == ("cpu", "float32")
    assert (record["tables"], record["figures"]) == (["measured", "hidden"], ["line"])
    measured = pd.read_csv(tmp_path / "out" / "measured.csv")
    assert measured.loc[0].tolist() == [128, 7, "cpu"]
    claims = json.loads((tmp_path / "out" / "claims.json").read_text(encoding="utf-8"))
    assert [claim["verdict"] for claim in claims] == ["undecided", "undecided"]  # corrected together
    shown = ["".join(cell.outputs[0].data.get("text/html", "")) for cell in notebook.cells[2:4]]
    assert all("<table" in html for html in shown)
    assert any("image/png" in output.data for output in notebook.cells[4].outputs)


def test_a_record_says_what_a_mode_made_of_its_parameters(tmp_path: Path) -> None:
    given = {"output_dir": str(tmp_path), "denoiser": "highpass", "limit": 0.4, "seed": 1}
    for mode, limit in (("ours", 0.4), ("paper", 0)):
        with artefact("00_x", {**given, "mode": mode}) as a:
            assert (a.denoiser.limit or 0) == limit and a.denoiser is a.denoiser
            a.filter("highpass", 0.2)
        record = read_record(a.save(1))
        assert record["parameters"]["limit"] == limit and record["parameters"]["mode"] == mode
        assert list(record["weights"]) == ["highpass", "highpass, limit 0.2"]
