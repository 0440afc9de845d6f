"""The command that downloads what cannot be shipped: the authors' release, and images of real generators.

The command that audits two folders for confounds.

``difcore cache``: what is kept, how much of it, and a way to be rid of it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore.cli import options as opt
from difcore.cli.output import OneLineGroup, answer, facts_table, show_progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from difcore.audit.findings import Finding

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
    from difcore.audit.findings import audit_classes
    from difcore.images.crops import list_images

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


cache_app = typer.Typer(cls=OneLineGroup, no_args_is_help=True, help="What difcore keeps to save time: show, clear.")
DAY = 86400.0  # seconds


@cache_app.command()
def info(as_json: opt.AsJson = False) -> None:
    """Show the cache's folder, its limit and, of each kind: files, size, least recent use."""
    from difcore.machine.cache import cache_limit, cache_root, size_text, survey

    root, limit = cache_root(), cache_limit()
    kinds = [row | {"oldest": moment_text(row["oldest"])} for row in survey()]
    files, size = (sum(row[key] for row in kinds) for key in ("files", "bytes"))
    document: dict[str, Any] = {
        "command": "cache info", "folder": root, "limit": limit, "files": files, "bytes": size, "kinds": kinds,
    }  # fmt: skip

    def tell(console: Console) -> None:
        from rich.table import Table

        table = Table("kind", "", "files", "size", "least recent use", box=None, pad_edge=False)
        for row in kinds:
            table.add_row(row["kind"], row["what"], str(row["files"]), size_text(row["bytes"]), row["oldest"] or "–")
        console.print(f"{root}\n{size_text(size)} of {size_text(limit)} (DIFCORE_CACHE, DIFCORE_CACHE_LIMIT)\n")
        console.print(table)

    answer(document, as_json, tell)


@cache_app.command()
def clear(
    kinds: Annotated[list[str] | None, typer.Argument(metavar="[KIND]...", show_default="all")] = None,
    older_than: Annotated[float, typer.Option(min=0, metavar="DAYS", help="Only what was not used for so long.")] = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Delete what is kept: all of it, or some kinds; all of it can be made or fetched again."""
    from difcore.machine.cache import cache_root, size_text
    from difcore.machine.cache import clear as clear_kinds

    rows = clear_kinds(kinds or (), older_than * DAY)
    files, size = (sum(row[key] for row in rows) for key in ("files", "bytes"))
    document = {"command": "cache clear", "folder": cache_root(), "files": files, "bytes": size, "kinds": rows}
    answer(document, as_json, lambda console: console.print(f"{files} files deleted, {size_text(size)}"))


def moment_text(moment: float | None) -> str | None:
    """A time as ISO 8601 in UTC, to the second."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


Mirror = Annotated[Path | None, typer.Option(help="Local copy to take instead of downloading.")]
Real = Annotated[bool, typer.Option("--real", help="Images of six real generators, and photographs, instead.")]
Folder = Annotated[Path | None, typer.Option(show_default="the cache", help="With --real: where to.")]
Reals = Annotated[Path | None, typer.Option(show_default="photos/train", help="With --real: real images to train on.")]
TestReals = Annotated[Path | None, typer.Option(show_default="photos/test", help="With --real: reals to test on.")]


def fetch(
    mirror: Mirror = None,
    real: Real = False,
    folder: Folder = None,
    reals: Reals = None,
    test_reals: TestReals = None,
    as_json: opt.AsJson = False,
) -> None:
    """Download the authors' release (13 fingerprints, 120 images): checked, resumable, never redistributed."""
    if real:
        _fetch_real(mirror, folder, reals, test_reals, as_json)
        return
    if folder or reals or test_reals:
        raise ValueError("--folder, --reals and --test-reals go with --real")
    from difcore.images import release

    target = release.fetch(mirror, show_progress())
    files = release.registry()
    document = {
        "command": "fetch", "folder": target, "n_files": len(files), "repository": release.REPOSITORY,
        "commit": release.COMMIT,
    }  # fmt: skip
    facts = {"folder": target, "files": f"{len(files)}, each with the SHA-256 of commit {release.COMMIT}"}
    answer(document, as_json, lambda console: console.print(facts_table("The authors' release", facts)))


def _fetch_real(
    mirror: Path | None, folder: Path | None, reals: Path | None, test_reals: Path | None, as_json: bool
) -> None:
    from difcore.images import real_sets as real_images
    from difcore.images.folders import left_out

    print(f"difcore: {real_images.LICENCE}", file=sys.stderr)
    wanted = [source for source in real_images.registry() if not (reals and source.file.startswith("photos/"))]
    target = real_images.fetch_real(mirror, show_progress(), folder=folder, sources=wanted)
    counts = real_images.lay_out(target, reals, test_reals)
    others = left_out([own for own in (reals, test_reals) if own])
    warnings = [f"{path} is no image: not in the data root" for path in others]
    root = target / "root"
    document: dict[str, Any] = {
        "command": "fetch", "folder": target, "root": root, "n_files": len(wanted), "images": counts,
        "licence": real_images.LICENCE, "warnings": warnings,
    }  # fmt: skip
    use = f"./run_all.sh --profile small --data-root {root} --only 10 12 14 15 17"
    facts = {"folder": target, "files": len(wanted), "data root": root, "next": use}

    def tell(console: Console) -> None:
        console.print(facts_table("Images of real generators", facts))
        console.print(facts_table("\nIn the data root", counts))

    answer(document, as_json, tell, warnings)
