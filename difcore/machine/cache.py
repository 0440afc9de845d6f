"""The cache's size: what lies in it, its limit, what goes first when it is exceeded, and what the user clears.

The limit is ``DIFCORE_CACHE_LIMIT`` ("10 GB" if unset, "none" for no limit). Residuals, scenes and fits that were not
used for the longest time go first. Any number of processes may write, read and tidy up at once: files appear whole, and
one that is gone is made again.

Where difcore keeps what saves time and can be made or fetched again: one folder, with one in it for each kind.

The folder is ``DIFCORE_CACHE``, or the platform's cache folder for difcore. What only saves time does without where
nothing can be written; the rest says in one line what to set. ``difcore.machine.cache`` holds the whole within a limit.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from difcore.files import atomic_json, read_json

KINDS = {
    "residuals": "of images, by denoiser",
    "scenes": "of the demo",
    "cells": "results of the notebooks' grids",
    "fits": "fingerprints and test residuals of cross-detections",
    "release": "the authors' release, from `difcore fetch`",
    "real": "images of real generators, from `difcore fetch --real`",
    "weights": "ImageNet's, of ResNet-50",
    "probes": "what was measured of this machine",
}
TAG = "CACHEDIR.TAG"  # bford.info/cachedir: backups leave such folders out, and difcore deletes in no other
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by difcore; `difcore cache clear` empties it.\n"
ADVICE = "set DIFCORE_CACHE to a folder that can be written"


class CacheError(OSError):
    """The cache cannot be used as it is set; one line that names the variable and says what to set."""


class Unwritable(CacheError):
    """Nothing can be written to the cache; what only saves time does without."""


class CacheWarning(UserWarning):
    """Nothing is kept, and why; the results are the same."""


def cache_root() -> Path:
    """The cache's folder; it need not exist.

    Raises
    ------
    CacheError
        If it is something else than a folder.
    Unwritable
        If the user has no home.
    """
    named = os.environ.get("DIFCORE_CACHE")
    try:
        root = Path(named or platformdirs.user_cache_dir("difcore", appauthor=False)).expanduser()
    except RuntimeError:  # "~" of nobody
        root = Path()
    if not named and not root.is_absolute():
        raise Unwritable(f"there is no home folder to keep a cache in: {ADVICE}")
    if os.path.exists(root) and not os.path.isdir(root):
        raise CacheError(f"the cache folder {root} is not a folder: {ADVICE}")
    return root.absolute()


def cache_folder(kind: str) -> Path:
    """Where files of a kind (one of ``KINDS``) are kept; errors as ``cache_root``."""
    if kind not in KINDS:
        raise ValueError(f"the cache holds {', '.join(KINDS)}, not {kind!r}")
    return cache_root() / kind


def made_folder(kind: str) -> Path:
    """``cache_folder``, made and tagged if it was not there.

    Raises
    ------
    CacheError
        If a file is in its way.
    Unwritable
        If it cannot be made.
    """
    folder = cache_folder(kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            (folder / TAG).write_text(SIGNATURE, encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        raise CacheError(f"the cache folder {folder.parent} cannot be made, a file is in its way: {ADVICE}") from error
    except OSError as error:
        raise Unwritable(f"the cache folder {folder.parent} cannot be made ({error.strerror}): {ADVICE}") from error
    return folder


def needed_folder(kind: str) -> Path:
    """``made_folder`` for what cannot do without.

    Raises
    ------
    CacheError
        As ``made_folder``, and (Unwritable) if no file can be made in it.
    """
    folder = made_folder(kind)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Unwritable(f"the cache folder {folder.parent} cannot be written ({error.strerror}): {ADVICE}") from error
    return folder


def optional_folder(kind: str) -> Path | None:
    """``made_folder`` for what only saves time: with a CacheWarning, None where it cannot be made."""
    try:
        return made_folder(kind)
    except Unwritable as error:
        warnings.warn(f"nothing is kept: {error}", CacheWarning, stacklevel=2)
        return None


def keep(save: Callable[[], Any]) -> bool:
    """``save()``; where nothing can be written (read-only, full), a CacheWarning, and False."""
    try:
        try:
            save()
        except FileNotFoundError:  # the folder was tidied away before the file was in it
            save()
    except OSError as error:
        reason = f"the cache cannot be written ({error.strerror or error}): {ADVICE}"
        warnings.warn(f"nothing is kept: {reason}", CacheWarning, stacklevel=2)
        return False
    return True


def used(path: Path) -> None:
    """Note that a file was used: its time of modification says when."""
    with suppress(OSError):
        os.utime(path)


# What may go, first to last, and how many seconds after its last use: another run may be at it.
EVICTED = {"residuals": 3600.0, "scenes": 3600.0, "fits": 86400.0}
DEFAULT_LIMIT = "10 GB"
FULL = 0.9  # of the limit is what tidying up leaves, so that it is not done at every write
COUNT_AGE = 3600.0  # seconds after which what is known of the cache's size is counted anew
STARTED = time.time()  # of this process: what it used is in use


class Entry(NamedTuple):
    """A file of the cache: its size in bytes, and when it was last used (seconds since the epoch)."""

    path: Path
    size: int
    used: float


@dataclass
class Keeper:
    """Keeps files that can be made again, until nothing can be written or the cache is full of what is in use.

    Attributes
    ----------
    limited : bool
        Whether the files lie in the cache and count towards its limit.
    """

    limited: bool = True
    limit: float = field(init=False)
    left: float | None = None  # bytes that may be written before the cache is looked through; None: not asked yet
    written: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.limit = cache_limit() if self.limited else float("inf")

    def keep(self, save: Callable[[], Any], size: int) -> None:
        """``keep`` a file of about ``size`` bytes, unless there is no room for it."""
        if self.stopped:
            return
        if self.limited and self.left is None:
            self.left = self.limit - known_size()
        if self.left is not None and size > self.left:
            self.left, self.written = trim(self.limit, size), 0
            if size > self.left:
                text = f"nothing more is kept: the cache is full of what was just used ({size_text(self.limit)})"
                warnings.warn(f"{text}; set DIFCORE_CACHE_LIMIT to more", CacheWarning, stacklevel=2)
                self.stopped = True
                return
        self.stopped = not keep(save)
        if not self.stopped and self.left is not None:
            self.left, self.written = self.left - size, self.written + size

    def close(self) -> None:
        """Add what was written to the cache's known size."""
        if self.written:
            record_size(known_size() + self.written, counted=False)
            self.written = 0


def cache_limit() -> float:
    """``DIFCORE_CACHE_LIMIT`` in bytes; infinite for "none"."""
    text = os.environ.get("DIFCORE_CACHE_LIMIT") or DEFAULT_LIMIT
    if text.strip().lower() == "none":
        return float("inf")
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found:
        raise CacheError(f"DIFCORE_CACHE_LIMIT is {text!r}: set it to a size such as '10 GB', or to none")
    number, unit, binary = found.groups()
    return float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " ")


def size_text(size: float) -> str:
    """1234567 as "1.2 MB"; infinity as "no limit"."""
    if size == float("inf"):
        return "no limit"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def entries(folder: Path) -> Iterator[Entry]:
    """Files below a folder; half-written ones and the tag are none, whatever vanishes meanwhile neither."""
    try:
        found = list(os.scandir(folder))
    except OSError:
        return
    for item in found:
        with suppress(OSError):
            if item.is_dir(follow_symlinks=False):
                yield from entries(Path(item.path))
            elif not item.name.startswith(".") and item.name != TAG:
                facts = item.stat(follow_symlinks=False)
                yield Entry(Path(item.path), facts.st_size, facts.st_mtime)


def remove(path: Path) -> bool:
    """Delete a file, and folders that it leaves empty up to its kind's; whether it is gone by our hand."""
    try:
        path.unlink()
    except OSError:
        return False
    with suppress(OSError):  # the kind's own folder holds its tag
        for folder in path.parents:
            folder.rmdir()
    return True


def trim(limit: float, room: int = 0) -> float:
    """Delete what was not used for the longest time until ``room`` bytes are free; how many are free then.

    Residuals go before scenes and these before fits; what this process used, or any did a short while ago, stays.
    """
    kinds = {kind: list(entries(cache_folder(kind))) for kind in KINDS}
    size = sum(entry.size for found in kinds.values() for entry in found)
    wanted = min(FULL * limit, limit - room)
    for kind, spared in EVICTED.items():
        newest = min(STARTED, time.time() - spared)
        for entry in sorted(kinds[kind], key=lambda entry: entry.used) if size + room > limit and tagged(kind) else ():
            if size <= wanted or entry.used >= newest:
                break
            size -= entry.size if remove(entry.path) else 0
    record_size(size, counted=True)
    return limit - size


def tagged(kind: str) -> bool:
    """Whether difcore made the kind's folder, and so may delete what is in it."""
    return (cache_folder(kind) / TAG).is_file()


def known_size() -> int:
    """Bytes in the cache: as last counted, and what was written since; counted anew after an hour."""
    known = read_json(cache_root() / "size.json")
    if isinstance(known.get("bytes"), int) and 0 <= time.time() - known.get("counted", 0) < COUNT_AGE:
        return known["bytes"]
    size = sum(entry.size for kind in KINDS for entry in entries(cache_folder(kind)))
    record_size(size, counted=True)
    return size


def record_size(size: int, counted: bool) -> None:
    """Note the cache's size, for other processes; two that do so at once may lose a little until the next count."""
    path = cache_root() / "size.json"
    moment = time.time() if counted else read_json(path).get("counted", 0)
    with suppress(OSError):
        atomic_json(path, {"bytes": size, "counted": moment})


def survey() -> list[dict[str, Any]]:
    """Of each kind: files, bytes, and the least recent use of one (seconds since the epoch, None without files)."""
    rows = []
    for kind, what in KINDS.items():
        found = list(entries(cache_folder(kind)))
        oldest = min((entry.used for entry in found), default=None)
        rows.append({"kind": kind, "what": what, "files": len(found), "bytes": sum(e.size for e in found),
                     "oldest": oldest})  # fmt: skip
    return rows


def clear(kinds: Sequence[str] = (), older_than: float = 0.0) -> list[dict[str, Any]]:
    """Delete the files of some kinds (default: all) that were not used for ``older_than`` seconds; counts by kind.

    Raises
    ------
    ValueError
        For a kind that there is not.
    CacheError
        If difcore did not make a kind's folder; nothing was deleted then.
    """
    newest, rows, old = time.time() - older_than, [], {}
    for kind in kinds or KINDS:
        old[kind] = [entry for entry in entries(cache_folder(kind)) if entry.used <= newest or not older_than]
        if old[kind] and not tagged(kind):
            raise CacheError(f"{cache_folder(kind)} has no {TAG}: difcore did not make it, and deletes nothing there")
    for kind, found in old.items():
        gone = [entry for entry in found if remove(entry.path)]
        rows.append({"kind": kind, "files": len(gone), "bytes": sum(entry.size for entry in gone)})
    with suppress(OSError):
        (cache_root() / "size.json").unlink()
    return rows
