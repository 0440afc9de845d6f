"""Claims of the notebooks that work on anybody's images; the paper has no values for those."""

from __future__ import annotations

import pandas as pd

from difcore.artefacts import Claim
from difcore.decisions import GENERATED
from difcore.experiments.verdicts import area_of, judge, measured, percent
from difcore.inference import SURE, sum_estimate
from difcore.paper import LOW_SAMPLES, LOW_SAMPLES_DROP

NOT_THE_PAPERS = "not the paper's generators"


def own_claims(table: pd.DataFrame, data: str, method: str = "DIF") -> list[Claim]:
    """Of ``18_train_your_own``: it detects; it does not need the classes' formats to differ."""
    first = table.iloc[0]
    told = f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)"
    text = f"{method} detects images of this generator from {first.n_train}+{first.n_train} training images (on {data})"
    claims = [Claim(text, told, measured(first), "not comparable", NOT_THE_PAPERS)]
    for _, row in table.iloc[1:].iterrows():
        change = sum_estimate([1, -1], [area_of(row), area_of(first)], f"{row.n_real} + {row.n_fake} images")
        lost = change.value < 0 and change.p(0) <= SURE
        text = f"Detection does not rest on the classes' formats: it survives one last encoding ({row.encoding})"
        ours = f"AUC {first.auc:.3f} [{first.auc_low:.3f}, {first.auc_high:.3f}] becomes {row.auc:.3f}"
        why = "it falls: the encoding takes it away" if lost else f"no fall to be seen on {change.basis}"
        verdict = "does not hold" if lost else "consistent"
        claims.append(Claim(text, "not tested", ours, verdict, why, change.p(0), open="consistent"))
    return claims


def detect_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of ``19_detect_your_own``: where names tell what made an image, how often the best match is right."""
    origin = table["image"].str.rsplit("_", n=1).str[0]
    best = table[~table["image"].duplicated()].assign(origin=origin)
    known = best[best["origin"].isin([*table["fingerprint"], "real"])]
    text = f"The best match names the generator, and no fingerprint claims a real image (on {data})"
    told = "cross-detection of unrelated models is low (S C.3)"
    if not len(known):
        return [Claim(text, told, None, "not comparable", "the files do not say what made the images")]
    fakes, real = known[known["origin"] != "real"], known[known["origin"] == "real"]
    right = int((fakes["fingerprint"] == fakes["origin"]).sum())
    claimed = int(table[(origin == "real") & (table["verdict"] == GENERATED)]["image"].nunique())
    ours = f"{right} of {len(fakes)} fakes named rightly, {claimed} of {len(real)} reals claimed by a fingerprint"
    holds = right == len(fakes) and claimed == 0
    share = percent((right + len(real) - claimed) / len(known))
    return [judge(text, told, ours, holds, f"not for every image: {share} right")]
