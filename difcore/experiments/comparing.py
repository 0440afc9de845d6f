"""Two fingerprints beside each other: how much they agree, at which shift, and what detection says of kinship."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import torch

from difcore.experiments.claiming import judge_above
from difcore.experiments.showroom import Room
from difcore.figures.spectra import lag_correlation, local_correlation
from difcore.fingerprints.correlation import ncc
from difcore.lineage.families import evidence, kinship
from difcore.records import Claim
from difcore.stats import auc_estimate, sum_estimate, t_estimate

BLOCK = 16  # px: squares of a fingerprint that are taken for independent repetitions


def compared(room: Room, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Every pair of fingerprints of one size.

    Returns
    -------
    DataFrame
        a, b; ncc with Student's interval over squares of ``BLOCK`` px; its standard error; shift_y, shift_x, the shift
        in px of the largest |rho|, and shift_p, the share of shifts, none among them, that reach |ncc|. Where there are
        images of both and real ones, by their files' names: auc_ab, of a's fingerprint on b's images against real ones,
        and back; kinship with its bootstrap interval; n_real, n_a, n_b.
    """
    origin = {name: name.rpartition("_")[0] for name in room.images}
    rows = []
    for a, b in combinations(room.detectors, 2):
        one, two = (room.detectors[name].pattern.numpy() for name in (a, b))
        if one.shape != two.shape:
            continue
        local, lags = local_correlation(one, two, BLOCK), lag_correlation(one, two)
        found, middle = t_estimate(local, f"{local.size} squares"), tuple(side // 2 for side in lags.shape)
        at = np.unravel_index(int(np.abs(lags).argmax()), lags.shape)
        row = {"a": a, "b": b, "ncc": found.value, "ncc_low": found.interval[0], "ncc_high": found.interval[1]}
        row |= {"squares": local.size, "shift_y": int(at[0] - middle[0]), "shift_x": int(at[1] - middle[1])}
        row["shift_p"] = float((np.abs(lags) >= abs(lags[middle]) - 1e-12).mean())
        rho = {}
        for kind in ("real", a, b):
            names = [name for name, made in origin.items() if made == kind and room.sees(a, name)]
            seen = [[room.seen(name, image)[1] for image in names] for name in (a, b)]
            patterns = (one, two)
            each = [ncc(p[None], np.stack(x))[0] for p, x in zip(patterns, seen, strict=True) if x]
            rho[kind] = torch.stack(each).numpy() if each else np.empty((2, 0))
        row |= {f"n_{key}": rho[kind].shape[1] for key, kind in (("real", "real"), ("a", a), ("b", b))}
        if min(x.shape[1] for x in rho.values()) >= 2:
            kin = evidence((a, b), [rho["real"]] * 2, [rho[a], rho[b]], draws, seed)
            drawn = np.percentile(kinship(kin.draws)[:, 0, 1], [2.5, 97.5])
            row |= {"auc_ab": kin.auc[0, 1], "auc_ba": kin.auc[1, 0], "kinship": kinship(kin.share)[0, 1]}
            row |= {"kinship_low": drawn[0], "kinship_high": drawn[1]}
        rows.append(row)
    if not rows:
        raise ValueError("nothing to compare: two fingerprints of one size are needed")
    return pd.DataFrame(rows)


def comparison_claims(table: pd.DataFrame, room: Room, kin: tuple[str, str], stranger: str, data: str) -> list[Claim]:
    """Of ``32_compare``: a parent's fingerprint finds its child's images; the fingerprints alone do not tell."""
    pairs = table.set_index(["a", "b"])
    texts = (
        f"A parent's fingerprint finds its child's images, better than chance ({kin[0]}, {kin[1]}, on {data})",
        "Correlating fingerprints shows kinship: a child's with its parent's more than with a stranger's (S C.5)",
    )
    told = ("high, both ways, for MJ and SD 1.4", "F_E correlations look random")
    if kin not in pairs.index or (kin[0], stranger) not in pairs.index or "auc_ab" not in pairs:
        return [Claim(*both, None, "not comparable", "not among these") for both in zip(texts, told, strict=True)]
    row = pairs.loc[kin]
    area = auc_estimate(row.auc_ab, int(row.n_real), int(row.n_b))
    low, high = area.interval
    patterns = {name: room.detectors[name].pattern.numpy() for name in (*kin, stranger)}
    both = [
        t_estimate(local_correlation(patterns[kin[0]], patterns[name], BLOCK), "squares") for name in (kin[1], stranger)
    ]
    gap = sum_estimate([1, -1], both, f"{int(row.squares)} squares of {BLOCK} px")
    ours = f"{both[0].value:.3f} with its child's, {both[1].value:.3f} with {stranger}'s, {gap.value:+.3f} "
    ours += "[{:+.3f}, {:+.3f}]".format(*gap.interval)
    return [
        judge_above(texts[0], told[0], f"AUC {area.value:.2f} [{low:.2f}, {high:.2f}]", area, 0.5, "it is below"),
        judge_above(texts[1], told[1], ours, gap, 0.0, "the stranger's is as near"),
    ]
