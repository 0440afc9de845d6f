"""Classes that differ in format or size are called confounded, and what is alike in both can be taken alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difcore.audit.formats import audit_folder, confounds_of, differences, matched

JPEG: dict[str, Any] = {"format": "JPEG", "quality": 90}


def fill(folder: Path, count: int, size: tuple[int, int] = (40, 32), format: str = "PNG", **options: Any) -> list[Path]:
    """Add ``count`` images of noise to a folder; all that is in it then."""
    folder.mkdir(exist_ok=True)
    before = len(list(folder.iterdir()))
    for k in range(before, before + count):
        pixels = np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:03d}.{format.lower()}", format, **options)
    return sorted(folder.iterdir())


def test_alike(tmp_path: Path) -> None:
    found = confounds_of(fill(tmp_path / "a", 12), fill(tmp_path / "b", 14))
    assert (found.verdict, found.names, found.warnings) == ("alike", (), ())
    assert found.line() == "alike: the classes' files do not differ in format or size"


@pytest.mark.parametrize(
    ("options", "name", "verdict_with_jpeg"),
    [
        ({}, "encoding", "controlled"),
        ({"format": "JPEG", "quality": 60}, "JPEG quality", "controlled"),
        (JPEG | {"subsampling": 0}, "JPEG subsampling", "controlled"),
        (JPEG | {"size": (60, 50)}, "short side in px", "confounded"),
    ],
)
def test_each_difference_confounds(tmp_path: Path, options: dict[str, Any], name: str, verdict_with_jpeg: str) -> None:
    real, fake = fill(tmp_path / "real", 12, **JPEG), fill(tmp_path / "fake", 12, **options)
    found = confounds_of(real, fake)
    assert (found.verdict, found.names) == ("confounded", (name,))
    assert found.line() == f"confounded: the classes differ in {name}; what was measured may be that"
    assert found.warnings[-1] == "a detector could cheat on this; use --jpeg 95 for a format-matched control"
    with pytest.raises(ValueError, match="no real image has the size and encoding of a generated one"):
        matched(real, fake)
    controlled = confounds_of(real, fake, jpeg=95)
    assert controlled.verdict == verdict_with_jpeg
    last = {
        "confounded": "no images of the two classes are alike",
        "controlled": "--matched to take the 12 + 12 images",
    }
    assert last[verdict_with_jpeg] in controlled.warnings[-1]


def test_what_is_alike_is_taken_and_is_no_longer_confounded(tmp_path: Path) -> None:
    fill(tmp_path / "real", 40, (64, 48), **JPEG)
    fill(tmp_path / "real", 10, (40, 32))
    real = fill(tmp_path / "real", 5, (40, 32), **JPEG)
    fill(tmp_path / "fake", 15, (40, 32))
    fake = fill(tmp_path / "fake", 7, (48, 64), **JPEG)  # upright or not: the size is the same
    (tmp_path / "fake" / "notes.txt").write_text("no image")
    fake = sorted([*fake, tmp_path / "fake" / "notes.txt"])
    found = confounds_of(real, fake)
    assert found.names == ("encoding", "short side in px")
    assert found.warnings[-1].endswith("or --matched to take the 17 + 17 images that are alike")
    unmatched = confounds_of(real, fake, can_match=False)
    assert unmatched.warnings == (
        *found.warnings[:-1], "a detector could cheat on this; use --jpeg 95 for a format-matched control"
    )  # fmt: skip
    assert confounds_of(real, fake, 95, can_match=False).warnings[-1] == "a detector could cheat on this"
    pair = matched(real, fake, seed=1)
    assert [len(paths) for paths in pair] == [17, 18]  # the text file is still there, to be named
    assert confounds_of(*pair).verdict == "alike"
    assert matched(real, fake, seed=1) == pair != matched(real, fake, seed=2)
    assert set(pair[0]) < set(real) and set(pair[1]) < set(fake)
    by_size = matched(real, fake, jpeg=95)
    assert [len(paths) for paths in by_size] == [22, 23]
    assert list(differences(*(audit_folder(paths)[0] for paths in by_size))) == ["encoding"]
    assert confounds_of(*by_size, jpeg=95).verdict == "controlled"
