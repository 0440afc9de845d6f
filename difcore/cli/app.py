"""The command line: ``difcore`` or ``python -m difcore.cli``.

Each command takes ``--json`` and then prints exactly one JSON document on stdout. Bad input ends in exit code 2 and one
line on stderr, an interrupt in 130. Everything heavy is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from difcore import __version__
from difcore.cli import options as opt
from difcore.cli.fitting import cross_detect, fit
from difcore.cli.inputs import check_out, hand_down
from difcore.cli.judging import detect, evaluate
from difcore.cli.output import OneLineGroup, answer, facts_table
from difcore.cli.upkeep import audit, cache_app, fetch

app = typer.Typer(
    name="difcore", cls=OneLineGroup, add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True
)


def print_version(wanted: bool) -> None:
    """For ``--version``."""
    if wanted:
        print(f"difcore {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True)] = False,
) -> None:
    """Deep Image Fingerprint: fit the fingerprint of an image generator, and find the images it made."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (fit, evaluate, detect, cross_detect, audit, fetch):
    app.command()(command)
app.add_typer(cache_app, name="cache")


@app.command()
def import_official(
    checkpoint: Annotated[Path, typer.Argument(metavar="PT", help="A published chk_0.pt; nothing in it is executed.")],
    out: opt.Out,
    name: Annotated[str | None, typer.Option(show_default="the folder's", help="The generator's name.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Convert a published checkpoint to a fingerprint file."""
    from difcore.fingerprints.detector import Detector

    check_out(out)
    fingerprint = Detector.from_official(checkpoint, name)
    fingerprint.save(out)
    facts = {
        "name": fingerprint.name, "method": fingerprint.method, "crop": fingerprint.crop,
        "mu_real": fingerprint.mu_real, "mu_fake": fingerprint.mu_fake, **fingerprint.metadata, "out": out,
    }  # fmt: skip
    document = {"command": "import-official", **facts}
    answer(document, as_json, lambda console: console.print(facts_table("Imported", facts)))


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As --only.")] = None,
    profile: Annotated[str, typer.Option(help="demo (offline, small), paper, or another file of params/.")] = "demo",
    only: Annotated[
        list[str] | None, typer.Option(help="Notebooks by number, name or topic; several may follow.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time, the cores shared out.")] = 2,
    data_root: Annotated[Path | None, typer.Option(help="Data folder, in place of DIFCORE_DATA.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run unchanged notebooks too.")] = False,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="full|NAME=V,V,...",
            help="full: whole grids (params/grids/full.yml); else run once per value of a notebook's parameter.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another run writes to the same outputs; else that is an error.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write docs/: the gallery and a page per notebook, from these outputs.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Run the notebooks of a profile and write outputs/<profile>/index.html."""
    from difcore.batch.gallery import write_gallery
    from difcore.batch.run import parse_grid, profile_name, run_batch
    from difcore.files import PROJECT_DIR

    if data_root is not None:
        data_root = data_root.expanduser().resolve()  # the notebooks run in another folder
        if not data_root.is_dir():
            raise ValueError(f"{data_root} is not a folder; expected the data folder")
    hand_down(device, precision)
    full = "full" in (grid or [])
    selected, values = [*(only or []), *(names or [])], parse_grid([entry for entry in grid or [] if entry != "full"])
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code = run_batch(profile, selected, jobs, data_root, force, values, full=full, wait=wait)
    if publish and not code:
        outputs = PROJECT_DIR / "outputs" / profile_name(profile, full)
        write_gallery(outputs, PROJECT_DIR / "notebooks", PROJECT_DIR / "docs")
    if as_json:
        summary = PROJECT_DIR / "outputs" / profile_name(profile, full) / "summary.json"
        document = {"command": "run", "exit_code": code, **json.loads(summary.read_text(encoding="utf-8"))}
        answer(document, as_json, lambda console: None)
    raise typer.Exit(code)
