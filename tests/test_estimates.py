"""How long a batch still takes, from what is known of its notebooks."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difcore.batch.jobs import COSTS as FILE
from difcore.batch.jobs import Batch, expected_seconds, left_of, seconds_left
from difcore.batch.notebooks import Job
from difcore.batch.run import PROJECT_DIR, discover

COSTS = pd.read_csv(FILE, index_col="notebook")["seconds"].to_dict()


def test_every_notebook_has_a_cost() -> None:
    assert list(COSTS) == list(discover(PROJECT_DIR / "notebooks"))


def test_what_is_known_is_believed_and_the_rest_goes_at_its_pace() -> None:
    a, b = "10_tab_A_denoising_filter", "11_tab_B_unet"
    found = expected_seconds([a, b, "99_new"], {a: 10.0 * COSTS[a]})
    assert found == {a: 10.0 * COSTS[a], b: pytest.approx(10.0 * COSTS[b]), "99_new": None}
    assert expected_seconds([f"{b}--seed=3"], {b: 7.0})[f"{b}--seed=3"] == pytest.approx(7.0)
    assert expected_seconds([a], {}) == {a: None}
    assert expected_seconds([a, "99_new"], {"99_new": 3.0}) == {a: None, "99_new": 3.0}


def test_time_left_is_that_of_the_fullest_slot() -> None:
    assert seconds_left([], [], 2) == 0
    assert seconds_left([5.0], [10.0, 20.0], 1) == 35
    assert seconds_left([5.0, 1.0], [10.0, 20.0], 2) == 25  # 10 after 1; 20 after 5
    assert seconds_left([-3.0], [2.0], 1) == 2  # one that is overdue ends at once


def test_what_is_known_of_a_part_is_a_lower_bound_of_the_whole() -> None:
    batch = Batch(Path(), Path(), (), [], 1, {}, {})
    a, b, new = (Job(name, "", "", {}, "", "", "") for name in ("11_tab_B_unet", "27_train_progan", "99_new"))
    known = {a.name: 10.0, b.name: 20.0}
    assert left_of([a, b], {}, known, batch) == ", about 30 s left"
    assert left_of([a, new, b], {}, known, batch) == ", at least 30 s left"
    assert left_of([new], {}, known, batch) == left_of([], {}, known, batch) == ""
    assert left_of([a, new], {}, {}, batch) == ", no time known yet"


@given(st.lists(st.floats(0, 1e4), max_size=8), st.integers(1, 4))
def test_more_slots_never_take_longer_and_one_takes_the_sum(waiting: list[float], slots: int) -> None:
    left = seconds_left([], waiting, slots)
    assert left <= sum(waiting) * (1 + 1e-9)
    assert left >= max(waiting, default=0) and left * slots >= sum(waiting) * (1 - 1e-9)
    assert seconds_left([], waiting, 1) == pytest.approx(sum(waiting))
