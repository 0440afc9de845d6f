"""The other engine of the filter: the same residuals on any size and thread, chosen by a probe, and not needed."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from tiny import random_dncnn
from torch import Tensor

from difcore import runtime
from difcore.files import PROJECT_DIR
from difcore.fingerprints.detector import Detector, filter_for
from difcore.machine import winograd
from difcore.machine.winograd import TORCH, installed
from difcore.residuals.denoisers import FoldedDnCNN, load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import ENGINE_GAIN, Runtime, resolve

HERE = installed()
needs_ncnn = pytest.mark.skipif(not HERE, reason="ncnn is not installed")
Machine = Callable[[float], list[str]]


def images(*size: int) -> Tensor:
    return 0.4 + 0.1 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


def residuals(x: Tensor) -> Tensor:
    """In a process of its own, perhaps."""
    torch.set_num_threads(1)
    return load_denoiser(engine=HERE)(x)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Machine]:
    """Pretend to a machine with the engine "ncnn-9", so much faster; the probes that are made."""
    monkeypatch.delenv("DIFCORE_ENGINE")

    def pretend(gain: float) -> list[str]:
        probes: list[str] = []
        monkeypatch.setattr(runtime, "installed", lambda: "ncnn-9")
        monkeypatch.setattr(runtime, "probe_engine", lambda engine: probes.append(engine) or gain)
        return probes

    return pretend


@needs_ncnn
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (15, 17), (64, 64), (65, 37)])
def test_residuals_are_torchs(size: tuple[int, int]) -> None:
    x = images(*size)
    plain, quick = (load_denoiser(engine=name) for name in (TORCH, HERE))
    found, expected = quick(x), plain(x)
    assert found.shape == x.shape and found.dtype == torch.float32 and expected.std() > 0.01
    assert 0 < (found - expected).abs().max() < 1e-6
    assert (quick.hash, quick.twin, quick.engine, plain.engine) == (plain.hash, plain.twin, HERE, TORCH)


@needs_ncnn
@pytest.mark.parametrize(("depth", "features", "pad"), [(17, 8, 10), (6, 5, 6), (4, 6, 10), (6, 5, 0)])
def test_any_network_with_any_padding(depth: int, features: int, pad: int) -> None:
    model, x = random_dncnn(depth, features), images(16, 19)
    expected, found = (FoldedDnCNN(model, pad=pad, engine=name)(x) for name in (TORCH, HERE))
    assert (found - expected).norm() < 1e-5 * expected.norm()


@needs_ncnn
def test_threads_processes_and_copies_give_the_same_bytes(one_thread: None) -> None:
    x, quick = images(40, 33), load_denoiser(engine=HERE)
    expected = quick(x)
    assert quick(x[:0]).shape == (0, *x.shape[1:])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(quick, [x] * 8))
    found += [pickle.loads(pickle.dumps(quick))(x), *joblib.Parallel(2)(joblib.delayed(residuals)(x) for _ in range(2))]
    if "fork" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("fork")
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=lambda: send.send(quick(x).numpy()))
        with warnings.catch_warnings(action="ignore"):  # newer Pythons warn of forks beside threads
            child.start()
        assert receive.poll(60), "the forked process hangs"
        found.append(torch.from_numpy(receive.recv()))
        child.join()
    assert all(torch.equal(each, expected) for each in found)
    torch.set_num_threads(2)
    assert torch.equal(quick(x), expected)  # an image each
    assert (quick(x[:1]) - expected[:1]).abs().max() < 1e-6
    assert set(quick.filter.chain.nets) == {1, 2}  # type: ignore[attr-defined]


@needs_ncnn
def test_sets_of_images_are_the_same_on_any_number_of_threads(cache: Path, one_thread: None) -> None:
    given, quick = np.random.default_rng(0).integers(0, 256, (3, 300, 300, 3), np.uint8), load_denoiser(engine=HERE)
    found = [residuals_of(given, quick, 288, cache=kept).values for kept in (False, True, True)]
    torch.set_num_threads(2)
    found.append(residuals_of(given, quick, 288, cache=False).values)
    assert all(np.array_equal(each, found[0]) for each in found)
    plain = residuals_of(given, load_denoiser(), 288).values  # not what the other engine left in the cache
    assert 0 < np.abs(plain.astype(np.float32) - found[0]).max() < 1e-3
    assert len({path.parents[1] for path in cache.glob("residuals/*/*/*.npy")}) == 2


def test_bfloat16_other_devices_and_the_high_pass_are_torchs() -> None:
    assert load_denoiser(bfloat16=True, engine="ncnn-9").engine == TORCH
    assert load_denoiser(device="meta", engine="ncnn-9").engine == TORCH
    assert load_denoiser("highpass", engine="ncnn-9").engine == TORCH


@needs_ncnn
def test_a_fingerprint_goes_with_either_engine() -> None:
    plain = load_denoiser()
    fitted = Detector(torch.randn(3, 8, 8), 0, 1, metadata={"denoiser_sha256": plain.hash, "denoiser": plain.name})
    found = filter_for([fitted], engine=HERE)
    assert found.engine == HERE and fitted.fitted_with(found)
    assert filter_for([fitted]).engine == TORCH


@pytest.mark.parametrize("gain", [0.0, ENGINE_GAIN - 0.01, ENGINE_GAIN, 9.0])
def test_it_is_taken_only_where_it_is_worth_while_and_the_answer_is_kept(
    gain: float, machine: Machine, one_thread: None
) -> None:
    probes = machine(gain)
    found = resolve()
    assert found.engine == ("ncnn-9" if gain >= ENGINE_GAIN else TORCH) == found.facts()["engine"]
    assert resolve(threads=2).engine == found.engine and probes == ["ncnn-9"]
    found.check()


def test_the_environment_decides(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = machine(0.0)
    for asked, engine in (("torch", TORCH), ("ncnn", "ncnn-9")):
        monkeypatch.setenv("DIFCORE_ENGINE", asked)
        assert resolve().engine == engine
    monkeypatch.setattr(runtime, "installed", lambda: "")
    for asked in ("ncnn", "openvino"):
        monkeypatch.setenv("DIFCORE_ENGINE", asked)
        with pytest.raises(ValueError, match=r"^unknown engine .+ \(DIFCORE_ENGINE\); choose auto, torch or"):
            resolve()
    assert not probes
    with pytest.raises(ValueError, match="no ncnn-9 here; set DIFCORE_ENGINE=torch"):
        Runtime(engine="ncnn-9").check()


@needs_ncnn
def test_the_probe_refuses_other_residuals_and_an_engine_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "gain_of", lambda work, *_: 2.0)
    monkeypatch.setattr(runtime, "PROBE_SIZE", 32)
    assert runtime.probe_engine(HERE) == 2.0
    whole = winograd.Chain.__call__
    monkeypatch.setattr(winograd.Chain, "__call__", lambda chain, x: whole(chain, x) + 1e-3)
    assert runtime.probe_engine(HERE) == 0.0
    monkeypatch.setattr(winograd.Chain, "build", lambda *_: (_ for _ in ()).throw(RuntimeError("illegal")))
    assert runtime.probe_engine(HERE) == 0.0


@needs_ncnn
def test_bfloat16_is_compared_with_the_engine_that_float32_has() -> None:
    plain, quick = (runtime.filter_layers("cpu", name)(False) for name in (TORCH, HERE))
    assert 0 < (plain.relu() - quick.relu()).abs().max() < 1e-3


def test_without_the_package_all_is_torchs(tmp_path: Path) -> None:
    (tmp_path / "ncnn.py").write_text("raise ImportError('no such package')\n", encoding="utf-8")
    code = "import json; from difcore.runtime import resolve; from difcore.machine.winograd import installed; "
    code += "print(json.dumps([installed(), resolve(precision='float32').engine]))"
    path = os.pathsep.join([str(tmp_path), str(PROJECT_DIR)])
    environment = os.environ | {"DIFCORE_ENGINE": "auto", "DIFCORE_CACHE": str(tmp_path / "c"), "PYTHONPATH": path}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == ["", TORCH]
    assert not list((tmp_path / "c").glob("probes/ncnn*"))
