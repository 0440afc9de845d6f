"""What differs between devices: seeds of weights, precision, optimisers, uploads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from difcore.demo.decoders import spectral_distance
from difcore.demo.gans import GanPlan
from difcore.demo.progan import ProGanPlan
from difcore.demo.training import Networks, gan_step, progan_step, untrained
from difcore.detectors.trained import logits
from difcore.fingerprints.correlation import ncc
from difcore.machine import devices
from difcore.machine import devices as tensors
from difcore.machine.devices import (
    as_tensor,
    built,
    free_bytes,
    has_fused,
    mixed,
    normal_on,
    to_batch,
    true_float32,
    upload,
)
from difcore.residuals.denoiser_training import Losses
from difcore.residuals.denoisers import load_denoiser


def test_weights_are_those_of_the_seed_and_torchs_own_generator_stays() -> None:
    torch.manual_seed(3)
    expected_layer, expected_draw = nn.Linear(4, 5), torch.randn(6)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    layer, generator = built(partial(nn.Linear, 4, 5), 3)
    assert torch.equal(layer.weight, expected_layer.weight) and torch.equal(layer.bias, expected_layer.bias)
    assert torch.equal(torch.randn(6, generator=generator), expected_draw)  # it goes on where the weights ended
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_do_not_depend_on_other_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        layers = list(pool.map(lambda seed: built(partial(nn.Linear, 64, 64), seed % 4)[0], range(64)))
    for k in range(4):
        assert all(torch.equal(layer.weight, layers[k].weight) for layer in layers[k::4])
    assert not torch.equal(layers[0].weight, layers[1].weight)


def test_noise_on_the_cpu_is_the_given_generators() -> None:
    expected = torch.randn(5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(normal_on("cpu", 9, torch.Generator().manual_seed(2))(5), expected)


def test_float32_is_exact_on_cuda_alone_and_the_flags_are_put_back() -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = flags()
    with true_float32("cpu"):
        assert flags() == before
    with pytest.raises(ZeroDivisionError), true_float32("cuda:1"):
        assert flags() == (False, False)
        _ = 1 / 0
    assert flags() == before


def test_float32_stays_exact_until_the_last_thread_leaves() -> None:
    """The first to enter leaves first: the flags are still those of the one that is within."""
    before = torch.backends.cudnn.allow_tf32
    first, second = true_float32("cuda"), true_float32("cuda:1")
    with ThreadPoolExecutor(1) as other:
        first.__enter__()
        other.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert not torch.backends.cudnn.allow_tf32
        other.submit(second.__exit__, None, None, None).result()
    assert torch.backends.cudnn.allow_tf32 == before and before

    def inside(_: int) -> bool:
        with true_float32("cuda"), true_float32("cuda"):
            return torch.backends.cudnn.allow_tf32

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(inside, range(400)))
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("cuda:1", True), ("mps", False), ("meta", False)])
def test_devices_are_understood_with_and_without_an_index(device: str, fused: bool) -> None:
    assert has_fused(device) == has_fused(torch.device(device)) == fused
    assert isinstance(mixed(device, False), nullcontext)


def test_autocast_reaches_the_device_with_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, torch.dtype]] = []
    monkeypatch.setattr(devices.torch, "autocast", lambda kind, dtype: asked.append((kind, dtype)))
    mixed("cuda:1", True)
    mixed(torch.device("mps"), True)
    assert asked == [("cuda", torch.bfloat16), ("mps", torch.bfloat16)]


def test_uploads_keep_the_type_and_pin_for_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert upload(values, "cpu").dtype == torch.uint8 and upload(values, "cpu").tolist() == values.tolist()
    assert upload(values, "meta").dtype == torch.uint8
    calls: list[tuple] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **named: calls.append((args, named)))
    upload(values, "cuda:1")
    assert calls == [((torch.device("cuda:1"),), {"non_blocking": True})]


def test_free_memory_is_asked_of_the_device_with_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (5, 7))
    assert free_bytes("cuda:1") == 5 and asked == [torch.device("cuda:1")]
    assert free_bytes("cpu") == free_bytes("meta") == 0


IMAGES = list(np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8))


def on_meta(plan: GanPlan | ProGanPlan) -> tuple[Networks, torch.Tensor]:
    """Networks, and a batch, on torch's device without data, which refuses to have a value looked at."""
    nets = untrained(plan)
    models = {key: model.to("meta") for key, model in nets.models.items()}
    optimisers = {key: torch.optim.Adam(models[key].parameters()) for key in nets.optimisers}
    return Networks(models, optimisers, "meta"), to_batch(np.stack(IMAGES)[:, :32, :32], "meta")


@pytest.mark.parametrize(("design", "source"), [("style", ""), ("deconv", ""), ("translate", "fabric")])
def test_no_step_of_a_gan_waits_for_the_device(design: str, source: str) -> None:
    plan = GanPlan(design, source, batch=4, crop=32, width=8, latent=4)
    nets, real = on_meta(plan)
    loss = gan_step(nets, real, real if source else None, plan, 0)
    assert loss.device.type == "meta" and loss.shape == ()


def test_no_step_of_a_progan_waits_for_the_device() -> None:
    plan = ProGanPlan(size=32, epochs=3, width=16, narrow=8, latent=8, batch=4, bfloat16=False)
    nets, real = on_meta(plan)
    assert progan_step(nets, real, plan, 0, 1.5, np.random.default_rng(0)).device.type == "meta"


def test_logits_and_filters_stay_on_their_device() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to("meta")
    assert logits(model, np.stack(IMAGES), False).device.type == "meta"
    residuals = load_denoiser("photos", "meta", limit=0.4)(to_batch(np.stack(IMAGES), "meta"))
    assert residuals.device.type == "meta" and residuals.shape == (4, 3, 40, 40)
    images = torch.rand(2, 3, 16, 16)
    assert ncc(images.to("meta"), images.numpy()).device.type == "meta"
    assert spectral_distance(images.to("meta"), images.to("meta")).device.type == "meta"


def test_bytes_are_sent_and_converted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.dtype] = []
    monkeypatch.setattr(tensors, "upload", lambda x, device: sent.append(as_tensor(x).dtype) or as_tensor(x).to(device))
    assert to_batch(IMAGES[0], "meta").dtype == torch.float32 and sent == [torch.uint8]


def test_losses_are_read_together_and_in_order() -> None:
    losses = Losses([0.5])
    for k in range(3):
        losses.append(torch.tensor(float(k)))
    assert losses.read() == [0.5, 0.0, 1.0, 2.0] == losses.read()
    pairs = Losses()
    pairs.append(torch.tensor([1.0, 2.0]))
    assert pairs.read() == [(1.0, 2.0)]
    losses.append(torch.tensor(9.0, device="meta"))  # noting one looks at no value
    with pytest.raises(NotImplementedError, match="no data|meta"):
        losses.read()
