"""Claims of the notebooks that work on anybody's images; the paper has no values for those."""

from __future__ import annotations

import pandas as pd
from scipy.stats import binomtest

from difcore.artefacts import Claim
from difcore.decisions import FALSE_ALARM, GENERATED, NOT_APPLICABLE
from difcore.experiments.verdicts import area_of, decide, judge_above, measured, percent
from difcore.inference import SURE, share_estimate, sum_estimate
from difcore.paper import LOW_SAMPLES, LOW_SAMPLES_DROP
from difcore.stats import wilson

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


def detect_claims(table: pd.DataFrame, data: str, rate: float = FALSE_ALARM) -> list[Claim]:
    """Of ``19_detect_your_own``, where names tell what made an image: how often the best match is right; false alarms.

    Parameters
    ----------
    table : DataFrame
        As ``decisions.judge``; file names begin with the fingerprint's name, or with "real".
    rate : float
        Of false alarms, that it was judged at.
    """
    table = table[table["verdict"] != NOT_APPLICABLE]
    table = table.assign(origin=table["image"].str.rsplit("_", n=1).str[0])
    return [naming_claim(table, data), alarm_claim(table, data, rate)]


def naming_claim(table: pd.DataFrame, data: str) -> Claim:
    """The best match names the generator of a generated image more often than chance, one in so many fingerprints."""
    text = f"The best match names the generator, more often than chance (on {data})"
    told = "cross-detection of unrelated models is low (S C.3)"
    names = set(table["fingerprint"])
    fakes = table[~table["image"].duplicated() & table["origin"].isin(names)]
    if not len(fakes):
        return Claim(text, told, None, "not comparable", "no file's name says which of the generators made it")
    right = int((fakes["fingerprint"] == fakes["origin"]).sum())
    share = share_estimate(right / len(fakes), len(fakes), f"{len(fakes)} fakes")
    ours = f"{right} of {len(fakes)} fakes named rightly, {percent(share.value, *share.interval)}"
    if len(names) < 2:
        return Claim(text, told, ours, "not comparable", "with one fingerprint there is nothing to choose from")
    chance = 1 / len(names)
    return judge_above(text, told, ours, share, chance, f"no more often than chance, {percent(chance)}")


def alarm_claim(table: pd.DataFrame, data: str, rate: float) -> Claim:
    """Real images are called generated at the stated rate at most: binomial, two-sided."""
    text = f"Real images are called generated in no more than {percent(rate)} of cases (on {data})"
    told = "no rate is stated"
    reals = table[(table["origin"] == "real") & table["p_holm"].notna()]  # without a null nothing can be called so
    n, claimed = reals["image"].nunique(), reals.loc[reals["verdict"] == GENERATED, "image"].nunique()
    if not n:
        return Claim(text, told, None, "not comparable", "no file's name says that it is real, or there is no null")
    ours = f"{claimed} of {n} reals, {percent(claimed / n, *wilson(claimed, n))}"
    p = float(binomtest(claimed, n, rate).pvalue)
    return decide(text, told, ours, claimed <= rate * n, p, "more often than stated", f"{n} reals", "consistent")
