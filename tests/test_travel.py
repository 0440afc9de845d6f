"""What travels and what survives: planted patterns through filters, operations and their tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import grid, noise_images, with_pattern

from difcore.experiments import robustness, travel
from difcore.experiments.bench import Bench
from difcore.experiments.pools import Sets, Source, make_pool
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.fitting import FitOptions
from difcore.images.changes import chain, changes
from difcore.images.crops import centre_crop
from difcore.residuals.denoisers import load_denoiser

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
REAL, PLAIN = noise_images(40, 64, 1), noise_images(40, 64, 2)
FAKE, OTHERS = with_pattern(PLAIN, grid(64, 8), 8), noise_images(20, 64, 3)


def source(name: str, fake: np.ndarray) -> Source:
    def load(quality: int | None) -> Sets:
        real, generated = (make_pool(x, [f"{name} {k}" for k in range(len(x))], quality) for x in (REAL, fake))
        return Sets(real, generated)

    return Source(name, name, load)


def bench() -> Bench:
    return Bench({"lattice": source("lattice", FAKE), "plain": source("plain", noise_images(40, 64, 4))},
                 crop=64, denoiser="highpass", label="noise")  # fmt: skip


def test_a_planted_pattern_is_found_at_home_and_away_and_in_no_other_generator() -> None:
    trip = travel.Trip(["marra18"], ["highpass:0.5", "wavelet"], 24, [0], ["lattice"])
    table = travel.travel_table(bench(), trip, lambda quality: make_pool(OTHERS, [str(k) for k in range(20)], quality))
    assert set(table.status) == {"ok"} and len(table) == 8 and set(table.method) == {"Marra18"}
    auc = table.groupby("test").auc.agg(["min", "max"])
    assert (auc.loc[[travel.HOME, travel.REALS], "min"] > 0.95).all()
    assert auc.loc[[travel.GENERATORS, travel.FALSE]].sub(0.5).abs().max().max() < 0.3
    short = travel.in_short(table)
    assert list(short.fits) == [1, 1] and {travel.HOME, travel.REALS} <= set(short)
    found = travel.travel_claims(table, "photos", "noise")
    assert [claim.verdict for claim in found] == ["undecided"]  # one generator, one draw


def test_other_reals_must_be_others() -> None:
    trip = travel.Trip(["marra18"], ["highpass"], 24, [0], ["lattice"])
    with pytest.raises(Exception, match="10 of the other reals are among those of lattice"):
        travel.travel_table(bench(), trip, lambda quality: make_pool(REAL[:10], [str(k) for k in range(10)], quality))


def test_operations_are_seeded_and_keep_or_change_sizes() -> None:
    image, offset = REAL[0], 0
    for name, change in changes(32).items():
        one, two = (change(image, np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(one, two, err_msg=name)
        assert one.dtype == np.uint8 and one.shape[2] == 3, name
        scale = float(name.split()[1]) if name.startswith("resize") else 1
        assert name.startswith(("AI-", "offset")) or one.shape[0] == round(64 * scale), name
        assert (name == "none") == np.array_equal(one, image), name
        if name.startswith("offset"):
            offset = int(name.split()[1])
            seen = slice(28 + offset, 36 + offset)
            assert offset > 28 or np.array_equal(centre_crop(one, 8), image[seen, seen])
    assert offset == 31
    drawn = [chain(image, np.random.default_rng(k), (32, 64)) for k in range(400)]
    grey = np.mean([bool((x[..., 0] == x[..., 1]).all()) for x in drawn])
    small = np.mean([x.shape != image.shape for x in drawn])
    assert 0.03 < grey < 0.17 and 0.17 < small < 0.33
    assert 0.1 < np.mean([np.array_equal(x, image) for x in drawn]) < 0.3  # .9 * .5 * .7 * .8 * .75 * .9 = .17


def test_a_pattern_at_fixed_places_is_lost_where_they_move() -> None:
    table = robustness.robustness_table(bench(), robustness.Trial(["marra18"], 24, [0], 32))
    auc = table[table.generator == "lattice"].set_index("operation").auc
    assert auc["none"] > 0.95 and auc["offset 8"] > 0.95  # its period is 8
    assert max(auc["offset 1"], auc["resize 1.1"], auc["resize 0.75"]) < 0.9
    claims = robustness.robustness_claims(table[table.generator == "lattice"], "noise")
    assert [claim.verdict for claim in claims] == ["holds", "holds"]
    assert {claim.verdict for claim in robustness.robustness_claims(table[table.generator == "plain"], "noise")} == {
        "not comparable"
    }


def test_a_detector_of_ones_own_meets_images_that_it_has_not_seen(tmp_path: Path) -> None:
    filter_ = load_denoiser("highpass")
    real, fake = REAL[:24, 16:48, 16:48], FAKE[:24, 16:48, 16:48]
    own = Detector.fit(real, fake, filter_, options=FitOptions(crop=32), method="marra18", name="mine")
    trial = robustness.Trial([], 0, [0], 0, str(own.save(tmp_path / "mine.safetensors")))
    table = robustness.robustness_table(bench(), trial)
    first = table[table.operation == "none"].set_index("generator")
    assert (first.n_real == 16).all() and first.n_fake["lattice"] == 22 and first.n_fake["plain"] == 40
    assert first.auc["lattice"] > 0.9 and set(table.method) == {"Marra18"}
    with pytest.raises(ValueError, match="smaller than the detector's crop"):
        robustness.robustness_table(Bench(bench().sources, crop=16), trial)
