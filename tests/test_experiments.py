"""Experiments on folders, on made-up and real releases, and the gray image: planted truths must be found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import grid, noise_images, with_pattern, write_images

from difcore.demo.decoders import SOURCE_STYLE
from difcore.demo.generators import generate, load_generator
from difcore.experiments import own
from difcore.experiments.own import cross_detect
from difcore.experiments.start_here import demo_images, start_here
from difcore.fingerprints import fitting
from difcore.fingerprints.correlation import ncc, zero_mean
from difcore.fingerprints.detector import IN_NULL, IN_TRAINING, Bank, Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FITTED, FitOptions, draw, split, unique
from difcore.fingerprints.verdicts import contents
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError
from difcore.images.scenes import scene
from difcore.residuals.denoisers import load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.stats import Detection, auc, detection

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
HIGHPASS = load_denoiser("highpass")
PATTERN = grid()
SMALL = FitOptions(crop=32)


def write_class(
    folder: Path, count: int, seed: int, pattern: np.ndarray | None = None, strength: float = 6
) -> list[Path]:
    """``count`` noise images, with a pattern if one is given."""
    images = noise_images(count, 32, seed)
    return write_images(folder, images if pattern is None else with_pattern(images, pattern, strength))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of 20 reals and 24 fakes with a planted grid."""
    write_class(tmp_path / "real", 20, 1)
    write_class(tmp_path / "fake", 24, 2, PATTERN)
    return tmp_path / "real", tmp_path / "fake"


def fit(
    pair: tuple[Path, Path], plan: DifPlan | None = None, method: str = "marra18", name: str = "", **options: Any
) -> Detector:
    """``Detector.fit`` at a crop of 32 px."""
    return Detector.fit(*pair, HIGHPASS, plan, FitOptions(**{"crop": 32, **options}), method, name)


def held_out_of(found: Detector) -> Detection | None:
    """How it does on what was held out."""
    assert found.report is not None
    return found.report.held_out


class Spy:
    """What a fit was trained on, and what fingerprints were scored on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[np.ndarray] = []
        self.tested: list[np.ndarray] = []
        self.reals: list[np.ndarray] = []
        fit, rho, ncc = fitting.fit_marra18, Detector.rho, own.ncc

        def spied_fit(real: np.ndarray, fake: np.ndarray, name: str, clean: bool) -> Detector:
            self.trained += [*real, *fake]
            self.reals.append(real)
            return fit(real, fake, name, clean)

        def spied_rho(fingerprint: Detector, residuals: np.ndarray) -> torch.Tensor:
            self.tested += list(residuals)
            return rho(fingerprint, residuals)

        def spied_ncc(patterns: torch.Tensor, residuals: np.ndarray) -> torch.Tensor:
            self.tested += list(residuals)
            return ncc(patterns, residuals)

        monkeypatch.setattr(fitting, "fit_marra18", spied_fit)
        monkeypatch.setattr(own, "ncc", spied_ncc)
        monkeypatch.setattr(Detector, "rho", spied_rho)

    def leaked(self) -> int:
        """Residuals that were both trained and tested on, compared value by value."""
        trained = {r.tobytes() for r in self.trained}
        assert trained and self.tested
        return sum(r.tobytes() in trained for r in self.tested)


# Splitting


def test_a_split_is_disjoint_and_complete() -> None:
    for train in (0, 3, 10):
        chosen, rest = split(10, train, np.random.default_rng(0))
        assert len(chosen) == train and sorted([*chosen, *rest]) == list(range(10))
    with pytest.raises(ValueError, match="asked for 11 training images, only 10"):
        split(10, 11, np.random.default_rng(0))


def test_a_drawing_goes_by_content_and_seed() -> None:
    hashes = [f"{k:064x}" for k in range(20)]
    drawn = {hashes[k] for k in draw(hashes, 8, seed=1)}
    turned = hashes[::-1]
    assert {turned[k] for k in draw(turned, 8, seed=1)} == drawn  # whatever the order
    assert {hashes[k] for k in draw(hashes, 8, seed=2)} != drawn
    assert drawn < {hashes[k] for k in draw(hashes, 12, seed=1)}  # more training images are those and others
    assert len(draw(hashes, None, seed=1)) == 10
    with pytest.raises(ValueError, match="asked for 21"):
        draw(hashes, 21, seed=1)


def test_unique_keeps_the_first_of_each_in_order_and_the_skip_list(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "x", noise_images(3)[[2, 0, 2, 1, 0]])
    paths.append(tmp_path / "gone.png")
    found = unique(residuals_of(paths, HIGHPASS, 32))
    assert [Path(n).name for n in found.names] == ["000.png", "001.png", "003.png"]
    assert [s.path.name for s in found.skipped] == ["gone.png", "002.png", "004.png"]
    assert [s.reason for s in found.skipped[1:]] == [f"copy: of {paths[0]}", f"copy: of {paths[1]}"]


# Fitting and evaluating folders


@pytest.mark.parametrize("method", FITTED)
def test_a_fit_of_folders_finds_what_was_planted(pair: tuple[Path, Path], method: str) -> None:
    plan = DifPlan(steps=40, batch=16, margin=0.2, seed=3)
    found = fit(pair, plan, method, "planted", train=8)
    assert found.report is not None and found.report.skipped == () and (held_out := found.report.held_out) is not None
    assert (held_out.n_real, held_out.n_fake) == (12, 16)
    assert held_out.auc > 0.97 and held_out.accuracy > 0.9
    assert (found.method, found.name, found.crop) == (method, "planted", 32)
    assert found.metadata["denoiser"] == "highpass" and found.metadata["denoiser_sha256"] == HIGHPASS.hash
    assert found.metadata["n_real"] == found.metadata["n_fake"] == 8
    truth = HIGHPASS(torch.from_numpy(PATTERN)[None])
    assert ncc(found.pattern[None], zero_mean(truth) if method == "marra18-zm" else truth).item() > 0.4


def test_the_split_goes_by_the_seed(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    for seed in (0, 0, 1):
        fit(pair, DifPlan(seed=seed), train=6)
    first, again, other = spy.reals
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_copies_of_an_image_never_land_in_train_and_test(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in pair:
        for k, path in enumerate(sorted(folder.iterdir())[:10]):
            shutil.copy(path, folder / f"copy{k}.png")
            Image.open(path).save(folder / f"again{k}.bmp")  # the same pixels under other bytes
    for seed in range(3):
        with monkeypatch.context() as context:
            spy = Spy(context)
            assert (held_out := held_out_of(fit(pair, DifPlan(seed=seed), train=10))) is not None
        assert (held_out.n_real, held_out.n_fake) == (10, 14)  # of 20 and 24 different ones
        assert spy.leaked() == 0
        assert len(spy.trained) == len({r.tobytes() for r in spy.trained}) == 20


def test_an_image_in_both_classes_is_refused(pair: tuple[Path, Path]) -> None:
    shutil.copy(pair[0] / "000.png", pair[1] / "stray.png")
    with pytest.raises(ValueError, match="1 images are in both"):
        fit(pair)


def test_a_quarter_is_held_out_unless_everything_is_to_be_trained_on(pair: tuple[Path, Path]) -> None:
    usual = fit(pair)
    assert (held_out := held_out_of(usual)) is not None and (held_out.n_real, held_out.n_fake) == (5, 6)
    assert usual.null is not None and usual.null.n == 5
    assert len(usual.trained) == 15 + 18
    whole = fit(pair, hold_out=False)
    assert held_out_of(whole) is None and whole.null is None
    assert (whole.metadata["n_real"], whole.metadata["n_fake"]) == (20, 24)
    last = fit(pair, train=20)  # no real is left
    assert held_out_of(last) is None and last.null is None
    for path in sorted(pair[1].iterdir())[10:]:
        path.unlink()
    reals_left = fit(pair, train=10)
    assert held_out_of(reals_left) is None and reals_left.null is not None and reals_left.null.n == 10


def test_the_null_is_of_the_reals_that_were_held_out(pair: tuple[Path, Path]) -> None:
    found = fit(pair, DifPlan(seed=2), train=8)
    assert found.null is not None
    (reals,) = found.null.kinds.values()
    residuals = residuals_of(pair[0], HIGHPASS, 32)
    held_out = [digest not in found.trained for digest in contents(residuals.hashes)]
    assert sum(held_out) == 12
    np.testing.assert_allclose(reals.rho, np.sort(found.rho(residuals.values[held_out])), atol=1e-6)


def test_evaluation_does_not_count_what_was_trained_on_whatever_file_it_is_in(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    found = fit(pair, train=8)
    for k, path in enumerate(sorted(pair[1].iterdir())):
        Image.open(path).save(tmp_path / f"{k}.bmp")  # the same pixels under other bytes
        path.unlink()
        shutil.move(tmp_path / f"{k}.bmp", pair[1] / f"{k}.bmp")
    with pytest.raises(ValueError, match="all 20 real images are in the training set or the null"):
        found.evaluate(*pair)
    write_images(pair[0], noise_images(7, 32, 99), "new")
    seen = found.evaluate(*pair)
    assert (seen.detection.n_real, seen.detection.n_fake) == (len(seen.rho["real"]), len(seen.rho["fake"])) == (7, 16)
    assert [len(shares) for shares in seen.lattices.values()] == [7, 16]
    assert (seen.count(IN_TRAINING), seen.count(IN_NULL), len(seen.skipped)) == (16, 12, 28)
    everything = fit(pair, hold_out=False)
    with pytest.raises(ValueError, match="all 27 real images are in the training set of"):
        everything.evaluate(*pair)


def test_skipped_images_are_reported(pair: tuple[Path, Path]) -> None:
    (pair[0] / "broken.png").write_text("no image")
    shutil.copy(pair[0] / "000.png", pair[0] / "copy.png")  # it neither counts nor makes the skip list go away
    write_images(pair[1], noise_images(1, 20), "small")
    report = fit(pair, train=5).report
    assert report is not None and [s.path.name for s in report.skipped] == ["broken.png", "copy.png", "small000.png"]


def test_bad_requests_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown method 'median'; choose from dif, marra18"):
        fit(pair, method="median")
    with pytest.raises(ValueError, match="asked for 21 training images, only 20"):
        fit(pair, train=21)
    with pytest.raises(ValueError, match="at least 2 real residuals, got 1"):
        fit(pair, train=1)
    with pytest.raises(FolderError, match="does not exist"):
        fit((pair[0], tmp_path / "nowhere"))
    with pytest.raises(ImageError, match="none of 20 images"):
        fit(pair, crop=64)


def test_the_same_last_encoding_for_both_classes(pair: tuple[Path, Path]) -> None:
    plain, encoded = (fit(pair, jpeg=q, hold_out=False) for q in (None, 80))
    assert plain.metadata["jpeg"] is None and encoded.metadata["jpeg"] == 80
    expected = residuals_of(pair[1], HIGHPASS, 32, jpeg=80, cache=False).values.astype(np.float32).mean(0)
    np.testing.assert_allclose(encoded.pattern, expected, atol=1e-5)
    assert not torch.allclose(plain.pattern, encoded.pattern, atol=1e-3)


def test_evaluating_folders_is_detection_with_the_fingerprints_centres(pair: tuple[Path, Path]) -> None:
    (pair[0] / "broken.png").write_text("no image")
    truth = Detector(torch.from_numpy(PATTERN), -0.01, 0.15)
    found = truth.evaluate(*pair, HIGHPASS)
    result, rho, skipped = found.detection, found.rho, found.skipped
    assert len(rho["real"]) == 20 and len(rho["fake"]) == 24 and [s.path.name for s in skipped] == ["broken.png"]
    residual = HIGHPASS(torch.from_numpy(with_pattern(noise_images(24, 32, 2), PATTERN, 6)).permute(0, 3, 1, 2) / 255)
    by_hand = [np.corrcoef(PATTERN.ravel(), r.ravel())[0, 1] for r in residual.numpy()]
    np.testing.assert_allclose(rho["fake"], by_hand, atol=1e-4)
    assert result == detection(rho["real"], rho["fake"], (0.15 - 0.01) / 2)
    assert result.auc > 0.97 and result.accuracy > 0.9


# Detecting single images


def test_each_image_is_ranked_against_each_fingerprint(tmp_path: Path) -> None:
    patterns = [grid(seed=seed) for seed in (0, 1)]
    files = [
        write_class(tmp_path / "b", 1, 11, patterns[1], 8)[0],
        write_class(tmp_path / "none", 1, 12)[0],
        write_class(tmp_path / "a", 1, 13, patterns[0], 8)[0],
    ]
    (tmp_path / "text.png").write_text("no image")
    reals = write_class(tmp_path / "reals", 60, 14)
    prints = [Detector(torch.from_numpy(p), 0.0, 0.3, name=n) for p, n in zip(patterns, "AB", strict=True)]
    given = [files[0], tmp_path / "text.png", *files[1:]]
    bank = Bank(prints, HIGHPASS).with_reals(reals)
    found = bank.judge(given)
    table = found.table
    assert [s.path.name for s in found.residuals.skipped] == ["text.png"]
    assert list(table.image) == [str(f) for f in files for _ in prints]
    best = table.groupby("image", sort=False).first()
    assert list(best.fingerprint[[str(files[0]), str(files[2])]]) == ["B", "A"]
    assert list(best.verdict) == ["generated", "no match", "generated"]
    assert list(best.nearest_centre) == ["generated", "real", "generated"]
    for image, rows in table.groupby("image"):
        assert rows.z.is_monotonic_decreasing and rows.p.is_monotonic_increasing, image
    for name, rows in table.groupby("fingerprint"):
        (null,) = [d.null for d in bank.detectors if d.name == name]
        assert null is not None and null.n == 60
        np.testing.assert_allclose(rows.z, null.z(rows.rho))
    without = Bank(prints, HIGHPASS).decide(given)
    assert without.z.isna().all() and set(without.reason) == {"no null: give --reals"}
    assert list(without.groupby("image", sort=False).first().fingerprint) == list(best.fingerprint)


def test_reals_that_a_fingerprint_was_fitted_to_are_no_null(tmp_path: Path) -> None:
    reals = write_class(tmp_path / "reals", 30, 14)
    trained = frozenset(contents(residuals_of(reals[:10], HIGHPASS, 32).hashes))
    prints = [Detector(torch.from_numpy(PATTERN), 0, 0.3, name="f", trained=trained)]
    bank = Bank(prints, HIGHPASS).with_reals(reals)
    assert (null := bank.detectors[0].null) is not None and null.n == 20
    reasons = bank.decide(reals[:12]).reason
    assert list(reasons[:10]) == ["in training set"] * 10 and not reasons[10:].any()


def test_the_weaker_fingerprint_does_not_win_by_its_small_gap(tmp_path: Path) -> None:
    strong, weak = (torch.from_numpy(grid(seed=seed)) for seed in (0, 1))
    files, reals = write_class(tmp_path / "x", 8, 1, grid(seed=0), 4), write_class(tmp_path / "reals", 40, 2)
    prints = [Detector(strong, 0, 0.3, name="strong"), Detector(weak, 0, 0.0005, name="weak")]
    table = Bank(prints, HIGHPASS).with_reals(reals).decide(files)
    assert (table.groupby("image", sort=False).fingerprint.first() == "strong").all()
    margin = table.rho / table.fingerprint.map({"strong": 0.3, "weak": 0.0005})
    by_margin = table.assign(margin=margin).sort_values("margin").groupby("image").fingerprint.last()
    assert (by_margin == "weak").any()  # as it was ranked before


def test_fingerprints_without_names_go_by_their_place(tmp_path: Path) -> None:
    files = write_class(tmp_path / "x", 2, 1, PATTERN)
    plain, turned = torch.from_numpy(PATTERN), -torch.from_numpy(PATTERN)
    prints = [Detector(plain, 0.1, 0.2, name="plain"), Detector(turned, -0.5, 0.5, name="turned")]
    table = Bank([*prints, Detector(plain, 0.3, 0.3)], HIGHPASS).decide(files)
    rows = {name: part.sort_values("image") for name, part in table.groupby("fingerprint")}
    assert set(rows) == {"plain", "turned", "2"}
    np.testing.assert_allclose(rows["turned"].rho, -rows["plain"].rho, atol=1e-6)
    assert (rows["2"].nearest_centre == "real").all()  # centres that coincide decide nothing
    with pytest.raises(ValueError, match="names of their own"):
        Bank([prints[0], prints[0]])


def test_fingerprints_of_other_sizes_cannot_be_compared() -> None:
    prints = [Detector(torch.rand(3, size, size), 0, 1) for size in (16, 32)]
    with pytest.raises(ValueError, match=r"\[16, 32\] px"):
        Bank(prints)
    with pytest.raises(ValueError, match="no fingerprint given"):
        Bank([])


# Cross-detection


def make_root(root: Path, shared_reals: bool) -> dict[str, np.ndarray]:
    """Three generators, two of which share a pattern, with 12 reals (the same or other ones) and 12 fakes each."""
    patterns = {"a": grid(seed=0), "b": grid(seed=1), "child_of_a": grid(seed=0)}
    for k, (name, pattern) in enumerate(patterns.items()):
        write_class(root / name / "0_real", 12, 50 if shared_reals else 50 + k)
        write_class(root / name / "1_fake", 12, 60 + k, pattern, 8)
    return patterns


@pytest.mark.parametrize("shared_reals", [True, False])
def test_cross_detection_finds_who_is_related_and_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_reals: bool
) -> None:
    make_root(tmp_path / "root", shared_reals)
    (tmp_path / "root" / "b" / "1_fake" / "broken.jpg").write_text("no image")
    spy = Spy(monkeypatch)
    table, prints, skipped = cross_detect(tmp_path / "root", HIGHPASS, DifPlan(seed=5), "marra18", SMALL)
    assert list(prints) == ["a", "b", "child_of_a"] and [s.path.name for s in skipped] == ["broken.jpg"]
    assert len(table) == 9 and (table.n_real == 6).all() and (table.n_fake == 6).all() and (table.seed == 5).all()
    area = table.pivot(index="train", columns="test", values="auc")
    for one, other in (("a", "a"), ("b", "b"), ("child_of_a", "child_of_a"), ("a", "child_of_a"), ("child_of_a", "a")):
        assert area.loc[one, other] == 1
    unrelated = [area.loc["a", "b"], area.loc["b", "a"], area.loc["b", "child_of_a"], area.loc["child_of_a", "b"]]
    assert np.mean(unrelated) < 0.85
    assert spy.leaked() == 0
    for fingerprint in prints.values():
        assert fingerprint.metadata["denoiser_sha256"] == HIGHPASS.hash


def test_reals_shared_in_part_are_tested_by_no_one_once_trained_by_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b's reals are a's and as many others: another half is drawn of them, and still nothing may leak."""
    make_root(tmp_path, shared_reals=True)
    write_images(tmp_path / "b" / "0_real", noise_images(12, 32, 99), "more")
    left = []
    for seed in range(4):
        with monkeypatch.context() as context:
            spy = Spy(context)
            table, _, _ = cross_detect(tmp_path, HIGHPASS, DifPlan(seed=seed), "marra18", SMALL)
        assert spy.leaked() == 0
        left.append(table.drop_duplicates("test").set_index("test").n_real)
    # Taken alone, 6 of a's 12 and 12 of b's 24 would be left; what the other drew is missing as well.
    assert all(n["a"] <= 6 and n["b"] <= 12 for n in left) and min(n["a"] + n["b"] for n in left) < 18


def test_cross_detection_by_dif_with_a_number_of_training_images(tmp_path: Path) -> None:
    make_root(tmp_path, shared_reals=True)
    shutil.rmtree(tmp_path / "child_of_a")
    plan = DifPlan(steps=40, batch=16, margin=0.3)
    table, prints, _ = cross_detect(tmp_path, HIGHPASS, plan, options=FitOptions(8, crop=32))
    assert (table.n_real == 4).all() and (table.n_fake == 4).all()
    assert all(p.method == "dif" and p.metadata["n_fake"] == 8 for p in prints.values())
    diagonal = table[table.train == table.test]
    assert diagonal.auc.min() > 0.9


def test_bad_cross_detections_are_refused(tmp_path: Path) -> None:
    make_root(tmp_path / "root", shared_reals=True)
    with pytest.raises(ValueError, match="unknown method 'mean'"):
        cross_detect(tmp_path / "root", HIGHPASS, method="mean", options=SMALL)
    with pytest.raises(ValueError, match="asked for 13"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", options=FitOptions(13, crop=32))
    with pytest.raises(ValueError, match=r"none left to test on of a \(real\), a \(fake\)"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", options=FitOptions(12, crop=32))
    with pytest.raises(FolderError, match="holds no generator"):
        cross_detect(tmp_path / "root" / "a" / "0_real", HIGHPASS, options=SMALL)
    shutil.copy(tmp_path / "root/a/0_real/000.png", tmp_path / "root/a/1_fake/stray.png")
    with pytest.raises(ValueError, match="in both"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", options=SMALL)


# The offline demo


def test_the_demo_finds_its_own_generator() -> None:
    denoiser = load_denoiser("photos")
    result = start_here(denoiser, train=24, test=12, size=96, steps=50)
    assert list(result.table.method) == ["DIF", "Marra18"]
    assert (result.table.n_real == 12).all() and (result.table.n_fake == 12).all()
    assert (result.table.n_train == 24).all()
    assert result.table.auc[0] > 0.8
    assert result.real.shape == result.fake.shape == (12, 96, 96, 3)
    for k, method in enumerate(result.table.method):
        rho, found = result.rho[method], result.fingerprints[method]
        assert result.table.auc[k] == auc(rho["real"], rho["fake"])
        residuals = residuals_of(result.fake, denoiser, 96, cache=False).values
        np.testing.assert_allclose(found.rho(residuals), rho["fake"], atol=1e-5)


def test_the_demos_images_are_other_scenes() -> None:
    real, fake = demo_images(2, 32, first_seed=10)
    assert all(np.array_equal(real[k], scene(10 + 2 * k, 32, SOURCE_STYLE)) for k in range(2))
    sources = np.stack([scene(11 + 2 * k, 32, SOURCE_STYLE) for k in range(2)])
    assert np.array_equal(fake, generate(load_generator("demo-deconv2")[0], sources))
