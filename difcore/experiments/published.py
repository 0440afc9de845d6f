"""Notebooks 02 to 04: the authors' 13 fingerprints on the authors' own images.

Detection as the README promises it, lineage, and beyond the paper two questions. By what do they find images: the grid
of the decoder's period (latent diffusion models decode 8 x 8 pixels from each position, and JPEG works in blocks of
8 x 8), or what is left without it? And what do edges do, where our filter and the authors' differ most and residuals
are a hundred times a fingerprint's strength?
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.experiments.claiming import area_of, judge, judge_above, judge_best, measured, percent
from difcore.experiments.cross_scores import CrossScores, correlation_matrix, pair_table, patterns_of
from difcore.fingerprints.correlation import (
    FLAT,
    Array,
    centres,
    chunks,
    grid_share,
    leave_one_out_decisions,
    ncc,
    periodic_part,
    zero_mean,
)
from difcore.fingerprints.detector import Detector
from difcore.images.folders import list_images
from difcore.machine.devices import as_tensor
from difcore.paper import DISPLAY, GAN, GENERATORS, README_ACCURACY, WITH_IMAGES
from difcore.records.claims import Claim
from difcore.residuals.denoisers import LIMIT, Denoiser, limited
from difcore.residuals.sets import residuals_of
from difcore.stats import SURE, Detection, as_row, balanced_estimate, detection, holm, sum_estimate, t_estimate

Key = TypeVar("Key", bound=Hashable)
Rho = Callable[[Tensor, Array], Tensor]  # (G, 3, H, W) and (N, 3, H, W) to (G, N)
Part = Callable[[Tensor], Tensor]  # of samples (N, 3, H, W)

RELATED = {("sd14", "mj"), ("mj", "sd14")}  # the lineage the paper reports among the generators with images
PERIOD = 8  # px of the image per position of a latent diffusion model's latent, and per JPEG block
PARTS: dict[str, Part] = {
    "whole": torch.clone,
    "grid of 8 px": partial(periodic_part, period=PERIOD),
    "without the grid": lambda x: x - periodic_part(x, PERIOD),
    "zero-mean rows and columns": zero_mean,
}
LIMITS = (None, 4.0, 2.0, 1.0, 0.7, LIMIT, 0.2)  # of the residuals, in root mean squares
OWN, LINEAGE, UNRELATED = "own images", "each other's images", "a GAN on SD 1.4 or MJ"
LIMIT_TUNED = "the filter photos-long and the limit .4 were chosen on the authors' 120 images"
COST, LOSS = 0.02, 0.05  # AUC that the limit, and the control, may cost
CHANCE = 0.5


def published_fingerprints(release: Path | str) -> dict[str, Detector]:
    """The 13 published fingerprints by id, in the paper's order; FileNotFoundError if one is missing."""
    return {name: Detector.from_official(Path(release) / "checks" / name / "chk_0.pt", name) for name in GENERATORS}


def scores_by(
    rules: Mapping[Key, Rho],
    release: Path | str,
    denoiser: Denoiser,
    jpeg: int | None = None,
    progress: bool = False,
) -> dict[Key, CrossScores]:
    """Every published fingerprint with every image of the release, by several rules of correlation."""
    prints, folder = published_fingerprints(release), Path(release) / "data"
    sets = {
        name: [
            residuals_of(list_images(folder / name / label), denoiser, jpeg=jpeg).values
            for label in ("0_real", "1_fake")
        ]
        for name in tqdm(WITH_IMAGES, desc="image sets", disable=not progress)
    }
    patterns = patterns_of(prints)
    return {
        key: CrossScores(prints, *({name: rho(patterns, pair[k]) for name, pair in sets.items()} for k in (0, 1)))
        for key, rho in rules.items()
    }


def score_release(
    release: Path | str, denoiser: Denoiser, jpeg: int | None = None, progress: bool = False
) -> CrossScores:
    """Every published fingerprint with every image, last encoded as JPEG of a quality if one is given."""
    return scores_by({"": ncc}, release, denoiser, jpeg, progress)[""]


def score_limits(
    release: Path | str, denoiser: Denoiser, limits: Sequence[float | None] = LIMITS, progress: bool = False
) -> dict[float | None, CrossScores]:
    """The same by the limit of the residuals (None: none); ValueError if the denoiser limits its residuals itself."""
    if denoiser.limit is not None:
        raise ValueError(f"expected a denoiser without a limit of its own, this one has {denoiser.limit}")
    rules = {k: by_part(torch.clone, torch.clone if k is None else partial(limited, limit=k)) for k in limits}
    return scores_by(rules, release, denoiser, progress=progress)


def score_parts(release: Path | str, denoiser: Denoiser, progress: bool = False) -> dict[str, CrossScores]:
    """The same of each of ``PARTS``: an orthogonal projection, of fingerprint and residual, before rho is computed."""
    found = {name: partial(part_of, part=part) for name, part in PARTS.items()}
    return scores_by({k: by_part(part, part) for k, part in found.items()}, release, denoiser, progress=progress)


def by_part(of_patterns: Part, of_residuals: Part) -> Rho:
    """The rule that correlates a part of the patterns with a part of the residuals."""

    def rho(patterns: Tensor, values: Array) -> Tensor:
        taken = of_patterns(patterns)
        return torch.cat([ncc(taken, of_residuals(as_tensor(some).float())) for some in chunks(values)], 1)

    return rho


def part_of(x: Tensor, part: Part) -> Tensor:
    """A part of each sample (N, 3, H, W). What rounding alone leaves becomes zero."""
    found = part(x)
    lengths = [t.flatten(1).norm(dim=1)[:, None, None, None] for t in (found, x)]
    return torch.where(lengths[0] <= FLAT * lengths[1], 0, found)


# Tables


def fingerprint_table(fingerprints: Mapping[str, Detector], periods: tuple[int, ...] = (2, 4, 8, 16)) -> pd.DataFrame:
    """How periodic each fingerprint is: its grid's share of the energy over white noise's, per period, and centres."""
    rows = []
    for name, fingerprint in fingerprints.items():
        pattern = fingerprint.pattern.numpy()
        noise = {p: p * p / (pattern.shape[1] * pattern.shape[2]) for p in periods}
        shares = {f"grid_{p}_over_noise": grid_share(pattern, p) / noise[p] for p in periods}
        row = {"generator": name, "size": pattern.shape[-1]}
        rows.append({**row, "mu_real": fingerprint.mu_real, "mu_fake": fingerprint.mu_fake, **shares})
    return pd.DataFrame(rows)


def detection_table(scores: Mapping[str, CrossScores], seed: int = 0) -> pd.DataFrame:
    """The README's row of accuracies beside ours, for each encoding in ``scores`` ("native", "JPEG q95").

    Accuracy by the *published* centres, and (``accuracy_loo``) with centres refitted leave-one-out; mean correlations,
    ours and published. Fractions, but the paper's accuracy in %.
    """
    rows = []
    for encoding, table in scores.items():
        for name in WITH_IMAGES:
            print_ = table.fingerprints[name]
            real, fake = table.row(name, name)
            result = detection(real, fake, print_.threshold)
            rho, labels = torch.cat([real, fake]), torch.arange(len(real) + len(fake)) >= len(real)
            right = leave_one_out_decisions(rho, labels) == labels
            loo = Detection(int(right[~labels].sum()), len(real), int(right[labels].sum()), len(fake), result.auc)
            mu_real, mu_fake = centres(rho, labels)
            rows.append(
                {
                    "generator": name, "encoding": encoding, **as_row(result),
                    "accuracy_loo": loo.accuracy,
                    "accuracy_loo_low": loo.interval[0], "accuracy_loo_high": loo.interval[1],
                    "mu_real": mu_real, "mu_fake": mu_fake,
                    "published_mu_real": print_.mu_real, "published_mu_fake": print_.mu_fake,
                    "paper_accuracy": README_ACCURACY[name], "seed": seed,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def detection_figure_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The 13 generators with the paper's accuracy and ours (native encoding), in percent, for the figure."""
    native = table[table.encoding == "native"].set_index("generator").reindex(list(README_ACCURACY))
    ours = {"ours": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    frame = pd.DataFrame({key: 100 * native[column] for key, column in ours.items()})
    return frame.assign(paper=pd.Series(README_ACCURACY)).rename_axis("generator").reset_index()


def lineage_tables(scores: CrossScores, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cross-detection (13 fingerprints x 6 image sets) and cross-correlation (a, b, ncc) of the 13, both tidy."""
    return scores.pairs(seed), pair_table(correlation_matrix(scores.fingerprints).astype(np.float32), "ncc")


def area_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """AUC of a table of pairs as a matrix, 13 fingerprints x 6 image sets in the paper's order."""
    return table.pivot(index="fingerprint", columns="images", values="auc").loc[list(GENERATORS), list(WITH_IMAGES)]


def by_key(scores: Mapping[Any, CrossScores], column: str, seed: int) -> pd.DataFrame:
    """The tables of all pairs by what distinguishes them, in one."""
    parts = [table.pairs(seed) for table in scores.values()]
    for key, part in zip(scores, parts, strict=True):
        part.insert(0, column, np.inf if key is None else key)
    return pd.concat(parts, ignore_index=True)


def limits_table(scores: Mapping[float | None, CrossScores], seed: int = 0) -> pd.DataFrame:
    """Detection by limit (infinite: none): the six on their own images, SD 1.4 and MJ on each other's, GANs on both."""
    kinds = {(name, name): OWN for name in WITH_IMAGES} | dict.fromkeys(RELATED, LINEAGE)
    kinds |= {(gan, images): UNRELATED for gan in GAN for images in ("sd14", "mj")}
    table = by_key(scores, "limit", seed)
    table.insert(1, "kind", [kinds.get(pair) for pair in zip(table["fingerprint"], table["images"], strict=True)])
    return table[table["kind"].notna()].reset_index(drop=True)


def limits_frame(table: pd.DataFrame) -> pd.DataFrame:
    """Curves of AUC (limit, series, value): the six generators, the lowest of the lineage, the highest of the GANs."""
    own = table[table["kind"] == OWN].rename(columns={"fingerprint": "series", "auc": "value"})
    lineage = table[table["kind"] == LINEAGE].groupby("limit").auc.min()
    gans = table[table["kind"] == UNRELATED].groupby("limit").auc.max()
    more = {"MJ and SD 1.4, each other's (lower)": lineage, "GANs on SD 1.4 and MJ (highest)": gans}
    parts = [values.rename("value").reset_index().assign(series=name) for name, values in more.items()]
    return pd.concat([own, *parts], ignore_index=True)[["limit", "series", "value"]]


def parts_table(scores: Mapping[str, CrossScores], seed: int = 0) -> pd.DataFrame:
    """AUC of each part of each fingerprint, tidy; no accuracy: the published centres are of whole fingerprints."""
    table = by_key(scores, "part", seed)
    return table[["part", "fingerprint", "images", "auc", "auc_low", "auc_high", "n_real", "n_fake", "seed"]]


# Claims


def fingerprint_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``02_fingerprints``: published fingerprints are periodic."""
    published = table[table.generator.isin(DISPLAY)]
    periodic = published.filter(regex="^grid_").max(axis=1) > 10
    return [
        judge(
            "Fingerprints are periodic: a grid holds over ten times the energy it would in white noise",
            f"{len(published)} fingerprints",
            f"{int(periodic.sum())} of {len(published)}",
            bool(periodic.all()),
            f"not: {', '.join(DISPLAY[g] for g in published.generator[~periodic])}",
        )
    ]


def detection_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``03_published_detection``: the README's row of 13 accuracies, one claim each, and the control.

    20 images cannot show that an accuracy is the paper's; they can show that it is not, or be consistent with it.
    """
    native = table[table.encoding == "native"].set_index("generator")
    claims = []
    for name, value in README_ACCURACY.items():
        text = f"{DISPLAY[name]}: accuracy of the published fingerprint with the published centres"
        if name not in native.index:
            claims.append(Claim(text, f"{value} %", None, "not comparable", "the release has no images of it"))
            continue
        row = native.loc[name]
        found = balanced_estimate(row.accuracy_real, row.n_real, row.accuracy_fake, row.n_fake)
        p, (low, high) = found.p(value / 100), found.interval
        why = "the paper's value is outside our interval; the denoiser is ours, the authors' weights are not public"
        if p > SURE:
            why = f"n = {row.n_real + row.n_fake}: any accuracy from {percent(low)} to {percent(high)} would be"
        verdict = "does not hold" if p <= SURE else "consistent"
        claims.append(Claim(text, f"{value} %", measured(row), verdict, why, p, open="consistent"))
    control = table[table.encoding != "native"].set_index("generator")
    if len(control):
        order = [name for name in WITH_IMAGES if name in native.index]
        change = control.auc[order] - native.auc[order]
        found = t_estimate(change, f"{len(order)} generators")
        low, high = found.interval
        lost = ", ".join(DISPLAY[name] for name in order if change[name] < -LOSS)
        claims.append(
            judge_above(
                "Detection does not need the classes' file formats to differ: one last encoding of both "
                f"({control.encoding.iloc[0]}) costs at most {LOSS} of AUC",
                "not tested (58 of the 60 reals are JPEG, all fakes PNG)",
                f"mean AUC {native.auc.mean():.2f} becomes {control.auc.mean():.2f}, {found.value:+.2f} "
                f"[{low:+.2f}, {high:+.2f}] over {found.basis}",
                found,
                -LOSS,
                f"falls for {lost or 'none alone'}: the encoding takes the pattern away. The lineage table, in which "
                "all fakes are PNG and most fingerprints stay near chance, speaks against the format as the reason",
            )
        )
    return claims


def limits_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``03_published_detection``, beyond the paper: a limit leaves detection as it is, or better."""

    def of(kind: str, limit: float) -> pd.Series:
        return table[(table["kind"] == kind) & (table["limit"] == limit)].set_index("fingerprint").auc

    plain, held = of(OWN, np.inf), of(OWN, LIMIT)
    change = held - plain
    found = t_estimate(change, f"{len(change)} generators")
    low, high = found.interval
    claim = judge_above(
        f"Residuals limited to {LIMIT} of their root mean square cost the published fingerprints at most {COST} of AUC",
        None,
        f"mean AUC {plain.mean():.3f} without, {held.mean():.3f} with the limit, {found.value:+.3f} "
        f"[{low:+.3f}, {high:+.3f}] over {found.basis}; no GAN's fingerprint above "
        f"{of(UNRELATED, np.inf).max():.2f} without, {of(UNRELATED, LIMIT).max():.2f} with it",
        found,
        -COST,
        f"they cost more, most of all {', '.join(DISPLAY[g] for g in plain.index if change[g] < -COST)}",
    )
    return [replace(claim, tuned=LIMIT_TUNED)]


def silent_claim(text: str, told: str | None, table: pd.DataFrame) -> Claim:
    """A claim that no GAN's fingerprint finds SD 1.4 or MJ: few images can deny it (Holm), or be consistent with it."""
    gans = table[table.fingerprint.isin(GAN) & table.images.isin(["sd14", "mj"])]
    names = (gans.fingerprint.map(DISPLAY) + " on " + gans.images.map(DISPLAY)).to_numpy()
    p = np.array(holm([area_of(row).p(CHANCE) if row.auc > CHANCE else 1.0 for _, row in gans.iterrows()]))
    loud, top = names[p <= SURE], int(gans.auc.argmax())
    ours = f"highest AUC {gans.auc.iloc[top]:.2f} ({names[top]}), {len(loud)} of {len(gans)} above chance"
    count = f"{gans.n_real.iloc[0]} + {gans.n_fake.iloc[0]}"
    why = f"above chance: {', '.join(loud)}" if len(loud) else f"n = {count}: faint detection would not be seen"
    verdict = "does not hold" if len(loud) else "consistent"
    return Claim(text, told, ours, verdict, why, float(p.min()), open="consistent")


def lineage_claims(detection: pd.DataFrame, correlation: pd.DataFrame) -> list[Claim]:
    """Of ``04_published_lineage``: MJ and SD 1.4 detect each other, nothing unrelated does."""
    table = detection.set_index(["fingerprint", "images"])
    off = correlation[correlation.a < correlation.b].assign(size=lambda t: t.ncc.abs())
    top = off.loc[off["size"].idxmax()]
    of_pair = float(off.set_index(["a", "b"])["size"][("mj", "sd14")])
    rank = int((off["size"] > of_pair).sum()) + 1
    claims = []
    for a, b in sorted(RELATED):
        area = area_of(table.loc[(a, b)])
        low, high = area.interval
        claims.append(
            judge_above(
                f"{DISPLAY[a]}'s fingerprint detects {DISPLAY[b]}'s images, better than chance (MJ is a fine-tuned SD "
                "1.4)",
                "high, both ways", f"AUC {area.value:.3f} [{low:.3f}, {high:.3f}], n = {area.basis}", area, CHANCE,
                "it is below",
            )
        )  # fmt: skip
    return [
        *claims,
        silent_claim("GAN fingerprints do not detect SD 1.4 or MJ images", "unrelated models near chance", detection),
        Claim(
            "Correlating fingerprints with each other does not show the lineage (S C.5)",
            "F_E correlations look random",
            f"|NCC| of MJ and SD 1.4 is {of_pair:.3f}, rank {rank} of {len(off)} pairs; the highest is "
            f"{DISPLAY[top.a]} and {DISPLAY[top.b]}, {top['size']:.3f}",
            "consistent" if rank / len(off) > SURE else "does not hold",
            f"one pair of {len(off)}: a random one ranks as high with p = {rank / len(off):.2g}",
            rank / len(off),
            open="consistent",
        ),
    ]


def parts_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``04_published_lineage``, beyond the paper: the lineage is the grid's, and what makes it specific."""
    area = table.set_index(["part", "fingerprint", "images"])
    pairs = [("sd14", "sd14"), ("mj", "mj"), *sorted(RELATED)]
    found = {part: [area_of(area.loc[(part, *pair)]) for pair in pairs] for part in PARTS}
    _, by_grid, rest, cleaned = PARTS
    ends = {part: [f(e.value for e in areas) for f in (min, max)] for part, areas in found.items()}
    text = {part: f"AUC {low:.2f} to {high:.2f}" for part, (low, high) in ends.items()}
    more = [sum_estimate([1, -1], both, both[0].basis) for both in zip(found[by_grid], found[rest], strict=True)]
    return [
        judge_best(
            "SD 1.4 and MJ find their own and each other's images by a grid of 8 px better than by what is left "
            "without it",
            None,
            f"{text[by_grid]} by the grid, {text[rest]} without",
            more,
            "the grid does not carry it",
        ),
        judge_above(
            "With rows and columns made mean-free the lineage stays: each of the four pairs is better than chance",
            None,
            text[cleaned],
            min(found[cleaned], key=lambda estimate: estimate.value),
            CHANCE,
            "the lineage goes",
        ),
        silent_claim(
            "With rows and columns made mean-free no GAN's fingerprint finds SD 1.4 or MJ",
            None,
            table[table.part == cleaned],
        ),
    ]
