"""What the published fingerprints find images by: the grid of the decoder's period, or what is left without it.

Beyond the paper. Latent diffusion models decode 8 x 8 pixels from each latent position, and JPEG works in blocks of
8 x 8: a fingerprint that is all grid finds whatever shares the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from difcore.artefacts import Claim
from difcore.correlation import FLAT, Array, chunks, ncc
from difcore.denoisers import Denoiser
from difcore.experiments.published import (
    RELATED,
    PublishedScores,
    lineage_tables,
    published_fingerprints,
    release_residuals,
)
from difcore.experiments.verdicts import CHANCE, area_of, judge_above, judge_best, silent_claim
from difcore.grids import periodic_part, zero_mean
from difcore.inference import sum_estimate
from difcore.paper import DISPLAY, GAN
from difcore.tensors import as_tensor

PERIOD = 8  # px of the image per position of a latent diffusion model's latent, and per JPEG block


def without_grid(x: Tensor) -> Tensor:
    """What no grid of ``PERIOD`` explains."""
    return x - periodic_part(x, PERIOD)


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": torch.clone,
    "grid of 8 px": partial(periodic_part, period=PERIOD),
    "without the grid": without_grid,
    "zero-mean rows and columns": zero_mean,
}


def part_of(x: Tensor, part: str) -> Tensor:
    """One of ``PARTS`` of each sample (N, 3, H, W). What rounding alone leaves becomes zero."""
    found = PARTS[part](x)
    lengths = [t.flatten(1).norm(dim=1)[:, None, None, None] for t in (found, x)]
    return torch.where(lengths[0] <= FLAT * lengths[1], 0, found)


def correlate_parts(patterns: Tensor, sets: Sequence[Array]) -> dict[str, list[Tensor]]:
    """rho of G fingerprints with residual sets (N_t, 3, H, W), by part: one (G, N_t) for each set.

    Each part is an orthogonal projection, taken of the fingerprint and of the residual before rho is computed.
    """
    found = {}
    for part in PARTS:
        taken = part_of(patterns, part)
        found[part] = [
            torch.cat([ncc(taken, part_of(as_tensor(some).float(), part)) for some in chunks(values)], 1)
            for values in sets
        ]
    return found


def score_parts(release: Path | str, denoiser: Denoiser, progress: bool = False) -> dict[str, PublishedScores]:
    """Correlations of every published fingerprint with every image, of each of ``PARTS`` of both."""
    prints = published_fingerprints(release)
    sets = release_residuals(release, denoiser, progress=progress)
    patterns = torch.stack([p.pattern for p in prints.values()])
    real, fake = (correlate_parts(patterns, [pair[k].values for pair in sets.values()]) for k in (0, 1))
    return {
        part: PublishedScores(
            prints, dict(zip(sets, real[part], strict=True)), dict(zip(sets, fake[part], strict=True))
        )
        for part in PARTS
    }


def parts_table(scores: Mapping[str, PublishedScores], seed: int = 0) -> pd.DataFrame:
    """AUC of each part of each fingerprint on each generator's images, tidy.

    Columns: part, fingerprint, images, auc, auc_low, auc_high, n_real, n_fake, seed. No accuracy: the published centres
    are of whole fingerprints.
    """
    columns = ["fingerprint", "images", "auc", "auc_low", "auc_high", "n_real", "n_fake", "seed"]
    parts = [lineage_tables(table, seed)[0][columns].assign(part=part) for part, table in scores.items()]
    return pd.concat(parts, ignore_index=True)[["part", *columns]]


def parts_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``04_published_lineage``, beyond the paper: the lineage is the grid's, and what makes it specific."""
    area = table.set_index(["part", "fingerprint", "images"])
    pairs = [("sd14", "sd14"), ("mj", "mj"), *sorted(RELATED)]
    found = {part: [area_of(area.loc[(part, *pair)]) for pair in pairs] for part in PARTS}

    def text(part: str) -> str:
        values = [estimate.value for estimate in found[part]]
        return f"AUC {min(values):.2f} to {max(values):.2f}"

    _, by_grid, rest, cleaned = PARTS
    more = [sum_estimate([1, -1], both, both[0].basis) for both in zip(found[by_grid], found[rest], strict=True)]
    gans = table[(table.part == cleaned) & table.fingerprint.isin(GAN) & table.images.isin(["sd14", "mj"])]
    gans = gans.set_index(gans.fingerprint.map(DISPLAY) + " on " + gans.images.map(DISPLAY))
    lowest = min(found[cleaned], key=lambda estimate: estimate.value)
    return [
        judge_best(
            "SD 1.4 and MJ find their own and each other's images by a grid of 8 px better than by what is left "
            "without it",
            None,
            f"{text(by_grid)} by the grid, {text(rest)} without",
            more,
            "the grid does not carry it",
        ),
        judge_above(
            "With rows and columns made mean-free the lineage stays: each of the four pairs is better than chance",
            None,
            text(cleaned),
            lowest,
            CHANCE,
            "the lineage goes",
        ),
        silent_claim("With rows and columns made mean-free no GAN's fingerprint finds SD 1.4 or MJ", None, gans),
    ]
