"""Family trees of models that were cross-detected: fingerprints that tell models from each other, not from reals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from difcore.experiments.cross import Cross, scores_of
from difcore.generators import CHILDREN, DECODERS
from difcore.lineage import Evidence, Pair, evidence, first_ancestors

FLOOR = 1e-3  # of the mean power: what a frequency without any is taken to hold


def kin_patterns(cross: Cross) -> Tensor:
    """What sets each model apart from all of them, whitened: (G, 3, H, W).

    F_A,i minus the mean of all F_A, divided by the power spectrum of real residuals frequency by frequency: the
    matched filter for a known pattern in noise of that spectrum. Low frequencies, where scenes differ most from each
    other, count least.
    """
    means = np.stack([cross.fingerprints["marra18"][name].pattern.numpy() for name in cross.names])
    power = cross.power + FLOOR * cross.power.mean()
    filtered = np.fft.ifft2(np.fft.fft2(means - means.mean(0)) / power)
    return torch.from_numpy(np.real(filtered).astype(np.float32))


def kin_evidence(cross: Cross, draws: int = 1000, seed: int = 0) -> Evidence:
    """``difcore.lineage.evidence`` of these patterns; the background of each model is all models' test images."""
    _, fake = scores_of(kin_patterns(cross), cross.fits)
    scores = [x.double().numpy() for x in fake]
    everything = np.concatenate(scores, axis=1)
    owners = np.repeat(np.arange(len(scores)), [x.shape[1] for x in scores])
    return evidence(cross.names, [everything] * len(scores), scores, draws, seed, owners=owners)


def cross_evidence(cross: Cross, draws: int = 1000, seed: int = 0) -> Evidence:
    """The same of the DIF fingerprints against real images: plain cross-detection."""
    real, fake = ([x.double().numpy() for x in part] for part in (cross.real, cross.fake))
    return evidence(cross.names, real, fake, draws, seed)


def decoder_truth(names: tuple[str, ...]) -> tuple[list[Pair], list[Pair]]:
    """(first ancestor, descendant) and (parent, child) pairs among the demo decoders."""
    parents = {child: plan.parent for child, plan in CHILDREN.items() if child in names}
    first = [(root, child) for child, root in first_ancestors(parents).items() if root in names]
    return first, [(parent, child) for child, parent in parents.items() if parent in names]


def founders_of(names: tuple[str, ...]) -> list[str]:
    """The demo decoders that are nobody's children."""
    return [name for name in names if name in DECODERS]
