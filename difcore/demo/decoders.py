"""Autoencoders whose decoders leave different fingerprints: six ways from a latent back to full resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from difcore.machine.devices import upload

SOURCE_STYLE = "snapshots"  # scenes that decoders are given, and that their fakes are compared with
DOWNSAMPLING, KERNEL = 4, 3
POWER_FLOOR = 1e-7  # of a ring, in squared units of the image
State = dict[str, Tensor]


@dataclass(frozen=True)
class GeneratorPlan:
    """One training of an autoencoder; equal plans, images and first weights give equal weights."""

    steps: int = 3000
    batch: int = 8
    crop: int = 64  # px, a multiple of 4
    learning_rate: float = 2e-3  # Adam's peak: 50 steps of warm-up, then a cosine down to zero
    width: int = 64  # feature channels, a multiple of 8 with attention
    latent: int = 24  # channels
    seed: int = 0  # of the first weights and the crops
    bfloat16: bool = False
    up_first: str = "deconv2"  # kinds of the two doublings, see ``UPSAMPLING``
    up_last: str = "deconv2"
    attention: bool = False  # self-attention at the latent's resolution
    residual: bool = False  # residual blocks, as real latent decoders have, instead of plain ones: sharper images
    max_norm: float = 0.0  # longer gradients are shortened to it (0: never); else a residual decoder can run away
    style: str = SOURCE_STYLE  # of the scenes it is trained on
    spectral: float = 0.0  # weight of ``spectral_distance``: outputs as sharp as the scenes

    def rate(self, step: int) -> float:
        """Learning rate of ``step`` (0-based)."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps)) * min(1.0, (step + 1) / 50)


@dataclass(frozen=True)
class ChildPlan:
    """How a child comes from its parent, as the variants of Stable Diffusion come from one another (Fig. E)."""

    parent: str  # generator whose weights it starts from
    style: str = SOURCE_STYLE  # of the scenes it is fine-tuned on
    donor: str = ""  # generator that the last doubling and the output layer are taken from before that
    steps: int = 400
    learning_rate: float = 5e-4
    seed: int = 0


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and SiLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, KERNEL, stride, 1), nn.SiLU())


def interpolated(mode: str, c_in: int, c_out: int) -> nn.Sequential:
    """Interpolation, then a 3x3 convolution (Odena et al. 2016)."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(c_in, c_out, KERNEL, 1, 1))


def shuffled(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution, then pixel-shuffle (Shi et al. 2016)."""
    return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, KERNEL, 1, 1), nn.PixelShuffle(2))


UPSAMPLING: dict[str, Callable[[int, int], nn.Module]] = {  # (B, c_in, H, W) to (B, c_out, 2H, 2W)
    "deconv2": partial(nn.ConvTranspose2d, kernel_size=2, stride=2),
    "deconv4": partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1),
    "nearest": partial(interpolated, "nearest"),
    "bilinear": partial(interpolated, "bilinear"),
    "shuffle": shuffled,
}


class Attention(nn.Module):
    """Residual self-attention over all positions, one head, as in the middle block of Stable Diffusion's decoder.

    x + W_o softmax(q k' / sqrt(C)) v with q, k, v linear in the group-normed x, (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, 1))  # (B, H W, C)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class Residual(nn.Module):
    """x + conv(SiLU(conv(x))), 3x3 both: keeps a linear path open, along which fine detail passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(channels, channels), nn.Conv2d(channels, channels, KERNEL, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class LatentDecoder(nn.Module):
    """Encoder to a latent 4x smaller, decoder back in two doublings; as convolutional as its parts."""

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        w, cells = plan.width, 3 * DOWNSAMPLING**2
        enter = partial(nn.Conv2d, kernel_size=KERNEL, padding=1) if plan.residual else conv
        block = Residual if plan.residual else (lambda channels: conv(channels, channels))
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(DOWNSAMPLING), enter(cells, w), block(w), nn.Conv2d(w, plan.latent, KERNEL, 1, 1)
        )
        middle = nn.Sequential(Attention(w), block(w)) if plan.attention else block(w)
        doublings = [
            nn.Sequential(UPSAMPLING[kind](w, c), nn.Identity() if plan.residual else nn.SiLU(), block(c))
            for kind, c in ((plan.up_first, w), (plan.up_last, w // 2))
        ]
        self.decoder = nn.Sequential(enter(plan.latent, w), middle, *doublings, nn.Conv2d(w // 2, 3, KERNEL, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of images (B, 3, H, W) in [0, 1], H and W multiples of 4; not clipped."""
        return self.decoder(self.encoder(x - 0.5)) + 0.5


def child_of(
    child: ChildPlan, parent: tuple[GeneratorPlan, State], donor: tuple[GeneratorPlan, State] | None = None
) -> tuple[GeneratorPlan, State]:
    """Plan and first weights of a child: the parent's, with the donor's last block if there is a donor."""
    plan, state = parent
    plan = replace(plan, steps=child.steps, learning_rate=child.learning_rate, seed=child.seed, style=child.style)
    if donor is None:
        return plan, dict(state)
    if donor[0].width != plan.width:
        raise ValueError(f"cannot swap a last block of width {donor[0].width} into a decoder of width {plan.width}")
    last = {key: value for key, value in donor[1].items() if key.startswith(("decoder.3.", "decoder.4."))}
    kept = {key: value for key, value in state.items() if not key.startswith(("decoder.3.", "decoder.4."))}
    return replace(plan, up_last=donor[0].up_last), kept | last


def radial_spectrum(images: Tensor) -> Tensor:
    """Log mean power of images (B, 3, S, S), under a Hann window, in rings of whole frequencies: (B, rings)."""
    side = images.shape[-1]
    fy, fx = torch.fft.fftfreq(side)[:, None] * side, torch.fft.rfftfreq(side) * side
    ring = torch.hypot(fy, fx).round().long().flatten()
    window = torch.hann_window(side, periodic=False, device=images.device)
    power = torch.fft.rfft2(images * window[:, None] * window, norm="ortho").abs().square().mean(1).flatten(1)
    members = torch.bincount(ring)
    sums = power.new_zeros(len(power), len(members)).index_add(1, upload(ring, power.device), power)
    return (sums / upload(members, power.device) + POWER_FLOOR).log()


def spectral_distance(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference of the radial spectra of pairs (B, 3, S, S), a scalar (Durall et al. 2020).

    What a latent has lost cannot be reconstructed, and a mean absolute error leaves it out: images turn soft. A decoder
    that has to make up the lost power makes it of what it has, a pattern of its own.
    """
    return (radial_spectrum(images) - radial_spectrum(targets)).abs().mean()
