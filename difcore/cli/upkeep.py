"""The other commands: audit two folders, fetch and import what cannot be shipped, the cache, the notebooks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from difcore.cli import options as opt
from difcore.cli.inputs import check_out
from difcore.cli.output import VERDICTS, answer, facts_table, show_progress, table

DAY = 86400.0  # seconds
cache_app = typer.Typer(no_args_is_help=True, help="What difcore keeps to save time: show, clear.")


def audit(
    real_dir: opt.RealDir,
    fake_dir: opt.FakeDir,
    most: Annotated[int, typer.Option(min=3, help="Images of each class to look at, drawn with --seed.")] = 150,
    recursive: opt.Recursive = False,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Look for confounds: format, marks, shared noise, resizing, copies, contents. What is found is no error."""
    from difcore.audit.findings import audit_classes
    from difcore.images.folders import list_images

    found = audit_classes(list_images(real_dir, recursive), list_images(fake_dir, recursive), most, seed)
    gravest = max((finding.verdict for finding in found.findings), key=list(VERDICTS).index)
    document: dict[str, Any] = {
        "command": "audit", "real": real_dir, "fake": fake_dir, "n_real": found.n["real"], "n_fake": found.n["fake"],
        "seed": seed, "verdict": gravest, "findings": [vars(finding) for finding in found.findings],
    }  # fmt: skip
    title = "{n_real} real and {n_fake} generated images".format(**document)
    shown = table("check", "verdict", "finding", title=title, title_style=None)
    for finding in found.findings:
        text = finding.sentence + (f"\n-> {finding.advice}" if finding.advice else "")
        shown.add_row(finding.check, finding.verdict, text, style=VERDICTS[finding.verdict])
    answer(document, as_json, shown)


def import_official(
    checkpoint: Annotated[Path, typer.Argument(metavar="PT", help="A published chk_0.pt; nothing in it is executed.")],
    out: opt.Out,
    name: Annotated[str | None, typer.Option(show_default="the folder's", help="The generator's name.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Convert a published checkpoint to a fingerprint file."""
    from difcore.fingerprints.detector import Detector

    check_out(out)
    detector = Detector.from_official(checkpoint, name)
    detector.save(out)
    facts = {key: getattr(detector, key) for key in ("name", "method", "crop", "mu_real", "mu_fake")}
    facts |= {**detector.metadata, "out": out}
    answer({"command": "import-official", **facts}, as_json, facts_table("Imported", facts))


def fetch(
    mirror: Annotated[Path | None, typer.Option(help="Local copy to take instead of downloading.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Images of six generators, and photographs, instead.")] = False,
    folder: Annotated[Path | None, typer.Option(show_default="the cache", help="With --real: where to.")] = None,
    reals: Annotated[Path | None, typer.Option(show_default="photos/train", help="With --real: to train on.")] = None,
    test_reals: Annotated[
        Path | None, typer.Option(show_default="photos/test", help="With --real: to test on.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Download the authors' release (13 fingerprints, 120 images): checked, resumable, never redistributed."""
    from difcore.images import sources
    from difcore.images.folders import left_out

    if not real:
        if folder or reals or test_reals:
            raise ValueError("--folder, --reals and --test-reals go with --real")
        target, files = sources.fetch_release(mirror, show_progress()), sources.release_registry()
        origin = {"repository": sources.REPOSITORY, "commit": sources.COMMIT}
        facts = {"folder": target, "files": f"{len(files)}, each with the SHA-256 of commit {sources.COMMIT}"}
        document = {"command": "fetch", "folder": target, "n_files": len(files), **origin}
        return answer(document, as_json, facts_table("The authors' release", facts))
    print(f"difcore: {sources.LICENCE}", file=sys.stderr)
    wanted = [source for source in sources.real_registry() if not (reals and source.file.startswith("photos/"))]
    target = sources.fetch(wanted, folder, mirror, show_progress())
    root, counts = target / "root", sources.lay_out(target, reals, test_reals)
    others = left_out([own for own in (reals, test_reals) if own])
    document = {
        "command": "fetch", "folder": target, "root": root, "n_files": len(wanted), "images": counts,
        "licence": sources.LICENCE, "warnings": [f"{path} is no image: not in the data root" for path in others],
    }  # fmt: skip
    use = f"./run_all.sh --profile small --data-root {root} --only 10 12 14 15 17"
    facts = {"folder": target, "files": len(wanted), "data root": root, "next": use}
    made = facts_table("Images of real generators", facts), facts_table("\nIn the data root", counts)
    return answer(document, as_json, *made)


@cache_app.command()
def info(as_json: opt.AsJson = False) -> None:
    """Show the cache's folder, its limit and, of each kind: files, size, least recent use."""
    from difcore.machine.cache import cache_limit, cache_root, size_text, survey

    root, limit, kinds = cache_root(), cache_limit(), survey()
    files, size = (sum(row[key] for row in kinds) for key in ("files", "bytes"))
    shown = table("kind", "", "files", "size", "least recent use")
    for row in kinds:
        oldest = row["oldest"] and datetime.fromtimestamp(row["oldest"], UTC).isoformat(timespec="seconds")
        row["oldest"] = oldest
        shown.add_row(row["kind"], row["what"], str(row["files"]), size_text(row["bytes"]), oldest or "–")
    total = f"{root}\n{size_text(size)} of {size_text(limit)} (DIFCORE_CACHE, DIFCORE_CACHE_LIMIT)\n"
    document = {"command": "cache info", "folder": root, "limit": limit, "files": files, "bytes": size, "kinds": kinds}
    answer(document, as_json, total, shown)


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
    answer(document, as_json, f"{files} files deleted, {size_text(size)}")


@opt.grouped
def run(
    of: opt.Batch,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As --only.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Run the notebooks of a profile and write outputs/<profile>/index.html."""
    from difcore.batch.gallery import write_gallery
    from difcore.batch.run import Selection, parse_grid, run_batch
    from difcore.files import PROJECT_DIR
    from difcore.runtime import resolve

    root = of.data_root and of.data_root.expanduser().resolve()  # the notebooks run in another folder
    if root and not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected the data folder")
    # What "auto" is for this process and those that it starts: what was asked for. Told now, not by each notebook.
    given = {"DIFCORE_DEVICE": of.device, "DIFCORE_PRECISION": of.precision}
    os.environ.update({name: value for name, value in given.items() if value != "auto"})
    if any(os.environ.get(name, "auto") != "auto" for name in given):
        resolve("auto", "auto")
    grid, selected = of.grid or [], [*(of.only or []), *(names or [])]
    values = parse_grid([entry for entry in grid if entry != "full"])
    selection = Selection(of.profile, selected, root, values, full="full" in grid)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code = run_batch(selection, of.jobs, of.force, of.wait)
    outputs = PROJECT_DIR / "outputs" / selection.output
    if of.publish and not code:
        write_gallery(outputs, PROJECT_DIR / "notebooks", PROJECT_DIR / "docs")
    if as_json:
        summary = json.loads((outputs / "summary.json").read_text(encoding="utf-8"))
        answer({"command": "run", "exit_code": code, **summary}, as_json)
    raise typer.Exit(code)


def serve(
    fingerprints: Annotated[
        list[str] | None, typer.Argument(metavar="[FINGERPRINT]...", show_default="published, if here; else demo")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Ask about images in the browser: chosen there, judged here. Loopback only, behind a token; nothing leaves."""
    from difcore.batch.serving import serve as served
    from difcore.files import NeedsData
    from difcore.images.sources import locate

    if not fingerprints:
        with contextlib.suppress(NeedsData):
            locate()
            fingerprints = ["published"]
    raise typer.Exit(served(fingerprints or ["demo"], port, browser))
