"""Experiments on folders, on made-up and real releases, and the gray image: planted truths must be found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import grid, noise_images, with_pattern, write_images

from difcore.demo.generator_training import SOURCE_STYLE
from difcore.demo.generators import generate, load_decoder
from difcore.detectors import methods
from difcore.detectors.methods import FITTED
from difcore.experiments import own_folders as folders
from difcore.experiments.own_folders import (
    IN_NULL,
    IN_TRAINING,
    cross_detect,
    draw,
    evaluate_folders,
    fit_folders,
    split,
    unique,
)
from difcore.experiments.start_here import demo_images, start_here
from difcore.fingerprints.bank import detect_images
from difcore.fingerprints.correlation import ncc, zero_mean
from difcore.fingerprints.detector import Fingerprint, contents
from difcore.fingerprints.dif import DifPlan
from difcore.images.crops import FolderError, ImageError
from difcore.images.scenes import scene
from difcore.residuals.denoisers import load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.stats import auc, detection

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
HIGHPASS = load_denoiser("highpass")
PATTERN = grid()


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


class Spy:
    """What a fit was trained on, and what fingerprints were scored on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[np.ndarray] = []
        self.tested: list[np.ndarray] = []
        self.reals: list[np.ndarray] = []
        fit, scores, cross = methods.fit_marra18, Fingerprint.scores, folders.cross_detection

        def spied_fit(real: np.ndarray, fake: np.ndarray, name: str, clean: bool) -> Fingerprint:
            self.trained += [*real, *fake]
            self.reals.append(real)
            return fit(real, fake, name, clean)

        def spied_scores(fingerprint: Fingerprint, residuals: np.ndarray) -> torch.Tensor:
            self.tested += list(residuals)
            return scores(fingerprint, residuals)

        def spied_cross(patterns: torch.Tensor, real: list, fake: list) -> tuple[list, list]:
            self.tested += [r for s in (*real, *fake) for r in s]
            return cross(patterns, real, fake)

        monkeypatch.setattr(methods, "fit_marra18", spied_fit)
        monkeypatch.setattr(folders, "cross_detection", spied_cross)
        monkeypatch.setattr(Fingerprint, "scores", spied_scores)

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
    result = fit_folders(*pair, HIGHPASS, plan, method, train=8, crop=32, name="planted")
    found, held_out = result.fingerprint, result.held_out
    assert held_out is not None and (held_out.n_real, held_out.n_fake) == (12, 16)
    assert held_out.auc > 0.97 and held_out.accuracy > 0.9
    assert result.skipped == ()
    assert (found.method, found.name, found.crop) == (method, "planted", 32)
    assert found.metadata["denoiser"] == "highpass" and found.metadata["denoiser_sha256"] == HIGHPASS.hash
    assert found.metadata["n_real"] == found.metadata["n_fake"] == 8
    truth = HIGHPASS(torch.from_numpy(PATTERN)[None])
    assert ncc(found.pattern[None], zero_mean(truth) if method == "marra18-zm" else truth).item() > 0.4


def test_the_split_goes_by_the_seed(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    for seed in (0, 0, 1):
        fit_folders(*pair, HIGHPASS, DifPlan(seed=seed), "marra18", train=6, crop=32)
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
            result = fit_folders(*pair, HIGHPASS, DifPlan(seed=seed), "marra18", train=10, crop=32)
        assert result.held_out is not None
        assert (result.held_out.n_real, result.held_out.n_fake) == (10, 14)  # of 20 and 24 different ones
        assert spy.leaked() == 0
        assert len(spy.trained) == len({r.tobytes() for r in spy.trained}) == 20


def test_an_image_in_both_classes_is_refused(pair: tuple[Path, Path]) -> None:
    shutil.copy(pair[0] / "000.png", pair[1] / "stray.png")
    with pytest.raises(ValueError, match="1 images are in both"):
        fit_folders(*pair, HIGHPASS, method="marra18", crop=32)


def test_a_quarter_is_held_out_unless_everything_is_to_be_trained_on(pair: tuple[Path, Path]) -> None:
    usual = fit_folders(*pair, HIGHPASS, method="marra18", crop=32)
    assert usual.held_out is not None and (usual.held_out.n_real, usual.held_out.n_fake) == (5, 6)
    assert usual.fingerprint.null is not None and usual.fingerprint.null.n == 5
    assert len(usual.fingerprint.trained) == 15 + 18
    whole = fit_folders(*pair, HIGHPASS, method="marra18", crop=32, hold_out=False)
    assert whole.held_out is None and whole.fingerprint.null is None
    assert (whole.fingerprint.metadata["n_real"], whole.fingerprint.metadata["n_fake"]) == (20, 24)
    last = fit_folders(*pair, HIGHPASS, method="marra18", train=20, crop=32)  # no real is left
    assert last.held_out is None and last.fingerprint.null is None
    for path in sorted(pair[1].iterdir())[10:]:
        path.unlink()
    reals_left = fit_folders(*pair, HIGHPASS, method="marra18", train=10, crop=32)
    assert reals_left.held_out is None
    assert reals_left.fingerprint.null is not None and reals_left.fingerprint.null.n == 10


def test_the_null_is_of_the_reals_that_were_held_out(pair: tuple[Path, Path]) -> None:
    found = fit_folders(*pair, HIGHPASS, DifPlan(seed=2), "marra18", train=8, crop=32).fingerprint
    assert found.null is not None
    (reals,) = found.null.kinds.values()
    residuals = residuals_of(pair[0], HIGHPASS, 32)
    held_out = [digest not in found.trained for digest in contents(residuals.hashes)]
    assert sum(held_out) == 12
    np.testing.assert_allclose(reals.rho, np.sort(found.scores(residuals.values[held_out])), atol=1e-6)


def test_evaluation_does_not_count_what_was_trained_on_whatever_file_it_is_in(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    found = fit_folders(*pair, HIGHPASS, method="marra18", train=8, crop=32).fingerprint
    for k, path in enumerate(sorted(pair[1].iterdir())):
        Image.open(path).save(tmp_path / f"{k}.bmp")  # the same pixels under other bytes
        path.unlink()
        shutil.move(tmp_path / f"{k}.bmp", pair[1] / f"{k}.bmp")
    with pytest.raises(ValueError, match="all 20 real images are in the training set or the null"):
        evaluate_folders(found, *pair, HIGHPASS)
    write_images(pair[0], noise_images(7, 32, 99), "new")
    seen = evaluate_folders(found, *pair, HIGHPASS)
    assert (seen.detection.n_real, seen.detection.n_fake) == (len(seen.rho["real"]), len(seen.rho["fake"])) == (7, 16)
    assert [len(shares) for shares in seen.lattices.values()] == [7, 16]
    assert (seen.count(IN_TRAINING), seen.count(IN_NULL), len(seen.skipped)) == (16, 12, 28)
    everything = fit_folders(*pair, HIGHPASS, method="marra18", crop=32, hold_out=False).fingerprint
    with pytest.raises(ValueError, match="all 27 real images are in the training set of"):
        evaluate_folders(everything, *pair, HIGHPASS)


def test_skipped_images_are_reported(pair: tuple[Path, Path]) -> None:
    (pair[0] / "broken.png").write_text("no image")
    shutil.copy(pair[0] / "000.png", pair[0] / "copy.png")  # it neither counts nor makes the skip list go away
    write_images(pair[1], noise_images(1, 20), "small")
    result = fit_folders(*pair, HIGHPASS, method="marra18", train=5, crop=32)
    assert [s.path.name for s in result.skipped] == ["broken.png", "copy.png", "small000.png"]


def test_bad_requests_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    real, fake = pair
    with pytest.raises(ValueError, match="unknown method 'median'; choose from dif, marra18"):
        fit_folders(real, fake, HIGHPASS, method="median", crop=32)
    with pytest.raises(ValueError, match="asked for 21 training images, only 20"):
        fit_folders(real, fake, HIGHPASS, method="marra18", train=21, crop=32)
    with pytest.raises(ValueError, match="at least 2 real residuals, got 1"):
        fit_folders(real, fake, HIGHPASS, method="marra18", train=1, crop=32)
    with pytest.raises(FolderError, match="does not exist"):
        fit_folders(real, tmp_path / "nowhere", HIGHPASS, crop=32)
    with pytest.raises(ImageError, match="none of 20 images"):
        fit_folders(real, fake, HIGHPASS, crop=64)


def test_the_same_last_encoding_for_both_classes(pair: tuple[Path, Path]) -> None:
    plain, encoded = (
        fit_folders(*pair, HIGHPASS, method="marra18", crop=32, jpeg=q, hold_out=False).fingerprint for q in (None, 80)
    )
    assert plain.metadata["jpeg"] is None and encoded.metadata["jpeg"] == 80
    expected = residuals_of(pair[1], HIGHPASS, 32, jpeg=80, cache=False).values.astype(np.float32).mean(0)
    np.testing.assert_allclose(encoded.pattern, expected, atol=1e-5)
    assert not torch.allclose(plain.pattern, encoded.pattern, atol=1e-3)


def test_evaluating_folders_is_detection_with_the_fingerprints_centres(pair: tuple[Path, Path]) -> None:
    (pair[0] / "broken.png").write_text("no image")
    truth = Fingerprint(torch.from_numpy(PATTERN), -0.01, 0.15)
    found = evaluate_folders(truth, *pair, HIGHPASS)
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
    prints = [Fingerprint(torch.from_numpy(p), 0.0, 0.3, name=n) for p, n in zip(patterns, "AB", strict=True)]
    given = [files[0], tmp_path / "text.png", *files[1:]]
    found = detect_images(prints, given, HIGHPASS, reals=reals)
    table = found.table
    assert [s.path.name for s in found.skipped] == ["text.png"]
    assert list(table.image) == [str(f) for f in files for _ in prints]
    best = table.groupby("image", sort=False).first()
    assert list(best.fingerprint[[str(files[0]), str(files[2])]]) == ["B", "A"]
    assert list(best.verdict) == ["generated", "no match", "generated"]
    assert list(best.nearest_centre) == ["generated", "real", "generated"]
    for image, rows in table.groupby("image"):
        assert rows.z.is_monotonic_decreasing and rows.p.is_monotonic_increasing, image
    for name, rows in table.groupby("fingerprint"):
        null = found.fingerprints[str(name)].null
        assert null is not None and null.n == 60
        np.testing.assert_allclose(rows.z, null.z(rows.rho))
    without = detect_images(prints, given, HIGHPASS).table
    assert without.z.isna().all() and set(without.reason) == {"no null: give --reals"}
    assert list(without.groupby("image", sort=False).first().fingerprint) == list(best.fingerprint)


def test_reals_that_a_fingerprint_was_fitted_to_are_no_null(tmp_path: Path) -> None:
    reals = write_class(tmp_path / "reals", 30, 14)
    trained = frozenset(contents(residuals_of(reals[:10], HIGHPASS, 32).hashes))
    prints = [Fingerprint(torch.from_numpy(PATTERN), 0, 0.3, name="f", trained=trained)]
    found = detect_images(prints, reals[:12], HIGHPASS, reals=reals)
    null = found.fingerprints["f"].null
    assert null is not None and null.n == 20
    assert list(found.table.reason[:10]) == ["in training set"] * 10 and not found.table.reason[10:].any()


def test_the_weaker_fingerprint_does_not_win_by_its_small_gap(tmp_path: Path) -> None:
    strong, weak = (torch.from_numpy(grid(seed=seed)) for seed in (0, 1))
    files, reals = write_class(tmp_path / "x", 8, 1, grid(seed=0), 4), write_class(tmp_path / "reals", 40, 2)
    prints = [Fingerprint(strong, 0, 0.3, name="strong"), Fingerprint(weak, 0, 0.0005, name="weak")]
    table = detect_images(prints, files, HIGHPASS, reals=reals).table
    assert (table.groupby("image", sort=False).fingerprint.first() == "strong").all()
    margin = table.rho / table.fingerprint.map({"strong": 0.3, "weak": 0.0005})
    by_margin = table.assign(margin=margin).sort_values("margin").groupby("image").fingerprint.last()
    assert (by_margin == "weak").any()  # as it was ranked before


def test_fingerprints_without_names_go_by_their_place(tmp_path: Path) -> None:
    files = write_class(tmp_path / "x", 2, 1, PATTERN)
    plain, turned = torch.from_numpy(PATTERN), -torch.from_numpy(PATTERN)
    prints = [Fingerprint(plain, 0.1, 0.2, name="plain"), Fingerprint(turned, -0.5, 0.5, name="turned")]
    table = detect_images([*prints, Fingerprint(plain, 0.3, 0.3)], files, HIGHPASS).table
    rows = {name: part.sort_values("image") for name, part in table.groupby("fingerprint")}
    assert set(rows) == {"plain", "turned", "2"}
    np.testing.assert_allclose(rows["turned"].rho, -rows["plain"].rho, atol=1e-6)
    assert (rows["2"].nearest_centre == "real").all()  # centres that coincide decide nothing
    with pytest.raises(ValueError, match="names of their own"):
        detect_images([prints[0], prints[0]], files, HIGHPASS)


def test_fingerprints_of_other_sizes_cannot_be_compared(tmp_path: Path) -> None:
    files = write_class(tmp_path / "x", 1, 1)
    prints = [Fingerprint(torch.rand(3, size, size), 0, 1) for size in (16, 32)]
    with pytest.raises(ValueError, match=r"\[16, 32\] px"):
        detect_images(prints, files, HIGHPASS)


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
    table, prints, skipped = cross_detect(tmp_path / "root", HIGHPASS, DifPlan(seed=5), "marra18", crop=32)
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
            table, _, _ = cross_detect(tmp_path, HIGHPASS, DifPlan(seed=seed), "marra18", crop=32)
        assert spy.leaked() == 0
        left.append(table.drop_duplicates("test").set_index("test").n_real)
    # Taken alone, 6 of a's 12 and 12 of b's 24 would be left; what the other drew is missing as well.
    assert all(n["a"] <= 6 and n["b"] <= 12 for n in left) and min(n["a"] + n["b"] for n in left) < 18


def test_cross_detection_by_dif_with_a_number_of_training_images(tmp_path: Path) -> None:
    make_root(tmp_path, shared_reals=True)
    shutil.rmtree(tmp_path / "child_of_a")
    plan = DifPlan(steps=40, batch=16, margin=0.3)
    table, prints, _ = cross_detect(tmp_path, HIGHPASS, plan, train=8, crop=32)
    assert (table.n_real == 4).all() and (table.n_fake == 4).all()
    assert all(p.method == "dif" and p.metadata["n_fake"] == 8 for p in prints.values())
    diagonal = table[table.train == table.test]
    assert diagonal.auc.min() > 0.9


def test_bad_cross_detections_are_refused(tmp_path: Path) -> None:
    make_root(tmp_path / "root", shared_reals=True)
    with pytest.raises(ValueError, match="unknown method 'mean'"):
        cross_detect(tmp_path / "root", HIGHPASS, method="mean", crop=32)
    with pytest.raises(ValueError, match="asked for 13"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", train=13, crop=32)
    with pytest.raises(ValueError, match=r"none left to test on of a \(real\), a \(fake\)"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", train=12, crop=32)
    with pytest.raises(FolderError, match="holds no generator"):
        cross_detect(tmp_path / "root" / "a" / "0_real", HIGHPASS, crop=32)
    shutil.copy(tmp_path / "root/a/0_real/000.png", tmp_path / "root/a/1_fake/stray.png")
    with pytest.raises(ValueError, match="in both"):
        cross_detect(tmp_path / "root", HIGHPASS, method="marra18", crop=32)


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
        np.testing.assert_allclose(found.scores(residuals), rho["fake"], atol=1e-5)


def test_the_demos_images_are_other_scenes() -> None:
    real, fake = demo_images(2, 32, first_seed=10)
    assert all(np.array_equal(real[k], scene(10 + 2 * k, 32, SOURCE_STYLE)) for k in range(2))
    sources = np.stack([scene(11 + 2 * k, 32, SOURCE_STYLE) for k in range(2)])
    assert np.array_equal(fake, generate(load_decoder("demo-deconv2"), sources))
