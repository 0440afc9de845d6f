"""Detection tables on planted patterns: splits without leaks, absent generators, few images, claims that can fail."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from tiny import grid, noise_images, with_pattern, write_images

from difcore.experiments import detection, tab_b
from difcore.experiments import detection_claims as verdicts
from difcore.experiments.bench import Bench, Setup, open_bench
from difcore.experiments.claiming import judge_above, judge_best, judge_near
from difcore.experiments.detection import bars, good, matrix, mean_of, over_seeds, paired_gap, run_grid
from difcore.experiments.pools import (
    MIN_TEST,
    Pool,
    Sets,
    Source,
    demo_sources,
    divide,
    folder_sources,
    make_pool,
    without_copies,
)
from difcore.files import PROJECT_DIR, NeedsData
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.priors import UNet
from difcore.images import leakage
from difcore.images.crops import sha256_pixels, through_jpeg
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError
from difcore.images.leakage import LeakageError, check_disjoint, copies, trace
from difcore.images.scenes import scene
from difcore.paper import LTIM
from difcore.records.cells import NotEnough
from difcore.records.claims import CellsFailed, Claim, corrected
from difcore.stats import balanced_interval, mean_interval, t_estimate, wilson

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
SIZE = 32
FILTER = "highpass"


def pool(count: int, seed: int = 0, strength: float = 0.0, jpeg: int | None = None) -> Pool:
    images = with_pattern(noise_images(count, SIZE, seed), grid(SIZE), strength)
    return make_pool(images, [f"{seed}-{k}" for k in range(count)], jpeg)


def planted(count: int = 40, strength: float = 6.0) -> Sets:
    """Noise images and others with a grid of period 4."""
    return Sets(pool(count, 1), pool(count, 2, strength))


def bench(**sets: Sets) -> Bench:
    """A bench of ready-made image sets."""
    sources = {name: Source(name, name, lambda jpeg, s=s: s) for name, s in sets.items()}
    return Bench(sources, crop=SIZE, denoiser=FILTER)


def table_of(rows: list[tuple[str, str, int, float]], column: str = "method", **constant: object) -> pd.DataFrame:
    """A tidy table of (generator, entry of ``column``, seed, accuracy of either class); no two gaps quite alike."""
    frame = pd.DataFrame(rows, columns=["generator", column, "seed", "accuracy"])
    frame["accuracy"] += 1e-8 * np.random.default_rng(crc32(repr((rows, constant)).encode())).standard_normal(len(rows))
    base = {"encoding": "native", "status": "ok", "n_train": 48, "n_real": 500, "n_fake": 500}
    base |= dict.fromkeys(("auc", "accuracy_real", "accuracy_fake"), frame["accuracy"])
    return frame.assign(**{k: v for k, v in {"method": "DIF", **base, **constant}.items() if k not in ("x", column)})


# Leakage


def test_a_crop_is_recognised_wherever_it_was_cut() -> None:
    pictures = [scene(900 + k, 128) for k in range(3)]
    crops = [pictures[1][37:101, 11:75], pictures[2][:96, 32:]]
    traces = [trace(x) for x in (*pictures, *crops)]
    assert all(len(t) >= 2 for t in traces)
    hashes = [sha256_pixels(x) for x in (*pictures, *crops)]
    assert copies(hashes, traces) == {3: 1, 4: 2}


def test_different_pictures_and_flat_ones_are_no_copies() -> None:
    flat = [np.full((64, 64, 3), level, np.uint8) for level in (10, 11)]
    logo = scene(7, 24)
    pictures = [scene(950 + k, 160).copy() for k in range(4)]
    for picture in pictures:
        picture[-24:, -24:] = logo  # as some generators sign their images
    images = [*pictures, *flat]
    assert trace(flat[0]) == frozenset()
    assert copies([sha256_pixels(x) for x in images], [trace(x) for x in images]) == {}


def test_the_check_raises_for_an_image_and_for_a_crop_of_one() -> None:
    train, test = [scene(960 + k, 96) for k in range(2)], [scene(970 + k, 96) for k in range(2)]

    def check(train: list[np.ndarray], test: list[np.ndarray]) -> None:
        images = [*train, *test]
        check_disjoint([sha256_pixels(image) for image in images], [trace(image) for image in images], len(train))

    check(train, test)
    with pytest.raises(LeakageError, match="1 test images are copies or crops of training images.*test image 1 and"):
        check(train, [*test[:1], train[1]])
    with pytest.raises(LeakageError, match="training image 0"):
        check(train, [train[0][16:80, 20:84]])
    check([*train, train[0]], test)  # twice in train is no leak


def test_the_division_of_a_cell_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = planted()
    leaky = dataclasses.replace(sets, test_fake=sets.fake)
    with pytest.raises(LeakageError):
        divide(leaky, 12, 0)
    with pytest.raises(LeakageError):  # and nothing on the way to the table hides it
        run_grid(bench(leaky=leaky), "methods", [12], [0], method=["marra18"])
    monkeypatch.setattr(leakage, "copies", lambda *arguments: {})
    divide(leaky, 12, 0)  # it was the check that raised


def test_copies_and_crops_are_left_out_on_reading() -> None:
    pictures = np.stack([scene(980 + k, 64) for k in range(6)])
    names = list("abcdef")
    whole = Sets(make_pool(pictures[:3], names[:3], None), make_pool(pictures[[3, 4, 3]], names[3:], None))
    test = make_pool(pictures[[1, 5]], ["copy", "new"], None)
    clean = without_copies(dataclasses.replace(whole, test_real=test))
    assert clean.real.names == ("a", "b", "c") and clean.fake.names == ("d", "e")
    assert clean.test_real is not None and clean.test_real.names == ("new",)
    assert [(s.path.name, s.reason) for s in clean.skipped] == [
        ("f", "copy or crop: of d"), ("copy", "copy or crop: of b"),
    ]  # fmt: skip
    with pytest.raises(ImageError, match="every test real image"):
        without_copies(dataclasses.replace(whole, test_real=make_pool(pictures[:1], ["x"], None)))


# Division


def test_a_division_is_disjoint_complete_and_by_content() -> None:
    sets = planted(30)
    parts = divide(sets, 12, seed=1)
    assert (len(parts.real), len(parts.fake), len(parts.test_real), len(parts.test_fake)) == (12, 12, 18, 18)
    for name in ("real", "fake"):
        train, test = set(getattr(parts, name).hashes), set(getattr(parts, f"test_{name}").hashes)
        assert not train & test and train | test == set(getattr(sets, name).hashes)
    turned = Sets(sets.real.take(range(29, -1, -1)), sets.fake)
    assert set(divide(turned, 12, seed=1).real.hashes) == set(parts.real.hashes)
    assert set(divide(sets, 12, seed=2).real.hashes) != set(parts.real.hashes)
    assert np.array_equal(parts.real.images[0], sets.real.images[sets.real.hashes.index(parts.real.hashes[0])])


def test_every_train_size_meets_the_same_test_images() -> None:
    sets = planted(40)
    divisions = [divide(sets, n, 0, sizes=(4, 12, 24, 999)) for n in (4, 12, 24)]
    assert len({d.test_real.hashes for d in divisions}) == 1
    assert len(divisions[0].test_real) == 16
    assert set(divisions[0].fake.hashes) < set(divisions[1].fake.hashes) < set(divisions[2].fake.hashes)
    assert len(divide(sets, 4, 0, sizes=(30,)).test_real) == MIN_TEST
    assert len(divide(sets, 4, 0, max_test=5).test_fake) == 5


def test_test_images_of_their_own_are_never_trained_on() -> None:
    own = Sets(pool(20, 1), pool(20, 2, 6.0), test_real=pool(15, 3))
    parts = divide(own, 10, 0)
    assert parts.test_real is own.test_real and len(parts.test_fake) == 10
    assert len(divide(own, 10, 0).real) == 10
    with pytest.raises(NotEnough, match="too few images: 20 fake, needed 15 to train on and 10 to test on"):
        divide(own, 15, 0)
    with pytest.raises(NotEnough, match="20 real, needed 21 to train on$"):
        divide(own, 21, 0)


# Sources


def write_generator(folder: Path, count: int, seed: int, strength: float = 6.0) -> None:
    write_images(folder / "0_real", noise_images(count, SIZE, seed))
    write_images(folder / "1_fake", with_pattern(noise_images(count, SIZE, seed + 1), grid(SIZE), strength))


def test_a_folder_lists_what_is_there_what_is_absent_and_what_is_too_small(tmp_path: Path) -> None:
    write_generator(tmp_path / "sd14", 24, 1)
    write_generator(tmp_path / "mine", 14, 3)
    (tmp_path / "glide" / "0_real").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    setup = Setup(tmp_path, "paper", size=SIZE, test=0, steps=2, denoiser=FILTER, control_quality=90)
    found = open_bench("ltim", setup)
    assert list(found.sources) == ["sd14", "mine"] and found.real_data
    assert set(found.absent) == set(LTIM) - {"sd14"}
    assert found.absent["glide"] == "absent: glide/0_real holds no images (0 other entries)"
    assert found.absent["mj"] == "absent: not in the data folder"
    table = run_grid(found, "methods", [12], [0, 1], method=["marra18"])
    rows = table.dropna(subset=["encoding"]).set_index(["generator", "encoding", "seed"]).sort_index()
    assert rows.loc[("sd14", "native", 0), "accuracy"] == 1.0
    assert (rows.loc[("sd14", "native", 0), ["n_real", "n_fake"]] == 12).all()
    short = "too few images: 14 real, needed 12 to train on and 10 to test on"
    assert set(rows.loc["mine", "status"]) == {short}
    assert set(table["encoding"].dropna()) == {"native", "JPEG q90"}
    assert list(table["generator"][-5:]) == [name for name in LTIM if name != "sd14"]
    summary = over_seeds(table).set_index("generator")
    assert {"accuracy", "accuracy_jpeg_q90", "auc_jpeg_q90"} <= set(summary.columns)  # the control, beside
    assert summary.loc["mine", "status"] == short and summary.loc["mj", "status"].startswith("absent")


def test_a_folder_may_name_its_test_images(tmp_path: Path) -> None:
    write_generator(tmp_path / "sd14", 20, 1)
    write_images(tmp_path / "sd14" / "test" / "0_real", noise_images(7, SIZE, 9))
    sets = folder_sources(tmp_path, ["sd14"], SIZE)[0]["sd14"].load(None)
    assert (len(sets.real), len(sets.fake), sets.test_fake) == (20, 20, None)
    assert sets.test_real is not None and len(sets.test_real) == 7


def test_genimage_s_folders(tmp_path: Path) -> None:
    for k, (split, count) in enumerate((("train", 9), ("val", 4))):
        inner = tmp_path / "Midjourney" / "imagenet_midjourney" / split
        write_images(inner / "nature", noise_images(count, SIZE, k))
        write_images(inner / "ai", noise_images(count, SIZE, 10 + k))
        (inner / "ai" / "captions.txt").write_text("no image")
    found, absent = folder_sources(tmp_path, [], SIZE)
    sets = found["Midjourney"].load(None)
    assert list(found) == ["Midjourney"] and absent == {}
    assert sets.test_real is not None and sets.test_fake is not None
    assert [len(pool) for pool in (sets.real, sets.fake, sets.test_real, sets.test_fake)] == [9, 9, 4, 4]
    assert [s.path.name for s in sets.skipped] == ["captions.txt"] * 2


def test_the_digest_of_a_folder_goes_by_its_images(tmp_path: Path) -> None:
    write_generator(tmp_path / "a", 4, 1)
    first = folder_sources(tmp_path, [], SIZE)[0]["a"].digest
    assert folder_sources(tmp_path, [], SIZE)[0]["a"].digest == first
    write_images(tmp_path / "a" / "1_fake", noise_images(1, SIZE, 5), "more")
    assert folder_sources(tmp_path, [], SIZE)[0]["a"].digest != first


def test_both_classes_get_the_same_last_encoding_and_keep_their_hashes(tmp_path: Path) -> None:
    write_generator(tmp_path / "a", 4, 1)
    source = folder_sources(tmp_path, [], SIZE)[0]["a"]
    native, control = source.load(None), source.load(80)
    for label in ("real", "fake"):
        before, after = getattr(native, label), getattr(control, label)
        assert before.hashes == after.hashes
        assert np.array_equal(after.images[0], through_jpeg(before.images[0], 80))


def test_without_data_the_paper_is_not_reproduced(tmp_path: Path) -> None:
    with pytest.raises(NeedsData, match="--data-root"):
        open_bench("ltim", Setup(profile="paper"))
    with pytest.raises(NeedsData, match="cyclegan"):
        open_bench("gan", Setup(tmp_path, "paper"))
    with pytest.raises(FolderError, match="does not exist"):
        open_bench("ltim", Setup(tmp_path / "gone", "paper"))


def test_demo_generators_without_weights_are_absent_and_splits_are_of_disjoint_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, absent = demo_sources(["demo-deconv2", "demo-imagined"], SIZE, 3, 2)
    assert list(found) == ["demo-deconv2"] and absent == {"demo-imagined": "absent: its weights are not shipped"}
    sets = found["demo-deconv2"].load(None)
    assert sets.test_real is not None and sets.test_fake is not None
    pools = (sets.real, sets.fake, sets.test_real, sets.test_fake)
    assert [len(p) for p in pools] == [3, 3, 2, 2]
    assert len({name.split()[-1] for p in pools for name in p.names}) == 10
    again = demo_sources(["demo-deconv2"], SIZE, 3, 2)[0]["demo-deconv2"]
    assert again.digest == found["demo-deconv2"].digest and again.load(None).fake.hashes == sets.fake.hashes
    assert demo_sources(["demo-deconv2"], SIZE, 3, 3)[0]["demo-deconv2"].digest != again.digest


def test_make_root_links_images_into_the_layout(tmp_path: Path) -> None:
    write_images(tmp_path / "fakes", noise_images(4, SIZE, 1))
    for k, name in enumerate(("train", "test")):
        write_images(tmp_path / name, noise_images(3, SIZE, 2 + k), name)
    (tmp_path / "train" / "notes.txt").write_text("no image", encoding="utf-8")
    command = [sys.executable, str(PROJECT_DIR / "scripts" / "make_root.py"), str(tmp_path / "root")]
    command += ["--generator", f"g={tmp_path / 'fakes'}", "--real", str(tmp_path / "train")]
    command += ["--test-real", str(tmp_path / "test")]
    for _ in range(2):  # a second call changes nothing
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["g/1_fake: 4 images", "g/0_real: 3 images", "g/test/0_real: 3 images"]
    assert answer.stderr == f"left out, no image: {tmp_path / 'train' / 'notes.txt'}\n"
    assert all(p.is_symlink() for p in (tmp_path / "root").rglob("*.png"))
    sets = folder_sources(tmp_path / "root", [], SIZE)[0]["g"].load(None)
    assert sets.test_real is not None and (len(sets.real), len(sets.fake), len(sets.test_real)) == (3, 4, 3)


# Tables


def test_planted_patterns_are_found_and_absent_ones_are_not() -> None:
    both, methods = bench(strong=planted(), none=planted(strength=0)), ["marra18", "joslin20"]
    table = run_grid(both, "Tab. A", [24], [0, 1], method=methods, filter=[FILTER])
    assert list(table["status"]) == ["ok"] * 8
    means = matrix(table, "method")
    assert means.loc["Marra18", "strong"] > 0.95 and abs(means.loc["Marra18", "none"] - 0.5) < 0.25
    assert set(table["filter"]) == {"Gaussian high-pass"} and set(table["prior"]) == {""}
    assert str(table["n_train"].dtype) == "Int64"


def test_dif_finds_what_was_planted_with_every_prior() -> None:
    easy = dataclasses.replace(bench(strong=planted()), plan=DifPlan(steps=40, batch=16, margin=0.2))
    table = run_grid(easy, "Tab. C", [16], [0], prior=["unet", "dnet"])
    assert set(table["prior"]) == {"U-Net", "D-Net"}
    assert (table["auc"] > 0.9).all()


def test_train_size_says_what_the_data_are_too_few_for() -> None:
    table = run_grid(bench(g=planted(30)), "Figs. B, C", [4, 16, 64], [0, 1], method=["marra18"])
    by_size = table.groupby("n_train")["status"].first()
    assert by_size[4] == by_size[16] == "ok" and by_size[64].startswith("too few images: 30 real")
    assert set(good(table)["n_real"]) == {14}  # what the largest N_S that is possible leaves


def test_variants_test_a_parents_fingerprint_on_its_child() -> None:
    other = Sets(pool(30, 11), pool(30, 12, 6.0))
    both = bench(parent=planted(30), child=other)
    table = detection.variants(both, {"child": "parent"}, 12, [0], "marra18")
    rows = table.set_index(["generator", "fitted_on"])
    assert set(rows.index) == {("parent", "parent"), ("child", "parent"), ("child", "child")}
    assert rows.loc[("child", "parent"), "auc"] > 0.95
    (claim,) = verdicts.variant_claims(table, {"child": "parent"}, "test data")
    assert claim.verdict == "holds" and "child" in claim.text
    (few,) = verdicts.variant_claims(table.assign(n_real=4, n_fake=4), {"child": "parent"}, "test data")
    assert few.verdict == "undecided"  # an AUC of 1 on 4 + 4 images may be .6
    unrelated = table[table["fitted_on"] == "parent"].assign(generator="other", auc=1.0)
    (claim,) = verdicts.variant_claims(pd.concat([table, unrelated]), {"child": "parent"}, "test data")
    assert claim.verdict == "does not hold" and "unrelated other 1.000" in str(claim.ours)
    images, titles = detection.variant_images(both, {"child": "parent"}, 3)
    assert titles == ["parent"] * 3 + ["child"] * 3 and np.array_equal(images[3], other.fake.images[0])


def shared_reals(root: Path, own_tests: int = 0) -> Bench:
    """Two generators of a folder, all of whose reals are the same pictures; all have ``own_tests`` test images."""
    for name, seed in (("a", 2), ("b", 3)):
        write_images(root / name / "0_real", noise_images(40, SIZE, 1))
        write_images(root / name / "1_fake", with_pattern(noise_images(40, SIZE, seed), grid(SIZE), 6.0))
        if own_tests and name == "a":
            write_images(root / name / "test" / "0_real", noise_images(own_tests, SIZE, 5))
    setup = Setup(root, generators=["a", "b"], size=SIZE, denoiser=FILTER, control_quality=0, test=0)
    found = open_bench("ltim", setup)
    return dataclasses.replace(found, plan=DifPlan(steps=40, batch=16, margin=0.2))


def test_generators_that_share_their_reals_are_tested_on_those_that_were_not_drawn(tmp_path: Path) -> None:
    shared = shared_reals(tmp_path)
    table = detection.variants(shared, {"b": "a"}, 24, [0, 1], "marra18")
    assert set(table["status"]) == {"ok"} and set(table["n_real"]) == {16} and (table["auc"] > 0.9).all()
    sets = shared.load("a>b|native")
    parts = divide(sets, 24, 0)  # checks that nothing is in both
    assert sorted([*parts.real.hashes, *parts.test_real.hashes]) == sorted(sets.real.hashes)
    assert set(parts.test_fake.hashes) == set(shared.load("b|native").fake.hashes) and len(parts.test_fake) == 40


def test_test_reals_of_their_own_go_before_what_a_draw_leaves(tmp_path: Path) -> None:
    parts = divide(shared_reals(tmp_path, 12).load("a>b|native"), 40, 0)
    assert set(parts.test_real.hashes) == set(map(sha256_pixels, noise_images(12, SIZE, 5)))


def test_without_a_pair_the_variants_say_what_is_missing() -> None:
    real = dataclasses.replace(bench(sd14=planted(), g=planted()), real_data=True)
    assert detection.variant_parents(real) == {}
    with pytest.raises(NeedsData, match="sd14s from sd14, .*; has sd14, g$"):
        detection.variants(real, detection.variant_parents(real), 12, [0])


def test_boundary_energy_is_measured_where_it_is() -> None:
    frame = np.ones((3, SIZE, SIZE), np.float32)
    frame[:, 6:-6, 6:-6] = 0
    checker = frame * np.where(np.indices((SIZE, SIZE)).sum(0) % 2, 1, -1)
    fakes = with_pattern(noise_images(40, SIZE, 2), checker, 20)
    bordered = Sets(pool(40, 1), make_pool(fakes, list(map(str, range(40))), None))
    table = detection.boundary_table(bench(bordered=bordered, even=planted()), 20).set_index("generator")
    assert table.loc["bordered", "border"] > 5 > 2 > table.loc["even", "border"] > 0.5


def test_cells_of_one_table_serve_another(monkeypatch: pytest.MonkeyPatch) -> None:
    both = bench(g=planted())
    first = run_grid(both, "methods", [12], [0], method=["marra18"])

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("difcore.detectors.methods.fit", never)
    second = run_grid(both, "Tab. A", [12], [0], method=["marra18"], filter=[FILTER])
    pd.testing.assert_frame_equal(first, second)
    with pytest.raises(CellsFailed, match="1 of 1 cells failed: AssertionError: computed again"):
        run_grid(both, "methods", [13], [0], method=["marra18"])


# Summaries and claims


def test_means_over_seeds_generators_and_pairs_are_right() -> None:
    rows = [("a", "DIF", 0, 0.9), ("a", "DIF", 1, 0.8), ("b", "DIF", 0, 0.6), ("a", "X", 0, 0.5), ("a", "X", 1, 0.7)]
    table = table_of(rows)
    assert mean_of(table, "method") == pytest.approx({"DIF": 0.85, "X": 0.6})  # b has no X
    assert paired_gap(table, "method", "DIF", "X").value == pytest.approx(0.25)
    summary = over_seeds(table).set_index(["generator", "method"])
    assert summary.loc[("a", "DIF"), "seeds"] == 2 and summary.loc[("a", "DIF"), "accuracy"] == pytest.approx(0.85)
    low, high = mean_interval([0.9, 0.8])
    assert (low, high) == pytest.approx((0.85 - 12.7062 * 0.05, 1.0), abs=1e-4)  # t(0.975, 1) s / sqrt 2
    drawn = bars(table, "method", "generator", {"DIF": {"a": 92.3}})
    first = drawn.iloc[0]
    assert (first.accuracy, first.paper) == pytest.approx((0.85, 92.3)) and np.isnan(drawn.iloc[1].paper)
    assert np.isnan(mean_interval([0.5])[0])


def test_summaries_of_unequal_classes_are_balanced_by_hand() -> None:
    # 240 reals all right and 68 fakes all wrong, then 240 and 34: shares 1 and .25, their mean .625.
    table = table_of([("a", "DIF", 0, 0.5), ("a", "DIF", 1, 0.75)], n_real=240, n_fake=68)
    table = table.assign(accuracy_real=1.0, accuracy_fake=[0.0, 0.5])
    row = over_seeds(table).iloc[0]
    assert (row.accuracy, row.accuracy_real, row.accuracy_fake) == (0.625, 1.0, 0.25)
    assert (row.accuracy_low, row.accuracy_high) == balanced_interval(240, 240, 17, 68)


def test_draws_on_one_generator_are_no_evidence_on_generators() -> None:
    """Ten draws each on three generators: the interval is that of three numbers, not of thirty."""
    of = {"a": 0.1, "b": 0.2, "c": 0.6}
    rng = np.random.default_rng(0)
    rows = []
    for name, gap in of.items():
        for seed, noise in enumerate(rng.normal(0, 0.001, 10)):
            rows += [(name, "DIF", seed, 0.3 + gap + noise), (name, "X", seed, 0.3)]
    found = paired_gap(table_of(rows), "method", "DIF", "X")
    assert found.value == pytest.approx(0.3, abs=1e-3) and found.basis == "3 generators"
    # Student's t(.975, 2) = 4.3027, s = .26458: 0.3 +- 0.657
    assert found.interval == pytest.approx((0.3 - 0.657, 0.3 + 0.657), abs=0.005) and found.p(0) > 0.05
    two = paired_gap(table_of([row for row in rows if row[0] != "c"]), "method", "DIF", "X")
    assert two.basis == "10 draws, 2 generators alone" and two.interval[0] > 0.1
    alone = paired_gap(table_of([row for row in rows if row[0] == "b" and row[2] == 0]), "method", "DIF", "X")
    # Accuracies .5 and .3 of 500 + 500 images each: Newcombe's interval of the difference, halved for each class.
    assert alone.basis == "the test images, 1 generator and these fits alone"
    shares = [wilson(round(500 * share), 500) for share in (alone.value + 0.3, 0.3)]
    low = np.sqrt(((alone.value + 0.3 - shares[0][0]) ** 2 + (shares[1][1] - 0.3) ** 2) / 2)
    assert alone.interval[0] == pytest.approx(alone.value - low, abs=1e-3)
    assert np.isnan(paired_gap(table_of(rows[:1]), "method", "DIF", "X").value)


def test_a_generators_luck_is_rarely_called_a_methods_merit() -> None:
    """Two methods alike on average, each better on some generators: one time in twenty is allowed."""
    rng, trials, found, naive = np.random.default_rng(4), 120, 0, 0
    for _ in range(trials):
        gaps = rng.normal(0, 0.1, 4)
        rows = [
            (name, method, seed, 0.7 + (method == "DIF") * gap + rng.normal(0, 0.005))
            for name, gap in zip("abcd", gaps, strict=True)
            for method in ("DIF", "X")
            for seed in range(3)
        ]
        table = table_of(rows, n_real=10_000, n_fake=10_000)
        low, high = paired_gap(table, "method", "DIF", "X").interval
        found += low > 0 or high < 0
        cells = table.pivot_table(index=["generator", "seed"], columns="method", values="accuracy")
        low, high = t_estimate(cells["DIF"] - cells["X"], "each draw for itself").interval
        naive += low > 0 or high < 0
    assert found <= 14 < 24 < naive  # binomial of 120 at 5 %: 6 with a standard deviation of 2.4


def test_no_interval_is_narrower_than_the_test_images_allow() -> None:
    rows = [(name, method, 0, share) for name in "abc" for method, share in (("DIF", 0.9), ("X", 0.8))]
    same = paired_gap(table_of(rows, n_real=10, n_fake=10), "method", "DIF", "X")
    assert same.value == pytest.approx(0.1) and same.interval[0] < 0 and same.p(0) > 0.05
    table = table_of(rows, n_real=5000, n_fake=5000)
    assert paired_gap(table, "method", "DIF", "X").p(0) < 1e-6
    assert paired_gap(table.round(4), "method", "DIF", "X").p(0) == pytest.approx(0.25)  # three alike: by their sign


def filters(values: dict[tuple[str, str], float]) -> pd.DataFrame:
    parts = [table_of([(g, f, 0, v + d) for g, d in (("a", 0.0), ("b", 0.01), ("c", -0.01))], "filter", method=m)
             for (m, f), v in values.items()]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def verdicts_of(claims: list[Claim]) -> list[str]:
    return [claim.verdict for claim in corrected(claims)]


def test_table_a_claims_follow_the_numbers() -> None:
    high, deep = "Gaussian high-pass", "DnCNN (photos)"
    values = {(m, f): v for m, pair in {"DIF": (0.7, 0.9), "Marra18": (0.5, 0.6), "Joslin20": (0.6, 0.5)}.items()
              for f, v in zip((high, deep), pair, strict=True)}  # fmt: skip
    assert verdicts_of(verdicts.filter_claims(filters(values), "x")) == ["holds", "does not hold", "holds", "holds"]
    values[("Joslin20", high)] = 0.505
    assert verdicts_of(verdicts.filter_claims(filters(values), "x"))[1] == "undecided"
    values[("Marra18", deep)] = 0.95
    assert verdicts_of(verdicts.filter_claims(filters(values), "x"))[-1] == "does not hold"
    values[("Marra18", deep)] = 0.895
    assert verdicts_of(verdicts.filter_claims(filters(values), "x"))[-1] == "undecided"
    del values[("DIF", high)]
    assert verdicts.filter_claims(filters(values), "x")[2].verdict == "not comparable"


def test_table_b_is_the_papers_and_a_change_would_show() -> None:
    table = tab_b.block_table()
    assert [claim.verdict for claim in tab_b.block_claims(table)] == ["holds"] * 9
    changed = table.assign(c_out_ours=table["c_out_ours"].replace(256, 255))
    assert [c.verdict for c in tab_b.block_claims(changed)].count("does not hold") == 1
    model = UNet()
    model.last = __import__("torch").nn.Conv2d(32, 4, 1)
    assert tab_b.read_blocks(model)[-1].c_out == 4
    facts = tab_b.detail_table().set_index("detail")["ours"]
    assert facts["kernel of the blocks' convolutions"] == "3x3" and facts["kernel of the deconvolutions"] == "2x2"


def test_table_c_claims_follow_the_numbers() -> None:
    accuracy = {"U-Net": (0.95, 0.9), "U1-Net": (0.94, 0.85), "D-Net": (0.945, 0.895), "C-Net": (0.6, 0.85)}
    rows = [(name, prior, seed, v) for prior, pair in accuracy.items() for name, v in zip(("sd14", "glide"), pair)  # noqa: B905
            for seed in range(3)]  # fmt: skip
    borders = pd.DataFrame({"generator": ["sd14", "glide"], "border": [1.0, 4.0], "status": "ok"})
    many = {"n_real": 50_000, "n_fake": 50_000}
    found = verdicts.architecture_claims(table_of(rows, "prior", **many), borders, "x")
    assert verdicts_of(found) == ["holds"] * 4
    few = verdicts.architecture_claims(table_of(rows, "prior", n_real=40, n_fake=40), borders, "x")
    assert verdicts_of(few) == ["holds", "undecided", "holds", "undecided"]
    turned = verdicts.architecture_claims(table_of(rows, "prior", **many), borders.assign(border=[4.0, 1.0]), "x")
    assert verdicts_of(turned) == ["holds", "holds", "does not hold", "does not hold"]
    demo = [(name.replace("glide", "demo-x"), *rest) for name, *rest in rows]
    borders = borders.assign(generator=["sd14", "demo-x"])
    assert verdicts.architecture_claims(table_of(demo, "prior"), borders, "x")[3].verdict == "not comparable"


def curve(values: dict[int, float], names: str = "abcde", **constant: object) -> pd.DataFrame:
    tables = [table_of([(g, "DIF", 0, v) for g in names], n_train=n, **constant) for n, v in values.items()]
    return pd.concat(tables, ignore_index=True)


def test_train_size_claims_follow_the_numbers() -> None:
    many = {"n_real": 50_000, "n_fake": 50_000}
    assert verdicts.size_claims(curve({128: 0.90, 256: 0.95, 512: 0.96}, **many), "x")[0].verdict == "holds"
    assert verdicts.size_claims(curve({128: 0.95, 512: 0.96}, **many), "x")[0].verdict == "does not hold"
    unstable = verdicts.size_claims(curve({128: 0.94, 256: 0.90, 512: 0.99}, **many), "x")[0]
    assert unstable.verdict == "does not hold"  # 5 points at 128, and as many between 256 and 512
    few = curve({128: 0.90, 256: 0.95, 512: 0.96}, n_real=40, n_fake=40)
    assert verdicts.size_claims(few, "x")[0].verdict == "undecided"
    small, order = verdicts.size_claims(curve({16: 0.7, 128: 0.9}), "x")
    assert small.verdict == "not comparable" and order.verdict == "undecided"  # 5 curves of 2 points: p = 2 / 32


def test_the_order_of_training_sizes_goes_by_all_points() -> None:
    def order(values: dict[int, float], **constant: object) -> Claim:
        return verdicts.size_claims(curve(values, **constant), "x")[1]

    assert order({16: 0.7, 32: 0.8, 64: 0.9}).verdict == "holds"
    assert order({16: 0.9, 32: 0.8, 64: 0.7}).verdict == "does not hold"
    assert order({16: 0.9, 32: 0.9, 64: 0.9}).verdict == "undecided"
    ends = order({16: 0.85, 32: 0.8, 64: 0.75, 128: 0.7, 256: 0.9})  # the ends rise, all between them falls
    assert ends.verdict == "undecided" and "points lost from N_S = 256 to 16: a 5.0" in str(ends.ours)
    one = pd.concat([curve({16: 0.7, 32: 0.8, 64: 0.9}, "a").assign(seed=seed) for seed in range(4)])
    assert verdicts.size_claims(one, "x")[1].verdict == "holds"  # four draws of one generator


def test_consistency_claims_follow_the_numbers() -> None:
    wide, narrow = [0.7, 0.95, 0.72, 0.93, 0.74, 0.96, 0.71, 0.97, 0.7, 0.9], [0.6 + 0.001 * k for k in range(10)]

    def draws(dif: list[float], other: list[float]) -> pd.DataFrame:
        pairs = (("DIF", dif), ("ResNet-50", other))
        return table_of([("a", m, k, v) for m, values in pairs for k, v in enumerate(values)])

    assert verdicts_of(verdicts.consistency_claims(draws(wide, narrow), "x")) == ["holds"] * 2
    assert verdicts_of(verdicts.consistency_claims(draws(narrow, wide), "x")) == ["does not hold"] * 2
    alike = [0.6 + 0.001 * k for k in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    assert verdicts_of(verdicts.consistency_claims(draws(narrow, alike), "x")) == ["undecided"] * 2
    two = verdicts.consistency_claims(draws([0.7, 0.9], [0.6, 0.61]), "x")[0]
    assert two.verdict == "undecided" and "2 draws" in two.why
    (claim,) = verdicts.consistency_claims(draws([0.7], [0.6]), "x")
    assert claim.verdict == "not comparable"


def test_a_gap_whose_interval_includes_0_is_undecided() -> None:
    sure, open_, wrong, nothing = (
        judge_above("better", "yes", "ours", t_estimate(gaps, "3 generators"), 0.0, "it is worse")
        for gaps in ((0.1, 0.12, 0.11), (0.1, -0.05, 0.3), (-0.1, -0.12, -0.11), (0.1,))
    )
    assert (sure.verdict, sure.why) == ("holds", "")
    assert open_.verdict == "undecided" and open_.why.endswith("over 3 generators: either way is possible")
    assert (wrong.verdict, wrong.why) == ("does not hold", "it is worse")
    assert nothing.verdict == "undecided" and nothing.p == 1


def test_a_notebooks_claims_are_corrected_together() -> None:
    gaps = [t_estimate((0.1, 0.12, 0.11 + k), "x") for k in (0.0, 0.05, 0.05, 0.05)]
    claims = [judge_above(f"claim {k}", None, "x", gap, 0.0, "no") for k, gap in enumerate(gaps)]
    claims.append(Claim("no test", None, None, "not comparable", "no data"))
    claims.append(Claim("by eye", None, None, "consistent", "few", 0.5, open="consistent"))
    assert [c.verdict for c in claims[:4]] == ["holds"] * 4 and 0.01 < (claims[1].p or 0) < 0.05
    found = corrected(claims, "the recipe")
    assert [c.verdict for c in found] == ["holds", *["undecided"] * 3, "not comparable", "consistent"]
    assert "corrected for 5 claims (Holm)" in found[1].why
    assert [c.tuned for c in found] == ["the recipe"] * 4 + ["", "the recipe"]


def test_better_than_all_is_as_sure_as_the_least_sure() -> None:
    clear, faint = t_estimate((0.1, 0.12, 0.11), "x"), t_estimate((0.1, 0.0, 0.2), "y")
    worse, perhaps = t_estimate((-0.1, -0.12, -0.11), "z"), t_estimate((-0.1, 0.02, 0.01), "z")
    assert judge_best("t", None, "x", [clear, clear], "no").verdict == "holds"
    assert judge_best("t", None, "x", [clear, faint], "no").verdict == "undecided"
    assert judge_best("t", None, "x", [clear, faint, worse], "no").verdict == "does not hold"
    assert judge_best("t", None, "x", [clear, perhaps], "no").verdict == "undecided"


def test_near_means_the_whole_interval() -> None:
    def near(*values: float) -> str:
        return judge_near("t", None, "x", t_estimate(values, "x"), 0.05, 0.03, "far").verdict

    assert [near(0.05, 0.051, 0.049), near(0.05, 0.09, 0.02), near(0.1, 0.101, 0.099)] == [
        "holds", "undecided", "does not hold",
    ]  # fmt: skip


def test_method_claims_name_every_comparator() -> None:
    table = table_of([("a", "DIF", 0, 0.9), ("a", "Grag21", 0, 0.6), ("a", "Marra18", 0, 0.95), ("a", "X", 0, 0.9)])
    found = corrected(verdicts.method_claims(table, "x"))
    assert {c.text.split("than ")[1].split()[0]: c.verdict for c in found} == {
        "Grag21": "holds", "Marra18": "does not hold", "X": "undecided",
    }  # fmt: skip
    assert "these fits alone" in str(found[0].ours)
