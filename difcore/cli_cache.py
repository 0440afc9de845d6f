"""``difcore cache``: what is kept, how much of it, and a way to be rid of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore import cli_options as opt
from difcore.cli_output import OneLineGroup, answer

if TYPE_CHECKING:
    from rich.console import Console

cache_app = typer.Typer(cls=OneLineGroup, no_args_is_help=True, help="What difcore keeps to save time: show, clear.")
DAY = 86400.0  # seconds


@cache_app.command()
def info(as_json: opt.AsJson = False) -> None:
    """Show the cache's folder, its limit and, of each kind: files, size, least recent use."""
    from difcore.cache import cache_root
    from difcore.cache_size import cache_limit, size_text, survey

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
    from difcore.cache import cache_root
    from difcore.cache_size import clear as clear_kinds
    from difcore.cache_size import size_text

    rows = clear_kinds(kinds or (), older_than * DAY)
    files, size = (sum(row[key] for row in rows) for key in ("files", "bytes"))
    document = {"command": "cache clear", "folder": cache_root(), "files": files, "bytes": size, "kinds": rows}
    answer(document, as_json, lambda console: console.print(f"{files} files deleted, {size_text(size)}"))


def moment_text(moment: float | None) -> str | None:
    """A time as ISO 8601 in UTC, to the second."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
