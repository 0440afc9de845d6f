"""Training of the demo GANs: non-saturating loss with R1 penalty, an averaged generator; resumable to the step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.checkpoints import Losses, read_checkpoint
from difcore.denoiser_training import sample_crops
from difcore.devices import built, exact, has_fused, mixed
from difcore.files import atomic_write
from difcore.gans import SCALE, Discriminator, Encoder, GanPlan, build_gan
from difcore.tensors import channels_last, upload

R1_EVERY = 4  # steps: the penalty costs a second derivative


def latents(seeds: Sequence[Sequence[int]], channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Inputs of a generator that starts from noise: z (B, channels, H/16, W/16) and noise (B, 1, H, W), both N(0, 1).

    Image k is determined by ``seeds[k]`` and the size alone.

    Raises
    ------
    ValueError
        If a side is not a multiple of 16.
    """
    if height % SCALE or width % SCALE:
        raise ValueError(f"GAN images have sides that are multiples of {SCALE} px, not {height} x {width}")
    z, noise = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        z.append(rng.standard_normal((channels, height // SCALE, width // SCALE), np.float32))
        noise.append(rng.standard_normal((1, height, width), np.float32))
    return torch.from_numpy(np.stack(z)), torch.from_numpy(np.stack(noise))


def gan_rate(step: int, plan: GanPlan) -> float:
    """Learning rate of ``step`` (0-based)."""
    return plan.learning_rate * min(1.0, (step + 1) / 100, 3 * (plan.steps - step) / plan.steps)


def content_loss(out: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of 4x4 px means: what is shown stays, how it looks may change."""
    pool = partial(nn.functional.avg_pool2d, kernel_size=4)
    return (pool(out) - pool(source)).abs().mean()


@exact
def train_gan(
    images: Sequence[np.ndarray],
    plan: GanPlan,
    folder: Path | str,
    sources: Sequence[np.ndarray] = (),
    progress: bool = True,
    save_every: int = 250,
    device: str = "cpu",
) -> nn.Module:
    """Train a generator against a discriminator of patches; resumes from ``folder``/checkpoint.pt.

    The checkpoint also keeps the discriminator's loss of every step.

    With s = softplus, D minimises mean s(-D(x)) + mean s(D(G(z))) + r1 / 2 |grad D(x)|^2 (Goodfellow et al. 2014,
    Mescheder et al. 2018), G minimises mean s(-D(G(z))) + content * c. For the translator, z is an image and c the
    difference of 4x4 px means between z and G(z). Else z ~ N(0, 1), and c is that between x and G(E(x)) plus the one
    of their pixels, E an encoder trained along (Larsen et al. 2016): without it so short a training ends in one image
    for all z.

    Crops and latents of step k depend on (seed, k) alone.

    Parameters
    ----------
    images : sequence of ndarray (H, W, 3) uint8
        What the generator should make, each at least ``plan.crop`` px on a side.
    sources : sequence of ndarray (H, W, 3) uint8
        What the translator is given.
    device : str
        Of the training; what it returns is on the CPU.

    Returns
    -------
    Module
        The generator with averaged weights.

    Raises
    ------
    ValueError
        If a translator has no sources, or the checkpoint in ``folder`` belongs to another plan.
    """
    if plan.source and not len(sources):
        raise ValueError("a translator needs images to translate")
    checkpoint = Path(folder) / "checkpoint.pt"
    models = {k: channels_last(m, device) for k, m in built(partial(networks, plan), plan.seed)[0].items()}
    average = copy.deepcopy(models["G"])
    adam = partial(torch.optim.Adam, lr=plan.learning_rate, betas=(0.0, 0.99), fused=has_fused(device) or None)
    optimisers = {key: adam(model.parameters()) for key, model in models.items()}
    start, losses = 0, Losses()
    if saved := read_checkpoint(checkpoint, plan, device):
        for key in models:
            models[key].load_state_dict(saved[key])
            optimisers[key].load_state_dict(saved[f"optimiser {key}"])
        average.load_state_dict(saved["average"])
        start, losses = saved["step"], Losses(saved["losses"])
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="GAN", disable=not progress)
    for step in bar:
        for optimiser in optimisers.values():
            optimiser.param_groups[0]["lr"] = gan_rate(step, plan)
        losses.append(gan_step(models, optimisers, images, sources, plan, step, device))
        decay = min(plan.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), models["G"].parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        if step % 50 == 0:
            bar.set_postfix(discriminator=f"{losses.read()[-1]:.3f}")
        if (step + 1) % save_every == 0 or step + 1 == plan.steps:
            state: dict[str, Any] = {k: m.state_dict() for k, m in models.items()} | {"average": average.state_dict()}
            state |= {f"optimiser {k}": o.state_dict() for k, o in optimisers.items()}
            state |= {"plan": asdict(plan), "step": step + 1, "losses": losses.read()}
            atomic_write(checkpoint, partial(torch.save, state))
    return channels_last(average.eval())


def networks(plan: GanPlan) -> nn.ModuleDict:
    """Untrained: generator G, discriminator D, and the encoder E of a generator that starts from noise."""
    models = nn.ModuleDict({"G": build_gan(plan), "D": Discriminator()})
    if not plan.source:
        models["E"] = Encoder(plan.width, plan.latent)
    return models


def gan_step(
    models: dict[str, nn.Module],
    optimisers: dict[str, torch.optim.Adam],
    images: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    plan: GanPlan,
    step: int,
    device: str,
) -> Tensor:
    """One step of the discriminator, then one of the others on the same fakes; the discriminator's loss."""
    rng = np.random.default_rng([plan.seed, step])
    real = sample_crops(images, plan.batch, plan.crop, rng, device).contiguous(memory_format=torch.channels_last)
    softplus = nn.functional.softplus
    with mixed(device, plan.bfloat16):
        fake, content = fakes_and_content(models, real, sources, plan, step, rng)
        on_real, on_fake = models["D"](real).float(), models["D"](fake.detach()).float()
    loss = softplus(-on_real).mean() + softplus(on_fake).mean()
    penalty = R1_EVERY * plan.r1 / 2 * gradient_penalty(models["D"], real) if step % R1_EVERY == 0 else 0
    optimisers["D"].zero_grad()
    (loss + penalty).backward()
    optimisers["D"].step()
    with mixed(device, plan.bfloat16):
        fooled = softplus(-models["D"](fake).float()).mean()
    for key in models.keys() - {"D"}:
        optimisers[key].zero_grad()
    (fooled + plan.content * content).backward()
    for key in models.keys() - {"D"}:
        optimisers[key].step()
    return loss.detach()


def fakes_and_content(
    models: dict[str, nn.Module],
    real: Tensor,
    sources: Sequence[np.ndarray],
    plan: GanPlan,
    step: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Fakes (B, 3, H, W) of one step, and the loss c of their content (see ``train_gan``)."""
    if plan.source:
        given = sample_crops(sources, plan.batch, plan.crop, rng, real.device)
        given = given.contiguous(memory_format=torch.channels_last)
        fake = models["G"](given)
        return fake, content_loss(fake.float(), given)
    drawn = latents([[plan.seed, step, k] for k in range(plan.batch)], plan.latent, plan.crop, plan.crop)
    z, noise = (upload(part, real.device) for part in drawn)
    both = torch.cat([models["E"](real), z]).contiguous(memory_format=torch.channels_last)
    rebuilt, fake = models["G"](both, torch.cat([noise, noise])).chunk(2)
    rebuilt = rebuilt.float()
    return fake, content_loss(rebuilt, real) + (rebuilt - real).abs().mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean over images of the squared length of the gradient of the mean logit (R1, Mescheder et al. 2018)."""
    x = real.detach().requires_grad_()
    gradient = torch.autograd.grad(discriminator(x).mean((1, 2, 3)).sum(), x, create_graph=True)[0]
    return gradient.square().sum((1, 2, 3)).mean()
