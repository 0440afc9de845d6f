"""What the audit keeps of one image, so that hundreds of large ones need not be in memory: marks, traces, contents.

Interpolated pixels are weighted sums of their neighbours, with weights that repeat. So the size of the second
difference goes up and down with a period that the scale decides (Gallagher 2005; Mahdian & Saic 2008), and an image
that was enlarged has nothing left near the highest frequencies. Enlarged by 1.1 or 1.3: nearly every image is told;
by 2: about half of the photographs; shrunk by .9: half; shrunk by more: hardly any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from difcore.audit.watermark import Bits, read_carriers
from difcore.fingerprints.verdicts import CUT, spectral_cut
from difcore.images.crops import centre_crop, decode, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.leakage import Trace, trace

CROP, LOOKED_AT, SIDE, SMALLEST = 256, 1024, 512, 64  # px: of residuals, of windows, of traces of resizing (at least)
PEAK = 6.0  # of the period's line above the median of its neighbours; 2 % of lossless images exceed it
NEAR = 6  # bits of 64 in which the hashes of two versions of one picture differ at most
FEWEST = 10  # pictures of each class, below which contents are not compared
FLAT = 4.0  # grey levels of standard deviation; below it a picture has no layout to hash
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ResamplingTrace:
    """What is seen of a resizing in one image."""

    peak: float  # strongest line in the spectrum of the mean second difference, in medians of its neighbourhood
    frequency: float  # where it is, cycles per px
    cut: float  # ``spectral_cut``, dB

    @property
    def periodic(self) -> bool:
        """Whether the second difference has a period, as after an enlargement."""
        return self.peak > PEAK

    @property
    def cut_off(self) -> bool:
        """Whether the highest frequencies are empty: enlarged by two or more, or smooth by the generator itself.

        Of 150 images of Stable Diffusion 2.1 this holds for 21 %.
        """
        return self.cut < CUT


@dataclass(frozen=True)
class Imprint:
    """What is known of one image; the last five are empty after a quick look."""

    path: Path
    crop: Picture  # (H, W, 3), the centre, at most ``CROP`` px a side
    bits: Bits  # (H // 8, W // 8), see ``watermark.read_carriers``
    quantised: float
    content: str = ""  # SHA-256 of the pixels
    windows: Trace = frozenset()  # ``leakage.trace`` of the centre
    layout: NDArray[np.bool_] | None = None  # ``perceptual_hash``
    thumbnail: NDArray[np.float64] | None = None  # (192,)
    trace: ResamplingTrace | None = None


def imprint(path: Path, quick: bool = False) -> Imprint | None:
    """The imprint of an image file; None if it cannot be read. ``quick`` leaves out contents and resampling."""
    try:
        image = decode(path)
    except ImageError:
        return None
    first = (path, middle(image, CROP).copy(), *read_carriers(image))
    if quick:
        return Imprint(*first)
    contents = (sha256_pixels(image), trace(middle(image, LOOKED_AT)), perceptual_hash(image), thumbnail(image))
    return Imprint(*first, *contents, resampling_trace(image))


def middle(image: Picture, most: int) -> Picture:
    """View of the central square of ``image``, as large as it is but at most ``most`` px a side."""
    return centre_crop(image, min(most, *image.shape[:2]))


def resampling_trace(image: Picture) -> ResamplingTrace | None:
    """Look for both traces, along rows and along columns; None if ``image`` (H, W, 3) is below ``SMALLEST`` px.

    Lines at multiples of 1/8 cycles/px are left out: JPEG blocks and the up-sampling of generators are there.
    """
    side = min(SIDE, *image.shape[:2]) // 8 * 8
    if side < SMALLEST:
        return None
    pixels = centre_crop(image, side)
    green = pixels[..., 1].astype(float)
    return ResamplingTrace(*max(_line(green), _line(green.T)), spectral_cut(pixels))


def _line(plane: NDArray[np.float64]) -> tuple[float, float]:
    """Height and place of the strongest line of one direction."""
    second = np.abs(2 * plane[:, 1:-1] - plane[:, :-2] - plane[:, 2:])
    profile = np.minimum(second, 4 * second.mean() + 1e-9).mean(0)  # an edge counts little more than a texture
    size = len(profile) // 8 * 8
    profile = profile[:size] - profile[:size].mean()
    spectrum = np.abs(np.fft.rfft(profile * np.hanning(size)))
    frequency = np.arange(len(spectrum)) / size
    around = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(spectrum, 10, mode="reflect"), 21), axis=1)
    off_grid = np.abs(frequency * 8 - np.round(frequency * 8)) > 2.5 * 8 / size
    ratio = np.where(off_grid & (frequency > 0.06), spectrum / np.maximum(around, 1e-9), 0)
    best = int(ratio.argmax())
    return float(ratio[best]), float(frequency[best])


def perceptual_hash(image: Picture) -> NDArray[np.bool_] | None:
    """64 bits (64,) that survive resizing and encoding; None if the picture is flat.

    Signs, against their median, of the 8 x 8 lowest coefficients of the cosine transform of the picture in 32 x 32 grey
    levels; the mean's bit says nothing and is left at false.
    """
    grey = np.asarray(Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.BOX), float)
    if grey.std() < FLAT:
        return None
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False
    return bits


def near_duplicates(hashes: Sequence[NDArray[np.bool_] | None]) -> list[tuple[int, int]]:
    """Pairs (i < j) of pictures whose hashes differ in at most ``NEAR`` bits."""
    known = [(k, 2 * bits.astype(np.float32) - 1) for k, bits in enumerate(hashes) if bits is not None]
    if len(known) < 2:
        return []
    places, signs = [k for k, _ in known], np.stack([bits for _, bits in known])
    close = np.triu((64 - signs @ signs.T) / 2 <= NEAR, 1)
    return [(places[i], places[j]) for i, j in zip(*np.nonzero(close), strict=True)]


def thumbnail(image: Picture) -> NDArray[np.float64]:
    """The picture in 8 x 8 colours, (192,): its layout without any trace of how it was made."""
    return np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX), float).ravel() / 255


def layout_auc(real: Sequence[NDArray[np.float64]], fake: Sequence[NDArray[np.float64]]) -> float | None:
    """AUC with which thumbnails alone tell the classes apart, by logistic regression, five-fold; None for too few."""
    if min(len(real), len(fake)) < FEWEST:
        return None
    labels = np.repeat([0, 1], [len(real), len(fake)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, np.stack([*real, *fake]), labels, cv=folds, method="decision_function")
    return float(roc_auc_score(labels, scores))
