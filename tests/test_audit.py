"""Format audit: encodings, JPEG quality, and what tells the classes apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from difcore.audit.formats import audit_folder, compare, cumulative_gap, differences, shares_gap
from difcore.images.folders import FolderError, find_generators
from difcore.images.headers import ijg_table, jpeg_quality


def fill(folder: Path, count: int, format: str = "PNG", suffix: str = ".png", side: int = 32, **options: Any) -> Path:
    """Add ``count`` small images to ``folder``."""
    folder.mkdir(exist_ok=True)
    before = len(list(folder.iterdir()))
    pixels = np.random.default_rng(0).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    for index in range(before, before + count):
        Image.fromarray(pixels).save(folder / f"{index:03d}{suffix}", format, **options)
    return folder


@pytest.mark.parametrize("quality", range(1, 101))
def test_ijg_tables_are_those_that_libjpeg_writes(quality: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    image = Image.open(buffer)
    assert isinstance(image, JpegImageFile)
    table = np.array(image.quantization[0])
    np.testing.assert_array_equal(ijg_table(quality), table)
    assert jpeg_quality(table) == (quality, True)


def test_foreign_table_gets_the_nearest_quality() -> None:
    quality, exact = jpeg_quality(ijg_table(80) + (np.arange(64) == 5))
    assert (quality, exact) == (80, False)


def test_audit_tells_encoding_quality_subsampling_and_lies(tmp_path: Path) -> None:
    fill(tmp_path, 2, "JPEG", quality=83)
    fill(tmp_path, 1, "JPEG", ".JPG", side=64, quality=40, subsampling=0)
    fill(tmp_path, 1, "PNG")
    (tmp_path / "zz.png").touch()
    files, skipped = audit_folder(tmp_path)
    assert files["encoding"].tolist() == ["JPEG", "JPEG", "JPEG", "PNG"]
    assert files["suffix_lies"].tolist() == [True, True, False, False]
    assert files["jpeg_quality"].tolist()[:3] == [83, 83, 40] and np.isnan(files["jpeg_quality"].iloc[3])
    assert files["subsampling"].tolist() == ["4:2:0", "4:2:0", "4:4:4", ""]
    assert files["short"].tolist() == [32, 32, 64, 32] and files["long"].tolist() == [40, 40, 72, 40]
    assert not files["coarse"].any()
    assert [(s.path.name, s.reason) for s in skipped] == [("zz.png", "not an image: 0 bytes")]


def test_equal_classes_give_no_warning(tmp_path: Path) -> None:
    audits = [audit_folder(fill(tmp_path / name, 12, "JPEG", ".jpg", quality=90))[0] for name in "ab"]
    assert compare(*audits) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "PNG", "suffix": ".png"}, "encoding differs: real 12 JPEG; fake 12 PNG"),
        ({"quality": 75}, "JPEG quality differs: real median 90 (90 to 90); fake median 75 (75 to 75)"),
        ({"quality": 90, "subsampling": 0}, "JPEG subsampling differs: real 12 4:2:0; fake 12 4:4:4"),
        ({"quality": 90, "side": 40}, "short side in px differs: real median 32 (32 to 32); fake median 40 (40 to 40)"),
    ],
)
def test_each_difference_is_named_alone(tmp_path: Path, options: dict, told: str) -> None:
    real, _ = audit_folder(fill(tmp_path / "real", 12, "JPEG", ".jpg", quality=90))
    fake, _ = audit_folder(fill(tmp_path / "fake", 12, **({"format": "JPEG", "suffix": ".jpg"} | options)))
    (warning,) = compare(real, fake)
    assert warning == f"{told} (this alone tells them apart with 100 % balanced accuracy)"


def test_a_difference_of_the_long_side_alone_is_seen() -> None:
    folders = [
        pd.DataFrame({"short": [512] * 12, "long": w, "encoding": "PNG", "jpeg_quality": np.nan, "subsampling": ""})
        for w in (768, 512)
    ]
    (told,) = differences(*folders).items()
    assert told[0] == "long side in px" and "real median 768 (768 to 768); fake median 512 (512 to 512)" in told[1]


def test_files_too_coarse_for_a_fingerprint_are_counted(tmp_path: Path) -> None:
    real, fake = fill(tmp_path / "real", 12), fill(tmp_path / "fake", 10)
    for k, colours in enumerate((2, 16)):
        Image.open(fake / "000.png").quantize(colours).save(fake / f"few{k}.png")
    (warning,) = compare(audit_folder(real)[0], audit_folder(fake)[0])
    assert warning == "files too coarse to carry a fingerprint (palette): 0 of 12 real, 2 of 12 fake"


def test_chance_differences_are_not_reported() -> None:
    rng = np.random.default_rng(0)
    gaps = [cumulative_gap(*(pd.Series(rng.normal(size=30)) for _ in range(2))) for _ in range(200)]
    assert np.mean(np.array(gaps) > 1.36 * np.sqrt(2 / 30)) < 0.1


def test_few_files_are_reported_only_if_they_differ_completely(tmp_path: Path) -> None:
    audits = {}
    for name, sides in {"a": (32, 32, 48), "b": (40, 40, 40), "c": (50, 60, 70)}.items():
        for side in sides:
            fill(tmp_path / name, 1, side=side)
        audits[name] = audit_folder(tmp_path / name)[0]
    assert compare(audits["a"], audits["b"]) == []  # a gap of 2/3 of three files may be chance
    (warning,) = compare(audits["a"], audits["c"])
    assert warning.startswith("short side in px differs: real median 32 (32 to 48); fake median 60 (50 to 70)")


def test_gaps_by_hand() -> None:
    assert shares_gap(pd.Series(list("aaab")), pd.Series(list("bbcc"))) == pytest.approx(0.75)
    assert cumulative_gap(pd.Series([1, 2, 3, 4]), pd.Series([3, 4, 5, 6])) == pytest.approx(0.5)


def test_files_given_and_folders_without_images(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    assert len(audit_folder(sorted(tmp_path.iterdir())[:2])[0]) == 2
    empty, skipped = audit_folder([tmp_path / "gone.png"])
    assert [entry.reason for entry in skipped] == ["no file: missing"]
    assert compare(empty, audit_folder(tmp_path)[0]) == [
        "the classes cannot be compared: one of them has no readable file"
    ]
    with pytest.raises(FolderError, match="does not exist"):
        audit_folder(tmp_path / "gone")


def test_real_png_files_of_the_release_are_jpeg_inside(shared_data: Path) -> None:
    root = shared_data / "dif_official" / "data"
    if not root.is_dir():
        pytest.skip("the authors' release is not among the reference data")
    generators = find_generators(root)
    assert [g.name for g in generators] == ["dalle_2", "dalle_mini", "glide", "mj", "sd14", "sd21"]
    reals, fakes = (
        [audit_folder(paths)[0] for paths in side]
        for side in zip(*((g.real_images(), g.fake_images()) for g in generators), strict=True)
    )
    real, fake = (pd.concat(side) for side in (reals, fakes))
    assert {Path(path).suffix for path in [*real["path"], *fake["path"]]} == {".png"}
    assert real["encoding"].value_counts().to_dict() == {"JPEG": 58, "PNG": 2}
    assert fake["encoding"].value_counts().to_dict() == {"PNG": 60}
    assert (real["suffix_lies"].sum(), fake["suffix_lies"].sum()) == (58, 0)
    for pair in zip(reals, fakes, strict=True):
        warnings = compare(*pair)
        assert warnings[0].startswith("encoding differs: real") and warnings[-1].endswith("of 10 real, 0 of 10 fake")
