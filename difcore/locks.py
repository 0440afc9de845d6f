"""One writer at a time in a folder, also across processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"


class LockedError(ValueError):
    """Another process writes to the folder; the message says which."""


@contextmanager
def only_writer(folder: Path, wait: bool = False, tell: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Within, no other process that asks for it writes to ``folder``.

    The system lets go of the lock when the process ends, however it ends, so that none is ever stale. File systems
    that cannot lock are written to without.

    Parameters
    ----------
    folder : Path
        Made if absent.
    wait : bool
        Wait for the other process, after ``tell`` was told of it, instead of raising.

    Raises
    ------
    LockedError
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_NAME, "a+", encoding="utf-8") as stream:  # not inherited by what is started meanwhile
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                other = f"another run writes to {os.path.relpath(folder)}: {stream.read().strip() or 'unknown process'}"
                if not wait:
                    raise LockedError(f"{other}; wait until it is done, or give --wait") from None
                tell(f"{other}; waiting for it")
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError:  # this file system has no locks
                pass
        stream.truncate(0)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        stream.write(f"process {os.getpid()} on {platform.node() or 'this machine'}, since {since}\n")
        stream.flush()
        yield
