"""The detector as a library: fit, verdicts, evidence, one file; the authors' by name; public names without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import grid, noise_images, with_pattern, write_images

import difcore
from difcore import Bank, Detector
from difcore.figures import evidence_panels
from difcore.fingerprints.detector import FOREIGN_DENOISER
from difcore.fingerprints.fitting import FitOptions
from difcore.residuals.denoisers import LIMIT, load_denoiser

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
REAL, FAKE = noise_images(60, 32, 1), with_pattern(noise_images(60, 32, 2), grid(), 8)


def fitted(**options: int) -> Detector:
    filter_ = load_denoiser("highpass", limit=0.7)
    return Detector.fit(
        REAL[:48], FAKE[:48], filter_, options=FitOptions(crop=32, **options), method="marra18", name="g"
    )


def test_arrays_in_verdicts_out_and_the_file_finds_its_own_filter(tmp_path: Path) -> None:
    found = fitted(train=16)
    assert found.report is not None and found.report.held_out is not None and found.report.held_out.n_real == 32
    images = np.concatenate([FAKE[48:], REAL[48:], FAKE[:1]])
    table = found.decide(images)
    assert list(table.image) == [str(k) for k in range(25)]
    assert (table.verdict[:12] == "generated").all() and not (table.verdict[12:24] == "generated").any()
    again = Detector.load(found.save(tmp_path / "g.safetensors"))
    np.testing.assert_array_equal(again.score(images), found.score(images))
    assert again.filter().hash == found.filter().hash and again.filter().limit == 0.7
    np.testing.assert_allclose(table.rho, found.score(images))
    assert again.fakes == found.fakes and found.fakes is not None and found.fakes.n == 32
    assert (table.log10_lr[:12] > 1).all() and (table.log10_lr[12:24] < 0).mean() > 0.8
    measured = found.evaluate(REAL[48:], FAKE[48:]).calibration(found)
    assert 0 <= measured["cllr"] < 0.5 and 0 <= measured["calibration_error"] < 0.3  # type: ignore[operator]
    assert measured["found_at_5"] == 1


def test_images_that_it_was_fitted_to_are_named_and_not_counted(tmp_path: Path) -> None:
    found = fitted()  # three quarters of 48
    table = found.decide(write_images(tmp_path / "fake", FAKE))
    assert (table.reason == "in training set").sum() == 36 and (table.verdict == "generated").sum() == 24
    assert found.evaluate(REAL, FAKE).detection.n_real == 12  # nor are those of the null


def test_the_evidence_is_what_the_figure_draws(tmp_path: Path) -> None:
    found, (path,) = fitted(), write_images(tmp_path, FAKE[50:51])
    shown = found.evidence(path)
    np.testing.assert_array_equal(shown["image"], FAKE[50])
    assert found.rho(shown["residual"][None]).item() == pytest.approx(found.score([path])[0])
    assert evidence_panels(**shown, block=8).axes


def test_a_file_that_cannot_be_used_is_told_by_score_and_named_by_the_bank(tmp_path: Path) -> None:
    found, paths = fitted(), write_images(tmp_path / "x", FAKE[50:52])
    (tmp_path / "x" / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png cannot be used"):
        found.score(tmp_path / "x")
    judged = Bank([found]).judge([*paths, tmp_path / "x" / "text.png"])
    assert len(judged.table) == 2 and [s.path.name for s in judged.residuals.skipped] == ["text.png"]


def test_the_authors_by_name(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFCORE_DATA", str(shared_data))
    found = Detector.published("sd14")
    assert found.foreign and found.null is not None and len(found.null.kinds) == 3
    assert (found.filter().name, found.filter().limit) == (FOREIGN_DENOISER, LIMIT)


def test_public_names_are_loaded_when_asked_for() -> None:
    assert {name: getattr(difcore, name) for name in difcore.__all__}.keys() <= set(dir(difcore))
    code = "import sys, difcore; assert 'torch' not in sys.modules; difcore.ncc; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        difcore.nothing  # noqa: B018
