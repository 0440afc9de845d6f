"""The audit of two classes: each planted confound is found by its check, and by no other."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import textures
from typer.testing import CliRunner

from difcore.audit.findings import Audit, audit_classes
from difcore.audit.imprints import layout_auc, near_duplicates, perceptual_hash, resampling_trace
from difcore.audit.watermark import MESSAGES, write_mark
from difcore.cli.app import app
from difcore.images.folders import list_images

N, SIDE = 16, 128


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return textures(2 * N, SIDE)


def write(folder: Path, images: list[np.ndarray], **options: int) -> list[Path]:
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / (f"{k:03d}.jpg" if options else f"{k:03d}.png"), **options)
    return list_images(folder)


def noisy(images: list[np.ndarray]) -> list[np.ndarray]:
    pattern = np.random.default_rng(4).standard_normal((SIDE, SIDE, 3)) * 3
    return [np.clip(np.rint(image + pattern), 0, 255).astype(np.uint8) for image in images]


def enlarged(images: list[np.ndarray]) -> list[np.ndarray]:
    side = round(SIDE * 1.3)
    return [
        np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR))[:SIDE, :SIDE] for i in images
    ]


def marked(images: list[np.ndarray]) -> list[np.ndarray]:
    return [write_mark(image, MESSAGES["StableDiffusionV1"]) for image in images]


def verdicts(found: Audit) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in found.findings}


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (lambda images: images, ""),
        (marked, "mark"),
        (noisy, "shared residual, fake"),
        (enlarged, "resampling"),
    ],
    ids=["nothing", "mark", "noise", "enlarged"],
)
def test_what_is_planted_is_found(
    pictures: list[np.ndarray], plant: Callable[[list[np.ndarray]], list[np.ndarray]], check: str, tmp_path: Path
) -> None:
    real, fake = write(tmp_path / "real", pictures[:N]), write(tmp_path / "fake", plant(pictures[N:]))
    found = audit_classes(real, fake)
    assert [finding.check for finding in found.confounded()] == ([check] if check else [])
    assert all(bool(finding.advice) is (finding.verdict != "fine") for finding in found.findings)
    quick = audit_classes(real, fake, quick=True)
    assert len(quick.findings) == 4
    assert all(verdict == verdicts(found)[name] for name, verdict in verdicts(quick).items())


def test_copies_and_crops_in_both_classes(pictures: list[np.ndarray], tmp_path: Path) -> None:
    fake = [*pictures[N:-2], pictures[0], pictures[1][8:, 8:]]
    found = audit_classes(write(tmp_path / "real", pictures[:N]), write(tmp_path / "fake", fake))
    (finding,) = [finding for finding in found.findings if finding.check == "copies"]
    assert finding.verdict == "confounded"
    assert finding.numbers["copies in both classes"] == 2
    assert "000.png and 014.png" in finding.sentence


def test_the_same_scene_in_both_classes_is_noted(pictures: list[np.ndarray], tmp_path: Path) -> None:
    small = [np.asarray(Image.fromarray(i).resize((96, 96), Image.Resampling.LANCZOS)) for i in pictures[:3]]
    found = audit_classes(write(tmp_path / "real", pictures[:N]), write(tmp_path / "fake", [*pictures[N:-3], *small]))
    (finding,) = [finding for finding in found.findings if finding.check == "copies"]
    assert (finding.verdict, finding.numbers["near-duplicates in both classes"]) == ("note", 3)


def test_format_and_contents(pictures: list[np.ndarray], tmp_path: Path) -> None:
    dark = [(image // 4 + np.linspace(0, 120, SIDE)[:, None, None]).astype(np.uint8) for image in pictures[N:]]
    found = audit_classes(write(tmp_path / "real", pictures[:N], quality=90), write(tmp_path / "fake", dark))
    assert (verdicts(found)["format"], verdicts(found)["contents"]) == ("confounded", "note")


def test_hashes_survive_encoding_and_tell_pictures_apart(pictures: list[np.ndarray]) -> None:
    hashes = [perceptual_hash(image) for image in pictures]
    assert near_duplicates(hashes) == []
    assert perceptual_hash(np.full((64, 64, 3), 9, np.uint8)) is None
    assert near_duplicates([hashes[0], None, hashes[0]]) == [(0, 2)]


def test_thumbnails_of_one_kind_are_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    same = [rng.random(192) for _ in range(80)]
    area = layout_auc(same[:40], same[40:])
    assert area is not None
    assert 0.3 < area < 0.7
    assert layout_auc(same[:40], [x + 0.5 for x in same[40:]]) == 1
    assert layout_auc(same[:40], same[40:45]) is None


@pytest.mark.parametrize("scale", [0.9, 1.1, 1.3])
def test_the_period_of_an_enlargement(pictures: list[np.ndarray], scale: float) -> None:
    rng, side = np.random.default_rng(0), round(512 * scale)
    image = rng.integers(0, 256, (512, 512, 3), np.uint8)
    found = resampling_trace(np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)))
    assert found is not None
    assert found.periodic
    expected = abs(1 / scale - round(1 / scale))
    assert found.frequency == pytest.approx(expected, abs=0.01)
    assert sum(trace.periodic for trace in map(resampling_trace, pictures) if trace) <= 2
    assert resampling_trace(image[:50]) is None


def test_a_class_that_cannot_be_read(pictures: list[np.ndarray], tmp_path: Path) -> None:
    real = write(tmp_path / "real", pictures[:3])
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="no fake image can be read"):
        audit_classes(real, [tmp_path / "no.png"])
    found = audit_classes(real, write(tmp_path / "one", pictures[3:4]))
    assert "shared residual, fake" not in verdicts(found)


def test_the_command(pictures: list[np.ndarray], tmp_path: Path) -> None:
    write(tmp_path / "real", pictures[:N])
    write(tmp_path / "fake", marked(pictures[N:]))
    words = ["audit", str(tmp_path / "real"), str(tmp_path / "fake")]
    shown = CliRunner().invoke(app, [*words, "--json", "--most", "12"])
    document = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert (shown.exit_code, document["verdict"], document["n_real"]) == (0, "confounded", 12)
    assert document["findings"][1]["check"] == "mark"
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0
    assert "16 real and 16 generated images" in table.stdout
    assert "StableDiffusionV1" in table.stdout
    wrong = CliRunner().invoke(app, ["audit", str(tmp_path / "real"), str(tmp_path / "nothing")])
    assert wrong.exit_code == 2
    assert "does not exist" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "checks"), [("sd1", {"mark", "shared residual, fake"}), ("sd14", set()), ("ldm", set())]
)
def test_real_sets(shared_data: Path, name: str, checks: set[str]) -> None:
    found = audit_classes(list_images(shared_data / "photos" / "test"), list_images(shared_data / name), 100)
    assert {finding.check for finding in found.confounded()} - {"format"} == checks
