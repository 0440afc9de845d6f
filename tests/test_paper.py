"""The paper's facts: complete, in one order, equal to what the documents print, each with a source."""

import re

import numpy as np
import pytest

from difcore import paper


def test_thirteen_generators_in_readme_order() -> None:
    assert paper.GENERATORS == paper.LTIM + paper.GAN
    assert len(set(paper.GENERATORS)) == 13
    assert [paper.DISPLAY[g] for g in paper.GENERATORS[:7]] == [
        "SD 1.4",
        "SD 2.1",
        "MJ",
        "DALL·E-Mini",
        "GLIDE",
        "DALL·E-2",
        "CycleGAN",
    ]
    assert list(paper.README_ACCURACY) == list(paper.GENERATORS)
    assert set(paper.WITH_IMAGES) == set(paper.LTIM)


def test_values_land_on_the_generators_they_belong_to() -> None:
    expected = {"sd14": 99.3, "dalle_2": 79.5, "stylegan2": 99.9, "stargan": 96.9, "progan": 57.7}
    assert {g: paper.README_ACCURACY[g] for g in expected} == expected
    assert paper.TABLE_C["U1-Net"]["glide"] == 85.2
    assert paper.TABLE_A["Marra18"] == {"Gaussian high-pass": 52.4, "DnCNN": 62.6}


def test_unet_row_of_table_c_is_the_readme_row() -> None:
    assert paper.TABLE_C["U-Net"] == {g: paper.README_ACCURACY[g] for g in paper.LTIM}


def test_printed_means_disagree_exactly_where_the_contradiction_says() -> None:
    mean = {name: np.mean(list(row.values())) for name, row in paper.TABLE_C.items()}
    wrong = {name for name in mean if abs(mean[name] - paper.TABLE_C_MEAN[name]) > 0.051}
    assert wrong == {"D-Net"}
    assert mean["D-Net"] == pytest.approx(92.27, abs=0.01)
    assert paper.TABLE_A["DIF"]["DnCNN"] != paper.TABLE_C_MEAN["U-Net"]
    loss = {g: paper.TABLE_C["U-Net"][g] - paper.TABLE_C["C-Net"][g] for g in paper.LTIM}
    assert min(loss, key=lambda g: loss[g]) == "dalle_mini" and loss["glide"] == pytest.approx(2.1)
    assert paper.TABLE_C["U1-Net"]["dalle_2"] > paper.TABLE_C["U-Net"]["dalle_2"]


def test_table_b_chains() -> None:
    encoder = [b for b in paper.TABLE_B if b.part == "encoder"]
    decoder = [b for b in paper.TABLE_B if b.part == "decoder"]
    for first, second in zip(encoder, encoder[1:], strict=False):
        assert second.c_in == (first.c_out,)
    for first, second in zip(decoder, decoder[1:], strict=False):
        assert second.c_in[0] == first.c_out
    assert [b.c_in[1] for b in decoder[:4]] == [b.c_out for b in reversed(encoder)]
    assert decoder[-1].c_out == 3 and decoder[-1].activation == "TanH"


def test_fig_h() -> None:
    matrix = paper.fig_h()
    names = [f"{m}@{e}" for m in paper.PROGAN_MODELS for e in paper.PROGAN_EPOCHS]
    assert list(matrix.index) == names and list(matrix.columns) == names
    assert matrix.loc["P_A@40", "P_A@32"] == 96.7 and matrix.loc["P_A@32", "P_A@40"] == 58.8
    assert np.diag(matrix).min() >= 98.9
    assert matrix.to_numpy().min() == 49.5 and matrix.to_numpy().max() == 99.8


def test_fig_h_equals_the_supplement(shared_data) -> None:
    document = shared_data.parent / "paper" / "supplemental.md"
    if not document.is_file():
        pytest.skip(f"needs {document.name} beside the shared data")
    lines = document.read_text(encoding="utf-8").splitlines()
    rows = [[float(v) for v in ln.split("\t")[1:]] for ln in lines if re.match(r"\$\(.*\)\$\t\d", ln)]
    np.testing.assert_array_equal(paper.fig_h().to_numpy(), np.array(rows))


def test_label() -> None:
    assert paper.label("dalle_2") == "DALL·E-2"
    assert paper.label("hatP_B@70") == r"$\hat{P}_B$, 70"
    assert paper.label("P_A") == "$P_A$"
    assert paper.label("my model") == "my model"


def test_paper_order_puts_strangers_last() -> None:
    assert paper.paper_order(["mine", "progan", "mj", "sd14"]) == ["sd14", "mj", "progan", "mine"]


def test_contradictions_as_a_table() -> None:
    chosen = paper.contradictions("silent_padding", "train_images")
    assert list(chosen.columns) == ["what", "where"] and chosen["what"][1].startswith("The README says 1024 training")
    every = paper.contradictions()
    assert len(every) == 10 and every["what"].str.endswith(".").all() and every["where"].str.len().min() > 0
    with pytest.raises(KeyError):
        paper.contradictions("none")
