"""Training of ProGANs: Wasserstein loss with gradient penalty, growth by epoch, an averaged generator; resumable."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.demo.progan import (
    Critic,
    ProGanPlan,
    ProGenerator,
    doublings,
    growth_at,
    halve,
    latent_vectors,
    level_and_alpha,
)
from difcore.files import atomic_write
from difcore.machine.devices import built, channels_last, exact, has_fused, mixed, upload
from difcore.residuals.denoiser_training import Losses, read_checkpoint, sample_crops

GRID_SEED, GRID_SIDE = 50_000, 8  # sample grids show the same 64 latents at every epoch


def steps_of_epoch(epoch: int, plan: ProGanPlan) -> int:
    """Optimisation steps of an epoch (counted from 1), one at least."""
    early = plan.early if growth_at(epoch, plan) <= doublings(plan) - 1 else 1
    return max(1, early * plan.images_per_epoch // plan.batch)


def steps_until(epoch: int, plan: ProGanPlan) -> int:
    """Optimisation steps of the first ``epoch`` epochs."""
    return sum(steps_of_epoch(k, plan) for k in range(1, epoch + 1))


def progan_rate(epoch: float, plan: ProGanPlan) -> float:
    """Learning rate at a moment of the training: constant up to ``decay_from``, then halved every ``half_life`` epochs.

    Karras et al. keep it constant. Here the training is hundreds of times shorter, and without the decay no two
    checkpoints of it would be near each other: "converged" is what the decay brings about.
    """
    return plan.learning_rate * 0.5 ** (max(0.0, epoch - plan.decay_from) / plan.half_life)


@exact
def train_progan(
    images: Sequence[np.ndarray],
    plan: ProGanPlan,
    folder: Path | str,
    epochs: Sequence[int] = (),
    device: str = "cpu",
    progress: bool = True,
    grid_every: int = 10,
) -> dict[int, ProGenerator]:
    """Train a ProGAN; resumes from ``folder``/checkpoint.pt, which is written after each epoch.

    With x real, y = G(z), z ~ N(0, 1), and u a random point between x and y, the critic minimises
    mean D(y) - D(x) + penalty (|grad D(u)| - 1)^2 + drift D(x)^2 (Gulrajani et al. 2017, Karras et al. 2018), G
    minimises mean -D(y), one step each. While a resolution is faded in, x is a mixture of the two resolutions too.

    Crops, latents and u of step k depend on (seed, k) alone, and so does the next loss of a run that was killed.
    Checkpoints keep the losses of every step: the critic's Wasserstein estimate D(x) - D(y), and G's loss.

    Parameters
    ----------
    images : sequence of ndarray (H, W, 3) uint8
        What G should make; random crops of ``plan.size`` px are taken.
    epochs : sequence of int
        Epochs (counted from 1) after which the averaged generator is kept; the last one always is.
    device : str
        Mixed precision, if the plan asks for it, is bfloat16 on a GPU as on a CPU.
    grid_every : int
        Epochs between two sample grids ``folder``/samples-NNN.png; 0 for none.

    Returns
    -------
    dict of epoch to ProGenerator
        Averaged weights, in eval mode, on the CPU.

    Raises
    ------
    ValueError
        If an epoch to keep lies outside the training, an image is too small, or the checkpoint in ``folder`` belongs
        to another plan.
    """
    folder, kept = Path(folder), sorted({*epochs, plan.epochs})
    if kept[0] < 1 or kept[-1] > plan.epochs:
        raise ValueError(f"epochs {kept} to keep of a training of {plan.epochs}")
    if any(min(image.shape[:2]) < plan.size for image in images):
        raise ValueError(f"images must be at least {plan.size} px a side")
    first, _ = built(lambda: nn.ModuleDict({"G": ProGenerator(plan), "D": Critic(plan)}), plan.seed)
    models: dict[str, Any] = {key: channels_last(model, device) for key, model in first.items()}
    models["average"] = copy.deepcopy(models["G"])
    adam = partial(torch.optim.Adam, lr=plan.learning_rate, betas=(0.0, 0.99), fused=has_fused(device) or None)
    optimisers = {key: adam(models[key].parameters()) for key in "GD"}
    done, losses = 0, Losses()
    if saved := read_checkpoint(folder / "checkpoint.pt", plan, device):
        for key, part in (models | {f"optimiser {k}": o for k, o in optimisers.items()}).items():
            part.load_state_dict(saved[key])
        done, losses = saved["epoch"], Losses(saved["losses"])
    step = steps_until(done, plan)
    bar = tqdm(initial=step, total=steps_until(plan.epochs, plan), desc="ProGAN", disable=not progress)
    for epoch in range(done + 1, plan.epochs + 1):
        count = steps_of_epoch(epoch, plan)
        for k in range(count):
            losses.append(progan_step(models, optimisers, images, plan, step, epoch - 1 + k / count, device))
            step += 1
            bar.update()
        px = 4 << math.ceil(models["average"].growth.item())
        bar.set_postfix(epoch=epoch, px=px, loss=f"{losses.read()[-1][0]:.2f}")
        if grid_every and (epoch % grid_every == 0 or epoch == plan.epochs):
            save_grid(folder / f"samples-{epoch:03d}.png", models["average"], plan)
        if epoch in kept:
            atomic_write(snapshot_path(folder, epoch), partial(torch.save, models["average"].state_dict()))
        state = {key: part.state_dict() for key, part in models.items()}
        state |= {f"optimiser {key}": optimiser.state_dict() for key, optimiser in optimisers.items()}
        state |= {"plan": asdict(plan), "epoch": epoch, "losses": losses.read()}
        atomic_write(folder / "checkpoint.pt", partial(torch.save, state))
    bar.close()
    return {epoch: read_snapshot(folder, epoch, plan) for epoch in kept}


def snapshot_path(folder: Path | str, epoch: int) -> Path:
    """Where a training keeps its averaged generator of an epoch."""
    return Path(folder) / f"epoch-{epoch:03d}.pt"


def read_snapshot(folder: Path | str, epoch: int, plan: ProGanPlan) -> ProGenerator:
    """The averaged generator of an epoch of a training.

    Raises
    ------
    FileNotFoundError
        If the training did not keep it.
    """
    model = ProGenerator(plan)
    model.load_state_dict(torch.load(snapshot_path(folder, epoch), map_location="cpu", weights_only=True))
    return model.eval()


def progan_step(
    models: dict[str, Any],
    optimisers: dict[str, torch.optim.Adam],
    images: Sequence[np.ndarray],
    plan: ProGanPlan,
    step: int,
    epoch: float,
    device: str = "cpu",
) -> Tensor:
    """One step of the critic, then one of the generator, at a moment ``epoch`` of the training.

    Returns the Wasserstein estimate mean D(x) - D(y), and the generator's loss, (2,).
    """
    growth = growth_at(epoch, plan)
    for optimiser in optimisers.values():
        optimiser.param_groups[0]["lr"] = progan_rate(epoch, plan)
    rng = np.random.default_rng([plan.seed, step])
    real = at_growth(sample_crops(images, plan.batch, plan.size, rng, device), growth, plan)
    z = upload(rng.standard_normal((2, plan.batch, plan.latent), np.float32), device)
    mix = upload(rng.random((plan.batch, 1, 1, 1), np.float32), device)
    autocast = partial(mixed, device, plan.bfloat16)
    generator, critic = models["G"], models["D"]
    with autocast():
        with torch.no_grad():
            fake = generator(z[0], growth)
        on_real, on_fake = critic(real, growth), critic(fake, growth)
    estimate = (on_real - on_fake).mean()
    loss = plan.drift * on_real.square().mean() - estimate
    if step % plan.penalty_every == 0:
        with autocast():
            loss = loss + plan.penalty_every * plan.penalty * gradient_penalty(critic, real, fake, mix, growth)
    optimisers["D"].zero_grad()
    loss.backward()
    optimisers["D"].step()
    critic.requires_grad_(False)
    with autocast():
        of_generator = -critic(generator(z[1], growth), growth).mean()
    optimisers["G"].zero_grad()
    of_generator.backward()
    optimisers["G"].step()
    critic.requires_grad_(True)
    update_average(models["average"], generator, min(plan.ema, (step + 1) / (step + 10)), growth)
    return torch.stack([estimate, of_generator]).detach()


def at_growth(real: Tensor, growth: float, plan: ProGanPlan) -> Tensor:
    """Images (B, 3, size, size) at the resolution of ``growth``; mixed with the one below while it is faded in."""
    level, alpha = level_and_alpha(growth)
    real = nn.functional.avg_pool2d(real, plan.size // (4 << level))
    if alpha < 1:
        real = torch.lerp(nn.functional.interpolate(halve(real), scale_factor=2, mode="nearest"), real, alpha)
    return real.contiguous(memory_format=torch.channels_last)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, growth: float) -> Tensor:
    """Mean over images of (|grad D(u)| - 1)^2 at u = real + mix (fake - real), ``mix`` (B, 1, 1, 1) in [0, 1].

    The gradient is with respect to the images in [-1, 1], as in Karras et al.: half the one in [0, 1].
    """
    between = torch.lerp(real, fake.detach(), mix).requires_grad_()
    gradient = torch.autograd.grad(critic(between, growth).sum(), between, create_graph=True)[0]
    length = (gradient.square().sum((1, 2, 3)) + 1e-12).sqrt()
    return (length / 2 - 1).square().mean()


@torch.no_grad()
def update_average(average: ProGenerator, generator: ProGenerator, decay: float, growth: float) -> None:
    """Move the averaged weights towards the generator's, and note how far it has grown."""
    torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 1 - decay)
    average.growth.fill_(growth)


@torch.inference_mode()
def save_grid(path: Path, model: ProGenerator, plan: ProGanPlan) -> Path:
    """Write a PNG of the images of 64 fixed latents."""
    z = latent_vectors(range(GRID_SEED, GRID_SEED + GRID_SIDE**2), plan.latent).to(model.growth.device)
    pixels = (model(z).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu()
    rows = pixels.unflatten(0, (GRID_SIDE, GRID_SIDE)).permute(0, 2, 1, 3, 4)
    grid = rows.reshape(GRID_SIDE * plan.size, GRID_SIDE * plan.size, 3).numpy()
    return atomic_write(path, Image.fromarray(grid).save)
