"""Residual filters f_D: DnCNN-S with its weights and its bias F_DnCNN, the Gaussian high-pass, known denoisers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from difcore.files import DATA_DIR, atomic_safetensors, read_safetensors, sha256_bytes
from difcore.machine.convolution import conv_relu
from difcore.machine.devices import keep_freed_memory, mixed, true_float32
from difcore.machine.winograd import TORCH, Chain
from difcore.residuals.bias import SUFFIX, bias_for_size, mean_bias, tell_stand_in

PAD = 10  # px added on each side before the filter and cut off after it (supplement, A.2)
NOISE_UNIT = 10 / 255  # the network's output 1.0 stands for this much noise: the middle of sigma in [5, 15]
SHIPPED = {
    "photos": DATA_DIR / "dncnn_photos.safetensors",
    "photos-long": DATA_DIR / "dncnn_photos_long.safetensors",
    "scenes": DATA_DIR / "dncnn_scenes.safetensors",
}
DEFAULT_DENOISER = "photos"
HIGHPASS = re.compile(r"highpass(?::(\d*\.?\d+))?")
SIGMAS = 0.5, 3.0  # px, of the high-pass
# scikit-image's denoisers by name: its function, and the settings for noise as strong as DnCNN's.
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "wavelet": ("denoise_wavelet", {"sigma": NOISE_UNIT, "wavelet": "db4", "method": "BayesShrink"}),
    "tv": ("denoise_tv_chambolle", {"weight": NOISE_UNIT}),
    "nlm": ("denoise_nl_means", {"sigma": NOISE_UNIT, "h": 0.8 * NOISE_UNIT, "patch_size": 5, "patch_distance": 6}),
}
NAMES = (*SHIPPED, "highpass", "highpass:SIGMA", *REFERENCES)
LIMIT = (
    0.4  # of residuals, in root mean squares of their image: notebook 03's table "limits", benchmarks/real_generators
)


class DnCNN(nn.Module):
    """DnCNN-S: 17 convolutions 3x3 with 64 features that estimate the noise in an image.

    conv+ReLU, 15 x (conv+BN+ReLU), conv; no convolution has a bias (supplement A.2 and the official code).
    Input and output are scaled inside (x - 1/2 in, units of 10/255 out): the same family of functions as the
    paper's, but one that a CPU can train.

    ``depth`` and ``features`` are 17 and 64 in the paper; smaller ones are for tests.
    """

    def __init__(self, depth: int = 17, features: int = 64) -> None:
        super().__init__()

        def conv(c_in: int, c_out: int) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)

        layers: list[nn.Module] = [conv(3, features), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [conv(features, features), nn.BatchNorm2d(features), nn.ReLU()]
        self.first = nn.Sequential(*layers[:2])
        self.middle = nn.Sequential(*layers[2:])
        self.last = conv(features, 3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, gain=2**0.5)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, autocast: bool = False) -> Tensor:
        """Noise estimate, same shape and units as ``x`` (B, 3, H, W) in [0, 1].

        ``autocast`` runs the 15 middle layers in bfloat16; the two that touch pixels stay in float32, because
        8 bits of mantissa are as coarse as the 8-bit image itself.
        """
        h = self.first(x - 0.5)
        with mixed(x.device, autocast):
            h = self.middle(h)
        return self.last(h.float()) * NOISE_UNIT


class FoldedDnCNN:
    """A trained DnCNN made fast for inference: batch-norm folded into the convolutions, channels-last, fused ReLU.

    Computes what ``DnCNN.eval()`` does, up to rounding: maps (B, 3, H, W) in [0, 1] to the noise estimate, same shape.
    ``pad`` px of zeros are added on each side first and cut off at the end (supplement, A.2); what only they need is
    not computed: the last convolutions are "valid" ones. ``engine``: ``TORCH``, or ncnn's name (float32 on the CPU).
    """

    def __init__(
        self, model: DnCNN, device: str = "cpu", bfloat16: bool = False, pad: int = PAD, engine: str = TORCH
    ) -> None:
        layers = [*model.first, *model.middle, model.last]
        if device == "cpu":
            keep_freed_memory()
        self.bfloat16, self.pad = bfloat16, pad
        self.layers: list[tuple[Tensor, Tensor | None]] = []
        for layer, follower in zip(layers, [*layers[1:], nn.Identity()], strict=True):
            if not isinstance(layer, nn.Conv2d):
                continue
            weight, bias = layer.weight.detach(), None
            if isinstance(follower, nn.BatchNorm2d):
                norm = follower
                assert norm.running_mean is not None and norm.running_var is not None
                weight, bias = fuse_conv_bn_weights(
                    weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
            weight = weight.detach().to(device, memory_format=torch.channels_last)
            self.layers.append((weight, None if bias is None else bias.detach().to(device)))
        self.paddings = [int(left >= pad) for left in reversed(range(len(self.layers)))]
        self.chain = None if engine == TORCH else Chain(self.layers, self.paddings)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        h = F.pad(x, (self.pad,) * 4) - 0.5
        h = self.chain(h) if self.chain and len(h) else self.direct(h.contiguous(memory_format=torch.channels_last))
        cut = (h.shape[2] - height) // 2  # nothing, unless there are fewer layers than ``pad``
        return h[:, :, cut : cut + height, cut : cut + width] * NOISE_UNIT

    def direct(self, h: Tensor) -> Tensor:
        """The convolutions, by torch."""
        last = len(self.layers) - 1
        for k, (weight, bias) in enumerate(self.layers):
            if self.bfloat16 and 0 < k < last:  # the layers that touch pixels keep float32, as in training
                h, weight = h.bfloat16(), weight.bfloat16()
                bias = None if bias is None else bias.bfloat16()
            elif self.bfloat16:
                h = h.float()
            padding = self.paddings[k]
            h = conv_relu(h, weight, bias, padding) if k < last else F.conv2d(h, weight, bias, padding=padding)
        return h


def gaussian_high_pass(x: Tensor, sigma: float = 1.0) -> Tensor:
    """X - blur(X), the reference filter of Tab. A; reflecting borders, kernel cut at 3 sigma.

    The paper does not give sigma; 1 px is ours.
    """
    radius = max(1, round(3 * sigma))
    t = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(t**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    blurred = F.pad(x, (radius,) * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(blurred, kernel, groups=x.shape[1]), kernel.mT, groups=x.shape[1])
    return x - blurred


def denoised_by(x: Tensor, function: str, settings: Mapping[str, Any]) -> Tensor:
    """X - D(X) for D a function of scikit-image's ``restoration``, image by image."""
    from skimage import restoration

    denoise = partial(getattr(restoration, function), channel_axis=0, **settings)
    smooth = [np.asarray(denoise(image), np.float32) for image in x.cpu().numpy()]
    return x - torch.from_numpy(np.stack(smooth)).to(x.device)


def weightless(name: str) -> tuple[Callable[[Tensor], Tensor], str] | None:
    """The filter of a name that needs no file, and what determines its residuals; None for any other name."""
    if found := HIGHPASS.fullmatch(name):
        sigma = float(found[1] or 1)
        if not SIGMAS[0] <= sigma <= SIGMAS[1]:
            raise ValueError(f"the high-pass takes a sigma of {SIGMAS[0]} to {SIGMAS[1]} px, not {found[1]}")
        return partial(gaussian_high_pass, sigma=sigma), f"highpass-sigma-{sigma}"
    if name not in REFERENCES:
        return None
    function, settings = REFERENCES[name]
    facts = json.dumps([function, settings, version("scikit-image"), version("PyWavelets")])
    return partial(denoised_by, function=function, settings=settings), facts


def has_name(name: str) -> bool:
    """Whether ``load_denoiser`` knows it by name; else it has to be a file's."""
    return name.removesuffix(SUFFIX) in SHIPPED or weightless(name) is not None


@dataclass(frozen=True)
class Denoiser:
    """A residual filter with its bias: calling it gives R = f_D(X) - F_D (supplement, equation 1).

    Attributes
    ----------
    filter : callable
        Maps (B, 3, H, W) float32 in [0, 1] to the same shape.
    bias : Tensor (3, S, S) or None
        F_DnCNN: mean residual of the filter's own training set. None only for filters that have none by design.
    hash : str
        SHA-256 of what determines the residuals; part of the cache's key.
    metadata : mapping
        Data, steps, seed, PSNR of the training.
    limit : float or None
        Residuals are held within so many root mean squares of their image (``correlation.limited``). None: left as
        they are, as in the paper.
    twin : str
        ``hash`` of the same filter in the other precision: its residuals differ by rounding alone.
    engine : str
        What computes the filter: ``TORCH``, or ncnn's name and version. It changes rounding, and not ``hash``.
    """

    name: str
    filter: Callable[[Tensor], Tensor]
    bias: Tensor | None
    hash: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    limit: float | None = None
    twin: str = ""
    engine: str = TORCH

    def __call__(self, x: Tensor) -> Tensor:
        """Residuals (B, 3, H, W) of images ``x`` (B, 3, H, W) in [0, 1], in the images' units.

        Raises
        ------
        ValueError
            If ``x`` is not a batch of RGB images.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"expected images of shape (B, 3, H, W), got {tuple(x.shape)}")
        with true_float32(self.device):
            out = self.filter(x.to(self.device))
        out = out if self.bias is None else out - bias_for_size(self.bias, *x.shape[2:])
        return out if self.limit is None else limited(out, self.limit)


def save_denoiser(path: Path | str, model: DnCNN, bias: Tensor, metadata: Mapping[str, Any]) -> Path:
    """Write weights (float32), F_DnCNN (float16) and metadata as safetensors."""
    tensors = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    shape = {"depth": len(model.middle) // 3 + 2, "features": model.last.in_channels}
    return atomic_safetensors(path, {**tensors, "bias": bias.half()}, {**metadata, **shape, "kind": "dncnn"})


def read_dncnn(path: Path | str) -> tuple[DnCNN, Tensor, dict[str, Any]]:
    """Model in eval mode, F_DnCNN (3, S, S) and metadata of a file written by ``save_denoiser``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, or is not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no denoiser weights at {path}; by name there are {', '.join(NAMES)}")
    try:
        tensors, metadata = read_safetensors(path)
        bias = tensors.pop("bias").float()
        model = DnCNN(metadata["depth"], metadata["features"])
        state = model.state_dict()
        model.load_state_dict({**{k: v for k, v in state.items() if k.endswith("num_batches_tracked")}, **tensors})
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is not a difcore denoiser: {error}") from error
    return model.eval(), bias, metadata


def load_denoiser(
    name: str | Path = DEFAULT_DENOISER, device: str = "cpu", bfloat16: bool = False, limit: float | None = None,
    engine: str = TORCH,
) -> Denoiser:  # fmt: skip
    """The denoiser of a name (``NAMES``), or the one stored in a file.

    "photos", "photos-long" and "scenes" are shipped DnCNNs. "highpass" is the Gaussian one with sigma = 1 px,
    "highpass:0.5" to "highpass:3" with another; "wavelet" (BayesShrink: Chang et al. 2000), "tv" (Chambolle 2004) and
    "nlm" (Buades et al. 2005) are scikit-image's, at DnCNN's noise. These have no bias.

    ``device``, ``bfloat16``, which runs the 15 middle layers in bfloat16, and ``engine``, which is for float32 on the
    CPU and means nothing elsewhere, come from ``difcore.runtime.resolve``.
    Residuals differ by rounding, so they are cached apart. ``limit`` (``LIMIT`` for people's own images and for
    published fingerprints) is that of ``Denoiser``; None gives the paper's residuals. A name that ends in ":mean"
    takes the plain mean of the training images as F_DnCNN, where they are here (``difcore.residuals.bias``);
    ``metadata["bias"]`` says what was taken, and a warning if it is not that.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such name or file, or it is no denoiser.
    """
    held = b"" if limit is None else f"limit {limit}".encode()
    if plain := weightless(str(name)):
        filter_, facts = plain
        return Denoiser(str(name), filter_, None, sha256_bytes(facts.encode(), held), device=device, limit=limit)
    base = str(name).removesuffix(SUFFIX)
    path = SHIPPED.get(base, Path(base))
    model, bias, metadata = read_dncnn(path)
    if str(name) != base:
        unbiased = Denoiser("", FoldedDnCNN(model, device), None, "", device=device)
        weights = sha256_bytes(*(value.numpy().tobytes() for _, value in sorted(model.state_dict().items())))
        bias, metadata["bias"] = mean_bias(unbiased, bias, weights, metadata)
        tell_stand_in(str(name), metadata["bias"])
    values = [bias, *(value for _, value in sorted(model.state_dict().items()))]
    content = [value.numpy().tobytes() for value in values]
    digest, twin = (
        sha256_bytes(*content, b"bfloat16" if rounded else b"", held) for rounded in (bfloat16, not bfloat16)
    )
    label = (base if base in SHIPPED else path.stem) + str(name)[len(base) :]
    engine = engine if device == "cpu" and not bfloat16 else TORCH
    folded = FoldedDnCNN(model, device, bfloat16, engine=engine)
    return Denoiser(label, folded, bias.to(device), digest, metadata, device, limit, twin, engine)


def limited(x: Tensor, limit: float) -> Tensor:
    """Each sample with its values held within ``limit`` times its root mean square: (N, ...) to (N, ...).

    x -> min(max(x, -c s), c s) with s = sqrt(mean x^2). A residual has heavy tails: edges that the filter took for
    noise, a hundred times a fingerprint's strength. Their products dominate the variance of a correlation and carry
    nothing of the fingerprint; a limiter before the correlator is the robust detector of a weak known pattern in such
    noise (Huber's). Small c tends to the correlation with the sign of x, c -> infinity to the plain one.

    Raises
    ------
    ValueError
        If ``limit`` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"a limit must be positive, got {limit}")
    bound = limit * x.float().square().mean(tuple(range(1, x.ndim)), keepdim=True).sqrt().to(x.dtype)
    return torch.clamp(x, -bound, bound)
