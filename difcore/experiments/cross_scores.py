"""Correlations of G fingerprints with the images of several generators, and the tables that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import Detector
from difcore.stats import as_row, detection


@dataclass(frozen=True)
class CrossScores:
    """``real`` and ``fake`` by generator, (G, N) each: row i is rho of the i-th fingerprint with its reals or fakes."""

    fingerprints: dict[str, Detector]
    real: dict[str, Tensor]
    fake: dict[str, Tensor]

    def row(self, fingerprint: str, images: str) -> tuple[Tensor, Tensor]:
        """(rho of the reals, rho of the fakes) of one fingerprint on one generator's images."""
        k = list(self.fingerprints).index(fingerprint)
        return self.real[images][k], self.fake[images][k]

    def centres(self) -> dict[str, tuple[float, float]]:
        """(mu_real, mu_fake) of each fingerprint, as widgets take them."""
        return {name: (f.mu_real, f.mu_fake) for name, f in self.fingerprints.items()}

    def pairs(self, seed: int, fingerprint: str = "fingerprint", images: str = "images") -> pd.DataFrame:
        """A row for each pair: accuracy by the fingerprint's centres and AUC, with their intervals (``as_row``)."""
        rows = []
        for generator in self.real:
            for name, found in self.fingerprints.items():
                result = detection(*self.row(name, generator), found.threshold)
                rows.append({fingerprint: name, images: generator, **as_row(result), "seed": seed})
        return pd.DataFrame(rows)

    def frame(self) -> pd.DataFrame:
        """Every correlation as a row: fingerprint, generator (whose images), label ("real" or "fake"), score."""
        parts = []
        for generator in self.real:
            for label, rho in (("real", self.real[generator]), ("fake", self.fake[generator])):
                scores = pd.DataFrame(rho.numpy().T, columns=list(self.fingerprints))
                scores = scores.melt(var_name="fingerprint", value_name="score")
                parts.append(scores.assign(generator=generator, label=label))
        return pd.concat(parts, ignore_index=True)


def patterns_of(fingerprints: Mapping[str, Detector]) -> Tensor:
    """Their patterns, (G, 3, H, W)."""
    return torch.stack([f.pattern for f in fingerprints.values()])


def correlation_matrix(fingerprints: Mapping[str, Detector]) -> pd.DataFrame:
    """rho of all fingerprints with each other, in [-1, 1]."""
    patterns, names = patterns_of(fingerprints), list(fingerprints)
    return pd.DataFrame(ncc(patterns, patterns).double().numpy(), names, names)


def pair_table(matrix: pd.DataFrame, value: str) -> pd.DataFrame:
    """A matrix as rows: a, b and the entry, under the name ``value``."""
    values = np.asarray(matrix)
    pairs = [(a, b, values[i, j]) for i, a in enumerate(matrix.index) for j, b in enumerate(matrix.columns)]
    return pd.DataFrame(pairs, columns=["a", "b", value])
