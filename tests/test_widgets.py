"""Widgets: a figure from the start, another one after a change, nothing lost and nothing hanging without a browser."""

import base64

import ipywidgets
import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest

from difcore import widgets
from difcore.batch.kernels import kernel_settings

RNG = np.random.default_rng(1)
PATTERNS = {name: RNG.standard_normal((3, 32, 32)) for name in ("mj", "sd14")}
MEANS = {"sd14": (0.0, 0.013), "mj": (0.0, 0.01)}


@pytest.fixture(autouse=True)
def no_leak():
    yield
    assert plt.get_fignums() == []


def scores() -> pd.DataFrame:
    rows = [
        (f, g, label, RNG.normal(0.013 * (label == "fake") * (f == g), 0.003))
        for f in PATTERNS
        for g in PATTERNS
        for label in ("real", "fake")
        for _ in range(8)
    ]
    return pd.DataFrame(rows, columns=["fingerprint", "generator", "label", "score"])


def descendants(box) -> list:
    children = list(getattr(box, "children", ()))
    return children + [w for child in children for w in descendants(child)]


def pngs(box) -> list[bytes]:
    outputs = [w for w in descendants(box) if isinstance(w, ipywidgets.Output)]
    return [base64.b64decode(o["data"]["image/png"]) for w in outputs for o in w.outputs]


def control(box, description: str):
    return next(w for w in descendants(box) if getattr(w, "description", None) == description)


def all_text(box) -> str:
    return " ".join(w.value for w in descendants(box) if isinstance(w, ipywidgets.HTML))


def assert_each_control_redraws(box, changes: dict[str, object]) -> None:
    for description, value in changes.items():
        before = pngs(box)
        control(box, description).value = value
        after = pngs(box)
        assert after and all(p.startswith(b"\x89PNG") for p in after)
        assert after != before, f"{description} changed nothing"
        assert len(after) == len(before), "figures pile up or vanish"


def test_fingerprint_explorer() -> None:
    box = widgets.fingerprint_explorer(PATTERNS)
    assert len(pngs(box)) == 1
    name = control(box, "Fingerprint")
    assert name.options == (("SD 1.4", "sd14"), ("MJ", "mj"))
    changes = {"Fingerprint": "mj", "Channel": "G", "Spectrum power": 1.0, "Crop (px)": 16}
    assert_each_control_redraws(box, changes)
    first = pngs(box)
    name.value, name.value = "sd14", "mj"
    assert pngs(box) == first, "the same settings must give the same picture"


def test_descriptions_are_not_cut_off() -> None:
    box = widgets.fingerprint_explorer(PATTERNS)
    described = [w for w in descendants(box) if getattr(w, "description", "")]
    assert len(described) == 4
    for w in described:
        assert w.style.description_width == "initial"


def test_score_explorer_counts_and_redraws() -> None:
    frame = scores()
    box = widgets.score_explorer(frame, MEANS)
    rows = frame[(frame["fingerprint"] == "sd14") & (frame["generator"] == "sd14")]
    generated = (rows["score"] - 0.013).abs() < rows["score"].abs()
    right = int((generated == (rows["label"] == "fake")).sum())
    assert f"SD 1.4's fingerprint on SD 1.4 images: {right} of 16" in all_text(box).replace("&#x27;", "'")
    assert_each_control_redraws(box, {"Images of": "mj", "Fingerprint": "mj"})


def test_score_explorer_says_when_a_cell_is_empty() -> None:
    frame = scores()
    frame = frame[~((frame["fingerprint"] == "mj") & (frame["label"] == "real"))]
    box = widgets.score_explorer(frame)
    control(box, "Fingerprint").value = "mj"
    assert pngs(box) == [] and "No scores of MJ" in all_text(box)
    control(box, "Fingerprint").value = "sd14"
    assert len(pngs(box)) == 1


def test_matrix_explorer_without_images_and_of_a_matrix_that_is_not_square() -> None:
    matrix = pd.DataFrame([[1.0], [0.8]], index=["sd14", "mj"], columns=["sd14"])
    box = widgets.matrix_explorer(matrix, {"mj": PATTERNS["mj"]}, scores(), MEANS, unit="AUC", vmin=0, vmax=1)
    assert len(pngs(box)) == 2  # matrix, histogram
    assert "SD 1.4 on SD 1.4: 1.00" in all_text(box)
    control(box, "Fingerprint of").value = "mj"
    assert "MJ on SD 1.4: 0.80." in all_text(box)
    assert len(pngs(box)) == 4  # matrix, MJ's pattern, both histograms


def test_matrix_explorer_shows_both_directions_and_images() -> None:
    matrix = pd.DataFrame([[0.99, 0.6], [0.75, 0.98]], index=["mj", "sd14"], columns=["mj", "sd14"])
    images = {name: tuple(RNG.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)) for name in PATTERNS}
    box = widgets.matrix_explorer(100 * matrix, PATTERNS, scores(), MEANS, images, vmin=50, vmax=100, fmt=".0f")
    control(box, "Fingerprint of").value, control(box, "Images of").value = "mj", "sd14"
    assert "MJ on SD 1.4: 60; back: 75" in all_text(box)
    assert len(pngs(box)) == 5  # matrix, patterns, both histograms, images
    control(box, "Fingerprint of").value = "sd14"
    assert "SD 1.4 on SD 1.4: 98" in all_text(box)
    assert len(pngs(box)) == 4  # on the diagonal there is one histogram


def test_epoch_explorer_slides_over_the_epochs() -> None:
    runs = {
        run: {epoch: RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8) for epoch in (20, 70)} for run in ("a", "b")
    }
    box = widgets.epoch_explorer(runs)
    show = "change × 4 since the one before"
    assert_each_control_redraws(box, {"Show": show, "Training": "b"})
    before = pngs(box)
    control(box, "Show").value = "images"
    control(box, "Checkpoint").value = 1
    assert pngs(box) != before


def test_evidence_explorer() -> None:
    images = {n: RNG.integers(0, 256, (32, 32, 3), np.uint8) for n in ("one.png", "two<b>.png")}
    residuals = {n: 0.02 * PATTERNS["sd14"] + RNG.standard_normal((3, 32, 32)) for n in images}
    box = widgets.evidence_explorer(images, residuals, PATTERNS, MEANS)
    rho = np.corrcoef(residuals["one.png"].ravel(), PATTERNS["sd14"].ravel())[0, 1]
    assert f"ρ(one.png, SD 1.4) = {rho:+.4f}" in all_text(box)
    assert_each_control_redraws(box, {"Image": "two<b>.png", "Square (px)": 8, "Fingerprint": "mj"})
    assert "two&lt;b&gt;.png" in all_text(box) and "centre" in all_text(box)


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        widgets.fingerprint_explorer({})


def test_headless_notebook_keeps_figure_and_widget() -> None:
    code = [
        "import numpy as np\nfrom difcore import figures, widgets",
        "p = {'mj': np.random.default_rng(0).random((3, 32, 32))}",
        "figures.fingerprint_panels(p)",
        "widgets.fingerprint_explorer(p)",
        "import matplotlib.pyplot as plt\nplt.get_fignums()",
        "figures.fingerprint_panels(p)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in code])
    with kernel_settings() as config:
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", config=config).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [len(o) for o in outputs] == [0, 0, 1, 1, 1, 1]
    assert "image/png" in outputs[2][0].data and "image/png" in outputs[5][0].data
    assert "application/vnd.jupyter.widget-view+json" in outputs[3][0].data
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    kept = [s["state"]["outputs"] for s in state.values() if s["model_name"] == "OutputModel"]
    assert len(kept) == 1 and kept[0][0]["data"]["image/png"]
    assert outputs[4][0].data["text/plain"] == "[]"
