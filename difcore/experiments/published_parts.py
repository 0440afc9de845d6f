"""What the published fingerprints find images by: the grid of the decoder's period, or what is left without it.

Beyond the paper. Latent diffusion models decode 8 x 8 pixels from each latent position, and JPEG works in blocks of
8 x 8: a fingerprint that is all grid finds whatever shares the grid.

Published fingerprints on residuals that are limited more and more: how much of a correlation are its edges?

Beyond the paper. The fingerprints were fitted behind the authors' filter, the residuals are of ours; two filters differ
most at edges, where residuals are a hundred times a fingerprint's strength.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from difcore.experiments.claiming import CHANCE, area_of, judge_above, judge_best, silent_claim
from difcore.experiments.published_images import (
    LIMIT_TUNED,
    RELATED,
    PublishedScores,
    lineage_tables,
    published_fingerprints,
    release_residuals,
)
from difcore.fingerprints.correlation import FLAT, Array, chunks, ncc, periodic_part, zero_mean
from difcore.machine.devices import as_tensor
from difcore.paper import DISPLAY, GAN, WITH_IMAGES
from difcore.records.artefacts import Claim
from difcore.residuals.denoisers import LIMIT, Denoiser, limited
from difcore.stats import sum_estimate, t_estimate

LIMITS = (None, 4.0, 2.0, 1.0, 0.7, LIMIT, 0.2)
COST = 0.02  # AUC that the limit may cost
OWN, LINEAGE, UNRELATED = "own images", "each other's images", "a GAN on SD 1.4 or MJ"


def score_limits(
    release: Path | str, denoiser: Denoiser, limits: Sequence[float | None] = LIMITS, progress: bool = False
) -> dict[float | None, PublishedScores]:
    """Correlations of every published fingerprint with every image, by the limit of the residuals (None: none).

    Raises
    ------
    ValueError
        If the denoiser limits its residuals itself.
    """
    if denoiser.limit is not None:
        raise ValueError(f"expected a denoiser without a limit of its own, this one has {denoiser.limit}")
    prints = published_fingerprints(release)
    patterns = torch.stack([p.pattern for p in prints.values()])
    sets = release_residuals(release, denoiser, progress=progress)

    def rho(values: Array, limit: float | None) -> torch.Tensor:
        held = (as_tensor(some).float() for some in chunks(values))
        return torch.cat([ncc(patterns, some if limit is None else limited(some, limit)) for some in held], 1)

    return {
        limit: PublishedScores(
            prints, *({name: rho(pair[k].values, limit) for name, pair in sets.items()} for k in (0, 1))
        )
        for limit in limits
    }


def limits_table(scores: Mapping[float | None, PublishedScores], seed: int = 0) -> pd.DataFrame:
    """Detection by limit, tidy: the six on their own images, SD 1.4 and MJ on each other's, every GAN on these two.

    Columns: limit (infinite: none), kind, fingerprint, images, accuracy by the published centres and AUC with their
    intervals, n_real, n_fake, seed.
    """
    kinds = {(name, name): OWN for name in WITH_IMAGES} | dict.fromkeys(RELATED, LINEAGE)
    kinds |= {(gan, images): UNRELATED for gan in GAN for images in ("sd14", "mj")}
    parts = []
    for limit, table in scores.items():
        rows = lineage_tables(table, seed)[0]
        pairs = zip(rows["fingerprint"], rows["images"], strict=True)
        rows = rows.assign(kind=[kinds.get(pair) for pair in pairs], limit=np.inf if limit is None else limit)
        parts.append(rows[rows["kind"].notna()])
    table = pd.concat(parts, ignore_index=True)
    return table[["limit", "kind", *table.columns.difference(["limit", "kind"], sort=False)]]


def limits_frame(table: pd.DataFrame) -> pd.DataFrame:
    """One curve per row and limit for the figure: limit, series, value (AUC).

    Series: the six generators, and, of the others, the lowest of the lineage and the highest of the GANs.
    """
    own = table[table["kind"] == OWN].rename(columns={"fingerprint": "series", "auc": "value"})
    lineage = table[table["kind"] == LINEAGE].groupby("limit").auc.min()
    gans = table[table["kind"] == UNRELATED].groupby("limit").auc.max()
    more = {"MJ and SD 1.4, each other's (lower)": lineage, "GANs on SD 1.4 and MJ (highest)": gans}
    parts = [values.rename("value").reset_index().assign(series=name) for name, values in more.items()]
    return pd.concat([own, *parts], ignore_index=True)[["limit", "series", "value"]]


def limits_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``03_published_detection``, beyond the paper: a limit leaves detection as it is, or better."""

    def of(kind: str, limit: float) -> pd.DataFrame:
        return table[(table["kind"] == kind) & (table["limit"] == limit)].set_index("fingerprint")

    plain, held = of(OWN, np.inf), of(OWN, LIMIT)
    change = held.auc - plain.auc
    found = t_estimate(change, f"{len(change)} generators")
    lost = ", ".join(DISPLAY[g] for g in plain.index if change[g] < -COST)
    gans = {limit: float(of(UNRELATED, limit).auc.max()) for limit in (np.inf, LIMIT)}
    low, high = found.interval
    claim = judge_above(
        f"Residuals limited to {LIMIT} of their root mean square cost the published fingerprints at most {COST} of AUC",
        None,
        f"mean AUC {plain.auc.mean():.3f} without, {held.auc.mean():.3f} with the limit, {found.value:+.3f} "
        f"[{low:+.3f}, {high:+.3f}] over {found.basis}; "
        f"no GAN's fingerprint above {gans[np.inf]:.2f} without, {gans[LIMIT]:.2f} with it",
        found,
        -COST,
        f"they cost more, most of all {lost}",
    )
    return [replace(claim, tuned=LIMIT_TUNED)]


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
