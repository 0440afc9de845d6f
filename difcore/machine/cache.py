"""What saves time and can be made or fetched again: one folder, with one in it for each kind, held within a limit.

The folder is ``DIFCORE_CACHE``, or the platform's for caches; the limit ``DIFCORE_CACHE_LIMIT`` ("none" for no limit).
Any number of processes may write, read and tidy up at once: files appear whole, and one that is gone is made again.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

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
# What may go, first to last, and how many seconds after its last use: another run may be at it.
EVICTED = {"residuals": 3600.0, "scenes": 3600.0, "fits": 86400.0}
DEFAULT_LIMIT = "10 GB"
FULL = 0.9  # of the limit is what tidying up leaves, so that it is not done at every write
PART = 0.05  # of the limit is what a process writes before it looks again what others have written
STARTED = time.time()  # of this process: what it used is in use
TAG = "CACHEDIR.TAG"  # bford.info/cachedir: backups leave such folders out, and difcore deletes in no other
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by difcore; `difcore cache clear` empties it.\n"
ADVICE = "set DIFCORE_CACHE to a folder that can be written"


class CacheError(OSError):
    """The cache cannot be used as it is set; one line that names the variable and says what to set."""


class Unwritable(CacheError):
    """Nothing can be written to the cache; what only saves time does without."""


class CacheWarning(UserWarning):
    """Nothing is kept, and why; the results are the same."""


class Entry(NamedTuple):
    """A file of the cache: its size in bytes, and when it was last used (seconds since the epoch)."""

    path: Path
    size: int
    used: float


def cache_root() -> Path:
    """The cache's folder, which need not exist; CacheError if it is something else, Unwritable without a home."""
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
    """``cache_folder``, made and tagged; CacheError if a file is in its way, Unwritable if it cannot be made."""
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
    """``made_folder`` for what cannot do without: Unwritable also if no file can be made in it."""
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


class Keeper:
    """Keeps files that can be made again, until nothing can be written or the cache is full of what is in use."""

    def __init__(self, limited: bool = True) -> None:
        self.limit = cache_limit() if limited else float("inf")
        self.left = 0.0 if self.limit < float("inf") else self.limit  # to write before the cache is looked through
        self.stopped = False

    def keep(self, save: Callable[[], Any], size: int) -> None:
        """``keep`` a file of about ``size`` bytes, unless there is no room for it."""
        if not self.stopped and size > self.left:
            free = trim(self.limit, size)
            self.left, self.stopped = min(free, max(size, PART * self.limit)), size > free
            if self.stopped:
                text = f"nothing more is kept: the cache is full of what was just used ({size_text(self.limit)})"
                warnings.warn(f"{text}; set DIFCORE_CACHE_LIMIT to more", CacheWarning, stacklevel=2)
        if not self.stopped:
            self.stopped, self.left = not keep(save), self.left - size


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
    power = next((k for k in range(4) if size < 1000 ** (k + 1)), 4)
    return f"{size / 1000**power:.{min(power, 1)}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def entries(folder: Path) -> Iterator[Entry]:
    """Files below a folder; half-written ones and the tag are none, whatever vanishes meanwhile neither."""
    for place, _, names in os.walk(folder):
        for name in names:
            if not name.startswith(".") and name != TAG:
                with suppress(OSError):
                    facts = os.lstat(path := Path(place, name))
                    yield Entry(path, facts.st_size, facts.st_mtime)


def remove(path: Path) -> bool:
    """Delete a file, and folders that it leaves empty up to its kind's, which holds its tag; whether we did."""
    try:
        path.unlink()
    except OSError:
        return False
    with suppress(OSError):
        for folder in path.parents:
            folder.rmdir()
    return True


def trim(limit: float, room: int = 0) -> float:
    """Delete what was not used for the longest time until ``room`` bytes are free; how many are free then.

    Residuals go before scenes and these before fits; what this process used, or any did a short while ago, stays.
    """
    kinds = {kind: list(entries(cache_folder(kind))) for kind in KINDS}
    size = sum(entry.size for found in kinds.values() for entry in found)
    if size + room > limit:
        for kind, spared in EVICTED.items():
            newest = min(STARTED, time.time() - spared)
            for entry in sorted(kinds[kind], key=lambda entry: entry.used) if tagged(kind) else ():
                if size <= min(FULL * limit, limit - room) or entry.used >= newest:
                    break
                size -= entry.size if remove(entry.path) else 0
    return limit - size


def tagged(kind: str) -> bool:
    """Whether difcore made the kind's folder, and so may delete what is in it."""
    return (cache_folder(kind) / TAG).is_file()


def survey() -> list[dict[str, Any]]:
    """Of each kind: files, bytes, and the least recent use of one (seconds since the epoch, None without files)."""
    found = {kind: list(entries(cache_folder(kind))) for kind in KINDS}
    return [
        {"kind": kind, "what": KINDS[kind], "files": len(own), "bytes": sum(entry.size for entry in own),
         "oldest": min((entry.used for entry in own), default=None)}
        for kind, own in found.items()
    ]  # fmt: skip


def clear(kinds: Sequence[str] = (), older_than: float = 0.0) -> list[dict[str, Any]]:
    """Delete the files of some kinds (default: all) that were not used for ``older_than`` seconds; counts by kind."""
    newest, rows, old = time.time() - older_than, [], {}
    for kind in kinds or KINDS:
        old[kind] = [entry for entry in entries(cache_folder(kind)) if entry.used <= newest or not older_than]
        if old[kind] and not tagged(kind):
            raise CacheError(f"{cache_folder(kind)} has no {TAG}: difcore did not make it, and deletes nothing there")
    for kind, found in old.items():
        gone = [entry for entry in found if remove(entry.path)]
        rows.append({"kind": kind, "files": len(gone), "bytes": sum(entry.size for entry in gone)})
    return rows
