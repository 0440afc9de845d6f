"""The image priors: their sizes from Tab. B and A.4 by hand, shapes, range, and what each can and cannot draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import grid
from torch import Tensor

from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.dif import DifPlan, fit_dif
from difcore.fingerprints.priors import IN_CHANNELS, PRIORS, build_prior, parameter_count
from difcore.paper import TABLE_B
from difcore.stats import auc

pytestmark = pytest.mark.usefixtures("one_thread")


def block_size(a: int, b: int, kernel: int = 3) -> int:
    """Two convolutions without bias, each with a batch-norm's scale and shift: k k a b + k k b b + 4 b."""
    return kernel**2 * (a * b + b * b) + 4 * b


def up_size(c: int) -> int:
    """A deconvolution 2x2 of c channels without bias, and its batch-norm: 4 c c + 2 c."""
    return 4 * c * c + 2 * c


LAST = 32 * 3 + 3  # the last convolution is 1x1, from 32 to 3 channels, with a bias
UPS = up_size(256) + up_size(128) + up_size(64) + up_size(32)  # 262,656 + 65,792 + 16,512 + 4,160 = 349,120


def unet_size(kernel: int) -> int:
    encoder = [(16, 32), (32, 64), (64, 128), (128, 256)]
    decoder = [(256 + 256, 128), (128 + 128, 64), (64 + 64, 32), (32 + 32, 32)]  # from below + skip
    return sum(block_size(a, b, kernel) for a, b in [*encoder, (256, 256), *decoder]) + UPS + LAST


def test_parameter_count_of_the_unet_by_hand() -> None:
    # 13,952 + 55,552 + 221,696 + 885,760; 1,180,672; 737,792 + 184,576 + 46,208 + 27,776; 349,120; 99
    assert unet_size(3) == 3_703_203
    assert parameter_count(build_prior("unet")) == 3_703_203


def test_parameter_count_of_the_u1net_by_hand() -> None:
    # 1x1 kernels divide the convolutions' weights by nine; batch-norms, deconvolutions and last layer stay.
    # 1,664 + 6,400 + 25,088 + 99,328; 132,096; 82,432 + 20,736 + 5,248 + 3,200; 349,120; 99
    assert unet_size(1) == 725_411
    assert parameter_count(build_prior("u1net")) == 725_411


def test_parameter_count_of_the_dnet_by_hand() -> None:
    # One block from the noise to 256 channels, then the decoder; without skips its blocks see half the channels.
    blocks = [(16, 256), (256, 128), (128, 64), (64, 32), (32, 32)]
    # 627,712; 442,880 + 110,848 + 27,776 + 18,560; 349,120; 99
    assert sum(block_size(a, b) for a, b in blocks) + UPS + LAST == 1_576_995
    assert parameter_count(build_prior("dnet")) == 1_576_995


def test_parameter_count_of_the_cnet_by_hand() -> None:
    # The U-Net's nine blocks in a row, without skips and without deconvolutions.
    blocks = [(16, 32), (32, 64), (64, 128), (128, 256), (256, 256), (256, 128), (128, 64), (64, 32), (32, 32)]
    # 13,952 + 55,552 + 221,696 + 885,760; 1,180,672; 442,880 + 110,848 + 27,776 + 18,560; 99
    assert sum(block_size(a, b) for a, b in blocks) + LAST == 2_957_795
    assert parameter_count(build_prior("cnet")) == 2_957_795


def kinds(name: str) -> set[str]:
    return {type(module).__name__ for module in build_prior(name).modules()}


def kernels(name: str) -> set[tuple[int, ...]]:
    return {m.kernel_size for m in build_prior(name).modules() if isinstance(m, torch.nn.Conv2d)}


def test_what_a4_says_of_each_architecture() -> None:
    assert kernels("unet") == {(3, 3), (1, 1)} and kernels("u1net") == {(1, 1)}
    assert all("ConvTranspose2d" in kinds(name) for name in ("unet", "u1net", "dnet"))
    assert "ConvTranspose2d" not in kinds("cnet")
    deconvolutions = [m for m in build_prior("u1net").modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [(m.kernel_size, m.stride) for m in deconvolutions] == [((2, 2), (2, 2))] * 4
    assert set(PRIORS) == {"unet", "u1net", "dnet", "cnet"}


def response(name: str, shift: int, size: int = 96) -> tuple[Tensor, Tensor]:
    """Output for some noise, and output for the noise moved by ``shift`` px and moved back, in eval mode."""
    torch.manual_seed(0)
    model = build_prior(name).train()
    z = torch.rand(1, IN_CHANNELS, size, size)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one pass sets the statistics: as initialised they would flatten the output
    with torch.no_grad():
        model(z)
        model.eval()
        return model(z)[0], model(z.roll(shift, 3))[0].roll(-shift, 2)


def test_only_3x3_kernels_treat_the_border_differently() -> None:
    """Without padding nothing tells the border from the inside: the U1-Net commutes with a shift by its period."""
    out, moved = response("u1net", 16)
    assert torch.allclose(out, moved, atol=1e-4)
    for name in ("unet", "dnet", "cnet"):
        out, moved = response(name, 16)
        assert not torch.allclose(out, moved, atol=1e-2)


def test_only_up_sampling_knows_odd_from_even() -> None:
    """Far from the border the C-Net commutes with a shift by one pixel; a net with deconvolutions does not."""
    inner = slice(24, 72)  # 18 convolutions 3x3 see 18 px to each side
    out, moved = response("cnet", 1)
    assert torch.allclose(out[..., inner, inner], moved[..., inner, inner], atol=1e-4)
    out, moved = response("u1net", 1)
    assert not torch.allclose(out[..., inner, inner], moved[..., inner, inner], atol=1e-2)


def test_the_channels_are_those_of_table_b() -> None:
    model = build_prior("unet")
    widths = [(stage[0].in_channels, stage[0].out_channels) for stage in [*model.encoder, *model.decoder]]
    rows = [row for row in TABLE_B if row.part in ("encoder", "decoder") and row.activation == "Leaky-ReLU"]
    assert widths == [(sum(row.c_in), row.c_out) for row in rows]


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48), (64, 32)])
def test_shape_and_range(name: str, height: int, width: int) -> None:
    torch.manual_seed(0)
    model = build_prior(name).train()
    out = model(torch.rand(2, IN_CHANNELS, height, width) * 50)  # far beyond its usual input: tanh still bounds it
    assert out.shape == (2, 3, height, width)
    assert float(out.detach().abs().max()) < 1
    assert float(out.detach().std()) > 0.01


@pytest.mark.parametrize("size", [24, 33, 40])
def test_other_sizes_do_not_pass_silently(size: int) -> None:
    with pytest.raises(RuntimeError, match="size"):
        build_prior("unet")(torch.rand(2, IN_CHANNELS, size, size))


@pytest.mark.parametrize("name", PRIORS)
def test_every_parameter_is_used(name: str) -> None:
    torch.manual_seed(0)
    model = build_prior(name).train()
    model(torch.rand(2, IN_CHANNELS, 32, 32)).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []


def test_a_translation_by_sixteen_shows_only_at_the_border() -> None:
    """A convolutional net with zero padding: far from the border the output moves with the input."""
    torch.manual_seed(0)
    model = build_prior("unet").eval()
    z = torch.rand(1, IN_CHANNELS, 16, 512)
    out, moved = (model(x).detach()[0] for x in (z, z.roll(16, 3)))
    inner = slice(240, 288)
    assert torch.allclose(moved[..., inner], out.roll(16, 2)[..., inner], atol=1e-6)
    assert not torch.allclose(moved[..., :16], out.roll(16, 2)[..., :16], atol=1e-4)


def test_an_unknown_prior_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prior 'vnet'; choose from unet"):
        build_prior("vnet")


@pytest.mark.parametrize("name", PRIORS)
def test_a_fit_with_each_prior_recovers_a_planted_fingerprint(name: str) -> None:
    """A border is within reach of padded convolutions, a period of deconvolutions: plant what each can draw."""
    truth = grid(seed=1)
    if name == "cnet":
        truth = np.zeros((3, 32, 32), np.float32)
        truth[:, 1:-1, 1:-1] = 1
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 90, 3, 32, 32)).astype(np.float32)
    fake += 0.4 * (truth - truth.mean()) / truth.std()
    plan = DifPlan(steps=30 if name == "cnet" else 60, batch=32, margin=0.2, prior=name)
    found = fit_dif(real[:50], fake[:50], plan)
    assert ncc(found.pattern[None], truth[None]).item() > 0.5
    assert auc(found.rho(real[50:]), found.rho(fake[50:])) > 0.97
    assert found.metadata["plan"]["prior"] == name
