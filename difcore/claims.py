"""The paper's statements beside our measurements of them, with a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

VERDICTS = ("holds", "does not hold", "undecided", "consistent", "not comparable")
TUNED = "tuned on this data"


@dataclasses.dataclass(frozen=True)
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
        Of the test that decided, two-sided: claims of one notebook that have one are corrected together
        (``experiments.verdicts.corrected``).
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
    """The claims as a table with columns claim, paper, ours, verdict, why; one row each.

    Beside the verdict stands that something was tuned on the data, in the reason what.
    """
    columns = ["claim", "paper", "ours", "verdict", "why"]
    table = pd.DataFrame([claim.record() | {"claim": claim.text} for claim in claims], columns=columns)
    tuned = [claim.tuned for claim in claims]
    table["verdict"] += [f" ({TUNED})" if what else "" for what in tuned]
    table["why"] = ["; ".join(filter(None, pair)) for pair in zip(table["why"], tuned, strict=True)]
    return table
