"""What the paper says: names, orders and published values, each with the place it comes from; accuracies in percent.

Places: "S" is the supplemental material, "R" the official README, "code" the official repository at the pinned commit.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from difcore.files import DATA_DIR

# R, row of expected accuracies: order and spelling. The names are those of the release's folders.
DISPLAY = {
    "sd14": "SD 1.4", "sd21": "SD 2.1", "mj": "MJ", "dalle_mini": "DALL·E-Mini", "glide": "GLIDE",
    "dalle_2": "DALL·E-2", "cyclegan": "CycleGAN", "stylegan": "StyleGAN", "stylegan2": "StyleGAN2",
    "stargan": "StarGAN", "biggan": "BigGAN", "gaugan": "GauGAN", "progan": "ProGAN",
    "sd14s": "SD 1.4S", "sd15a": "SD 1.5A", "sd20": "SD 2.0", "sd20r": "SD 2.0R",  # S B.2
}  # fmt: skip
GENERATORS = tuple(DISPLAY)[:13]
LTIM, GAN = GENERATORS[:6], GENERATORS[6:]
WITH_IMAGES = LTIM  # release, folders of data/
VARIANTS = {"sd14s": "sd14", "sd15a": "sd14", "sd20r": "sd20"}  # fine-tuned child to its source: S B.2, line 74

README_ACCURACY = dict(  # R, "The expected accuracy values (%) are below"
    zip(GENERATORS, (99.3, 89.5, 99.0, 99.0, 90.3, 79.5, 94.4, 91.5, 99.9, 96.9, 91.8, 92.6, 57.7), strict=True)
)
TABLE_A = {  # S A.1: mean accuracy over the LTIMs
    "Marra18": {"Gaussian high-pass": 52.4, "DnCNN": 62.6},
    "Joslin20": {"Gaussian high-pass": 51.0, "DnCNN": 51.7},
    "DIF": {"Gaussian high-pass": 73.3, "DnCNN": 92.3},
}


class Block(NamedTuple):
    """One row of Tab. B; ``c_in`` has two entries where a skip connection is concatenated."""

    part: str
    c_in: tuple[int, ...]
    c_out: int
    activation: str


TABLE_B = (  # S A.3
    *(Block("encoder", (c,), 2 * c, "Leaky-ReLU") for c in (16, 32, 64, 128)),
    *(Block("decoder", (c, c), out, "Leaky-ReLU") for c, out in ((256, 128), (128, 64), (64, 32), (32, 32))),
    Block("decoder", (32,), 3, "TanH"),
)
TABLE_C = {  # S A.4
    "U-Net": dict(zip(LTIM, (99.3, 89.5, 99.0, 99.0, 90.3, 79.5), strict=True)),
    "U1-Net": dict(zip(LTIM, (99.4, 88.8, 98.9, 98.3, 85.2, 80.2), strict=True)),
    "D-Net": dict(zip(LTIM, (99.4, 89.3, 98.9, 99.0, 89.0, 78.0), strict=True)),
    "C-Net": dict(zip(LTIM, (60.7, 53.3, 89.9, 98.0, 88.2, 69.6), strict=True)),
}
TABLE_C_MEAN = {"U-Net": 92.8, "U1-Net": 91.8, "D-Net": 91.9, "C-Net": 76.6}  # as printed
TABLE_C_U1_LOSS = 5.0  # points U1-Net loses to U-Net on GLIDE, as the text says (S A.4, line 60; the table: 5.1)
TABLE_C_BOUNDARY = "glide"  # the generator with a dominant presence of boundary artefacts: S A.4, line 60

CROP = 256  # px, centre crop of native pixels: code
TRAIN_IMAGES = 1024  # N_S of the published fingerprints: S A.1, Tab. A, caption; R
TRAIN_IMAGES_OF_CLASS = 512  # of each class: release, checks/*/train_hypers.pt
MARGIN = 0.01  # m of the loss: code
LOW_SAMPLES = 128  # N_S where accuracy starts to fall: S C.1, Figs. B and C
LOW_SAMPLES_DROP = 5.0  # points of accuracy, for most models: S C.1
FIG_D_METHODS = ("DIF", "ResNet-50", "Grag21", "ResNet-M")  # S C.2, line 84
PROGAN_MODELS = ("P_A", "P_B", "hatP_A", "hatP_B")  # S C.4
PROGAN_EPOCHS = (20, 32, 40, 52, 70)  # S C.4, Fig. H
PROGAN_CONVERGED = (40, 52, 70)  # S Fig. H, caption
CLAIMS = {
    "few_samples": "DIF beats detectors trained under the same conditions.",  # abstract
    "low_sample_spread": "With 128 images DIF spreads more than ResNet-50, Grag21 and ResNet-M, most of all on SD 2.1, "
    "but the ranking holds.",  # S C.2, Fig. D
}


def contradictions(*names: str) -> pd.DataFrame:
    """Where the sources contradict each other or themselves: those named, or all; columns what, where."""
    known = pd.read_csv(DATA_DIR / "paper_contradictions.csv", index_col="name")
    return known.loc[list(names) or known.index].reset_index(drop=True)


def fig_h() -> pd.DataFrame:
    """S Fig. H: cross-detection accuracy (%) of the ProGAN checkpoints, 20 x 20, train set by test set."""
    return pd.read_csv(DATA_DIR / "paper_fig_h.csv", index_col=0).rename_axis("train").rename_axis("test", axis=1)


def label(name: object) -> str:
    """How a figure spells ``name``: generators as in the paper, "hatP_A@40" as a formula, anything else unchanged."""
    text = str(name)
    model, _, epoch = text.partition("@")
    if model in PROGAN_MODELS:
        letter = model[-1]
        symbol = rf"$\hat{{P}}_{letter}$" if model.startswith("hat") else f"$P_{letter}$"
        return f"{symbol}, {epoch}" if epoch else symbol
    return DISPLAY.get(text, text)


def paper_order(names: list[str]) -> list[str]:
    """``names`` with the paper's generators first, in its order, then the others as they came."""
    return [n for n in GENERATORS if n in names] + [n for n in names if n not in GENERATORS]
