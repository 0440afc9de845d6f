"""The command that downloads what cannot be shipped: the authors' release, and images of real generators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore import cli_options as opt
from difcore.cli_output import answer, facts_table, show_progress

if TYPE_CHECKING:
    from rich.console import Console

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
    from difcore import release

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
    from difcore import real_images
    from difcore.data_root import left_out

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
