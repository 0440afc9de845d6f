"""How a claim is decided: ``text`` is what is said, ``paper`` and ``ours`` the two values of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from difcore.records.claims import Claim
from difcore.stats import SURE, Estimate, auc_estimate

Value = str | float | None
FINDS = 0.75  # AUC from which on a fingerprint is said to find images


def judge(text: str, paper: Value, ours: Value, holds: bool, otherwise: str) -> Claim:
    """A claim that holds, or does not for the reason ``otherwise``."""
    return Claim(text, paper, ours, "holds" if holds else "does not hold", "" if holds else otherwise)


def decide(
    text: str, paper: Value, ours: Value, holds: bool, p: float, otherwise: str,
    basis: str = "", open_: str = "undecided",
) -> Claim:  # fmt: skip
    """A claim that a test decides: ``holds``, or not for the reason ``otherwise``, if ``p`` (two-sided) is small.

    Otherwise the data allow both: the verdict is ``open_``, whatever the mean says. ``basis``: what the test is over.
    """
    claim = replace(judge(text, paper, ours, holds, otherwise), p=p, open=open_)
    over = f" over {basis}" if basis else ""
    return claim if p <= SURE else replace(claim, verdict=open_, why=f"p = {p:.2g}{over}: either way is possible")


def judge_above(
    text: str, paper: Value, ours: Value, found: Estimate, bar: float, otherwise: str, open_: str = "undecided"
) -> Claim:
    """A claim that an estimate is above ``bar``; open if its interval includes the bar."""
    return decide(text, paper, ours, found.value > bar, found.p(bar), otherwise, found.basis, open_)


def judge_best(text: str, paper: Value, ours: Value, gaps: Sequence[Estimate], otherwise: str) -> Claim:
    """A claim that all of ``gaps`` are above 0: as sure as the least sure of them; denied by any that is below.

    To hold, each has to be shown, so the largest p-value counts (Berger 1982); to fail, one is enough of several that
    were looked at, so the smallest is taken times their number.
    """
    wrong = [gap for gap in gaps if not gap.value > 0]
    if not wrong:
        least = max(gaps, key=lambda gap: gap.p(0))
        return decide(text, paper, ours, True, least.p(0), otherwise, least.basis)
    worst = min(wrong, key=lambda gap: gap.p(0))
    return decide(text, paper, ours, False, min(1.0, len(gaps) * worst.p(0)), otherwise, worst.basis)


def judge_near(
    text: str, paper: Value, ours: Value, found: Estimate, target: float, within: float, otherwise: str
) -> Claim:
    """A claim that an estimate is within a distance of ``target``: its whole interval is, or is not, or neither."""
    near = abs(found.value - target) <= within
    p = max(found.p(target - within), found.p(target + within))  # inside both ends, or outside the nearer one
    return decide(text, paper, ours, near, p, otherwise, found.basis)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """A fraction as percent, with its interval if given: "95.0 % [76.4, 99.1]"."""
    text = f"{100 * value:.1f} %"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def measured(row: pd.Series) -> str:
    """Accuracy and AUC of a row of any detection table, with intervals and counts."""
    accuracy = percent(row.accuracy, row.accuracy_low, row.accuracy_high)
    area = f"AUC {row.auc:.3f} [{row.auc_low:.3f}, {row.auc_high:.3f}]"
    return f"{accuracy}, {area}, n = {row.n_real}+{row.n_fake}"


def area_of(row: pd.Series) -> Estimate:
    """AUC of a row of any detection table, over its test images."""
    return auc_estimate(row.auc, int(row.n_real), int(row.n_fake))
