"""Do two sets of pictures share pictures, or differ so much in what they show that a detector could go by that?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NEAR = 6  # bits of 64 in which the hashes of two versions of one picture differ at most
FEWEST = 10  # pictures of each class, below which contents are not compared
FLAT = 4.0  # grey levels of standard deviation; below it a picture has no layout to hash


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
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
    known = [k for k, bits in enumerate(hashes) if bits is not None]
    if len(known) < 2:
        return []
    signs = np.stack([2 * hashes[k].astype(np.float32) - 1 for k in known])  # type: ignore[union-attr]
    distance = (64 - signs @ signs.T) / 2
    return [(known[i], known[j]) for i, j in zip(*np.nonzero(np.triu(distance <= NEAR, 1)), strict=True)]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The picture in 8 x 8 colours, (192,): its layout without any trace of how it was made."""
    return np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX), float).ravel() / 255


def layout_auc(real: Sequence[NDArray[np.float64]], fake: Sequence[NDArray[np.float64]], seed: int = 0) -> float | None:
    """AUC with which thumbnails alone tell the classes apart, by logistic regression, five-fold; None for too few."""
    if min(len(real), len(fake)) < FEWEST:
        return None
    values, labels = np.stack([*real, *fake]), np.repeat([0, 1], [len(real), len(fake)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, values, labels, cv=folds, method="decision_function")
    return float(roc_auc_score(labels, scores))
