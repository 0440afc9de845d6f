"""The residual filter that belongs to a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import random_dncnn

from difcore.cli_input import choose_denoiser
from difcore.denoisers import LIMIT, load_denoiser, save_denoiser
from difcore.experiments.own_detection import matching_filter
from difcore.fingerprints import OFFICIAL, Fingerprint
from difcore.matching import FOREIGN_DENOISER, load_recorded


def test_a_fingerprint_gets_the_precision_and_the_limit_it_records(tmp_path: Path) -> None:
    path = save_denoiser(tmp_path / "d.safetensors", random_dncnn(depth=5, features=4), torch.zeros(3, 24, 24), {})
    ways = {(r, c): load_denoiser(path, bfloat16=r, limit=c) for r in (False, True) for c in (LIMIT, None)}
    for wanted in ways.values():
        found = load_recorded(path, {None, wanted.hash})
        assert (found.hash, found.limit) == (wanted.hash, wanted.limit)
    assert load_recorded(path, []).hash == load_recorded(path, ["another", None]).hash == ways[False, LIMIT].hash
    assert load_recorded(path, [ways[True, None].hash], bfloat16=False).hash == ways[False, LIMIT].hash
    assert load_recorded(path, [ways[True, None].hash], bfloat16=True).hash == ways[True, None].hash
    with pytest.raises(FileNotFoundError):
        load_recorded("nowhere.safetensors", [])


def test_the_authors_fingerprints_get_the_filter_for_them() -> None:
    own = Fingerprint(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser": "highpass"})
    official = replace(own, metadata={"source": OFFICIAL})
    assert official.foreign and not own.foreign
    for found in (choose_denoiser(None, [official, official]), matching_filter([official], "photos")[0]):
        assert (found.name, found.limit, found.hash) == (FOREIGN_DENOISER, LIMIT, load_denoiser(FOREIGN_DENOISER).hash)
    assert choose_denoiser(None, [official], bfloat16=True).hash == load_denoiser(FOREIGN_DENOISER, bfloat16=True).hash
    for prints, name in (([own], None), ([own, official], None), ([official], "highpass")):
        assert choose_denoiser(name, prints).name == "highpass"
    assert choose_denoiser(None, []).name == "photos"
