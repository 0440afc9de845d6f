"""The residual filter that belongs to a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import random_dncnn

from difcore.fingerprints.detector import FOREIGN_DENOISER, OFFICIAL, Bank, Detector, filter_for
from difcore.fingerprints.fitting import fit_pattern
from difcore.residuals.denoisers import LIMIT, load_denoiser, save_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime


@pytest.mark.parametrize("able", [True, False])
def test_a_detector_gets_the_precision_and_the_limit_it_records(able: bool, tmp_path: Path) -> None:
    """Where bfloat16 is impossible, or slower than float32: float32, with the limit it records."""
    runtime = Runtime(precision="bfloat16" if able else "float32", ratio=2.0 if able else 0.1, method="probe")
    path = save_denoiser(tmp_path / "d.safetensors", random_dncnn(depth=5, features=4), torch.zeros(3, 24, 24), {})
    ways = {(r, c): load_denoiser(path, bfloat16=r, limit=c) for r in (False, True) for c in (LIMIT, None, 0.7)}
    real, fake = np.random.default_rng(0).standard_normal((2, 4, 3, 24, 24)).astype(np.float32)
    fitted = {key: fit_pattern("marra18", real, fake, denoiser) for key, denoiser in ways.items()}
    for key, wanted in ways.items():
        read = Detector.load(fitted[key].save(tmp_path / "f.safetensors"))
        found = filter_for([read], path, bfloat16=runtime.wanted())
        assert (found.hash, found.limit) == (wanted.hash if able else ways[False, key[1]].hash, wanted.limit)
        assert filter_for([read], path).hash == wanted.hash
        older = replace(read, metadata={k: v for k, v in read.metadata.items() if k != "limit"})
        assert key[1] == 0.7 or filter_for([older], path).hash == wanted.hash  # from before the limit was recorded
        told = [text for text in Bank([read], found).warnings(0.01) if "null" not in text]
        assert told == [] if able or not key[0] else len(told) == 1 and "in another precision" in told[0]
    other = fit_pattern("marra18", real, fake, load_denoiser("highpass", limit=0.7))
    assert filter_for([], path).hash == filter_for([other], path).hash == ways[False, LIMIT].hash
    assert filter_for([other, fitted[True, 0.7]], path, bfloat16=runtime.wanted()).hash == ways[able, 0.7].hash
    assert filter_for([fitted[True, None]], path, bfloat16=False).hash == ways[False, None].hash
    assert filter_for([fitted[False, None]], path, bfloat16=True).hash == ways[True, None].hash
    with pytest.raises(FileNotFoundError):
        filter_for([], "nowhere.safetensors")


def test_the_authors_fingerprints_get_the_filter_for_them() -> None:
    own = Detector(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser": "highpass"})
    official = replace(own, metadata={"source": OFFICIAL})
    assert official.foreign and not own.foreign
    for found in (filter_for([official, official]), official.filter(), Bank([official]).filter()):
        assert (found.name, found.limit) == (FOREIGN_DENOISER, LIMIT)
    wanted = load_denoiser(FOREIGN_DENOISER, bfloat16=True, limit=LIMIT)
    assert filter_for([official], bfloat16=True).hash == wanted.hash
    for prints, name in (([own], None), ([own, official], None), ([official], "highpass")):
        assert filter_for(prints, name).name == "highpass"
    assert filter_for([]).name == "photos"


def test_another_precision_is_the_same_filter_and_another_limit_is_not() -> None:
    plain, rounded = (load_denoiser("scenes", bfloat16=r, limit=LIMIT) for r in (False, True))
    fitted = Detector(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser_sha256": rounded.hash})
    assert rounded.hash != plain.hash and fitted.fitted_with(plain) and fitted.fitted_with(rounded)
    assert not fitted.fitted_with(load_denoiser("scenes")) and not fitted.fitted_with(load_denoiser("highpass"))
    assert replace(fitted, metadata={}).fitted_with(plain)


def test_residuals_and_filters_of_another_kind_are_refused(cache: Path) -> None:
    real, fake = np.random.default_rng(0).standard_normal((2, 4, 3, 24, 24)).astype(np.float32)
    good, other = (load_denoiser("highpass", limit=limit) for limit in (0.7, None))
    found = replace(fit_pattern("marra18", real, fake, good), name="f")
    images = np.random.default_rng(1).integers(0, 256, (3, 30, 26, 3), np.uint8)
    np.testing.assert_array_equal(found.score(images), found.rho(residuals_of(images, good, 24)).double())
    with pytest.raises(ValueError, match="f was fitted with filter highpass, not highpass"):
        found.rho(residuals_of(images, other, 24))
    with pytest.raises(ValueError, match="fitted with filter highpass"):
        replace(found, denoiser=other)
    with pytest.raises(ValueError, match=r"were they in \[0, 255\]"):
        found.rho(100 * real)
    with pytest.raises(ValueError, match="expected uint8 images"):
        found.score(images / 255)
    with pytest.raises(ValueError, match="too small"):
        found.score(images[:, :20])
