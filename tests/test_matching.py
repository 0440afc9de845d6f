"""The residual filter that belongs to a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import random_dncnn

from difcore.cli.inputs import choose_denoiser, mismatches
from difcore.detectors.methods import fit_pattern
from difcore.experiments.own_detection import matching_filter
from difcore.fingerprints.detector import (
    FOREIGN_DENOISER,
    OFFICIAL,
    Fingerprint,
    load_fingerprint,
    load_recorded,
    same_filter,
    save_fingerprint,
)
from difcore.residuals.denoisers import LIMIT, load_denoiser, save_denoiser
from difcore.runtime import Runtime


@pytest.mark.parametrize("able", [True, False])
def test_a_fingerprint_gets_the_precision_and_the_limit_it_records(able: bool, tmp_path: Path) -> None:
    """Where bfloat16 is impossible, or slower than float32: float32, with the limit it records."""
    runtime = Runtime(precision="bfloat16" if able else "float32", ratio=2.0 if able else 0.1, method="probe")
    path = save_denoiser(tmp_path / "d.safetensors", random_dncnn(depth=5, features=4), torch.zeros(3, 24, 24), {})
    ways = {(r, c): load_denoiser(path, bfloat16=r, limit=c) for r in (False, True) for c in (LIMIT, None, 0.7)}
    real, fake = np.random.default_rng(0).standard_normal((2, 4, 3, 24, 24)).astype(np.float32)
    fitted = {key: fit_pattern("marra18", real, fake, denoiser) for key, denoiser in ways.items()}
    for key, wanted in ways.items():
        read = load_fingerprint(save_fingerprint(tmp_path / "f.safetensors", fitted[key]))
        found = load_recorded(path, [read], bfloat16=runtime.wanted())
        assert (found.hash, found.limit) == (wanted.hash if able else ways[False, key[1]].hash, wanted.limit)
        told = mismatches({path: read}, found, None)
        assert told == [] if able or not key[0] else len(told) == 1 and "in another precision" in told[0]
        used, warnings = matching_filter([read], str(path), runtime)
        assert used.hash == found.hash and [text in told[0] for text in warnings] == [True] * len(told)
    other = fit_pattern("marra18", real, fake, load_denoiser("highpass", limit=0.7))
    assert load_recorded(path, []).hash == load_recorded(path, [other]).hash == ways[False, LIMIT].hash
    assert load_recorded(path, [other, fitted[True, 0.7]], bfloat16=runtime.wanted()).hash == ways[able, 0.7].hash
    assert load_recorded(path, [fitted[True, None]]).hash == ways[False, None].hash
    assert load_recorded(path, [fitted[True, None]], bfloat16=True).hash == ways[True, None].hash
    wrong = replace(other, metadata={**other.metadata, "limit": "0.7"})
    assert load_recorded(path, [wrong]).limit == LIMIT
    with pytest.raises(FileNotFoundError):
        load_recorded("nowhere.safetensors", [])


def test_the_authors_fingerprints_get_the_filter_for_them() -> None:
    own = Fingerprint(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser": "highpass"})
    official = replace(own, metadata={"source": OFFICIAL})
    assert official.foreign and not own.foreign
    for found in (choose_denoiser(None, [official, official]), matching_filter([official], "photos")[0]):
        assert (found.name, found.limit) == (FOREIGN_DENOISER, LIMIT)
    wanted = load_denoiser(FOREIGN_DENOISER, bfloat16=True, limit=LIMIT)
    assert choose_denoiser(None, [official], bfloat16=True).hash == wanted.hash
    for prints, name in (([own], None), ([own, official], None), ([official], "highpass")):
        assert choose_denoiser(name, prints).name == "highpass"
    assert choose_denoiser(None, []).name == "photos"


def test_another_precision_is_the_same_filter_and_another_limit_is_not() -> None:
    plain, rounded = (load_denoiser("scenes", bfloat16=r, limit=LIMIT) for r in (False, True))
    fitted = Fingerprint(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser_sha256": rounded.hash})
    assert rounded.hash != plain.hash and same_filter(fitted, plain) and same_filter(fitted, rounded)
    assert not same_filter(fitted, load_denoiser("scenes")) and not same_filter(fitted, load_denoiser("highpass"))
    assert same_filter(replace(fitted, metadata={}), plain)
