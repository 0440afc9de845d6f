"""Five small GAN generators of different design, and the discriminator that trains them. All are convolutional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from difcore.demo.decoders import conv, upsample

SCALE = 16  # the latent map has 1/16 of the image's side


@dataclass(frozen=True)
class GanPlan:
    """One training of a GAN; equal plans and images give equal weights.

    Attributes
    ----------
    design : {"deconv", "resnet", "shuffle", "style", "translate"}
    source : str
        Style of the scenes that the translator is given; empty for designs that start from noise.
    style : str
        Style of the scenes that the images should look like.
    steps, batch, crop : int
        Optimisation steps, images per step, their side in px (a multiple of 16).
    width, latent : int
        Feature channels at a quarter of full resolution; channels of the latent map.
    learning_rate : float
        Adam's, of both networks: constant, then linear to zero in the last third.
    ema : float
        Decay of the running average of the generator's weights, which is what is shipped.
    r1 : float
        Weight of the discriminator's gradient penalty on real images, which is taken at every 4th step.
    content : float
        Weight of the loss that ties a translation to its source, or an image to its reconstruction from the
        encoder's latent.
    seed : int
        Of the initial weights, crops and latents.
    bfloat16 : bool
        Train in bfloat16.
    """

    design: str = "deconv"
    source: str = ""
    style: str = "mixed"
    steps: int = 1000
    batch: int = 8
    crop: int = 64
    width: int = 48
    latent: int = 32
    learning_rate: float = 1e-3
    ema: float = 0.99
    r1: float = 1.0
    content: float = 10.0
    seed: int = 0
    bfloat16: bool = False


class FeatureNorm(nn.Module):
    """Each position's features divided by their root mean square (Karras et al. 2018): no statistics to keep."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


class ResidualUp(nn.Module):
    """Nearest-neighbour doubling with a residual branch of two 3x3 convolutions (Miyato et al. 2018)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            FeatureNorm(), nn.ReLU(), upsample("nearest", c_in, c_out), FeatureNorm(), nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, 1, 1),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(c_in, c_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.skip(x)


def doubling(design: str, c_in: int, c_out: int) -> nn.Module:
    """One stage of a generator that starts from noise: height and width doubled."""
    if design == "resnet":
        return ResidualUp(c_in, c_out)
    kind = {"deconv": "deconv4", "shuffle": "shuffle"}[design]
    return nn.Sequential(upsample(kind, c_in, c_out), FeatureNorm(), nn.ReLU())


def stage_widths(width: int) -> tuple[tuple[int, int], ...]:
    """Channels in and out of the four doublings."""
    w = width
    return ((2 * w, 2 * w), (2 * w, w), (w, w // 2), (w // 2, w // 4))


class NoiseGenerator(nn.Module):
    """Latent map (B, latent, H/16, W/16) ~ N(0, 1) to images (B, 3, H, W) in [0, 1], by four doublings."""

    def __init__(self, design: str, width: int, latent: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(latent, 2 * width, 3, 1, 1), FeatureNorm(), nn.ReLU())
        self.stages = nn.Sequential(*(doubling(design, a, b) for a, b in stage_widths(width)))
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

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
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


BUILDERS: dict[str, Callable[[GanPlan], nn.Module]] = {
    "deconv": lambda plan: NoiseGenerator("deconv", plan.width, plan.latent),
    "resnet": lambda plan: NoiseGenerator("resnet", plan.width, plan.latent),
    "shuffle": lambda plan: NoiseGenerator("shuffle", plan.width, plan.latent),
    "style": lambda plan: StyleGenerator(plan.width, plan.latent),
    "translate": lambda plan: Translator(plan.width),
}


def build_gan(plan: GanPlan) -> nn.Module:
    """The untrained generator of a plan.

    Raises
    ------
    ValueError
        If its design is unknown.
    """
    if plan.design not in BUILDERS:
        raise ValueError(f"unknown GAN design {plan.design!r}; choose from {', '.join(BUILDERS)}")
    return BUILDERS[plan.design](plan)


class Encoder(nn.Module):
    """Images (B, 3, H, W) to latent maps (B, latent, H/16, W/16), each channel of mean 0 and variance 1 over the batch.

    Used in training only, to keep the generator from ignoring its latent.
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        w = width
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
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        pairs = zip(channels, channels[1:], strict=False)
        self.features = nn.Sequential(*(nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)) for a, b in pairs))
        self.last = nn.Conv2d(channels[-1] + 1, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(4 * (x - 0.5))
        spread = (h.float().var(0, correction=0) + 1e-8).sqrt().mean()
        return self.last(torch.cat([h, spread.to(h.dtype).expand(len(h), 1, *h.shape[2:])], 1))
