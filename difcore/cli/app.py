"""The command line: ``difcore`` or ``python -m difcore.cli``.

Each command takes ``--json`` and then prints exactly one JSON document on stdout. Bad input ends in exit code 2 and one
line on stderr, an interrupt in 130. Everything heavy is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from difcore import __version__
from difcore.cli import commands, health, upkeep
from difcore.files import NeedsData, shown

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
OURS = ("CacheWarning", "StandIn")  # warnings, by name: no module is loaded for --help


class OneLineGroup(TyperGroup):
    """Commands whose mistakes of input end in exit code 2 and one line on stderr, and an interrupt in 130."""

    def main(self, *given: Any, **options: Any) -> Any:
        """Parse the arguments (default: the process's), run the command, exit."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
        if not options.setdefault("standalone_mode", True):
            return super().main(*given, **options)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = one_line_warnings(warnings.showwarning)
                code = super().main(*given, **options | {"standalone_mode": False})
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:
            if (message := one_line(error)) is None:
                raise
            print(f"difcore: {message}", file=sys.stderr)
            code = BAD_INPUT
        sys.exit(code or 0)


def one_line_warnings(others: Callable[..., None]) -> Callable[..., None]:
    """Shows our own warnings as one line on stderr, once, without the place in the code that ``others`` have."""
    told = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if category.__name__ not in OURS:
            others(message, category, *place, **options)
        elif str(message) not in told:
            told.add(str(message))
            print(f"difcore: warning: {shown(message)}", file=sys.stderr)

    return show


def one_line(error: Exception) -> str | None:
    """What was wrong with the input, in one line; None if ``error`` is not about the input."""
    from difcore.images.sources import FetchError

    hint = ""
    if hasattr(error, "format_message"):  # a wrong option or argument
        text = str(error.format_message())
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, ValueError | OSError | FetchError | NeedsData):
        text = str(error) or type(error).__name__
    else:
        return None
    return shown(text) + hint


app = typer.Typer(
    name="difcore", cls=OneLineGroup, add_completion=False, pretty_exceptions_enable=False, invoke_without_command=True
)
for command in (
    commands.fit, commands.evaluate, commands.detect, commands.cross_detect, upkeep.audit, upkeep.fetch,
    upkeep.import_official, upkeep.run, health.doctor, health.selftest,
):  # fmt: skip
    app.command()(command)
app.command("app")(upkeep.serve)
app.add_typer(upkeep.cache_app, name="cache")


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
