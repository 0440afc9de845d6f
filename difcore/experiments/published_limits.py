"""Published fingerprints on residuals that are limited more and more: how much of a correlation are its edges?

Beyond the paper. The fingerprints were fitted behind the authors' filter, the residuals are of ours; two filters differ
most at edges, where residuals are a hundred times a fingerprint's strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from difcore.artefacts import Claim
from difcore.correlation import Array, chunks, limited, ncc
from difcore.denoisers import LIMIT, Denoiser
from difcore.experiments.published import (
    RELATED,
    PublishedScores,
    lineage_tables,
    published_fingerprints,
    release_residuals,
)
from difcore.experiments.verdicts import LIMIT_TUNED, judge_above
from difcore.inference import t_estimate
from difcore.paper import DISPLAY, GAN, WITH_IMAGES
from difcore.tensors import as_tensor

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
