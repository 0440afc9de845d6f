"""The paper's statements beside our measurements of them, and what cells that failed do to these.

A cell that lacks data ("too few images", "absent: ...") has not failed. One that failed, for any other reason, fails
its notebook: after the table, the figures and the record of what there is were written, or at once if nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import pandas as pd

from difcore.files import NeedsData
from difcore.stats import SURE, holm

VERDICTS = ("holds", "does not hold", "undecided", "consistent", "not comparable")
TUNED = "tuned on this data"
OK, FAILED = "ok", "failed: "
LINE = re.compile(r"^\d+ of \d+ cells failed: .*$", re.MULTILINE)
LONGEST = 300  # characters of a reason in one line


@dataclass(frozen=True)
class Claim:
    """One statement of the paper beside our measurement of it.

    Attributes
    ----------
    text : str
        The statement, in a sentence.
    paper, ours : str, number or None
        The published value and ours, in the units ``text`` names; None where there is no value.
    verdict : str
        "holds" or "does not hold": decided by the data. "undecided": they allow both. "consistent": they do not
        contradict it, which with few images is not much. "not comparable": nothing to compare.
    why : str
        The reason for the verdict; required unless it is "holds".
    p : float, optional
        Of the test that decided, two-sided: claims of one notebook that have one are ``corrected`` together.
    tuned : str
        What was chosen on the very data that the claim is measured on; the verdict then says so.
    open : {"undecided", "consistent"}
        The verdict where ``p`` does not decide.

    Raises
    ------
    ValueError
        For an unknown verdict, or one other than "holds" without a reason.
    """

    text: str
    paper: str | float | None
    ours: str | float | None
    verdict: str
    why: str = ""
    p: float | None = None
    tuned: str = ""
    open: str = "undecided"

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict {self.verdict!r} is none of {', '.join(VERDICTS)}")
        if self.verdict != "holds" and not self.why:
            raise ValueError(f"verdict {self.verdict!r} needs a reason (why=...)")

    def record(self) -> dict[str, Any]:
        """What is kept and shown of it; without ``p`` and ``tuned`` where it has none."""
        always = {key: getattr(self, key) for key in ("text", "paper", "ours", "verdict", "why")}
        return always | {key: value for key in ("p", "tuned") if (value := getattr(self, key)) not in (None, "")}


def claims_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """The claims as a table with columns claim, paper, ours, verdict, why; what was tuned on the data is said."""
    columns = ["claim", "paper", "ours", "verdict", "why"]
    table = pd.DataFrame([claim.record() | {"claim": claim.text} for claim in claims], columns=columns)
    tuned = [claim.tuned for claim in claims]
    table["verdict"] += [f" ({TUNED})" if what else "" for what in tuned]
    table["why"] = ["; ".join(filter(None, pair)) for pair in zip(table["why"], tuned, strict=True)]
    return table


def corrected(claims: Sequence[Claim], tuned: str = "") -> list[Claim]:
    """One notebook's claims, those that a test decided corrected for their number (Holm), so that all hold at once.

    What .05 no longer decides is open again. ``tuned``: what was chosen on these very data, for all that have a verdict
    on them.
    """
    tests = [k for k, claim in enumerate(claims) if claim.p is not None]
    found = [
        replace(claim, tuned="; ".join(filter(None, (claim.tuned, tuned))))
        if tuned and tuned != claim.tuned and claim.verdict != "not comparable"
        else claim
        for claim in claims
    ]
    for k, p in zip(tests, holm([claims[k].p or 0.0 for k in tests]), strict=True):
        claim = found[k]
        if p > SURE and claim.verdict in ("holds", "does not hold"):
            why = f"p = {claim.p:.2g}, {p:.2g} corrected for {len(tests)} claims (Holm): either way is possible"
            found[k] = replace(claim, verdict=claim.open, why=why)
    return found


class CellsFailed(RuntimeError):
    """Cells of a notebook's grid failed; the message counts them and gives the first one's reason."""


def failure_of(tables: Iterable[pd.DataFrame]) -> str:
    """ "3 of 30 cells failed: RuntimeError: ..." of the table in which most did; empty where none did."""
    lines = {0: ""}
    for statuses in (table["status"].astype(str) for table in tables if "status" in table):
        causes = statuses[statuses.str.startswith(FAILED)].str.removeprefix(FAILED)
        if len(causes):
            others = causes.nunique() - 1
            more = f" (and {others} other reason{'s' if others > 1 else ''})" if others else ""
            first = " ".join(causes.iloc[0].split())
            first = first if len(first) <= LONGEST else f"{first[: LONGEST - 1]}…"
            lines[len(causes)] = f"{len(causes)} of {len(statuses)} cells failed: {first}{more}"
    return lines[max(lines)]


def check_results(table: pd.DataFrame) -> pd.DataFrame:
    """The table, if any of its cells came to a result; else CellsFailed, or NeedsData if all lack data."""
    if not len(table) or (table["status"] == OK).any():
        return table
    if line := failure_of([table]):
        raise CellsFailed(line)
    raise NeedsData("; ".join(dict.fromkeys(table["status"].astype(str))))


def qualified(claims: Iterable[Claim], reason: str) -> list[Claim]:
    """The claims, not comparable for ``reason``, if there is one: half a grid decides nothing."""
    return [
        claim if reason in claim.why  # also without a reason
        else replace(claim, verdict="not comparable", p=None, why="; ".join(filter(None, (reason, claim.why))))
        for claim in claims
    ]  # fmt: skip


def over_cells(claims_of: Callable[..., list[Claim]]) -> Callable[..., list[Claim]]:
    """Decorator of functions that judge tables of cells: with failed cells they give claims that say so."""

    @wraps(claims_of)
    def judged(*arguments: Any, **named: Any) -> list[Claim]:
        reason = failure_of(value for value in (*arguments, *named.values()) if isinstance(value, pd.DataFrame))
        try:
            return qualified(claims_of(*arguments, **named), reason)
        except (LookupError, ValueError, AttributeError):
            if not reason:
                raise
            return [Claim("What this notebook claims", None, None, "not comparable", reason)]

    return judged
