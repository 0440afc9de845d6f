"""Where difcore keeps what saves time and can be made or fetched again: one folder, with one in it for each kind.

The folder is ``DIFCORE_CACHE``, or the platform's cache folder for difcore. What only saves time does without where
nothing can be written; the rest says in one line what to set. ``difcore.cache_size`` holds the whole within a limit.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
