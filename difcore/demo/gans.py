"""Five small GAN generators of different design, and the networks that train them. All are convolutional."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from difcore.demo.decoders import UPSAMPLING, conv

SCALE = 16  # the latent map has 1/16 of the image's side


@dataclass(frozen=True)
class GanPlan:
    """One training of a GAN; equal plans and images give equal weights."""

    design: str = "deconv"  # see ``DESIGNS``
    source: str = ""  # style of the scenes that the translator is given; empty for designs that start from noise
    style: str = "mixed"  # of the scenes that the images should look like
    steps: int = 1000
    batch: int = 8
    crop: int = 64  # px, a multiple of 16
    width: int = 48  # feature channels at a quarter of full resolution
    latent: int = 32  # channels of the latent map
    learning_rate: float = 1e-3  # Adam's, of all networks: constant, then linear to zero in the last third
    ema: float = 0.99  # decay of the running average of the generator's weights, which is what is shipped
    r1: float = 1.0  # weight of the discriminator's gradient penalty on real images, taken at every 4th step
    content: float = 10.0  # weight of what ties a translation to its source, or an image to its reconstruction
    seed: int = 0  # of the first weights, crops and latents
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of ``step`` (0-based)."""
        return self.learning_rate * min(1.0, (step + 1) / 100, 3 * (self.steps - step) / self.steps)


class FeatureNorm(nn.Module):
    """Each position's features divided by their root mean square (Karras et al. 2018): no statistics to keep."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


def normed(kind: str, c_in: int, c_out: int) -> nn.Sequential:
    """Doubling by one of ``UPSAMPLING``, norm and ReLU."""
    return nn.Sequential(UPSAMPLING[kind](c_in, c_out), FeatureNorm(), nn.ReLU())


class ResidualUp(nn.Module):
    """Nearest-neighbour doubling with a residual branch of two 3x3 convolutions (Miyato et al. 2018)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            FeatureNorm(), nn.ReLU(), *normed("nearest", c_in, c_out), nn.Conv2d(c_out, c_out, 3, 1, 1)
        )
        self.skip = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(x)


def stage_widths(w: int) -> tuple[tuple[int, int], ...]:
    """Channels in and out of the four doublings."""
    return ((2 * w, 2 * w), (2 * w, w), (w, w // 2), (w // 2, w // 4))


class NoiseGenerator(nn.Module):
    """Latent map (B, latent, H/16, W/16) ~ N(0, 1) to images (B, 3, H, W) in [0, 1], by four doublings."""

    def __init__(self, doubling: Callable[[int, int], nn.Module], width: int, latent: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(latent, 2 * width, 3, 1, 1), FeatureNorm(), nn.ReLU())
        self.stages = nn.Sequential(*(doubling(a, b) for a, b in stage_widths(width)))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(width // 4, 3, 3, 1, 1))

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        """``noise`` is what only the style-modulated design reads."""
        return 0.5 + 0.5 * torch.tanh(self.last(self.stages(self.first(z))))


class ModulatedConv(nn.Module):
    """3x3 convolution whose input channels are scaled by the style, its output brought back to unit variance.

    y_o = sum_i s_i w_oi * x_i / sqrt(sum_i,k (s_i w_oik)^2) (Karras et al. 2020), then noise and leaky ReLU.
    """

    def __init__(self, c_in: int, c_out: int, style: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False)
        self.affine = nn.Linear(style, c_in)
        nn.init.ones_(self.affine.bias)
        self.bias = nn.Parameter(torch.zeros(c_out, 1, 1))
        self.strength = nn.Parameter(torch.full((c_out, 1, 1), 0.3))  # of the noise; from zero it would hardly start

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        s = self.affine(style)  # (B, c_in)
        energy = s.float().square() @ self.conv.weight.square().sum((2, 3)).T  # (B, c_out)
        y = self.conv(x * s[:, :, None, None].to(x.dtype)) * torch.rsqrt(energy + 1e-8)[:, :, None, None].to(x.dtype)
        return nn.functional.leaky_relu(y + self.strength * noise + self.bias, 0.2)


class StyleGenerator(nn.Module):
    """Style-modulated convolutions on bilinear doublings, fresh noise after each; the style is one vector per image."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(latent, latent), nn.SiLU(), nn.Linear(latent, latent), nn.SiLU())
        self.first = nn.Conv2d(latent, 2 * width, 3, 1, 1)
        self.convs = nn.ModuleList(ModulatedConv(a, b, latent) for a, b in stage_widths(width))
        self.last = nn.Conv2d(width // 4, 3, 3, 1, 1)

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        """``z`` as for ``NoiseGenerator``, ``noise`` (B, 1, H, W) ~ N(0, 1)."""
        pooled = z.mean((2, 3)) * (z.shape[2] * z.shape[3]) ** 0.5  # N(0, 1) again
        style, x = self.mapping(pooled), self.first(z)
        for level, modulated in enumerate(self.convs):
            step = SCALE >> (level + 1)
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
            x = modulated(x, style, noise[:, :, ::step, ::step])
        return 0.5 + 0.5 * torch.tanh(self.last(x))


class Translator(nn.Module):
    """Image to image: x + tanh(network(x)) / 2; in the network two strided convolutions, two deconvolutions."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, w // 2), conv(w // 2, w, 2), conv(w, 2 * w, 2))
        self.middle = nn.ModuleList(nn.Sequential(conv(2 * w, 2 * w), nn.Conv2d(2 * w, 2 * w, 3, 1, 1)) for _ in "12")
        ups = [nn.Sequential(nn.ConvTranspose2d(a, b, 3, 2, 1, 1), nn.SiLU()) for a, b in ((2 * w, w), (w, w // 2))]
        self.up = nn.Sequential(*ups, nn.Conv2d(w // 2, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Translation of images (B, 3, H, W) in [0, 1], H and W multiples of 4; not clipped."""
        h = self.down(x - 0.5)
        for block in self.middle:
            h = h + block(h)
        return x + 0.5 * torch.tanh(self.up(h))


DESIGNS: dict[str, Callable[[int, int], nn.Module]] = {  # of width and latent
    "deconv": partial(NoiseGenerator, partial(normed, "deconv4")),
    "resnet": partial(NoiseGenerator, ResidualUp),
    "shuffle": partial(NoiseGenerator, partial(normed, "shuffle")),
    "style": StyleGenerator,
    "translate": lambda width, latent: Translator(width),
}


class Encoder(nn.Module):
    """Images (B, 3, H, W) to latent maps (B, latent, H/16, W/16), each channel of mean 0 and variance 1 over the batch.

    Used in training only, to keep the generator from ignoring its latent.
    """

    def __init__(self, w: int, latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.PixelUnshuffle(4), conv(48, w), conv(w, w, 2), conv(w, 2 * w, 2))
        self.last = nn.Conv2d(2 * w, latent, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.last(self.layers(x - 0.5)).float()
        variance, mean = torch.var_mean(z, (0, 2, 3), correction=0, keepdim=True)
        return (z - mean) * torch.rsqrt(variance + 1e-8)


class Discriminator(nn.Module):
    """Images (B, 3, H, W) to a map of logits (B, 1, H/16, W/16), each of a patch.

    The last layer also sees how much the batch varies (Karras et al. 2018), so that equal images give themselves away.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        pairs = pairwise((3, width, 2 * width, 4 * width, 4 * width))
        self.features = nn.Sequential(*(nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in pairs))
        self.last = nn.Conv2d(4 * width + 1, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(4 * (x - 0.5))
        spread = (h.float().var(0, correction=0) + 1e-8).sqrt().mean()
        return self.last(torch.cat([h, spread.to(h.dtype).expand(len(h), 1, *h.shape[2:])], 1))


def latents(seeds: Sequence[Sequence[int]], channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Inputs of a generator that starts from noise: z (B, channels, H/16, W/16) and noise (B, 1, H, W), both N(0, 1).

    Image k is determined by ``seeds[k]`` and the size alone.
    """
    if height % SCALE or width % SCALE:
        raise ValueError(f"GAN images have sides that are multiples of {SCALE} px, not {height} x {width}")
    z, noise = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        z.append(rng.standard_normal((channels, height // SCALE, width // SCALE), np.float32))
        noise.append(rng.standard_normal((1, height, width), np.float32))
    return torch.from_numpy(np.stack(z)), torch.from_numpy(np.stack(noise))
