"""One writer at a time, told apart across processes, and no lock outlives its process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difcore.files import LOCK_NAME, PROJECT_DIR, LockedError, only_writer

pytest.importorskip("fcntl", reason="this system has no file locks")
HOLD = """
import sys, time
from pathlib import Path
from difcore.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the lock, once it does."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=PROJECT_DIR, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_the_first_is_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path / "out", 60) as process:
        with (
            pytest.raises(LockedError, match=rf"process {process.pid} on .*, since 20..-.*--wait"),
            only_writer(tmp_path / "out"),
        ):
            raise AssertionError("both wrote")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with only_writer(tmp_path / "out"):
            assert f"process {os.getpid()} " in (tmp_path / "out" / LOCK_NAME).read_text(encoding="utf-8")


def test_who_waits_is_told_for_whom_and_goes_on_after(tmp_path: Path) -> None:
    told: list[str] = []
    with holder(tmp_path, 1.5) as process:
        started = time.monotonic()
        with only_writer(tmp_path, wait=True, tell=told.append):
            assert time.monotonic() - started >= 0.5
    assert len(told) == 1 and f"process {process.pid}" in told[0]


def test_two_folders_and_the_same_one_again_are_no_conflict(tmp_path: Path) -> None:
    with only_writer(tmp_path / "a"), only_writer(tmp_path / "b"):
        pass
    with only_writer(tmp_path / "a"):
        pass
