"""The command that audits two folders for confounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore import cli_options as opt
from difcore.cli_output import answer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from difcore.checks import Finding

Most = Annotated[int, typer.Option(min=3, help="Images of each class to look at, drawn with --seed.")]


def audit(
    real_dir: opt.RealDir,
    fake_dir: opt.FakeDir,
    most: Most = 150,
    recursive: opt.Recursive = False,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Look for confounds: format, marks, shared noise, resizing, copies, contents. What is found is no error."""
    from difcore.findings import audit_classes
    from difcore.images import list_images

    found = audit_classes(list_images(real_dir, recursive), list_images(fake_dir, recursive), most, seed)
    document: dict[str, Any] = {
        "command": "audit", "real": real_dir, "fake": fake_dir, "n_real": found.n["real"], "n_fake": found.n["fake"],
        "seed": seed, "verdict": worst(found.findings), "findings": [vars(finding) for finding in found.findings],
    }  # fmt: skip

    def tell(console: Console) -> None:
        console.print(findings_table(found.findings, f"{found.n['real']} real and {found.n['fake']} generated images"))

    answer(document, as_json, tell)


def worst(findings: tuple[Finding, ...]) -> str:
    """The gravest verdict among the findings."""
    return max((finding.verdict for finding in findings), key=["fine", "note", "confounded"].index)


def findings_table(findings: tuple[Finding, ...], title: str) -> Table:
    """One row per finding; what to do stands below the sentence."""
    from rich.table import Table

    table = Table("check", "verdict", "finding", title=title, box=None, pad_edge=False, title_justify="left")
    styles = {"fine": None, "note": "yellow", "confounded": "bold red"}
    for finding in findings:
        text = finding.sentence + (f"\n-> {finding.advice}" if finding.advice else "")
        table.add_row(finding.check, finding.verdict, text, style=styles[finding.verdict])
    return table
