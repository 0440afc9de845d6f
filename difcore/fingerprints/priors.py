"""Image priors g_theta: the networks whose output becomes the fingerprint (supplement A.3, A.4, Tab. B).

All map noise (B, 16, H, W), H and W multiples of 16, to an image (B, 3, H, W) in (-1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

IN_CHANNELS = 16  # of the noise the prior is fed with
ENCODER = ((16, 32), (32, 64), (64, 128), (128, 256))  # Tab. B
DECODER = ((256, 256, 128), (128, 128, 64), (64, 64, 32), (32, 32, 32))  # Tab. B: (from below, skip, out)
DOWNSAMPLING = 2 ** len(ENCODER)


def block(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """Two (conv, BN, LeakyReLU), zero padding of 1 for 3x3 kernels, which is what leaves boundary artefacts.

    The convolutions have no bias: the batch-norm that follows would cancel it.
    """
    layers: list[nn.Module] = []
    for a in (c_in, c_out):
        convolution = nn.Conv2d(a, c_out, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


def up(channels: int) -> nn.Sequential:
    """Deconvolution 2x2 with stride 2 and BN: the suspected source of grid artefacts."""
    return nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, 2, bias=False), nn.BatchNorm2d(channels))


class UNet(nn.Module):
    """The U-Net of Tab. B: four blocks down, a 256-channel middle block, four up with skips, 1x1 conv and tanh.

    ``kernel`` 1 makes the U1-Net: no padding, so no boundary artefacts; those of up-sampling remain (A.4).
    """

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(block(*channels, kernel) for channels in ENCODER)
        self.middle = block(256, 256, kernel)
        self.up = nn.ModuleList(up(below) for below, _, _ in DECODER)
        self.decoder = nn.ModuleList(block(below + skip, out, kernel) for below, skip, out in DECODER)
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


class U1Net(UNet):
    """The U-Net with 1x1 kernels in its convolutional layers; pooling and deconvolutions as they were (A.4)."""

    def __init__(self) -> None:
        super().__init__(kernel=1)


class DNet(nn.Module):
    """The U-Net's decoder alone: no encoder, so no skips and half the input channels of each block (A.4).

    A.4 does not say what it is fed with. Here: the noise of the other priors, of which every sixteenth pixel in each
    direction is kept (independent values), and one block that widens its 16 channels to the decoder's 256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle = block(IN_CHANNELS, DECODER[0][0])
        self.up = nn.ModuleList(up(below) for below, _, _ in DECODER)
        self.decoder = nn.ModuleList(block(below, out) for below, _, out in DECODER)
        self.last = nn.Conv2d(32, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.middle(z[..., ::DOWNSAMPLING, ::DOWNSAMPLING])  # (B, 256, H / 16, W / 16)
        for raise_, stage in zip(self.up, self.decoder, strict=True):
            h = stage(raise_(h))
        return torch.tanh(self.last(h))


class CNet(nn.Module):
    """The U-Net's blocks in a row at full resolution, without down-sampling, up-sampling and skips (A.4).

    A.4 gives no widths. These are the U-Net's encoder and middle, then its decoder without the skips' halves: the
    same number of convolutions. At 256 channels and full size a step costs many times the U-Net's.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder = [block(*channels) for channels in ENCODER]
        decoder = [block(below, out) for below, _, out in DECODER]
        self.blocks = nn.Sequential(*encoder, block(256, 256), *decoder)
        self.last = nn.Conv2d(32, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.last(self.blocks(z)))


PRIORS: dict[str, type[nn.Module]] = {"unet": UNet, "u1net": U1Net, "dnet": DNet, "cnet": CNet}


def build_prior(name: str = "unet") -> nn.Module:
    """The prior called ``name``; ValueError if there is none."""
    if name not in PRIORS:
        raise ValueError(f"unknown prior {name!r}; choose from {', '.join(PRIORS)}")
    return PRIORS[name]()


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
