"""The networks of the trained comparators, and ImageNet weights for those that have the shape of a ResNet-50."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from difcore.cache import cache_folder, needed_folder
from difcore.devices import built
from difcore.files import sha256_file

ARCHITECTURES = ("resnet50", "grag21", "resnet_m")
# A safetensors copy of torchvision's first ImageNet weights of ResNet-50, in torchvision's names.
WEIGHTS_URL = "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors"


class WeightsError(RuntimeError):
    """ImageNet weights that are not to be had."""


class Head(nn.Linear):
    """A linear layer that stays in float32: logits of bfloat16's eight bits would tie with one another."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def check_name(name: str) -> None:
    """Raise ValueError unless ``name`` is one of ``ARCHITECTURES``."""
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown classifier {name!r}; choose from {', '.join(ARCHITECTURES)}")


def build_classifier(name: str, seed: int = 0) -> nn.Module:
    """A network with random weights: images (B, 3, H, W) to logits (B, 1), H and W at least 32.

    - "resnet50": ResNet-50 (He et al. 2016), as Wang et al. 2020 use it.
    - "grag21": the same with the down-sampling of its stem removed (Gragnaniello et al. 2021): stride 1 in the first
      convolution and in the max-pool, which stays, as in the authors' published network. 16 times as many operations.
    - "resnet_m": the supplement names a ResNet-M and does not define it. This is a ResNet-18 with 36 instead of 64
      channels in its first stage, doubling from there as usual: 3.54 million parameters where the U-Net prior has
      3.70 million. An assumption.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    check_name(name)
    return built(partial(unseeded, name), seed)[0]


def unseeded(name: str) -> nn.Module:
    """A network of ``build_classifier`` with weights from torch's own generator."""
    from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

    common: dict[str, Any] = {"spatial_dims": 2, "n_input_channels": 3, "num_classes": 1, "bias_downsample": False}
    if name == "resnet_m":
        model = ResNet(ResNetBlock, [2, 2, 2, 2], [36, 72, 144, 288], conv1_t_stride=2, **common)
        features = 288
    else:
        stride = 1 if name == "grag21" else 2
        model = ResNet(ResNetBottleneck, [3, 4, 6, 3], [64, 128, 256, 512], conv1_t_stride=stride, **common)
        features = 512 * ResNetBottleneck.expansion
    if name == "grag21":
        model.maxpool = nn.MaxPool2d(3, stride=1, padding=1)
    model.fc = Head(features, 1)
    nn.init.normal_(model.fc.weight, std=0.02)  # Wang20's
    nn.init.zeros_(model.fc.bias)
    return model


def load_imagenet(model: nn.Module, name: str) -> str:
    """Put ImageNet weights into all layers but the last; returns the SHA-256 of their file.

    Raises
    ------
    WeightsError
        If the network is not a ResNet-50, the file can be neither found nor downloaded, or holds something else.
    """
    if name == "resnet_m":
        raise WeightsError("there are no ImageNet weights for resnet_m: train it from scratch (pretrained=False)")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = imagenet_file()
    try:
        weights = {k: v for k, v in load_file(path).items() if not k.startswith("fc.")}
        left_out, unknown = model.load_state_dict(weights, strict=False)
        missing = [k for k in left_out if not k.startswith("fc.") and not k.endswith("num_batches_tracked")]
        if missing or unknown:
            raise WeightsError(f"{path} does not hold a ResNet-50: {(missing + unknown)[:3]}")
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} cannot be used; delete it to download it again: {error}") from error
    return sha256_file(path)


def imagenet_file() -> Path:
    """The weights' file, downloaded into difcore's cache unless it is there.

    Raises
    ------
    WeightsError
        If the download fails.
    CacheError
        If the cache cannot be written.
    """
    import pooch
    import requests

    name = "resnet50_imagenet.safetensors"
    if (known := cache_folder("weights") / name).is_file():
        return known
    folder = needed_folder("weights")
    try:
        download = pooch.HTTPDownloader(timeout=30)
        return Path(pooch.retrieve(WEIGHTS_URL, known_hash=None, fname=name, path=folder, downloader=download))
    except (requests.exceptions.RequestException, OSError) as error:
        raise WeightsError(
            f"ImageNet weights could not be downloaded from {WEIGHTS_URL} ({error}); put the file at {folder / name}, "
            "or train from scratch (pretrained=False)"
        ) from error
