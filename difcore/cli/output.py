"""How the command line answers: one JSON document or tables on stdout, warnings and one-line errors on stderr."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from difcore.files import shown

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from difcore.images.crops import Skipped
    from difcore.stats import Detection

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
SHOWN_SKIPS = 10
PIPED_WIDTH = 160  # columns of a table that no terminal limits


class OneLineGroup(TyperGroup):
    """Commands whose mistakes of input end in exit code 2 and one line on stderr, and an interrupt in 130."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse ``args`` (default: the process's), run the command, exit."""
        given = (args, prog_name, complete_var, False, windows_expand_args)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
        if not standalone_mode:
            return super().main(*given, **extra)
        try:
            with one_line_warnings():
                code = super().main(*given, **extra)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:
            message = one_line(error)
            if message is None:
                raise
            print(f"difcore: {message}", file=sys.stderr)
            code = BAD_INPUT
        sys.exit(code or 0)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Within, our own warnings are one line on stderr, shown once, without the place in the code of others'."""
    with warnings.catch_warnings():
        show, told = warnings.showwarning, set()

        def show_one_line(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if category.__name__ in ("CacheWarning", "StandIn"):  # by name: no module is loaded for --help
                if str(message) not in told:
                    print(f"difcore: warning: {shown(message)}", file=sys.stderr)
                told.add(str(message))
            else:
                show(message, category, *place, **options)

        warnings.showwarning = show_one_line
        yield


def one_line(error: Exception) -> str | None:
    """What was wrong with the input, in one line; None if ``error`` is not about the input."""
    hint = ""
    if hasattr(error, "format_message"):  # a wrong option or argument
        text = str(error.format_message())
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, ValueError | OSError) or lacks_data(error):
        text = str(error) or type(error).__name__
    else:
        return None
    return shown(text) + hint


def lacks_data(error: Exception) -> bool:
    """Whether ``error`` says that the authors' release is not there or could not be had."""
    from difcore.files import NeedsData
    from difcore.images.release import FetchError

    return isinstance(error, FetchError | NeedsData)


def show_progress() -> bool:
    """Bars only where someone watches: in a log they are noise."""
    return sys.stderr.isatty()


def answer(
    document: Mapping[str, Any], as_json: bool, tell: Callable[[Console], None], warnings: Sequence[str] = ()
) -> None:
    """Print ``document`` as JSON, or what ``tell`` writes to a console; then the warnings, one line each, on stderr."""
    if as_json:
        from difcore.records.artefacts import plain

        print(json.dumps(plain(document), indent=2, allow_nan=False))
    else:
        from rich.console import Console

        width = None if sys.stdout.isatty() else PIPED_WIDTH
        tell(Console(markup=False, highlight=False, emoji=False, width=width))
    for warning in warnings:
        print(f"difcore: warning: {shown(warning)}", file=sys.stderr)


def detection_fields(result: Detection | None) -> dict[str, Any]:
    """The keys every measured detection has in JSON; None, and counts of 0, if nothing was measured."""
    keys = (
        "accuracy", "interval", "accuracy_real", "interval_real", "accuracy_fake", "interval_fake", "auc",
        "auc_interval",
    )  # fmt: skip
    counts = ("n_real", "n_fake")
    if result is None:
        return dict.fromkeys(keys) | dict.fromkeys(counts, 0)
    return {key: getattr(result, key) for key in (*keys, *counts)}


def with_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``cross_detect``'s table with the keys of ``detection_fields``, but the classes' intervals."""
    pairs = {"interval": "accuracy", "auc_interval": "auc"}
    fields = {key: value for key, value in row.items() if not key.endswith(("_low", "_high"))}
    return fields | {key: (row[f"{of}_low"], row[f"{of}_high"]) for key, of in pairs.items()}


def skipped_fields(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    """Images left out, as in JSON."""
    return [{"path": str(entry.path), "reason": entry.reason} for entry in skipped]


def percent(fraction: float) -> str:
    """0.985 as "98.5 %"."""
    return f"{100 * fraction:.1f} %"


def facts_table(title: str, facts: Mapping[str, object]) -> Table:
    """Two columns: what, value; entries that are None are left out."""
    from rich.table import Table

    table = Table(title=title, show_header=False, box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if value is not None:
            table.add_row(key, shown(value))
    return table


def detection_facts(result: Detection) -> dict[str, str]:
    """Accuracies, AUC and counts as a person reads them."""
    shares = {
        "balanced accuracy": (result.accuracy, result.interval),
        "of the real": (result.accuracy_real, result.interval_real),
        "of the fake": (result.accuracy_fake, result.interval_fake),
    }
    facts = {
        name: f"{percent(value)}  (95 % interval {percent(low)} to {percent(high)})"
        for name, (value, (low, high)) in shares.items()
    }
    area = f"{result.auc:.4f}  (95 % interval {result.auc_interval[0]:.4f} to {result.auc_interval[1]:.4f})"
    return facts | {"AUC": area, "images": f"{result.n_real} real, {result.n_fake} fake"}


def tell_skipped(console: Console, skipped: Sequence[Skipped], total: int) -> None:
    """Count the images left out of ``total``, and name the first ones with their reasons."""
    if not skipped:
        return
    from difcore.images.crops import skip_report

    console.print(f"\n{skip_report(list(skipped), total)}")
    for entry in skipped[:SHOWN_SKIPS]:
        console.print(f"  {shown(entry.path)}: {shown(entry.reason)}", soft_wrap=True)
    if len(skipped) > SHOWN_SKIPS:
        console.print(f"  and {len(skipped) - SHOWN_SKIPS} more; --json lists all")


def cross_table(rows: pd.DataFrame, value: str, title: str, form: Callable[[float], str]) -> Table:
    """A matrix of ``value``: a row per training set, a column per test set."""
    from rich.table import Table

    table = Table("train \\ test", title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
    tests = list(dict.fromkeys(rows["test"]))
    for name in tests:
        table.add_column(shown(name), justify="right", overflow="fold")
    for train in dict.fromkeys(rows["train"]):
        part = rows[rows["train"] == train].set_index("test")
        table.add_row(shown(train), *(form(float(part.loc[test, value])) for test in tests))
    counts = rows.drop_duplicates("test").set_index("test")
    table.add_row(
        "real + fake", *(f"{counts.loc[t, 'n_real']} + {counts.loc[t, 'n_fake']}" for t in tests), style="dim"
    )
    return table
