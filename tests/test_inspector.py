"""The inspector's parts: peaks, rho by lattice, rho by shift, the limit; its widget; two fingerprints compared."""

import re
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from test_widgets import all_text, assert_each_control_redraws, control, descendants, pngs
from tiny import grid, noise_images

from difcore.experiments.comparing import compared, comparison_claims
from difcore.experiments.showroom import FILES, Room, inspection_claims, known_fingerprints
from difcore.figures.inspection import Look, comparison
from difcore.figures.spectra import lag_correlation, local_correlation, rho_by_frequency, spectral_peaks
from difcore.figures.style import png
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.null import null_of
from difcore.widgets import comparer, inspector

SIZE = 32


def noise(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, size, size))


@pytest.fixture
def room() -> Room:
    null = null_of({"reals": np.random.default_rng(5).normal(0, 0.01, 60)})
    detectors = {
        name: Detector(torch.tensor(grid(SIZE, 8, k) + noise(k), dtype=torch.float32), 0.0, 0.1, name=name, null=null)
        for k, name in enumerate(("a", "b"))
    }
    pictures = noise_images(5, SIZE)
    names = ("real_000.png", "a_000.png", "real_001.png", "a_001.png")
    small = noise_images(1, 16)[0]
    return Room(detectors, dict(zip(names, pictures, strict=False)) | {"small_000.png": small})


@pytest.mark.parametrize("period", [2, 4, 8])
def test_the_lines_of_a_lattice_are_found_with_their_period(period: int) -> None:
    found = spectral_peaks(grid(64, period) + 0.3 * noise(1, 64))
    assert len(found) and set(found["grid"]) <= {2, 4, 8} and found["grid"].max() == period
    assert np.allclose(found["period"], 1 / np.hypot(found["fy"], found["fx"]))


def test_white_noise_has_hardly_any_lines() -> None:
    assert sum(len(spectral_peaks(noise(seed, 64))) for seed in range(40)) <= 8  # each at 5 % or less
    assert len(spectral_peaks(np.ones((3, 32, 32)))) == 0


def test_rho_by_lattice_adds_up_and_says_which() -> None:
    pattern, residual = grid(SIZE, 8) + noise(1), 0.2 * grid(SIZE, 8) + noise(2)
    parts = rho_by_frequency(residual, pattern)
    assert sum(parts.values()) == pytest.approx(local_correlation(residual, pattern, 1).mean(), abs=1e-12)
    pure = rho_by_frequency(grid(SIZE, 4), grid(SIZE, 4))
    assert pure["rest"] == pytest.approx(0, abs=1e-12) and pure["4 px"] > 0.5 and pure["8 px"] < 1e-12


def test_rho_by_shift_finds_the_shift() -> None:
    a = noise(1)
    shifted = np.roll(a, (3, -5), (1, 2))
    lags = lag_correlation(shifted, a)
    assert np.unravel_index(lags.argmax(), lags.shape) == (SIZE // 2 + 3, SIZE // 2 - 5)
    assert lags.max() == pytest.approx(1)
    assert lags[SIZE // 2, SIZE // 2] == pytest.approx(float(ncc(shifted[None], a[None])[0, 0]), abs=1e-6)


def test_the_limit_is_where_the_null_allows_the_rate() -> None:
    null = null_of({"reals": np.random.default_rng(0).normal(0, 0.01, 60)})
    assert null is not None
    limit = null.limit(0.01)
    assert limit is not None and null.p(limit) <= 0.01 < null.p(limit - 0.001)
    assert null.limit(1e-6) is None  # so few reals cannot vouch for it


def test_the_inspector_redraws_saves_and_says_how_to_repeat_it(room: Room, tmp_path: Path) -> None:
    box = inspector(room, tmp_path)
    assert len(pngs(box)) == 2
    changes: dict[str, Any] = {
        "Fingerprint": "b", "Image": "a_000.png", "Channel": "G", "Gain": 2.0, "Colours": "viridis",
        "Spectrum power": 1.0, "Zoom": 2, "Cursor, row": 3, "Cursor, column": 30,
    }  # fmt: skip
    assert_each_control_redraws(box, changes)
    text = all_text(box).replace("&#x27;", "'")
    code = re.search(r"room\.view\(.*?Look\(.*?\)\)", text)
    assert code is not None
    assert png(eval(code[0], {"room": room, "Look": Look}), effort=1) == pngs(box)[0]
    residual = room.seen("b", "a_000.png")[1][:, 3, 30]
    assert f"Row 3, column 30: image {', '.join(map(str, room.images['a_000.png'][3, 30]))}" in text
    assert " ".join(f"{v:+.4f}" for v in residual) in text
    next(w for w in descendants(box) if isinstance(w, ipywidgets.Button)).click()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "inspector.png", "inspector.svg", "inspector_charts.png", "inspector_charts.svg",
    ]  # fmt: skip
    assert "<svg" in (tmp_path / "inspector.svg").read_text(encoding="utf-8")


def test_an_image_that_is_too_small_is_said_to_be(room: Room) -> None:
    box = inspector(room)
    control(box, "Image").value = "small_000.png"
    assert pngs(box) == [] and "too small: 16x16" in all_text(box)


def test_what_is_too_small_or_no_image_is_in_no_ones_way(room: Room, tmp_path: Path) -> None:
    (tmp_path / "notes_000.txt").write_text("text", encoding="utf-8")
    useless = {"a_009.png": noise_images(1, 16)[0], "b_000.png": tmp_path / "notes_000.txt"}
    more = Room(room.detectors, {**room.images, **useless})
    table = more.table(["a"]).set_index("image")
    assert list(table.index[table.rho.isna()]) == ["small_000.png", "a_009.png", "b_000.png"]
    (row,) = compared(more, draws=19).to_dict("records")
    assert (row["n_real"], row["n_a"], row["n_b"]) == (2, 2, 0)
    with pytest.raises(ValueError, match="two fingerprints of one size"):
        compared(Room({"a": room.detectors["a"]}, room.images))


def test_comparison_and_its_widget(room: Room) -> None:
    patterns = {name: d.pattern.numpy() for name, d in room.detectors.items()}
    assert_each_control_redraws(comparer(patterns), {"Channel": "R", "Spectrum power": 1.0, "Shifts (px)": 8})
    different = comparer({"a": patterns["a"], "b": patterns["b"][:, :16, :16]})
    assert pngs(different) == [] and "different sizes" in all_text(different)
    assert png(comparison([patterns["a"], patterns["a"]], ["a", "a"])).startswith(b"\x89PNG")


def test_pairs_and_claims(room: Room) -> None:
    images = {name: image for name, image in room.images.items() if not name.startswith("small")}
    images |= {name.replace("a_", "b_"): image for name, image in images.items() if name.startswith("a_")}
    (row,) = compared(Room(room.detectors, images), draws=19).to_dict("records")
    a, b = (d.pattern.numpy() for d in room.detectors.values())
    assert row["ncc"] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
    assert row["ncc_low"] < row["ncc"] < row["ncc_high"] and (row["n_real"], row["n_a"], row["n_b"]) == (2, 2, 2)
    assert 0 <= row["auc_ab"] <= 1 and 0 < row["shift_p"] <= 1
    bare = compared(Room(room.detectors, {}))
    assert "kinship" not in bare and bare["n_real"].tolist() == [0]
    claims = comparison_claims(bare, room, ("a", "b"), "c", "these")
    assert [claim.verdict for claim in claims] == ["not comparable"] * 2
    table = room_table = pd.DataFrame({"image": ["real_0.png", "x_0.png"], "fingerprint": ["x", "x"], "z": [0.0, 9.0]})
    assert inspection_claims(table, "these")[0].verdict == "undecided"
    assert inspection_claims(room_table.iloc[:0], "these")[0].verdict == "not comparable"


def test_shipped_fingerprints_have_a_null_and_their_filter() -> None:
    found = known_fingerprints(["demo"])
    assert list(found) == list(FILES)
    for detector in found.values():
        assert detector.crop == 128 and detector.null is not None and detector.null.n >= 60
        assert detector.denoiser is not None and detector.metadata["denoiser_sha256"] == detector.denoiser.hash
    assert known_fingerprints([str(FILES["demo-nearest"])]).keys() == {"demo-nearest"}
