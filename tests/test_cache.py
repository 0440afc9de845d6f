"""The cache: where it is, what happens where it cannot be, its limit, and the commands that show and clear it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import counting_denoiser, noise_images, write_images

from difcore.batch.notebooks import worker_environment
from difcore.experiments import cross_fits
from difcore.experiments.pools import kept_scenes
from difcore.files import atomic_text
from difcore.machine.cache import (
    EVICTED,
    KINDS,
    TAG,
    CacheError,
    CacheWarning,
    Keeper,
    Unwritable,
    cache_folder,
    cache_limit,
    cache_root,
    clear,
    entries,
    made_folder,
    needed_folder,
    optional_folder,
    size_text,
    survey,
    trim,
)
from difcore.records.cells import Cell, run_cells
from difcore.residuals.sets import residuals_of

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
OLD = time.time() - 10 * 86400


def fill(kind: str, name: str, size: int, used: float = OLD) -> Path:
    """A file of the cache, last used then."""
    path = made_folder(kind) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """``difcore`` in a process of its own."""
    line = [sys.executable, "-m", "difcore.cli", *map(str, arguments)]
    return subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_the_folder_is_the_environments_or_the_platforms(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("residuals") == cache / "residuals"
    monkeypatch.chdir(cache.parent)
    monkeypatch.setenv("DIFCORE_CACHE", "here")
    assert cache_root() == cache.parent / "here"
    monkeypatch.setenv("HOME", str(cache.parent / "me"))
    monkeypatch.setenv("DIFCORE_CACHE", "~/there")
    assert cache_root() == cache.parent / "me" / "there"
    monkeypatch.delenv("DIFCORE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    root = cache_root()
    assert (cache.parent / "me") in root.parents and "difcore" in root.parts
    monkeypatch.setenv("DIFCORE_CACHE", "")
    assert cache_root() == root
    with pytest.raises(ValueError, match="the cache holds residuals, .*, not 'pictures'"):
        cache_folder("pictures")


def test_notebooks_keep_in_the_folder_that_the_user_means(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cache.parent)
    monkeypatch.setenv("DIFCORE_CACHE", "here")
    assert worker_environment(1, None)["DIFCORE_CACHE"] == str(cache.parent / "here")
    (cache.parent / "here").write_text("")
    with pytest.raises(CacheError, match="here is not a folder"):
        worker_environment(1, None)


def test_without_a_home_there_is_a_warning_and_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIFCORE_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user without an entry
    monkeypatch.setattr(Path, "expanduser", lambda path: path)
    with pytest.raises(Unwritable, match="^there is no home folder .*: set DIFCORE_CACHE to a folder that can be"):
        needed_folder("release")
    with pytest.warns(CacheWarning, match="^nothing is kept: there is no home folder"):
        assert optional_folder("residuals") is None


def test_a_file_in_the_folders_place_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("")
    for ask in (cache_root, partial(optional_folder, "cells"), partial(needed_folder, "fits")):
        with pytest.raises(CacheError, match="cache is not a folder: set DIFCORE_CACHE to a folder"):
            ask()
    monkeypatch.setenv("DIFCORE_CACHE", str(cache / "below"))
    with pytest.raises(CacheError, match="a file is in its way: set DIFCORE_CACHE"):
        optional_folder("cells")
    assert not issubclass(CacheError, Unwritable)


def refuse(*arguments: object, **options: object) -> None:
    raise OSError(30, "Read-only file system")


def test_what_only_saves_time_does_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise_images(3, 16)
    denoiser, count = counting_denoiser()
    expected = residuals_of(images, denoiser, 16, cache=False).values
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.warns(CacheWarning, match="cannot be made .Read-only file system.: set DIFCORE_CACHE"):
        found = residuals_of(images, denoiser, 16)
    np.testing.assert_array_equal(found.values, expected)
    with pytest.warns(CacheWarning):
        table = run_cells(lambda data, values: {"y": 2 * values["x"]}, [Cell({"x": 4})])
    assert table.y.tolist() == [8]
    with pytest.warns(CacheWarning):
        assert kept_scenes([40_000_000], 32).shape == (1, 32, 32, 3)
    with pytest.raises(Unwritable, match="Read-only file system.: set DIFCORE_CACHE"):
        needed_folder("release")
    assert not cache.exists()


def test_a_disk_that_fills_up_stops_the_keeping_not_the_work(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise_images(3, 16)
    denoiser, _ = counting_denoiser()
    residuals_of(images[:1], denoiser, 16)
    monkeypatch.setattr("difcore.files.tempfile.mkstemp", refuse)
    monkeypatch.setattr("difcore.machine.cache.tempfile.TemporaryFile", refuse)
    with pytest.warns(CacheWarning) as told:
        found = residuals_of(images, denoiser, 16)
    assert len(told) == 1 and "Read-only file system" in str(told[0].message)
    np.testing.assert_array_equal(found.values, residuals_of(images, denoiser, 16, cache=False).values)
    with pytest.raises(Unwritable, match="cannot be written .Read-only file system.: set DIFCORE_CACHE"):
        needed_folder("fits")
    assert len(list(entries(cache_folder("residuals")))) == 1


@given(st.integers(0, 999), st.sampled_from(["", "k", "M", "G", "T"]), st.booleans(), st.sampled_from(["", "B"]))
def test_sizes_are_read_as_written(number: int, unit: str, binary: bool, byte: str) -> None:
    binary = binary and bool(unit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE_LIMIT", f"{number} {unit}{'i' if binary else ''}{byte}")
        assert cache_limit() == number * (1024 if binary else 1000) ** ["", "k", "M", "G", "T"].index(unit)


def test_the_limit_has_a_default_and_says_what_it_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_limit() == 10e9
    monkeypatch.setenv("DIFCORE_CACHE_LIMIT", "none")
    assert cache_limit() == float("inf") and size_text(cache_limit()) == "no limit"
    for text in ("a lot", "-1 GB", "10 XB", "1,5 GB"):
        monkeypatch.setenv("DIFCORE_CACHE_LIMIT", text)
        with pytest.raises(CacheError, match="DIFCORE_CACHE_LIMIT is .*set it to a size such as '10 GB'"):
            residuals_of(noise_images(1, 16), counting_denoiser()[0], 16)
    assert [size_text(n) for n in (12, 1234, 5_600_000, 7e9, 8e12)] == ["12 B", "1.2 kB", "5.6 MB", "7.0 GB", "8.0 TB"]


def test_the_least_recently_used_goes_first_and_residuals_before_all_else(cache: Path) -> None:
    files = [fill("residuals", f"a/{k}.npy", 100, OLD + k) for k in (3, 1, 0, 2)]
    scene, cell = fill("scenes", "s.npy", 100, OLD - 9), fill("cells", "c.json", 100, OLD - 9)
    fresh = fill("residuals", "fresh.npy", 100, time.time())
    assert trim(1000) == 300  # within the limit nothing goes
    assert all(path.is_file() for path in (*files, scene, cell, fresh))
    assert trim(600) == 100  # down to nine tenths
    assert [path.is_file() for path in files] == [True, False, False, True]
    assert trim(150) == -50  # what is in use stays, and so do cells
    assert [p.is_file() for p in (*files, scene, cell, fresh)] == [False] * 5 + [True, True]


@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 99), st.booleans()), max_size=12),
       st.integers(0, 600), st.integers(0, 99))  # fmt: skip
def test_tidying_keeps_the_limit_unless_what_is_left_must_stay(
    files: list[tuple[str, int, bool]], limit: int, room: int
) -> None:
    for path in entries(cache_root()):
        path.path.unlink()
    now = time.time()
    paths = {fill(kind, f"{k}", size, now if fresh else OLD + k): (kind, size, fresh)
             for k, (kind, size, fresh) in enumerate(files)}  # fmt: skip
    total = sum(size for _, size, _ in files)
    left = trim(limit, room)
    kept = {path: facts for path, facts in paths.items() if path.is_file()}
    assert left == limit - sum(size for _, size, _ in kept.values())
    gone = [facts for path, facts in paths.items() if path not in kept]
    assert all(kind in EVICTED and not fresh for kind, _, fresh in gone)
    if total + room <= limit:
        assert not gone
    elif left < room:
        assert all(kind not in EVICTED or fresh for kind, _, fresh in kept.values())


def test_a_write_that_passes_the_limit_tidies_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, size = noise_images(4, 16), 3 * 16 * 16 * 2
    denoiser, _ = counting_denoiser()
    old = [fill("residuals", f"old/{k}.npy", size, OLD + k) for k in range(4)]
    monkeypatch.setenv("DIFCORE_CACHE_LIMIT", str(7 * size))
    residuals_of(images, denoiser, 16)
    assert not old[0].is_file() and old[3].is_file()
    assert len(list((cache / "residuals").glob(f"{denoiser.hash[:16]}-*/*/*.npy"))) == 4
    assert sum(entry.size for entry in entries(cache / "residuals")) <= 7 * (size + 200)


def test_a_cache_full_of_what_is_in_use_keeps_no_more(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, size = noise_images(6, 16), 3 * 16 * 16 * 2
    denoiser, count = counting_denoiser()
    monkeypatch.setenv("DIFCORE_CACHE_LIMIT", str(4 * size))
    with pytest.warns(CacheWarning, match="nothing more is kept: .*set DIFCORE_CACHE_LIMIT to more") as told:
        found = residuals_of(images, denoiser, 16)
    assert len(told) == 1 and len(found) == 6
    kept = list(entries(cache / "residuals"))
    assert 0 < sum(entry.size for entry in kept) <= 4 * size + 128 * len(kept)  # a file has a header of 128 bytes
    with pytest.warns(CacheWarning):
        residuals_of(images, denoiser, 16)
    assert count.images == 6 + 6 - len(kept)  # what is kept was not denoised again


def test_a_residual_that_is_read_counts_as_used(cache: Path) -> None:
    denoiser, count = counting_denoiser()
    residuals_of(noise_images(2, 16), denoiser, 16)
    for entry in entries(cache):
        os.utime(entry.path, (OLD, OLD))
    residuals_of(noise_images(2, 16)[:1], denoiser, 16)
    assert count.images == 2
    assert sorted(entry.used > OLD for entry in entries(cache / "residuals")) == [False, True]


def test_what_others_write_meanwhile_counts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFCORE_CACHE_LIMIT", "1000")
    keeper = Keeper()
    with pytest.warns(CacheWarning, match="nothing more is kept"):
        for k in range(60):
            if not keeper.stopped:
                fill("cells", f"{k}.json", 20, time.time())  # another process
                keeper.keep(partial(atomic_text, made_folder("residuals") / f"{k}.npy", "x" * 10), 10)
    assert 900 < sum(entry.size for kind in KINDS for entry in entries(cache_folder(kind))) <= 1100


def test_clearing_by_kind_and_by_age_and_only_where_difcore_made_the_folder(cache: Path) -> None:
    fill("residuals", "a/b/1.npy", 10)
    young = fill("residuals", "a/2.npy", 10, time.time() - 60)
    fill("cells", "1.json", 5)
    half = fill("cells", ".1-abc.json", 5)  # another process may be at it
    assert clear(["cells"]) == [{"kind": "cells", "files": 1, "bytes": 5}] and half.is_file()
    rows = {row["kind"]: row for row in clear(older_than=86400)}
    assert set(rows) == set(KINDS) and rows["residuals"]["files"] == 1 and young.is_file()
    assert not (cache / "residuals" / "a" / "b").exists()
    clear()
    assert sorted(p.name for p in (cache / "residuals").iterdir()) == [TAG]
    mine = cache / "release" / "holiday.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"not difcore's")
    made_folder("release")
    spared = fill("residuals", "a.npy", 10)
    with pytest.raises(CacheError, match="release has no CACHEDIR.TAG: difcore did not make it"):
        clear()
    assert mine.is_file() and spared.is_file()
    with pytest.raises(ValueError, match="the cache holds"):
        clear(["pictures"])


@pytest.mark.parametrize("damage", [b"", b"no array", "shape"])
def test_a_damaged_file_counts_as_none_and_is_written_anew(cache: Path, damage: bytes | str) -> None:
    scenes = kept_scenes([40_000_000], 32)
    (block,) = (cache / "scenes").rglob("*.npy")
    product = made_folder("fits") / cross_fits.keep(np.arange(3.0), made_folder("fits"))
    for path in (block, product):
        np.save(path, np.zeros(2)) if isinstance(damage, str) else path.write_bytes(damage)
    np.testing.assert_array_equal(kept_scenes([40_000_000], 32), scenes)
    assert np.load(block).shape == (16, 32, 32, 3)
    if not isinstance(damage, str):
        assert not cross_fits.all_there({"x": product.name}, product.parent)
        assert cross_fits.keep(np.arange(3.0), product.parent) == product.name
        assert cross_fits.all_there({"x": product.name}, product.parent)
        np.testing.assert_array_equal(np.load(product), np.arange(3.0))
        (product.parent / "p.safetensors").write_bytes(damage)
        assert not cross_fits.all_there({"x": "p.safetensors"}, product.parent)


@pytest.mark.slow
def test_many_processes_write_and_tidy_up_at_once(tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path / "images", noise_images(24, 32))
    code = (
        "import sys, difcore.machine.cache as c; c.EVICTED = dict.fromkeys(c.EVICTED, 0.0); c.STARTED = float('inf')\n"
        "from tiny import counting_denoiser; from difcore.residuals.sets import residuals_of\n"
        "a, b = residuals_of(sys.argv[1], counting_denoiser()[0], 32, cache=False), None\n"
        "for _ in range(4):\n    b = residuals_of(sys.argv[1], counting_denoiser()[0], 32)\n"
        "    assert (a.values == b.values).all()\n"
    )
    size = 3 * 32 * 32 * 2
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"DIFCORE_CACHE_LIMIT": str(10 * size), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "images")]
    running = [subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
    assert trim(10 * size) >= 0


def test_the_commands_show_and_clear(cache: Path) -> None:
    fill("residuals", "1.npy", 2000)
    fill("fits", "f.npy", 500, OLD + 86400)
    answer = command("cache", "info", "--json", DIFCORE_CACHE_LIMIT="5 MB")
    document = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (document["folder"], document["limit"]) == (str(cache), 5e6)
    assert (document["files"], document["bytes"]) == (2, 2500)
    rows = {row["kind"]: row for row in document["kinds"]}
    assert rows["residuals"]["oldest"] < rows["fits"]["oldest"] and rows["cells"]["oldest"] is None
    told = command("cache", "info")
    assert "2.5 kB of 10.0 GB" in told.stdout and "residuals" in told.stdout
    cleared = json.loads(command("cache", "clear", "fits", "residuals", "--older-than", 9.5, "--json").stdout)
    assert [(row["kind"], row["files"]) for row in cleared["kinds"]] == [("fits", 0), ("residuals", 1)]
    assert "1 files deleted, 500 B" in command("cache", "clear").stdout
    assert [row["files"] for row in survey()] == [0] * len(KINDS)


def test_a_wrong_cache_is_one_line_on_the_command_line(tmp_path: Path, cache: Path) -> None:
    cache.write_text("")
    write_images(tmp_path / "a", noise_images(4, 32))
    options = ("--method", "marra18", "--crop", 32, "--denoiser", "highpass", "--out", tmp_path / "f.safetensors")
    for line in (["cache", "clear"], ["fit", tmp_path / "a", tmp_path / "a", *options]):
        answer = command(*line)
        assert answer.returncode == 2 and answer.stdout == ""
        reason = f"the cache folder {cache} is not a folder: set DIFCORE_CACHE to a folder that can be written"
        assert answer.stderr.splitlines() == [f"difcore: {reason}"]
    unknown = command("cache", "clear", "pictures", DIFCORE_CACHE=str(tmp_path / "c"))
    assert unknown.returncode == 2 and "not 'pictures'" in unknown.stderr and unknown.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody, root neither, can write")
def test_a_folder_that_cannot_be_written_is_one_line_and_the_fit_goes_on(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_images(tmp_path / name, noise_images(6, 32, seed))
    options = ("--method", "marra18", "--crop", 32, "--denoiser", "highpass", "--out", tmp_path / "f.safetensors")
    answer = command("fit", tmp_path / "a", tmp_path / "b", *options, "--json", DIFCORE_CACHE="/proc/nobody")
    assert answer.returncode == 0 and json.loads(answer.stdout)["method"] == "marra18"
    told = [line for line in answer.stderr.splitlines() if "nothing is kept" in line]
    assert len(told) == 1 and told[0].startswith("difcore: warning: ") and "set DIFCORE_CACHE to a folder" in told[0]
    assert "Traceback" not in answer.stderr and "CacheWarning" not in answer.stderr
    answer = command("fetch", "--mirror", tmp_path, DIFCORE_CACHE="/proc/nobody")
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and "set DIFCORE_CACHE" in answer.stderr
