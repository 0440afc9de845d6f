"""How much faster a device is in bfloat16, measured on the operations that a run spends its time in."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from difcore.convolution import conv_relu
from difcore.devices import exact
from difcore.priors import IN_CHANNELS, build_prior
from difcore.tensors import channels_last

PROBE_SECONDS = 2.0  # for all of a probe; it is cut short where the machine is slow
ROUNDS = 5  # of a probe, each of both precisions one after the other
LAYERS = 3  # of the filter's middle ones
PROBE_SIZE = 128  # px, of the filter's layers
PRIOR_SIZE = 64  # px, of the step of the prior


@exact
def probe(device: str) -> float:
    """Time in float32 over time in bfloat16: of the filter's middle layers or of a fit's step, whichever gains less.

    float32 has its 24 bits, as in a run.

    The worse counts, since a run spends its time in both, in shares that depend on its parameters: what is chosen
    must not slow down either.
    """
    started = time.perf_counter()
    ratios: list[float] = []
    for work in (filter_layers(device), prior_step(device)):
        quick = partial(timed, work, True, device)
        plain = partial(timed, work, False, device)
        quick(), plain()  # the first call of a kernel also prepares it
        found: list[float] = []
        share = PROBE_SECONDS * (len(ratios) + 1) / 2
        while len(found) < ROUNDS and (not found or time.perf_counter() - started < share):
            found.append(plain() / quick())
        ratios.append(median(found))
    return min(ratios)


def timed(work: Callable[[bool], object], bfloat16: bool, device: str) -> float:
    """Wall-clock seconds of one call, waiting for the GPU."""
    on_gpu = torch.device(device).type == "cuda"
    wait: Callable[[], object] = partial(torch.cuda.synchronize, device) if on_gpu else lambda: None
    wait()
    started = time.perf_counter()
    work(bfloat16)
    wait()
    return time.perf_counter() - started


def filter_layers(device: str) -> Callable[[bool], object]:
    """A few of DnCNN's middle layers on one image, as ``FoldedDnCNN`` runs them."""
    drawn = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn).to(device, memory_format=torch.channels_last)

    image, weight, bias = random(1, 64, PROBE_SIZE, PROBE_SIZE), random(64, 64, 3, 3) / 24, torch.zeros(64).to(device)

    @torch.inference_mode()
    def work(bfloat16: bool) -> Tensor:
        h, w, b = (x.bfloat16() if bfloat16 else x for x in (image, weight, bias))
        for _ in range(LAYERS):
            h = conv_relu(h, w, b)
        return h

    return work


def prior_step(device: str) -> Callable[[bool], object]:
    """A forward and a backward pass of the U-Net on a small image, as ``fit_dif`` runs them."""
    with torch.random.fork_rng(devices=[]):  # draws of whoever asks stay what they are
        model = channels_last(build_prior("unet"), device).train()
    z = torch.zeros(1, IN_CHANNELS, PRIOR_SIZE, PRIOR_SIZE).to(device, memory_format=torch.channels_last)

    def work(bfloat16: bool) -> None:
        with torch.autocast(z.device.type, torch.bfloat16, enabled=bfloat16):
            image = model(z)
        image.float().square().mean().backward()
        model.zero_grad()

    return work
