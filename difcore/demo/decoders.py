"""Autoencoders whose decoders leave different fingerprints: six ways from a latent back to full resolution."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

DOWNSAMPLING = 4
KERNEL = 3


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and SiLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, KERNEL, stride, 1), nn.SiLU())


def upsample(kind: str, c_in: int, c_out: int) -> nn.Module:
    """Layer that doubles height and width: (B, c_in, H, W) to (B, c_out, 2H, 2W).

    Parameters
    ----------
    kind : {"deconv2", "deconv4", "nearest", "bilinear", "shuffle"}
        Transposed convolution with a 2x2 or 4x4 kernel and stride 2, nearest or bilinear interpolation followed by a
        3x3 convolution (Odena et al. 2016), or a 3x3 convolution followed by pixel-shuffle (Shi et al. 2016).

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind == "deconv2":
        return nn.ConvTranspose2d(c_in, c_out, 2, 2)
    if kind == "deconv4":
        return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1)
    if kind in ("nearest", "bilinear"):
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=kind), nn.Conv2d(c_in, c_out, KERNEL, 1, 1))
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, KERNEL, 1, 1), nn.PixelShuffle(2))
    raise ValueError(f"unknown upsampling {kind!r}; choose from deconv2, deconv4, nearest, bilinear, shuffle")


class Attention(nn.Module):
    """Residual self-attention over all positions, one head, as in the middle block of Stable Diffusion's decoder.

    (B, C, H, W) to the same: x + W_o softmax(q k' / sqrt(C)) v with q, k, v linear in the group-normed x.
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
    """Encoder to a latent 4x smaller, decoder back in two doublings; as convolutional as its parts.

    Parameters
    ----------
    width : int
        Feature channels.
    latent : int
        Channels of the latent.
    up_first, up_last : str
        Kinds of the two doublings, see ``upsample``.
    attention : bool
        Self-attention at the latent's resolution (``width`` must be a multiple of 8).
    residual : bool
        Residual blocks, as real latent decoders have, instead of plain convolutions: sharper images.
    """

    def __init__(
        self,
        width: int = 64,
        latent: int = 24,
        up_first: str = "deconv2",
        up_last: str = "deconv2",
        attention: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        w, cells = width, 3 * DOWNSAMPLING**2
        enter = partial(nn.Conv2d, kernel_size=KERNEL, padding=1) if residual else conv
        block = Residual if residual else (lambda channels: conv(channels, channels))
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(DOWNSAMPLING), enter(cells, w), block(w), nn.Conv2d(w, latent, KERNEL, 1, 1)
        )
        middle = nn.Sequential(Attention(w), block(w)) if attention else block(w)
        doublings = [
            nn.Sequential(upsample(kind, a, b), nn.Identity() if residual else nn.SiLU(), block(b))
            for kind, a, b in ((up_first, w, w), (up_last, w, w // 2))
        ]
        self.decoder = nn.Sequential(enter(latent, w), middle, *doublings, nn.Conv2d(w // 2, 3, KERNEL, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of images (B, 3, H, W) in [0, 1], H and W multiples of 4; not clipped."""
        return self.decoder(self.encoder(x - 0.5)) + 0.5


def swap_last_block(state: dict[str, Tensor], donor: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights ``state`` of a decoder with the last doubling and the output layer of ``donor``."""
    last = ("decoder.3.", "decoder.4.")
    kept = {key: value for key, value in state.items() if not key.startswith(last)}
    return kept | {key: value for key, value in donor.items() if key.startswith(last)}
