"""Verdicts on planted correlations, and what takes a fingerprint's word from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import noise_images, write_images

from difcore.fingerprints.detector import OFFICIAL, Detector, Evaluation
from difcore.fingerprints.null import null_of, reals_of
from difcore.fingerprints.verdicts import (
    COLUMNS,
    DEMOSAICED,
    Condition,
    condition_of,
    flat_share,
    judge,
    null_warnings,
    overall,
    spectral_cut,
)
from difcore.images.crops import through_jpeg
from difcore.images.scenes import scene
from difcore.stats import detection

PLAIN = Condition(0.1, -5.0, None, "0" * 16)


def fingerprint(name: str, n: int = 400, seed: int = 0, **changes: object) -> Detector:
    """Reals correlate by N(0, .01^2) with it, fakes by .05."""
    rho = np.random.default_rng(seed).normal(0, 0.01, n)
    found = Detector(torch.rand(3, 8, 8), 0.0, 0.05, name=name, null=null_of({"reals": rho}))
    return replace(found, **changes)  # type: ignore[arg-type]


def one(rho: float, f: Detector, condition: Condition = PLAIN, **rest: object) -> tuple[str, str]:
    """Verdict and reason of one image and one fingerprint."""
    row = judge({"f": f}, np.array([[rho]]), ["x"], [condition], **rest).iloc[0]  # type: ignore[arg-type]
    return row.verdict, row.reason


def test_reals_are_called_generated_at_the_stated_rate_whatever_the_number_of_fingerprints() -> None:
    rng = np.random.default_rng(1)
    for count in (1, 13):
        prints = {str(k): fingerprint(str(k), seed=k) for k in range(count)}
        rho = rng.normal(0, 0.01, (count, 1500))
        table = judge(prints, rho, list(map(str, range(1500))), [PLAIN] * 1500, rate=0.05)
        accused = table[table.verdict == "generated"].image.nunique() / 1500
        assert 0.01 < accused < 0.075, count
        assert (table.p <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_a_likelihood_ratio_where_the_generators_images_are_known() -> None:
    fakes = reals_of(np.random.default_rng(5).normal(0.05, 0.01, 400))
    f = fingerprint("f", fakes=fakes)
    table = judge({"f": f}, np.array([[0.001, 0.025, 0.05, -0.09]]), list("abcd"), [PLAIN] * 4).set_index("image")
    # Of normal distributions .05 apart with sigma .01: log10 LR = 5 (rho - .025) / .01 / ln 10, as far as 400 vouch.
    most = np.log10(401)
    np.testing.assert_allclose(table.log10_lr[["a", "b", "c"]], [-most, 0, most], atol=0.15)
    assert table.log10_lr["d"] == -most and table.verdict["d"] == "undecided"
    assert table.reason["d"] == "outside what was calibrated" and table.reason["a"] == ""
    assert judge({"f": fingerprint("f")}, np.array([[0.0]]), ["a"], [PLAIN]).log10_lr.isna().all()


def test_ranked_by_z_with_the_papers_decision_beside_it() -> None:
    strong = fingerprint("strong")
    weak = fingerprint("weak", seed=1, mu_fake=0.001)
    table = judge({"weak": weak, "strong": strong}, np.array([[0.01], [0.055]]), ["x"], [PLAIN])
    assert tuple(table.columns) == COLUMNS and list(table.fingerprint) == ["strong", "weak"]
    assert list(table.verdict) == ["generated", "no match"] and list(table.nearest_centre) == ["generated"] * 2
    assert table.z[0] == pytest.approx(5.5, abs=0.6) and table.p_holm[0] == 2 * table.p[0]
    far = judge({"strong": strong}, np.array([[0.5]]), ["x"], [PLAIN])  # far beyond the fakes' centre: still generated
    assert list(far.verdict) == ["generated"]


def test_why_there_is_no_verdict() -> None:
    f = fingerprint("f")
    assert one(0.06, f) == ("generated", "") and one(0.0, f)[0] == "not applicable"
    assert one(0.06, f, replace(PLAIN, flat=0.99)) == ("not applicable", "constant image")
    assert one(0.06, replace(f, trained=frozenset([PLAIN.content]))) == ("not applicable", "in training set")
    assert one(0.06, f, unfit={"f": "fitted with filter x"}) == ("not applicable", "fitted with filter x")
    assert one(0.06, replace(f, null=None)) == ("undecided", "no null: give --reals")
    assert one(0.5, fingerprint("f", n=2), rate=0.001) == ("undecided", "2 reals cannot vouch for it")
    assert one(0.001, f, replace(PLAIN, cut=-25.0)) == ("undecided", "made larger")
    assert one(0.06, f, replace(PLAIN, cut=-25.0)) == ("generated", "")
    assert one(0.001, f, replace(PLAIN, jpeg_quality=90)) == ("no match", "")
    foreign = replace(f, metadata={"source": OFFICIAL})
    jpeg = ("undecided", "JPEG last: does not survive")
    assert one(0.001, foreign, replace(PLAIN, jpeg_quality=90)) == one(0.001, foreign, jpeg=True) == jpeg
    assert one(0.06, foreign, replace(PLAIN, jpeg_quality=90)) == ("generated", "")
    with pytest.raises(ValueError, match="between 0 and 1"):
        one(0.1, f, rate=0.0)


def test_demosaiced_photographs_count_for_images_with_a_lattice() -> None:
    rng = np.random.default_rng(0)
    null = null_of({"jpeg": rng.normal(0, 0.01, 300), DEMOSAICED: rng.normal(0, 0.1, 300)})
    f = replace(fingerprint("f"), null=null)
    rho, lattices = np.array([[0.06, 0.06, 0.9]]), np.array([0.0001, 0.01, 0.01])
    table = judge({"f": f}, rho, ["no lattice", "lattice", "both"], [PLAIN] * 3, lattices=lattices)
    assert list(table.verdict) == ["generated", "undecided", "generated"]
    assert table.reason[1] == "a camera's mosaic may do so" and table.p[0] < 0.001 < 0.1 < table.p[1]
    assert table.z[0] == table.z[1] > 5  # whose it is goes by ordinary photographs
    assert list(judge({"f": f}, rho, ["a", "b", "c"], [PLAIN] * 3).verdict) == ["undecided", "undecided", "generated"]
    scores = {"real": np.array([0.0]), "fake": rho[0]}  # what `evaluate` counts is what `detect` says
    found = Evaluation(detection(rho[0], rho[0], 0), scores, {"real": lattices[:1], "fake": lattices}, ())
    assert found.called(null, 0.01) == {"real": 0, "fake": 2}
    assert found.called(None, 0.01) == {"real": None, "fake": None}


def test_fingerprints_that_do_not_apply_are_not_counted_by_holm() -> None:
    prints = {name: fingerprint(name) for name in "abc"}
    rho = np.full((3, 1), 0.03)
    table = judge(prints, rho, ["x"], [PLAIN], unfit={"a": "why"}).set_index("fingerprint")
    assert np.isnan(table.p_holm["a"]) and table.p_holm["b"] == 2 * table.p["b"]


def test_a_fingerprint_that_does_not_apply_is_never_the_best() -> None:
    prints = {name: fingerprint(name) for name in "ab"}
    table = judge(prints, np.array([[0.5], [0.01]]), ["x"], [PLAIN], unfit={"a": "why"})
    assert list(table.fingerprint) == ["b", "a"] and table.z[1] > table.z[0]


def test_the_verdict_on_an_image() -> None:
    assert overall(["no match", "generated", "undecided"]) == "generated"
    assert overall(["no match", "undecided"]) == "undecided"
    assert overall(["not applicable", "no match"]) == "no match"
    assert overall(["not applicable"]) == "not applicable"


def test_what_a_null_rests_on_is_said() -> None:
    assert null_warnings({"f": fingerprint("f")}, 0.01) == []
    (few,) = null_warnings({"f": fingerprint("f", n=10)}, 0.01)
    assert "10 reals only, taken for normally distributed" in few
    assert "no null" in null_warnings({"f": replace(fingerprint("f"), null=None)}, 0.01)[0]
    assert "cannot vouch" in null_warnings({"f": fingerprint("f", n=2)}, 0.001)[1]


def test_conditions_of_files(tmp_path: Path) -> None:
    photo = scene(1, 96)
    large = np.asarray(Image.fromarray(photo).resize((192, 192), Image.Resampling.LANCZOS))
    box = np.full((96, 96, 3), 7, np.uint8)
    boxed = box.copy()
    boxed[:20] = photo[:20]  # the crop alone is constant
    paths = write_images(tmp_path, [photo, large, box, boxed])
    Image.fromarray(photo).save(tmp_path / "x.png.jpg", "JPEG", quality=83)
    (tmp_path / "x.png.jpg").rename(tmp_path / "lies.png")
    found = [condition_of(path, 48) for path in (*paths, tmp_path / "lies.png")]
    plain, enlarged, constant, letterboxed, jpeg = found
    assert condition_of(photo, 48) == plain
    assert not plain.constant and not plain.resampled and plain.jpeg_quality is None
    assert enlarged.resampled and not enlarged.constant
    assert constant.constant and letterboxed.constant and not constant.resampled
    assert jpeg.jpeg_quality == 83 and not jpeg.constant
    assert len({c.content for c in (plain, enlarged, constant, jpeg)}) == 4 and constant.content == letterboxed.content


def test_shares_and_cuts_by_hand() -> None:
    assert flat_share(np.zeros((9, 9, 3), np.uint8)) == 1 and spectral_cut(np.zeros((9, 9, 3), np.uint8)) == 0
    half = np.zeros((5, 5, 3), np.uint8)
    half[:, 3:] = 9  # one of four columns of pixels has another right neighbour
    assert flat_share(half) == 0.75
    noise = noise_images(1, 64)[0]
    assert abs(spectral_cut(noise)) < 1 and flat_share(noise) < 0.01
    assert spectral_cut(through_jpeg(scene(2, 64), 90)) > -18
