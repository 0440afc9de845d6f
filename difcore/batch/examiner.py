"""The examiner's report, one HTML file that says all that a verdict rests on; and images dropped into a notebook."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from IPython.display import HTML

from difcore.files import sha256_bytes, sha256_file, shown

if TYPE_CHECKING:
    from difcore.experiments.dropping import Examined
    from difcore.fingerprints.detector import Bank

TEMPLATES = Path(__file__).with_name("templates")
PICTURES = 24  # images whose evidence is in a report


def examiners_report(found: Examined, command: str, files: Mapping[str, Path] | None = None) -> str:
    """One self-contained HTML document.

    In it: a verdict per image and fingerprint with its reason, evidence, hashes of images, fingerprints and filter,
    versions with decoders, thresholds and the rate of false alarms, which generators are known, what was left out, what
    the files say of themselves, and ``command``, which repeats it.

    Parameters
    ----------
    files : dict of fingerprint to its file, optional
        For their hashes; without one it is the pattern's.
    """
    from difcore.figures.panels import evidence_panels
    from difcore.figures.style import png
    from difcore.records.artefacts import git_commit, versions

    known = []
    for d in found.bank.detectors:
        path = (files or {}).get(d.name)
        digest = sha256_file(path) if path else sha256_bytes(d.pattern.numpy().tobytes())
        kinds = d.null.kinds.items() if d.null else ()
        known.append(
            {
                "name": d.name, "method": d.method, "crop": d.crop, "mu_real": d.mu_real, "mu_fake": d.mu_fake,
                "digest": digest, "of": "file" if path else "pattern",
                "limit": d.null.limit(found.false_alarm) if d.null else None,
                "null": [f"{reals.n} {kind}" for kind, reals in kinds], "least": d.null.smallest if d.null else None,
            }
        )  # fmt: skip
    images = []
    for k, row in enumerate(found.best().itertuples()):
        rows = found.table[found.table["image"] == row.image]
        said = found.stated[found.stated["image"] == row.image]
        drawn = evidence_panels(**found.evidence(row.image, row.fingerprint)) if k < PICTURES else None
        picture = base64.b64encode(png(drawn)).decode() if drawn else ""
        facts = {"name": shown(row.image), "digest": found.files[row.image], "best": row, "picture": picture}
        images.append({**facts, "rows": list(rows.itertuples()), "said": list(said.itertuples())})
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    return environment.get_template("examiner.html").render(
        images=images, known=known, refused=[(shown(s.path), s.reason) for s in found.refused], command=command,
        rate=found.false_alarm, denoiser=found.bank.filter(), versions=versions(), commit=git_commit(),
        warnings=found.bank.warnings(found.false_alarm), made=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def drop_answer(files: Sequence[tuple[str, bytes]], bank: Bank, rate: float, command: str) -> tuple[Any, list[Any]]:
    """What ``widgets.drop_box`` shows of files: a row per image, the whole table, the report to save; evidence."""
    from difcore.experiments.dropping import examine_bytes, summary
    from difcore.figures.panels import evidence_panels
    from difcore.records.tables import show_table
    from difcore.widgets.workbench import SHOWN

    found = examine_bytes(files, bank, rate)
    report = base64.b64encode(examiners_report(found, command).encode()).decode()
    airy = 'style="border-collapse: separate; border-spacing: 1em .2em; line-height: 1.4"'
    tables = [show_table(t).set_properties(**{"vertical-align": "top"}) for t in (summary(found), found.table)]
    short, whole = (table.set_table_attributes(airy).to_html() for table in tables)
    parts = [short] if found.files else []
    if found.refused:
        rows = "".join(f"<li>{escape(f'{shown(s.path)}: {s.reason}')}</li>" for s in found.refused)
        parts.append(f"<p>Not looked at:</p><ul>{rows}</ul>")
    link = f'href="data:text/html;base64,{report}" style="color: #1769aa; text-decoration: underline"'
    parts.append(
        f'<p><a download="examiners_report.html" {link}>Save the examiner\'s report</a></p><details>'
        f'<summary>Every fingerprint</summary><div style="max-height: 24em; overflow: auto">{whole}</div></details>'
    )
    best = [(row.image, row.fingerprint) for row in found.best().itertuples()]
    return HTML("".join(parts)), [evidence_panels(**found.evidence(*pair)) for pair in best[:SHOWN]]


def drop_app(fingerprints: Sequence[str], data_root: str = "", example: Sequence[tuple[str, bytes]] = ()) -> Any:
    """The widget of ``31_detect_by_drop`` alone, as `difcore app` serves it; see ``known_fingerprints``."""
    from difcore.experiments.showroom import known_fingerprints
    from difcore.fingerprints.detector import Bank
    from difcore.widgets import drop_box

    bank = Bank(list(known_fingerprints(fingerprints, data_root).values()))
    command = f"difcore detect {' '.join(f'{d.name}.safetensors' for d in bank.detectors)} IMAGE... --false-alarm "
    return drop_box(
        lambda files, rate: drop_answer(files, bank, rate, f"{command}{rate:g} --report report.html"), example
    )
