"""What the paper says: names, orders, published values and claims, each with the place it comes from.

Places are written as in ``SOURCES``: "S" is the supplemental material, "R" the official README, "abstract" the
abstract page with its summary, "code" the official repository at the pinned commit. Accuracies are percentages.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from difcore.files import DATA_DIR

LTIM = ("sd14", "sd21", "mj", "dalle_mini", "glide", "dalle_2")
GAN = ("cyclegan", "stylegan", "stylegan2", "stargan", "biggan", "gaugan", "progan")
GENERATORS = LTIM + GAN
WITH_IMAGES = LTIM
DISPLAY = {
    "sd14": "SD 1.4",
    "sd21": "SD 2.1",
    "mj": "MJ",
    "dalle_mini": "DALL·E-Mini",
    "glide": "GLIDE",
    "dalle_2": "DALL·E-2",
    "sd14s": "SD 1.4S",
    "sd15a": "SD 1.5A",
    "sd20": "SD 2.0",
    "sd20r": "SD 2.0R",
    "cyclegan": "CycleGAN",
    "stylegan": "StyleGAN",
    "stylegan2": "StyleGAN2",
    "stargan": "StarGAN",
    "biggan": "BigGAN",
    "gaugan": "GauGAN",
    "progan": "ProGAN",
}

README_ACCURACY = dict(
    zip(GENERATORS, (99.3, 89.5, 99.0, 99.0, 90.3, 79.5, 94.4, 91.5, 99.9, 96.9, 91.8, 92.6, 57.7), strict=True)
)

TABLE_A = {
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


TABLE_B = (
    Block("encoder", (16,), 32, "Leaky-ReLU"),
    Block("encoder", (32,), 64, "Leaky-ReLU"),
    Block("encoder", (64,), 128, "Leaky-ReLU"),
    Block("encoder", (128,), 256, "Leaky-ReLU"),
    Block("decoder", (256, 256), 128, "Leaky-ReLU"),
    Block("decoder", (128, 128), 64, "Leaky-ReLU"),
    Block("decoder", (64, 64), 32, "Leaky-ReLU"),
    Block("decoder", (32, 32), 32, "Leaky-ReLU"),
    Block("decoder", (32,), 3, "TanH"),
)

TABLE_C = {
    "U-Net": dict(zip(LTIM, (99.3, 89.5, 99.0, 99.0, 90.3, 79.5), strict=True)),
    "U1-Net": dict(zip(LTIM, (99.4, 88.8, 98.9, 98.3, 85.2, 80.2), strict=True)),
    "D-Net": dict(zip(LTIM, (99.4, 89.3, 98.9, 99.0, 89.0, 78.0), strict=True)),
    "C-Net": dict(zip(LTIM, (60.7, 53.3, 89.9, 98.0, 88.2, 69.6), strict=True)),
}
TABLE_C_MEAN = {"U-Net": 92.8, "U1-Net": 91.8, "D-Net": 91.9, "C-Net": 76.6}

CROP = 256  # px, centre crop of native pixels
TRAIN_IMAGES = 1024  # N_S of the published fingerprints, as the text counts
TRAIN_IMAGES_OF_CLASS = 512  # of each class, as their hyper-parameters say
MARGIN = 0.01  # m of the loss
DNCNN_IMAGES = 1024
DNCNN_EPOCHS = 2000
DNCNN_LEARNING_RATE = 1e-4
DNCNN_CROP = 48  # px
DNCNN_PADDING = 10  # px on each side
DNCNN_SIGMA = (5.0, 15.0)  # standard deviation of the training noise, in units of 1/255
LOW_SAMPLES = 128  # N_S where accuracy starts to fall
LOW_SAMPLES_DROP = 5.0  # points of accuracy, for most models
LOW_SAMPLES_REPEATS = 10
TABLE_C_U1_LOSS = 5.0  # points U1-Net loses to U-Net on GLIDE, as the text says (the table: 5.1)
TABLE_C_BOUNDARY = "glide"  # the generator with a dominant presence of boundary artefacts
FIG_D_METHODS = ("DIF", "ResNet-50", "Grag21", "ResNet-M")
FIG_D_WIDEST = "sd21"  # where DIF is least consistent
VARIANTS = {"sd14s": "sd14", "sd15a": "sd14", "sd20r": "sd20"}  # fine-tuned child to its source
PROGAN_MODELS = ("P_A", "P_B", "hatP_A", "hatP_B")
PROGAN_EPOCHS = (20, 32, 40, 52, 70)
PROGAN_CONVERGED = (40, 52, 70)
PROGAN_CROP = 128  # px

SOURCES = {
    "LTIM": "R, row of expected accuracies (order and spelling); folders of checks/ in the release (ids)",
    "GAN": "R, row of expected accuracies (order and spelling); folders of checks/ in the release (ids)",
    "GENERATORS": "R, row of expected accuracies",
    "WITH_IMAGES": "release, folders of data/",
    "DISPLAY": "R, row of expected accuracies",
    "README_ACCURACY": "R, 'The expected accuracy values (%) are below'",
    "TABLE_A": "S A.1, Tab. A: mean accuracy (%) over the LTIMs",
    "TABLE_B": "S A.3, Tab. B",
    "TABLE_C": "S A.4, Tab. C: accuracy (%)",
    "TABLE_C_MEAN": "S A.4, Tab. C, last column as printed",
    "CROP": "code, crop size of the published fingerprints",
    "TRAIN_IMAGES": "S A.1, Tab. A, caption; R, 'trained with 1024 samples'",
    "TRAIN_IMAGES_OF_CLASS": "release, checks/*/train_hypers.pt",
    "MARGIN": "code",
    "DNCNN_IMAGES": "S A.2",
    "DNCNN_EPOCHS": "S A.2",
    "DNCNN_LEARNING_RATE": "S A.2",
    "DNCNN_CROP": "S A.2",
    "DNCNN_PADDING": "S A.2",
    "DNCNN_SIGMA": "S A.2",
    "LOW_SAMPLES": "S C.1, Figs. B and C",
    "LOW_SAMPLES_DROP": "S C.1",
    "LOW_SAMPLES_REPEATS": "S C.2, Fig. D",
    "TABLE_C_U1_LOSS": "S A.4, line 60",
    "TABLE_C_BOUNDARY": "S A.4, line 60",
    "FIG_D_METHODS": "S C.2, line 84",
    "FIG_D_WIDEST": "S Fig. D, caption, line 124",
    "VARIANTS": "S B.2, line 74 (SD 1.4S, SD 1.5A, SD 2.0R)",
    "PROGAN_MODELS": "S C.4",
    "PROGAN_EPOCHS": "S C.4, Fig. H",
    "PROGAN_CONVERGED": "S Fig. H, caption",
    "PROGAN_CROP": "S C.4",
    "fig_h": "S Fig. H, 20 x 20 values",
}


class Statement(NamedTuple):
    """Something the paper claims, in our words, and where."""

    text: str
    source: str


CLAIMS = {
    "few_samples": Statement("DIF beats detectors trained under the same conditions.", "abstract"),
    "state_of_the_art": Statement(
        "On SD and MJ images DIF is comparable to pre-trained detectors, with far fewer training images.", "abstract"
    ),
    "mj_lineage": Statement("Cross-detection identifies MJ as a fine-tuned SD 1.4.", "abstract, summary"),
    "published_accuracy": Statement("The published fingerprints reach the accuracies of README_ACCURACY.", "R"),
    "high_pass": Statement("Every method is worse with a Gaussian high-pass than with DnCNN.", "S A.1, Tab. A"),
    "gray_grid": Statement(
        "Transposed convolutions are suspected to be the main cause of grid-like artefacts.", "S A.3"
    ),
    "unet_best": Statement("U-Net has the highest mean accuracy of the four architectures.", "S A.4, Tab. C"),
    "cnet_worst": Statement("C-Net, without up-sampling, has the lowest mean accuracy.", "S A.4, Tab. C"),
    "glide_boundary": Statement(
        "GLIDE's fingerprint is mostly boundary artefacts: C-Net loses little on it, U1-Net about 5 points.", "S A.4"
    ),
    "train_size": Statement("Accuracy is stable down to N_S = 128, where most models lose 5 points.", "S C.1"),
    "low_sample_spread": Statement(
        "With 128 images DIF spreads more than ResNet-50, Grag21 and ResNet-M, most of all on SD 2.1, "
        "but the ranking holds.",
        "S C.2, Fig. D",
    ),
    "gans_unrelated": Statement(
        "Cross-detection between separately trained GANs, and between ProGANs, is low.", "S C.3, Figs. A and F"
    ),
    "checkpoints_related": Statement(
        "Checkpoints of one ProGAN from epoch 40 on detect each other, symmetrically.", "S C.4, Fig. H"
    ),
    "models_asymmetric": Statement("Between different ProGANs cross-detection is not symmetric.", "S C.4, Fig. H"),
    "average_correlation": Statement(
        "Correlations of averaged residuals F_A follow cross-detection, fall faster over the epochs, "
        "and are always symmetric.",
        "S C.5, Fig. I",
    ),
    "extracted_correlation": Statement("Correlations of extracted fingerprints F_E look random.", "S C.5, Fig. J"),
}

CONTRADICTIONS = {
    "train_images": Statement(
        "The README says 1024 training images; the published hyper-parameters say 512 per class, and the number of "
        "logged steps fits 512.",
        "R; release, checks/*/train_hypers.pt",
    ),
    "readme_columns": Statement(
        "The GAN accuracies changed columns between two commits of the README; README_ACCURACY is the later one.",
        "R, history",
    ),
    "jpeg_reals": Statement(
        "58 of the 60 'real' .png files of the release are JPEG bytes and all 60 fakes are true PNG: a detector could "
        "tell the classes by their encoding.",
        "release, data/*/0_real",
    ),
    "silent_padding": Statement(
        "The official evaluation pads images smaller than the crop with black, silently; its learning-rate, batch and "
        "train-size flags are parsed and ignored.",
        "code",
    ),
    "table_means": Statement(
        "Tab. A gives DIF a mean of 92.3, Tab. C and its own six values 92.8; the D-Net row of Tab. C prints 91.9 but "
        "its six values average 92.3.",
        "S Tab. A and C",
    ),
    "unet_bold": Statement(
        "Tab. C marks U-Net's 79.5 on DALL·E-2 as the best although U1-Net has 80.2 there.", "S Tab. C"
    ),
    "cnet_glide": Statement(
        "C-Net's small loss on GLIDE (2.1 points) is read as a sign of boundary artefacts, yet it loses still less on "
        "DALL·E-Mini (1.0).",
        "S A.4, Tab. C",
    ),
    "last_layer": Statement("The text makes every convolution 3x3; the code's last one is 1x1.", "S A.3; code"),
    "dncnn_optimiser": Statement(
        "The text trains DnCNN with Adam at 1e-4; the code with AdamW and an exponential decay of 0.998.", "S A.2; code"
    ),
    "cyclegan_origin": Statement(
        "The README reports CycleGAN, which the list of GAN test sets does not name.", "R; S B.1"
    ),
}


def contradictions(*names: str) -> pd.DataFrame:
    """Known contradictions of the sources: those named, or all; columns what, where.

    Raises
    ------
    KeyError
        If one is not in ``CONTRADICTIONS``.
    """
    rows = [CONTRADICTIONS[name] for name in names or CONTRADICTIONS]
    return pd.DataFrame(rows, columns=["text", "source"]).rename(columns={"text": "what", "source": "where"})


def fig_h() -> pd.DataFrame:
    """Fig. H: cross-detection accuracy (%) of the ProGAN checkpoints, 20 x 20.

    Returns
    -------
    DataFrame
        Index: the train set, columns: the test set, both spelled "model@epoch" in the figure's order.
    """
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
