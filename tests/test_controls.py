"""The audit with planted confounds, its figures, and what a fit makes of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import textures, write_images

from difcore.audit.findings import look_closer
from difcore.audit.formats import confounds_of
from difcore.audit.watermark import MESSAGES, write_mark
from difcore.experiments.planted import NOTHING, Controls, audit_with_controls
from difcore.figures import mark_histogram, pair_histogram
from difcore.figures.style import png
from difcore.widgets import confound_explorer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("classes")
    images = textures(26, 128)
    for name, part in (("real", images[:13]), ("fake", images[13:])):
        write_images(root / name, part)
    return root / "real", root / "fake"


@pytest.fixture(scope="module")
def found(folders: tuple[Path, Path]) -> Controls:
    return audit_with_controls(*folders, "demo-deconv2", 0, 128, 20, 12, 0)


def test_each_planted_confound_is_found_by_its_check_alone(found: Controls) -> None:
    table = found.table()
    assert list(table["verdict"]) == ["confounded"] * 4
    assert set(table["others"]) == {"none"}
    assert [claim.verdict for claim in found.claims("these")] == ["holds"] * 4
    assert not found.planted[NOTHING].confounded()
    assert set(found.findings()["verdict"]) <= {"fine", "note"}


def test_what_was_confounded_before_is_not_claimed(found: Controls) -> None:
    same = Controls(found.given, {**found.planted, NOTHING: found.planted["the same faint noise"]})
    verdicts = [claim.verdict for claim in same.claims("these")]
    assert verdicts.count("not comparable") == 1


def test_figures_and_widget(found: Controls) -> None:
    for draw in (pair_histogram, mark_histogram):
        assert png(draw(found.given, "title")).startswith(b"\x89PNG")
    box = confound_explorer(found.planted)
    planted, kind = box.children[0].children
    planted.value, kind.value = "the mark of Stable Diffusion's scripts", "bits of the mark"
    assert "StableDiffusionV1" in box.children[1].value


def test_one_folder_alone_or_too_small_images(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="both folders"):
        audit_with_controls(folders[0], "", "demo-deconv2", 0, 128, 20, 12, 0)
    with pytest.raises(ValueError, match="have 256 px a side"):
        audit_with_controls(*folders, "demo-deconv2", 0, 256, 20, 12, 0)


def test_a_fit_hears_of_marks_and_shared_noise(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = (sorted(folder.iterdir()) for folder in folders)
    plain = look_closer(confounds_of(real, fake), real, fake)
    assert (plain.verdict, plain.warnings) == ("alike", ())
    noise = 4 * np.random.default_rng(0).standard_normal((128, 128, 3))
    images = [np.asarray(Image.open(path)) for path in fake]
    noisy = [np.clip(image + noise, 0, 255).astype(np.uint8) for image in images]
    write_images(tmp_path / "fake", [write_mark(image, MESSAGES["StableDiffusionV1"]) for image in noisy])
    tainted = sorted((tmp_path / "fake").iterdir())
    judged = look_closer(confounds_of(real, tainted, 95), real, tainted)
    assert judged.verdict == "confounded"
    assert judged.names == ("an invisible mark", "noise that the generated images share")
    assert len(judged.warnings) == 2
