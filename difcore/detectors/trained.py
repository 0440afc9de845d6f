"""Trained comparators: ResNet-50 by the recipe of Wang et al. 2020, Grag21 and ResNet-M, on MONAI's ResNet.

MONAI's ResNet is maintained and needs no torchvision. It takes seconds to import: not before one is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.files import sha256_file
from difcore.fingerprints.dif import shuffled
from difcore.images.crops import centre_crops, check_classes, through_jpeg
from difcore.machine.cache import cache_folder, needed_folder
from difcore.machine.devices import built, channels_last, exact, mixed, to_batch, true_float32, upload

ARCHITECTURES = ("resnet50", "grag21", "resnet_m")
# A safetensors copy of torchvision's first ImageNet weights of ResNet-50, in torchvision's names.
WEIGHTS_URL = "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors"
SMALLEST = 32  # px: the networks reduce by 32
PIXELS_PER_CALL = 2**18  # images scored at a time: 16 of 128 px
MINUTE = {"resnet50": (100, 64), "grag21": (50, 32), "resnet_m": (400, 64)}  # (steps, crop) in about a minute
PLATEAUS = 3  # Wang20: 1e-4 is divided by ten at each plateau, and below 1e-6 it ends: at the third
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class WeightsError(RuntimeError):
    """ImageNet weights that are not to be had."""


def augment(image: np.ndarray, crop: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """One training view (crop, crop, 3) of a uint8 image (H, W, 3), in Wang20's order, who publish .1 and .5.

    With ``probability`` a Gaussian blur, sigma ~ U(0, 3) px; with the same, independently, JPEG of quality 30 to 100;
    the crop (so that the grid of the JPEG blocks lies anywhere in it); a mirror image in half of the cases.
    """
    if rng.random() < probability:
        sigma = rng.uniform(0.0, 3.0)
        image = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)).round().clip(0, 255).astype(np.uint8)
    if rng.random() < probability:
        image = through_jpeg(np.ascontiguousarray(image), int(rng.integers(30, 101)))
    top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
    view = image[top : top + crop, left : left + crop]
    return view[:, ::-1] if rng.random() < 0.5 else view


class Head(nn.Linear):
    """A linear layer that stays in float32: logits of bfloat16's eight bits would tie with one another."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def build_classifier(name: str, seed: int = 0) -> nn.Module:
    """A network with random weights: images (B, 3, H, W) to logits (B, 1), H and W at least 32.

    - "resnet50": ResNet-50 (He et al. 2016), as Wang et al. 2020 use it.
    - "grag21": the same with the down-sampling of its stem removed (Gragnaniello et al. 2021): stride 1 in the first
      convolution and in the max-pool, which stays, as in the authors' published network. 16 times as many operations.
    - "resnet_m": the supplement names a ResNet-M and does not define it. This is a ResNet-18 with 36 instead of 64
      channels in its first stage, doubling from there as usual: 3.54 million parameters where the U-Net prior has
      3.70 million. An assumption.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown classifier {name!r}; choose from {', '.join(ARCHITECTURES)}")
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
    """Put ImageNet weights into all layers but the last; the SHA-256 of their file. WeightsError if it cannot be."""
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
    """The weights' file, downloaded into difcore's cache unless it is there."""
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


@dataclass(frozen=True)
class ClassifierPlan:
    """All that a training depends on besides the images: Wang20's recipe, its length cut down to small training sets.

    Wang20 train on 720,000 images from ImageNet weights: Adam at 1e-4, batches of 64 views of 224 px, the learning rate
    divided by ten when the accuracy on held-out images has not improved for five epochs. Here a "patience" counts
    evaluations, since an epoch of 128 + 128 images is a few steps, and the cross-entropy is watched, since on a few
    dozen images the accuracy moves in steps of several per cent. The network with the lowest one is kept.

    Attributes
    ----------
    steps : int or None
        At most this many. None: about a minute on one thread of a CPU with AMX, in bfloat16 (``MINUTE``): little for a
        ResNet-50 with random weights.
    batch : int
        Views per step, half of them real.
    learning_rate : float
        Adam's at the start. Wang20's 1e-4 is for ImageNet weights.
    crop : int or None
        Side of the random views, px. None: 64, for Grag21 32, which works at four times the others' resolution.
    augment : float
        Probability of a blur, and of a JPEG compression (``augment``).
    held_out : float
        Share of the training images of each class that decides when to stop (at least one); never trained on.
    evaluate_every, patience : int
        Steps between looks at the held-out images; looks without improvement until the learning rate falls.
    pretrained : bool
        Start from ImageNet weights, downloaded once. Else from random ones.
    bfloat16 : bool
        Train and score in bfloat16.
    """

    steps: int | None = None
    batch: int = 16
    learning_rate: float = 1e-3
    crop: int | None = None
    augment: float = 0.1
    held_out: float = 0.125
    evaluate_every: int = 10
    patience: int = 5
    pretrained: bool = False
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = [n for n in (self.steps, self.evaluate_every, self.patience) if n is not None]
        if min(counts) < 1 or self.batch < 2 or (self.crop or SMALLEST) < SMALLEST or self.learning_rate <= 0:
            raise ValueError(f"out of range: {self}")
        if not 0 <= self.augment <= 1 or not 0 < self.held_out < 1:
            raise ValueError(f"out of range: {self}")

    def resolved(self, method: str) -> ClassifierPlan:
        """The plan with the steps and the crop of ``method`` where it has None."""
        steps, crop = MINUTE[method]
        return replace(self, steps=self.steps or steps, crop=self.crop or crop)


@dataclass(frozen=True)
class ClassifierDetector:
    """A trained network: its score is the logit of "generated", so the decision is at 0.

    ``model``, in eval mode, maps normalised images (B, 3, H, W) to logits (B, 1); ``crop`` is the side of the centre
    crop that it scores; ``metadata``: plan, counts, steps, held-out loss and accuracy of each evaluation.
    """

    method: str
    model: nn.Module
    crop: int
    bfloat16: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        return 0.0

    def score(self, images: np.ndarray) -> np.ndarray:
        """Logit of each uint8 image (N >= 1, H, W, 3), (N,) float64."""
        images = centre_crops(images, self.crop)
        if not len(images):
            raise ValueError("no images to score")
        return logits(self.model, images, self.bfloat16).cpu().double().numpy()


@exact
def train_classifier(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    plan: ClassifierPlan = ClassifierPlan(),
    device: str = "cpu",
    progress: bool = False,
) -> ClassifierDetector:
    """Train one of ``ARCHITECTURES`` to tell ``fake`` from ``real``, uint8 (N >= 2, H, W, 3), by cross-entropy.

    ValueError for an unknown method, misshapen images, too few or too small; WeightsError for ``plan.pretrained``
    without weights.
    """
    check_classes(real, fake)
    size = min(real.shape[1:3])
    if size < SMALLEST:
        raise ValueError(f"classifiers need images of at least {SMALLEST} px, got {size}")
    model = build_classifier(method, plan.seed)
    plan = plan.resolved(method)
    assert plan.steps is not None and plan.crop is not None
    view, rng = min(plan.crop, size), np.random.default_rng(plan.seed)
    origin = {"weights_sha256": load_imagenet(model, method)} if plan.pretrained else {}
    model = channels_last(model, device).train()
    parts = [hold_out(centre_crops(x, size), plan.held_out, rng) for x in (real, fake)]
    watched = [centre_crops(rest, view) for _, rest in parts]
    half = min(plan.batch // 2, *(len(kept) for kept, _ in parts))
    draws = [shuffled(len(kept), half, rng) for kept, _ in parts]
    labels = (torch.arange(2 * half, device=device) >= half).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    history: list[dict[str, float]] = []
    best, best_state, since, plateaus, step = np.inf, model.state_dict(), 0, 0, 0
    bar = tqdm(total=plan.steps, desc=method, disable=not progress)
    while step < plan.steps and plateaus < PLATEAUS:
        images = [kept[i] for (kept, _), draw in zip(parts, draws, strict=True) for i in next(draw)]
        batch = normalise(np.stack([augment(image, view, plan.augment, rng) for image in images]), device)
        with mixed(device, plan.bfloat16):
            out = model(batch)
        loss = nn.functional.binary_cross_entropy_with_logits(out[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        bar.update()
        if step % plan.evaluate_every and step < plan.steps:
            continue
        history.append({"step": step, "loss": loss.item(), **watch(model, watched, plan.bfloat16)})
        bar.set_postfix({k: f"{v:.3f}" for k, v in history[-1].items() if k != "step"})
        if history[-1]["held_out_loss"] < best:
            best, since = history[-1]["held_out_loss"], 0
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
            continue
        since += 1
        if since == plan.patience:
            since, plateaus = 0, plateaus + 1
            for group in optimiser.param_groups:
                group["lr"] /= 10
    bar.close()
    model.load_state_dict(best_state)
    facts = {"plan": asdict(plan), "steps": step, "n_real": len(real), "n_fake": len(fake), "history": history}
    return ClassifierDetector(method, model.eval(), size, plan.bfloat16, {**facts, **origin})


def hold_out(images: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images at random in two parts, the second of about ``share`` of them; neither is empty if there are two."""
    count = min(max(1, round(share * len(images))), len(images) - 1)
    order = rng.permutation(len(images))
    return images[order[count:]], images[order[:count]]


def normalise(images: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), less ImageNet's mean, over its standard deviation, as Wang20."""
    mean, std = (upload(torch.tensor(x), device)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (to_batch(images, device) - mean) / std


@torch.inference_mode()
def logits(model: nn.Module, images: np.ndarray, bfloat16: bool) -> Tensor:
    """Of uint8 images (N, H, W, 3), a few at a time: (N,) float32."""
    device = next(model.parameters()).device
    count = max(1, PIXELS_PER_CALL // (images.shape[1] * images.shape[2]))
    with mixed(device, bfloat16), true_float32(device):
        parts = [model(normalise(images[k : k + count], device))[:, 0] for k in range(0, len(images), count)]
    return torch.cat(parts).float()


def watch(model: nn.Module, watched: list[np.ndarray], bfloat16: bool) -> dict[str, float]:
    """Cross-entropy and accuracy on the held-out images [real, fake], each class weighing the same."""
    model.eval()
    real, fake = (logits(model, x, bfloat16) for x in watched)
    model.train()
    loss = (nn.functional.softplus(real).mean() + nn.functional.softplus(-fake).mean()) / 2
    accuracy = ((real <= 0).float().mean() + (fake > 0).float().mean()) / 2
    return {"held_out_loss": float(loss), "held_out_accuracy": float(accuracy)}
