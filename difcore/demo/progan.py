"""ProGAN (Karras et al., "Progressive growing of GANs", ICLR 2018), small enough for a CPU.

Generator and critic grow together from 4x4 px by nearest-neighbour doublings that are faded in; equalised learning
rate, pixel norm, minibatch standard deviation. No noise is added: what an image shares with all others is the weights'.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLU
GROUP = 4  # images whose spread the critic sees


@dataclass(frozen=True)
class ProGanPlan:
    """One training of a ProGAN; equal plans and images give equal weights."""

    style: str = "mixed"  # of the scenes that it is trained on; empty for images of a folder
    seed: int = 0  # of the first weights, crops and latents
    size: int = 64  # px: 4 times a power of two
    epochs: int = 70
    images_per_epoch: int = 224  # at full resolution
    batch: int = 8
    early: int = 4  # an epoch that ends before full resolution begins shows this many times as many, far cheaper
    width: int = 64  # channels at 4 px, and at most
    narrow: int = 16  # channels at full resolution; doubled with each halving
    latent: int = 64  # length of the latent vector
    grown: float = 18.0  # epoch at which full resolution is faded in
    learning_rate: float = 2e-3  # Adam's, of both networks
    decay_from: float = 36.0  # epoch that the rate is constant up to
    half_life: float = 4.0  # epochs in which it then halves
    ema: float = 0.99  # decay, per step, of the running average of the generator's weights, which is what is kept
    penalty: float = 10.0  # weight of the gradient penalty
    drift: float = 1e-3  # weight of the critic's squared values on real images
    penalty_every: int = 1  # steps from one gradient penalty to the next, which is weighted by as much
    bfloat16: bool = False

    def rate(self, step: int) -> float:
        """Learning rate of ``step`` (0-based)."""
        return progan_rate(moment_of(step, self), self)


def doublings(plan: ProGanPlan) -> int:
    """Number of doublings from 4 px to the plan's size."""
    count = round(math.log2(plan.size / 4)) if plan.size >= 8 else 0
    if not count or plan.size != 4 << count:
        raise ValueError(f"a ProGAN's images have 8, 16, 32, ... px a side, not {plan.size}")
    return count


def channels(plan: ProGanPlan) -> list[int]:
    """Feature channels at 4, 8, ... px."""
    last = doublings(plan)
    return [min(plan.width, plan.narrow << (last - level)) for level in range(last + 1)]


def growth_at(epoch: float, plan: ProGanPlan) -> float:
    """How far the networks have grown at a moment of the training, in [0, doublings].

    A whole number k is resolution 4 * 2^k; k - 1 + alpha is that resolution faded in by alpha. 4 px alone, each fade
    and each resolution in between take equally long; at ``plan.grown`` the last fade ends.
    """
    last = doublings(plan)
    units = 2 * last * epoch / plan.grown if plan.grown else math.inf
    if units >= 2 * last:
        return float(last)
    level = int((units + 1) // 2)
    return max(0.0, level - 1 + min(1.0, units + 1 - 2 * level)) if level else 0.0


def level_and_alpha(growth: float) -> tuple[int, float]:
    """The highest resolution in use (0 for 4 px), and by how much it is faded in, in (0, 1]."""
    level = math.ceil(growth)
    return level, 1.0 if level == 0 else growth - (level - 1)


@cache
def epoch_ends(plan: ProGanPlan) -> tuple[int, ...]:
    """Optimisation steps done after each epoch; an epoch has one at least."""
    early = [growth_at(epoch, plan) <= doublings(plan) - 1 for epoch in range(1, plan.epochs + 1)]
    return tuple(accumulate(max(1, (plan.early if e else 1) * plan.images_per_epoch // plan.batch) for e in early))


def moment_of(step: int, plan: ProGanPlan) -> float:
    """The moment of the training at which ``step`` is taken, in epochs."""
    ends = (0, *epoch_ends(plan))
    epoch = bisect_right(ends, step)
    return epoch - 1 + (step - ends[epoch - 1]) / (ends[epoch] - ends[epoch - 1])


def progan_rate(moment: float, plan: ProGanPlan) -> float:
    """Learning rate: constant up to ``decay_from``, then halved every ``half_life`` epochs.

    Karras et al. keep it constant. Here the training is hundreds of times shorter, and without the decay no two
    checkpoints of it would be near each other: "converged" is what the decay brings about.
    """
    return plan.learning_rate * 0.5 ** (max(0.0, moment - plan.decay_from) / plan.half_life)


def pixel_norm(x: Tensor) -> Tensor:
    """Features divided by their root mean square over the channels: x / sqrt(mean_c x_c^2 + 1e-8)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def minibatch_spread(x: Tensor, group: int = GROUP) -> Tensor:
    """One more channel: the standard deviation over each group of images, averaged over features and positions."""
    n = math.gcd(len(x), group)
    grouped = x.float().unflatten(0, (n, len(x) // n))
    spread = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    planes = spread.repeat(n)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, planes.to(x.dtype)], 1)


class EqualConv(nn.Module):
    """Convolution with weights stored as N(0, 1) and scaled by gain / sqrt(fan in) where they are used.

    So a step of Adam changes all layers by the same fraction (equalised learning rate).
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, padding: int = 0, gain: float = 2**0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.scale, self.padding = gain / (c_in * kernel**2) ** 0.5, padding

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualSum(nn.Module):
    """The critic's last layer, features (B, C) to values (B,): equalised too, never in half precision."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_in))
        self.bias = nn.Parameter(torch.zeros(()))
        self.scale = c_in**-0.5

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() * self.weight).sum(1) * self.scale + self.bias


leaky = partial(nn.functional.leaky_relu, negative_slope=SLOPE)
double = partial(nn.functional.interpolate, scale_factor=2, mode="nearest")
halve = partial(nn.functional.avg_pool2d, kernel_size=2)


class ProGenerator(nn.Module):
    """Latent vectors (B, latent) ~ N(0, 1) to images (B, 3, size, size), in [0, 1] but for overshoots."""

    growth: Tensor

    def __init__(self, plan: ProGanPlan) -> None:
        super().__init__()
        widths = channels(plan)
        self.first = EqualConv(plan.latent, widths[0], 4, padding=3)  # of 1x1 px: a dense layer to 4x4
        self.second = EqualConv(widths[0], widths[0], 3, 1)
        self.ups = nn.ModuleList(EqualConv(a, b, 3, 1) for a, b in pairwise(widths))
        self.convs = nn.ModuleList(EqualConv(b, b, 3, 1) for b in widths[1:])
        self.rgb = nn.ModuleList(EqualConv(c, 3, 1, gain=1.0) for c in widths)
        self.register_buffer("growth", torch.tensor(float(len(self.ups))))

    def forward(self, z: Tensor, growth: float | None = None) -> Tensor:
        """Images of the resolution of ``growth`` (see ``growth_at``); of full size, whatever it is, if None."""
        level, alpha = level_and_alpha(self.growth.item() if growth is None else growth)
        x = pixel_norm(leaky(self.first(pixel_norm(z)[:, :, None, None])))
        x = below = pixel_norm(leaky(self.second(x)))
        for k in range(level):
            below = x
            x = pixel_norm(leaky(self.ups[k](double(x))))
            x = pixel_norm(leaky(self.convs[k](x)))
        out = self.rgb[level](x).float()
        if alpha < 1:
            out = torch.lerp(double(self.rgb[level - 1](below).float()), out, alpha)
        if growth is None and level < len(self.ups):
            out = nn.functional.interpolate(out, scale_factor=2 ** (len(self.ups) - level), mode="nearest")
        return 0.5 + 0.5 * out


class Critic(nn.Module):
    """Images (B, 3, H, W) in [0, 1], of the resolution that ``growth`` calls for, to values (B,)."""

    def __init__(self, plan: ProGanPlan) -> None:
        super().__init__()
        widths = channels(plan)
        self.rgb = nn.ModuleList(EqualConv(3, c, 1) for c in widths)
        self.convs = nn.ModuleList(EqualConv(b, b, 3, 1) for b in widths[1:])
        self.downs = nn.ModuleList(EqualConv(b, a, 3, 1) for a, b in pairwise(widths))
        self.second = EqualConv(widths[0] + 1, widths[0], 3, 1)
        self.third = EqualConv(widths[0], widths[0], 4)
        self.last = EqualSum(widths[0])

    def forward(self, images: Tensor, growth: float) -> Tensor:
        """Higher is more like the real images."""
        level, alpha = level_and_alpha(growth)
        images = 2 * images - 1
        x = leaky(self.rgb[level](images))
        for k in reversed(range(level)):
            x = halve(leaky(self.downs[k](leaky(self.convs[k](x)))))
            if k == level - 1 and alpha < 1:
                x = torch.lerp(leaky(self.rgb[k](halve(images))).to(x.dtype), x, alpha)
        x = leaky(self.third(leaky(self.second(minibatch_spread(x)))))
        return self.last(x.flatten(1))


def latent_vectors(seeds: Sequence[int], length: int) -> Tensor:
    """Latents (B, length) ~ N(0, 1); each is determined by its seed and the length, so all models share them."""
    return torch.from_numpy(np.stack([np.random.default_rng(k).standard_normal(length, np.float32) for k in seeds]))
