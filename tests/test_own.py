"""Your own folders: a planted pattern is found again, the model card says what was measured, bad input is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import grid, noise_images, with_pattern, write_images

from difcore.experiments.own import (
    OwnFit,
    Sizes,
    demo_folders,
    detect_claims,
    detect_your_own,
    model_card,
    train_your_own,
)
from difcore.fingerprints.dif import DifPlan
from difcore.records.cells import NotEnough
from difcore.residuals.denoisers import load_denoiser

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, TRAIN = 32, 24
ALONE = Sizes(TRAIN, SIZE, 0)
FILTER = load_denoiser("highpass", limit=0.7)


def generated(count: int, seed: int) -> np.ndarray:
    """Noise images with a grid of period 4."""
    return with_pattern(noise_images(count, SIZE, seed), grid(SIZE), 6.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("folders")
    write_images(root / "real", noise_images(40, SIZE, 1))
    write_images(root / "fake", generated(40, 2))
    (root / "fake" / "broken.png").write_bytes(b"no image")
    return root / "real", root / "fake"


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> OwnFit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train_your_own(*folders, FILTER, DifPlan(steps=60, seed=4), "planted", sizes=Sizes(TRAIN, SIZE))


def test_a_planted_pattern_is_found_in_images_that_were_not_drawn(trained: OwnFit) -> None:
    native, control = trained.table.itertuples()
    assert (native.encoding, control.encoding) == ("native", "JPEG q95")
    assert native.auc > 0.95 and native.n_real == native.n_fake == 16 and native.seed == 4
    assert trained.rho["fake"].mean() > trained.rho["real"].mean()
    assert [path.name for path in (Path(s.path) for s in trained.skipped)] == ["broken.png"]


def test_the_model_card_says_what_was_measured(trained: OwnFit) -> None:
    card = model_card(trained, "noise")
    native = trained.table.iloc[0]
    assert "# Fingerprint planted" in card and "noise; 24 + 24 to fit on, drawn with seed 4" in card
    assert "highpass" in card and "residuals limited to 0.7 of their root mean square" in card
    assert "- F_DnCNN: none" in card
    assert f"| native | {native.accuracy:.3f} |" in card and f"{native.auc:.3f}" in card and "16 + 16" in card
    assert "1 images were left out" in card and "60 steps" in card and "Warning" not in card
    assert "Verdict on the two folders: alike" in card


def test_an_averaged_residual_says_so(folders: tuple[Path, Path], cache: Path) -> None:
    run = train_your_own(*folders, FILTER, DifPlan(steps=2), "mean", "marra18-zm", ALONE)
    assert run.table.auc[0] > 0.95 and run.detector.method == "marra18-zm"
    card = model_card(run, "noise")
    assert "averaged residual" in card and "mean-free" in card and "steps of" not in card
    with pytest.raises(ValueError, match="unknown method 'joslin20'; choose from dif, marra18, marra18-zm"):
        train_your_own(*folders, FILTER, DifPlan(steps=2), method="joslin20", sizes=ALONE)


def test_the_fit_is_computed_where_the_filter_is(folders: tuple[Path, Path], cache: Path) -> None:
    elsewhere = replace(FILTER, device="cpu:0")
    run = train_your_own(*folders, elsewhere, DifPlan(steps=2), method="marra18", sizes=ALONE)
    assert run.detector.metadata["device"] == "cpu:0"


def test_folders_of_two_formats_are_warned_of(folders: tuple[Path, Path], tmp_path: Path, cache: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for path in folders[0].iterdir():
        Image.open(path).save(real / f"{path.stem}.jpg", quality=90)
    plain = load_denoiser("highpass")
    run = train_your_own(real, folders[1], plain, DifPlan(steps=2), sizes=ALONE)
    assert len(run.table) == 1
    card = model_card(run, "noise")
    assert "Warning: " in card and "JPEG" in card and "residuals not limited" in card
    assert "Verdict on the two folders: confounded: the classes differ in encoding" in card


def test_what_cannot_be_trained_on_is_refused(folders: tuple[Path, Path], cache: Path) -> None:
    with pytest.raises(NotEnough):
        train_your_own(*folders, FILTER, DifPlan(steps=2), sizes=Sizes(39, SIZE))
    for pair in ((folders[0], ""), ("", folders[1])):
        with pytest.raises(ValueError, match="both folders"):
            train_your_own(*pair, FILTER, DifPlan(steps=2), "planted", sizes=ALONE)


def test_detection_takes_the_filter_of_the_fit(trained: OwnFit, tmp_path: Path, cache: Path) -> None:
    file = trained.detector.save(tmp_path / "planted.safetensors")
    write_images(tmp_path / "unknown", generated(6, 7), "fake_")
    write_images(tmp_path / "unknown", noise_images(6, SIZE, 8), "real_")
    (tmp_path / "unknown" / "broken.png").write_bytes(b"no image")
    found = detect_your_own([file], tmp_path / "unknown", "highpass")
    assert (found.bank.filter().hash, found.bank.filter().limit) == (FILTER.hash, 0.7)
    rho = found.table.set_index("image").rho
    assert rho[rho.index.str.startswith("fake")].min() > rho[rho.index.str.startswith("real")].median()
    assert len(found.skipped) == 1 and len(found.z(3)) == 3
    verdicts = found.table.set_index("image").verdict
    assert (verdicts[rho.index.str.startswith("fake")] == "generated").all()
    assert not (verdicts[rho.index.str.startswith("real")] == "generated").any()
    best = found.best()
    assert best is not None and best.z == found.table.z.max() and best.image.startswith("fake")
    assert len(warnings := found.bank.warnings(0.01)) == 1 and "16 held-out reals only" in warnings[0]
    foreign = detect_your_own([trained.detector], tmp_path / "unknown", "photos")
    assert len(warnings := foreign.bank.warnings(0.01)) == 2 and "photos" in warnings[0]
    assert set(foreign.table.verdict) == {"not applicable"}
    assert set(foreign.table.reason) == {"fitted with filter highpass"} and foreign.best() is None


def test_the_fit_keeps_its_null_and_the_hashes_of_what_it_was_trained_on(
    trained: OwnFit, folders: tuple[Path, Path], tmp_path: Path, cache: Path
) -> None:
    found = trained.detector
    assert found.null is not None and list(found.null.kinds) == ["held-out reals"]
    np.testing.assert_array_equal(found.null.kinds["held-out reals"].rho, np.sort(trained.rho["real"]))
    table = trained.null_table()
    assert (table.n[0], table.n_fakes[0]) == (16, 16) and table.fakes_found[0] >= 15 and table.fakes_z[0] > 5
    assert len(found.trained) == 2 * TRAIN and len(found.null_images) == 16
    judged = detect_your_own([found], folders[1], "highpass").table.set_index("image")
    marked = judged.index[judged.reason == "in training set"]
    assert len(marked) == TRAIN and (judged.verdict[marked] == "not applicable").all()
    assert (judged.verdict.drop(marked) == "generated").sum() >= 15
    assert "16 held-out reals correlate by" in model_card(trained, "noise")


def told(origin: str, n: int, name: str, verdict: str, p: float = 0.5) -> list[dict[str, object]]:
    """Rows of images of ``origin`` whose best match is ``name``."""
    return [{"image": f"{origin}_{k}.png", "fingerprint": name, "verdict": verdict, "p_holm": p} for k in range(n)]


def test_naming_and_false_alarms_are_claims_of_their_own() -> None:
    fakes = told("a", 12, "a", "generated") + told("b", 2, "a", "generated") + told("b", 10, "b", "no match")
    for k, row in enumerate(fakes):
        row["image"] = f"{str(row['image']).split('_')[0]}_{k}.png"
    quiet = pd.DataFrame(fakes + told("real", 30, "a", "no match"))
    naming, alarms = detect_claims(quiet, "noise", 0.01)
    assert naming.verdict == "holds" and "22 of 24 fakes named rightly, 91.7 % [" in str(naming.ours)
    assert alarms.verdict == "consistent" and "0 of 30 reals" in str(alarms.ours) and alarms.p is not None
    loud = pd.DataFrame(told("real", 30, "a", "no match") + told("real", 5, "b", "generated"))
    naming, alarms = detect_claims(loud, "noise", 0.01)
    assert naming.verdict == "not comparable"  # no fake
    assert alarms.verdict == "does not hold" and alarms.p is not None and alarms.p < 1e-4
    mute = pd.DataFrame(told("real", 30, "a", "undecided", float("nan")) + told("a", 3, "a", "not applicable"))
    assert [claim.verdict for claim in detect_claims(mute, "noise")] == ["not comparable"] * 2


def test_detection_refuses_what_is_ambiguous(trained: OwnFit, tmp_path: Path, cache: Path) -> None:
    fingerprint = trained.detector
    images = [write_images(tmp_path / folder, noise_images(1, SIZE))[0] for folder in "ab"]
    with pytest.raises(ValueError, match="names of their own"):
        detect_your_own([fingerprint, fingerprint], images, "highpass")
    for pair in ((["f.safetensors"], ""), ([], images)):
        with pytest.raises(ValueError, match="neither for the demo"):
            detect_your_own(*pair, "highpass")
    with pytest.raises(ValueError, match="file names"):
        detect_your_own([fingerprint], images, "highpass")


def test_demo_folders_hold_what_made_the_images_in_their_names() -> None:
    with demo_folders(["demo-deconv2"], 2, SIZE) as made:
        names = {key: sorted(p.name for p in folder.iterdir()) for key, folder in made.items()}
        assert names["real"] == ["real_000.png", "real_001.png"] and len(names["demo-deconv2"]) == 2
    assert not any(folder.exists() for folder in made.values())
    with pytest.raises(FileNotFoundError, match="no such generator"), demo_folders(["no such generator"], 1, SIZE):
        pass
