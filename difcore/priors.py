"""Image priors g_theta: the networks whose output becomes the fingerprint (supplement A.3, A.4, Tab. B)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IN_CHANNELS = 16  # of the noise the prior is fed with
ENCODER = ((16, 32), (32, 64), (64, 128), (128, 256))  # Tab. B
DECODER = ((256, 256, 128), (128, 128, 64), (64, 64, 32), (32, 32, 32))  # Tab. B: (from below, skip, out)
DOWNSAMPLING = 2 ** len(ENCODER)


def block(c_in: int, c_out: int) -> nn.Sequential:
    """Two (conv 3x3, BN, LeakyReLU) with zero padding of 1, which is what leaves boundary artefacts.

    The convolutions have no bias: the batch-norm that follows would cancel it.
    """
    layers: list[nn.Module] = []
    for a in (c_in, c_out):
        layers += [nn.Conv2d(a, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


def up(channels: int) -> nn.Sequential:
    """Deconvolution 2x2 with stride 2 and BN: the suspected source of grid artefacts."""
    return nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, 2, bias=False), nn.BatchNorm2d(channels))


class UNet(nn.Module):
    """The U-Net of Tab. B: four blocks down, a 256-channel middle block, four up with skips, 1x1 conv and tanh.

    Maps noise (B, 16, H, W), H and W multiples of 16, to an image (B, 3, H, W) in (-1, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(block(*channels) for channels in ENCODER)
        self.middle = block(256, 256)
        self.up = nn.ModuleList(up(below) for below, _, _ in DECODER)
        self.decoder = nn.ModuleList(block(below + skip, out) for below, skip, out in DECODER)
        self.last = nn.Conv2d(32, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        skips, h = [], z
        for stage in self.encoder:
            h = stage(h)
            skips.append(h)  # (B, 32 * 2^k, H / 2^k, W / 2^k)
            h = nn.functional.max_pool2d(h, 2)
        h = self.middle(h)  # (B, 256, H / 16, W / 16)
        for raise_, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            h = stage(torch.cat([raise_(h), skip], 1))
        return torch.tanh(self.last(h))


PRIORS: dict[str, type[nn.Module]] = {"unet": UNet}


def build_prior(name: str = "unet") -> nn.Module:
    """The prior called ``name``.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in PRIORS:
        raise ValueError(f"unknown prior {name!r}; choose from {', '.join(PRIORS)}")
    return PRIORS[name]()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
