"""Training of DnCNN-S on random crops with Gaussian noise (supplement A.2), resumable to the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.files import atomic_write
from difcore.images.crops import centre_crop
from difcore.machine.devices import built, channels_last, exact, to_batch, upload
from difcore.residuals.bias import border_profile
from difcore.residuals.denoisers import NOISE_UNIT, Denoiser, DnCNN, FoldedDnCNN, save_denoiser


def read_checkpoint(path: Path, plan: Any, device: str = "cpu") -> dict[str, Any] | None:
    """The checkpoint at ``path``; None if there is none, ValueError if it is of another plan (a dataclass)."""
    if not path.exists():
        return None
    saved: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if saved["plan"] != asdict(plan):
        raise ValueError(f"{path} belongs to another plan: {saved['plan']}; use another folder or remove it")
    return saved


class Losses:
    """The losses of a training's steps, left on its device until they are read, so that no step waits for the last."""

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self._read: list[Any] = list(known)
        self._pending: list[Tensor] = []

    def append(self, loss: Tensor) -> None:
        """Note the loss of a step: a scalar, or several of them (K,)."""
        self._pending.append(loss.detach())

    def read(self) -> list[Any]:
        """All of them, a float each, or a tuple of floats where several were noted."""
        if self._pending:
            values = torch.stack(self._pending).tolist()
            self._read += [tuple(value) if isinstance(value, list) else value for value in values]
            self._pending.clear()
        return self._read


@dataclass(frozen=True)
class TrainingPlan:
    """What one training run is; two runs with equal plans and images give equal weights.

    Attributes
    ----------
    steps, batch, crop : int
        Optimisation steps, crops per step, side of a crop in px (A.2: 48).
    sigma : (float, float)
        Range of the noise's standard deviation in units of 1/255 (A.2: 5 to 15), one draw per crop.
    learning_rate : float
        Adam's peak rate; 2 % warm-up, then a cosine down to zero.
    ema : float
        Decay of the running average of the weights, which is what snapshots store.
    seed : int
        Seed of the initial weights, crops and noise.
    depth, features : int
        Of the network; 17 and 64 in the paper.
    bfloat16 : bool
        Run the middle layers in bfloat16.
    """

    steps: int = 5300
    batch: int = 6
    crop: int = 48
    sigma: tuple[float, float] = (5.0, 15.0)
    learning_rate: float = 1e-3
    ema: float = 0.999
    seed: int = 0
    depth: int = 17
    features: int = 64
    bfloat16: bool = False


def sample_crops(
    images: Sequence[np.ndarray], count: int, crop: int, rng: np.random.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """``count`` random crops, (count, 3, crop, crop) float32 in [0, 1], channels-last, from uint8 images (H, W, 3)."""
    out = np.empty((count, crop, crop, 3), np.uint8)
    for k in range(count):
        image = images[int(rng.integers(len(images)))]
        top = rng.integers(image.shape[0] - crop + 1)
        left = rng.integers(image.shape[1] - crop + 1)
        out[k] = image[top : top + crop, left : left + crop]
    return to_batch(out, device)


def learning_rate_at(step: int, plan: TrainingPlan) -> float:
    """Learning rate of ``step`` (0-based): linear warm-up over the first 2 %, then a cosine to zero."""
    warm = max(1, plan.steps // 50)
    if step < warm:
        return plan.learning_rate * (step + 1) / warm
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, plan.steps - warm)))


@exact
def train_dncnn(
    images: Sequence[np.ndarray],
    plan: TrainingPlan,
    folder: Path | str,
    snapshots: Sequence[int] = (),
    checkpoint_every: int = 250,
    device: str = "cpu",
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Train DnCNN-S to predict the noise added to crops of ``images``; resume if ``folder`` holds a checkpoint.

    Minimises mean((f(x + n) - n)^2) with n ~ N(0, sigma^2). Crops and noise of step k depend on (seed, k) alone,
    so a run that was killed and resumed ends with the weights of one that was not.

    Parameters
    ----------
    images : sequence of ndarray (H, W, 3) uint8
        Real images, each at least ``plan.crop`` px on a side.
    folder : path
        Receives ``checkpoint.pt`` (with the loss of every step) and ``snapshot-<step>.pt`` (averaged weights).
    snapshots : sequence of int
        Steps after which the averaged weights are kept; the last step always is.

    Returns
    -------
    Path
        The snapshot after the last step.

    Raises
    ------
    ValueError
        If there is no image, one is smaller than a crop, or the folder's checkpoint is of another plan.
    """
    if not images:
        raise ValueError("no training images")
    small = [i for i, im in enumerate(images) if min(im.shape[:2]) < plan.crop]
    if small:
        raise ValueError(f"{len(small)} training images are smaller than the {plan.crop} px crop (first: {small[0]})")
    folder = Path(folder)
    checkpoint = folder / "checkpoint.pt"
    model = channels_last(built(partial(DnCNN, plan.depth, plan.features), plan.seed)[0], device)
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    start, losses = 0, Losses()
    if saved := read_checkpoint(checkpoint, plan, device):
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, start, losses = saved["average"], saved["step"], Losses(saved["losses"])

    def snapshot(step: int) -> Path:
        path = folder / f"snapshot-{step:06d}.pt"
        return atomic_write(path, lambda p: torch.save({k: v.cpu() for k, v in average.items()}, p))

    def save(step: int) -> None:
        state: dict[str, Any] = {"plan": asdict(plan), "model": model.state_dict()}
        state |= {"optimiser": optimiser.state_dict(), "average": average, "step": step, "losses": losses.read()}
        atomic_write(checkpoint, partial(torch.save, state))

    model.train()
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="DnCNN", disable=not progress)
    for step in bar:
        rng = np.random.default_rng([plan.seed, step])
        clean = sample_crops(images, plan.batch, plan.crop, rng, device)
        sigma = torch.from_numpy(rng.uniform(*plan.sigma, (plan.batch, 1, 1, 1))).float() / 255
        noise = upload(torch.from_numpy(rng.standard_normal(clean.shape, np.float32)) * sigma, device)
        x = (clean + noise).contiguous(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, plan)
        optimiser.zero_grad()
        loss = ((model(x, autocast=plan.bfloat16) - noise) / NOISE_UNIT).square().mean()
        loss.backward()
        optimiser.step()
        decay = min(plan.ema, (step + 1) / (step + 10))  # a short memory at first: the start is worth forgetting
        for key, value in model.state_dict().items():
            average[key] = average[key].lerp_(value, 1 - decay) if value.is_floating_point() else value.clone()
        losses.append(loss)
        if on_step:
            on_step(step + 1, losses.read()[-1])
        if (step + 1) % 50 == 0:
            bar.set_postfix(loss=f"{np.mean(losses.read()[-200:]):.4f}")
        if step + 1 in snapshots:
            snapshot(step + 1)
        if (step + 1) % checkpoint_every == 0:
            save(step + 1)
    save(plan.steps)
    return snapshot(plan.steps)


def mean_residual(noise_of: Callable[[Tensor], Tensor], images: Sequence[np.ndarray], size: int = 256) -> Tensor:
    """F_DnCNN: mean over images of the padded filter's output on their centre crops, (3, size, size) (A.2)."""
    crops = [centre_crop(image, size) for image in images if min(image.shape[:2]) >= size]
    if not crops:
        raise ValueError(f"no image of at least {size} px to measure the filter's bias on")
    unbiased = Denoiser("", noise_of, None, "")
    total = torch.zeros(3, size, size, dtype=torch.float64)
    for crop in crops:
        total += unbiased(to_batch(crop))[0].cpu()
    return (total / len(crops)).float()


def psnr(noise_of: Callable[[Tensor], Tensor], images: Sequence[np.ndarray], sigma: float, seed: int = 0) -> float:
    """Mean PSNR in dB of ``y - noise_of(y)`` against the clean images, y = x + N(0, (sigma/255)^2), not clipped."""
    values = []
    for k, image in enumerate(images):
        clean = to_batch(image)
        drawn = np.random.default_rng([seed, k]).standard_normal(clean.shape, np.float32)
        noise = torch.from_numpy(drawn) * sigma / 255
        error = (noise_of(clean + noise).cpu() - noise).square().mean().item()
        values.append(-10 * math.log10(error) if error else math.inf)
    return float(np.mean(values))


def average_weights(snapshots: Sequence[Path | str]) -> dict[str, Tensor]:
    """Mean of the weights of some snapshots; ValueError if there is none, or they are of different networks."""
    states = [torch.load(path, map_location="cpu", weights_only=True) for path in snapshots]
    if not states:
        raise ValueError("no snapshot to average")
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the snapshots are of different networks")
    mean = {key: sum(state[key].double() for state in states) / len(states) for key in states[0]}
    return {key: torch.as_tensor(value).to(states[0][key].dtype) for key, value in mean.items()}


def export_snapshot(
    snapshots: Path | str | Sequence[Path | str],
    images: Sequence[np.ndarray],
    path: Path | str,
    plan: TrainingPlan,
    metadata: Mapping[str, Any],
    bias_size: int = 256,
) -> Path:
    """Turn one snapshot, or the average of several, into a denoiser file with F_DnCNN of the training images."""
    chosen = [snapshots] if isinstance(snapshots, str | Path) else list(snapshots)
    model = DnCNN(plan.depth, plan.features)
    model.load_state_dict(average_weights(chosen))
    bias = border_profile(mean_residual(FoldedDnCNN(model.eval()), images, bias_size))
    steps = [int(Path(snapshot).stem.split("-")[-1]) for snapshot in chosen]
    facts = {**metadata, "plan": asdict(plan), "steps": steps[-1], "averaged_steps": steps}
    return save_denoiser(path, model, bias, {**facts, "seed": plan.seed, "training_images": len(images)})
