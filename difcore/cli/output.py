"""How the command line answers: a JSON document, or tables of what is in it; its warnings on stderr, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from difcore.files import shown

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from difcore.fingerprints.detector import Detector
    from difcore.images.crops import Skipped
    from difcore.residuals.denoisers import Denoiser
    from difcore.stats import Detection

SHOWN_SKIPS = 10
PIPED_WIDTH = 160  # columns of a table that no terminal limits
ENDINGS = {"balanced accuracy": "", "of the real": "_real", "of the fake": "_fake"}  # of keys in JSON
VERDICTS = {"fine": None, "note": "yellow", "confounded": "bold red"}  # of the audit, the gravest last; how they look


def answer(document: Mapping[str, Any], as_json: bool, *parts: Table | str) -> None:
    """Print ``document`` as JSON, or the parts for people; then its warnings on stderr."""
    if as_json:
        from difcore.records.artefacts import plain

        print(json.dumps(plain(document), indent=2, allow_nan=False))
    else:
        from rich.console import Console

        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(markup=False, highlight=False, emoji=False, width=width)
        for part in filter(None, parts):
            console.print(part, soft_wrap=isinstance(part, str))
    for warning in document.get("warnings", ()):
        print(f"difcore: warning: {shown(warning)}", file=sys.stderr)


def show_progress() -> bool:
    """Bars only where someone watches: in a log they are noise."""
    return sys.stderr.isatty()


def filter_fields(denoiser: Denoiser) -> dict[str, Any]:
    """The residual filter, in JSON."""
    return {"denoiser": denoiser.name, "denoiser_sha256": denoiser.hash, "limit": denoiser.limit}


def detection_fields(result: Detection | None) -> dict[str, Any]:
    """The keys of every measured detection, in JSON; None, and counts of 0, if nothing was measured."""
    keys = [f"{key}{end}" for end in ENDINGS.values() for key in ("accuracy", "interval")]
    missing = dict.fromkeys([*keys, "auc", "auc_interval"]) | dict.fromkeys(("n_real", "n_fake"), 0)
    return {key: getattr(result, key, nothing) for key, nothing in missing.items()}


def detection_facts(document: Mapping[str, Any]) -> dict[str, str]:
    """The same as a person reads it."""
    if document["accuracy"] is None:
        return {"images": "none"}
    facts = {}
    for name, end in ENDINGS.items():
        low, high = map(percent, document[f"interval{end}"])
        facts[name] = f"{percent(document[f'accuracy{end}'])}  (95 % interval {low} to {high})"
    facts["AUC"] = "{:.4f}  (95 % interval {:.4f} to {:.4f})".format(document["auc"], *document["auc_interval"])
    return facts | {"images": "{n_real} real, {n_fake} fake".format(**document)}


def with_intervals(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of ``cross_detect``'s table, in JSON: a pair for each interval."""
    ends = {"interval": "accuracy", "auc_interval": "auc"}
    return [
        {key: value for key, value in row.items() if not key.endswith(("_low", "_high"))}
        | {key: (row[f"{of}_low"], row[f"{of}_high"]) for key, of in ends.items()}
        for row in table.to_dict("records")
    ]


def null_fields(detector: Detector) -> dict[str, dict[str, float]] | None:
    """A detector's null, in JSON; None without one."""
    if detector.null is None:
        return None
    return {kind: {"n": r.n, "mean": r.mean, "sigma": r.sigma} for kind, r in detector.null.kinds.items()}


def null_text(document: Mapping[str, Any]) -> str:
    """The same as a person reads it."""
    kinds = (document["null"] or {}).items()
    return "; ".join(f"{r['n']} {k}, {r['mean']:+.4f} ± {r['sigma']:.4f}" for k, r in kinds) or "none"


def skipped_text(skipped: Sequence[Skipped], total: int) -> str:
    """How many images of ``total`` were left out, the first of them by name; empty if none was."""
    from difcore.images.crops import skip_report

    lines = [f"\n{skip_report(tuple(skipped), total)}"] if skipped else []
    lines += [f"  {shown(entry.path)}: {shown(entry.reason)}" for entry in skipped[:SHOWN_SKIPS]]
    lines += [f"  and {len(skipped) - SHOWN_SKIPS} more; --json lists all"] if len(skipped) > SHOWN_SKIPS else []
    return "\n".join(lines)


def percent(fraction: float) -> str:
    """0.985 as "98.5 %"."""
    return f"{100 * fraction:.1f} %"


def table(*headings: str, title: str | None = None, **options: Any) -> Table:
    """A table in our style, without rows."""
    from rich.table import Table

    style: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "box": None, "pad_edge": False}
    return Table(*headings, title=title, **style | options)


def facts_table(title: str, facts: Mapping[str, object]) -> Table:
    """Two columns: what, value; what is None is left out."""
    found = table(title=title, show_header=False)
    found.add_column(style="dim", no_wrap=True)
    found.add_column(overflow="fold")
    for key, value in facts.items():
        if value is not None:
            found.add_row(key, shown(value))
    return found


def cross_table(rows: Sequence[Mapping[str, Any]], value: str, title: str, form: Callable[[float], str]) -> Table:
    """A matrix of ``value``: a row per training set, a column per test set."""
    found, tests = table("train \\ test", title=title), {row["test"]: row for row in rows}
    for name in tests:
        found.add_column(shown(name), justify="right", overflow="fold")
    for train in dict.fromkeys(row["train"] for row in rows):
        cells = {row["test"]: form(row[value]) for row in rows if row["train"] == train}
        found.add_row(shown(train), *(cells[test] for test in tests))
    found.add_row("real + fake", *(f"{row['n_real']} + {row['n_fake']}" for row in tests.values()), style="dim")
    return found


def matches_table(document: Mapping[str, Any]) -> Table:
    """The fingerprints that were asked about each image, best match first."""
    caption = (
        "z: standard deviations above real images; p: probability that a real one correlates as much; Holm: the same, "
        f"corrected for the number of fingerprints; log LR: of generated against real, log10; "
        f"generated if at most {document['false_alarm']:g}. No match does "
        "not mean real."
    )
    found = table(header_style="bold", caption=caption, caption_justify="left")
    found.add_column("image", overflow="fold")
    found.add_column("fingerprint", overflow="fold")
    forms = {"rho": "+.4f", "z": "+.1f", "p": ".2g", "p_holm": ".2g", "log10_lr": "+.1f"}
    for heading in ("correlation", "z", "p", "Holm", "log LR"):
        found.add_column(heading, justify="right", no_wrap=True)
    found.add_column("nearest centre")
    found.add_column("verdict", overflow="fold", min_width=14)
    for entry in document["images"]:
        name = shown(entry["image"])
        for row in entry["matches"]:
            numbers = ("–" if row[key] != row[key] else format(row[key], form) for key, form in forms.items())
            verdict = ": ".join(filter(None, (row["verdict"], row["reason"])))
            found.add_row(name, shown(row["fingerprint"]), *numbers, row["nearest_centre"], verdict)
            name = ""
    return found
