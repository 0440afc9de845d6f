"""Trained comparators: ResNet-50 by the recipe of Wang et al. 2020, Grag21 and ResNet-M, on MONAI's ResNet.

MONAI's ResNet is maintained and needs no torchvision. It takes seconds to import: not before one is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.augmentation import augment
from difcore.batches import shuffled
from difcore.devices import exact, mixed, true_float32
from difcore.images import centre_crops, check_classes
from difcore.resnets import ARCHITECTURES, build_classifier, check_name, load_imagenet
from difcore.tensors import channels_last, to_batch, upload

__all__ = ["ARCHITECTURES", "ClassifierDetector", "ClassifierPlan", "build_classifier", "train_classifier"]

SMALLEST = 32  # px: the networks reduce by 32
PIXELS_PER_CALL = 2**18  # images scored at a time: 16 of 128 px
MINUTE = {"resnet50": (100, 64), "grag21": (50, 32), "resnet_m": (400, 64)}  # (steps, crop) in about a minute
PLATEAUS = 3  # Wang20: 1e-4 is divided by ten at each plateau, and below 1e-6 it ends: at the third
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ClassifierPlan:
    """All that a training depends on besides the images: Wang20's recipe, its length cut down to small training sets.

    Wang20 train on 720,000 images, starting from ImageNet weights: Adam at 1e-4, batches of 64 views of 224 px, and
    the learning rate divided by ten when the accuracy on held-out images has not improved for five epochs. Here a
    "patience" counts evaluations, since an epoch of 128 + 128 images is a few steps, and what is watched is the
    cross-entropy, since on a few dozen held-out images the accuracy moves in steps of several per cent. The network
    with the lowest one is kept, as Wang20 keep their best.

    Attributes
    ----------
    steps : int or None
        At most this many. None: as many as take about a minute on one thread of a CPU with AMX, in bfloat16
        (``MINUTE``). That is little for a ResNet-50 with random weights.
    batch : int
        Views per step, half of them real.
    learning_rate : float
        Adam's at the start. Wang20's 1e-4 is for ImageNet weights.
    crop : int or None
        Side of the random views, px (whole images, if these are smaller). None: 64, for Grag21 32, since it works at
        four times the resolution of the others. Images are scored whole.
    augment : float
        Probability of a blur, and of a JPEG compression, see ``difcore.augmentation``.
    held_out : float
        Share of the training images of each class that decides when to stop (at least one image); they are never
        trained on.
    evaluate_every : int
        Steps from one look at the held-out images to the next.
    patience : int
        Evaluations without improvement until the learning rate falls; the third time the training ends.
    pretrained : bool
        Start from ImageNet weights, downloaded once: needs a network. Else from random ones.
    bfloat16 : bool
        Train and score in bfloat16: several times faster on GPUs and on CPUs with AMX.
    seed : int
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
    """A trained network. Its score is the logit of "generated", so the decision is at 0.

    Attributes
    ----------
    method : str
        One of ``ARCHITECTURES``.
    model : nn.Module
        In eval mode: normalised images (B, 3, H, W) to logits (B, 1).
    crop : int
        Side of the centre crop that it scores, px: the size of the images it was trained on (in views of them).
    bfloat16 : bool
    metadata : mapping
        Plan, counts, steps taken, and the held-out loss and accuracy of each evaluation.
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
        """Logit of each uint8 image (N, H, W, 3), (N,) float64.

        Raises
        ------
        ValueError
            Unless ``images`` is uint8 (N >= 1, H, W, 3) with sides of at least ``crop``.
        """
        images = centre_crops(images, self.crop)
        if not len(images):
            raise ValueError("no images to score")
        return logits(self.model, images, self.bfloat16).cpu().double().numpy()

    def decide(self, images: np.ndarray) -> np.ndarray:
        """``score(images) > 0``."""
        return self.score(images) > self.threshold


@exact
def train_classifier(
    method: str,
    real: np.ndarray,
    fake: np.ndarray,
    plan: ClassifierPlan = ClassifierPlan(),
    device: str = "cpu",
    progress: bool = False,
) -> ClassifierDetector:
    """Train one of ``ARCHITECTURES`` to tell ``fake`` from ``real`` by binary cross-entropy.

    Parameters
    ----------
    real, fake : uint8 (N, H, W, 3)
        N >= 2 of each, one size.

    Returns
    -------
    ClassifierDetector

    Raises
    ------
    ValueError
        An unknown method, misshapen images, fewer than two of a class, images below 32 px.
    WeightsError
        If ``plan.pretrained`` and the weights cannot be had.
    """
    check_classes(real, fake)
    check_name(method)
    size = min(real.shape[1:3])
    if size < SMALLEST:
        raise ValueError(f"classifiers need images of at least {SMALLEST} px, got {size}")
    plan = plan.resolved(method)
    assert plan.steps is not None and plan.crop is not None
    view = min(plan.crop, size)
    rng = np.random.default_rng(plan.seed)
    model = build_classifier(method, plan.seed)
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
