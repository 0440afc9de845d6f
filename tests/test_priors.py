"""The image prior: its size from Tab. B by hand, its shapes and its range."""

from __future__ import annotations

import pytest
import torch

from difcore.paper import TABLE_B
from difcore.priors import IN_CHANNELS, build_prior, parameter_count

pytestmark = pytest.mark.usefixtures("one_thread")


def test_parameter_count_by_hand() -> None:
    # A block of two convolutions 3x3 without bias, each with a batch-norm's scale and shift: 9 a b + 9 b b + 4 b.
    # A deconvolution 2x2 of c channels without bias and its batch-norm: 4 c c + 2 c.
    # The last convolution 1x1 from 32 to 3 channels has a bias: 32 * 3 + 3.
    def block(a: int, b: int) -> int:
        return 9 * a * b + 9 * b * b + 4 * b

    def up(c: int) -> int:
        return 4 * c * c + 2 * c

    encoder = block(16, 32) + block(32, 64) + block(64, 128) + block(128, 256)
    decoder = block(256 + 256, 128) + block(128 + 128, 64) + block(64 + 64, 32) + block(32 + 32, 32)
    ups = up(256) + up(128) + up(64) + up(32)
    expected = encoder + block(256, 256) + decoder + ups + 32 * 3 + 3
    # 13,952 + 55,552 + 221,696 + 885,760; 1,180,672; 737,792 + 184,576 + 46,208 + 27,776; 262,656 + 65,792 +
    # 16,512 + 4,160; 99
    assert expected == 3_703_203
    assert parameter_count(build_prior("unet")) == expected


def test_the_channels_are_those_of_table_b() -> None:
    model = build_prior("unet")
    widths = [(stage[0].in_channels, stage[0].out_channels) for stage in [*model.encoder, *model.decoder]]
    rows = [row for row in TABLE_B if row.part in ("encoder", "decoder") and row.activation == "Leaky-ReLU"]
    assert widths == [(sum(row.c_in), row.c_out) for row in rows]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48), (64, 32)])
def test_shape_and_range(height: int, width: int) -> None:
    torch.manual_seed(0)
    model = build_prior("unet").train()
    out = model(torch.rand(2, IN_CHANNELS, height, width) * 50)  # far beyond its usual input: tanh still bounds it
    assert out.shape == (2, 3, height, width)
    assert float(out.detach().abs().max()) < 1
    assert float(out.detach().std()) > 0.01


@pytest.mark.parametrize("size", [24, 33, 40])
def test_other_sizes_do_not_pass_silently(size: int) -> None:
    with pytest.raises(RuntimeError, match="size"):
        build_prior("unet")(torch.rand(2, IN_CHANNELS, size, size))


def test_every_parameter_is_used() -> None:
    torch.manual_seed(0)
    model = build_prior("unet").train()
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
