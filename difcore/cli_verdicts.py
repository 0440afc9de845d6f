"""How the command line tells of nulls and of verdicts: the fields of its JSON, and what a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from difcore.cli_output import percent
from difcore.names import shown

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from difcore.experiments.folders import Evaluated
    from difcore.fingerprints import Fingerprint


def null_fields(fingerprint: Fingerprint) -> dict[str, dict[str, float]] | None:
    """A fingerprint's null as in JSON: n, mean and sigma by kind of reals; None without one."""
    if fingerprint.null is None:
        return None
    return {kind: {"n": r.n, "mean": r.mean, "sigma": r.sigma} for kind, r in fingerprint.null.kinds.items()}


def null_text(fingerprint: Fingerprint) -> str:
    """The same as a person reads it."""
    kinds = null_fields(fingerprint) or {}
    return "; ".join(f"{r['n']} {k}, {r['mean']:+.4f} ± {r['sigma']:.4f}" for k, r in kinds.items()) or "none"


def called_generated(fingerprint: Fingerprint, found: Evaluated, rate: float) -> dict[str, int | None]:
    """How many reals and fakes `difcore detect` would call generated at ``rate``, as in JSON; None without a null."""
    from difcore.decisions import false_alarm

    if (null := fingerprint.null) is None:
        return dict.fromkeys(f"called_{k}" for k in found.rho)
    p = {k: false_alarm(null, x, found.lattices[k]) for k, x in found.rho.items()}
    return {f"called_{k}": int(((p[k] <= rate) & (x != 0)).sum()) for k, x in found.rho.items()}


def called_facts(document: Mapping[str, Any]) -> dict[str, str]:
    """The same as a person reads it; nothing without a null."""
    if document["called_real"] is None:
        return {}
    counts = (f"{document[f'called_{k}']} of {document[f'n_{k}']} {k}" for k in ("real", "fake"))
    return {f"called generated at {percent(document['false_alarm'])}": ", ".join(counts)}


def matches_table(matches: pd.DataFrame, rate: float) -> Table:
    """The table of ``decisions.judge``: the fingerprints that were asked about each image, best match first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.caption = (
        "z: standard deviations above real images; p: probability that a real one correlates as much; Holm: the same, "
        f"corrected for the number of fingerprints; generated if at most {rate:g}. No match does not mean real."
    )
    table.add_column("image", overflow="fold")
    table.add_column("fingerprint", overflow="fold")
    for heading in ("correlation", "z", "p", "Holm"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("nearest centre")
    table.add_column("verdict", overflow="fold", min_width=14)
    before = None
    for row in matches.itertuples():
        name = "" if row.image == before else shown(row.image)
        verdict = f"{row.verdict}: {row.reason}" if row.reason else str(row.verdict)
        numbers = (number(row.z, "+.1f"), number(row.p, ".2g"), number(row.p_holm, ".2g"))
        table.add_row(name, shown(row.fingerprint), f"{row.rho:+.4f}", *numbers, str(row.nearest_centre), verdict)
        before = row.image
    return table


def number(value: Any, form: str) -> str:
    """``value`` as text, a dash if there is none."""
    return "–" if value != value else format(value, form)
