"""Training of the demo GANs: non-saturating loss with R1 penalty, an averaged generator; resumable to the step.

Training of the demo autoencoders and of their children, resumable to the step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.demo.decoders import LatentDecoder, swap_last_block
from difcore.demo.gans import SCALE, Discriminator, Encoder, GanPlan, build_gan
from difcore.files import atomic_write
from difcore.machine.devices import built, channels_last, exact, has_fused, mixed, upload
from difcore.residuals.denoiser_training import Losses, read_checkpoint, sample_crops

POWER_FLOOR = 1e-7  # of a ring, in squared units of the image
SOURCE_STYLE = "snapshots"  # scenes that decoders are given, and that their fakes are compared with


@dataclass(frozen=True)
class GeneratorPlan:
    """One training of an autoencoder; equal plans, images and first weights give equal weights.

    Attributes
    ----------
    steps, batch, crop : int
        Optimisation steps, crops per step, side of a crop in px (a multiple of 4).
    learning_rate : float
        Adam's peak rate: 50 steps of warm-up, then a cosine down to zero.
    width, latent, up_first, up_last, attention, residual
        Of the network, see ``difcore.demo.decoders.LatentDecoder``.
    max_norm : float
        Gradients longer than this are shortened to it; 0: never. Without it a residual decoder can run away.
    seed : int
        Of the initial weights and the crops.
    bfloat16 : bool
        Train in bfloat16.
    style : str
        Scenes it is trained on.
    spectral : float
        Weight of ``spectral_distance`` in the loss: outputs as sharp as the scenes instead of soft ones.
    """

    steps: int = 3000
    batch: int = 8
    crop: int = 64
    learning_rate: float = 2e-3
    width: int = 64
    latent: int = 24
    seed: int = 0
    bfloat16: bool = False
    up_first: str = "deconv2"
    up_last: str = "deconv2"
    attention: bool = False
    residual: bool = False
    max_norm: float = 0.0
    style: str = SOURCE_STYLE
    spectral: float = 0.0


@dataclass(frozen=True)
class ChildPlan:
    """How a child comes from its parent, as the variants of Stable Diffusion come from one another (Fig. E).

    Attributes
    ----------
    parent : str
        Generator whose weights it starts from.
    style : str
        Scenes it is fine-tuned on.
    donor : str
        Generator that the last doubling and the output layer are taken from before the fine-tuning; empty: none.
    steps, learning_rate, seed
        Of the fine-tuning.
    """

    parent: str
    style: str = SOURCE_STYLE
    donor: str = ""
    steps: int = 400
    learning_rate: float = 5e-4
    seed: int = 0


def build_decoder(plan: GeneratorPlan) -> LatentDecoder:
    """The untrained network of a plan."""
    return LatentDecoder(plan.width, plan.latent, plan.up_first, plan.up_last, plan.attention, plan.residual)


def rate_at(step: int, plan: GeneratorPlan) -> float:
    """Learning rate of ``step`` (0-based)."""
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * step / plan.steps)) * min(1.0, (step + 1) / 50)


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


@exact
def train_decoder(
    images: Sequence[np.ndarray],
    plan: GeneratorPlan,
    folder: Path | str,
    progress: bool = True,
    save_every: int = 250,
    initial: Mapping[str, Tensor] | None = None,
    device: str = "cpu",
) -> LatentDecoder:
    """Minimise the mean absolute reconstruction error on random crops, plus the plan's multiple of the spectral
    distance; resumes from ``folder``/checkpoint.pt.

    The checkpoint also keeps the loss of every step.

    Crops of step k depend on (seed, k) alone, so a run that was killed and resumed ends with the weights of one that
    was not.

    Parameters
    ----------
    images : sequence of ndarray (H, W, 3) uint8
        Each at least ``plan.crop`` px on a side.
    initial : mapping, optional
        Weights to start from, a parent's for example; random ones by default.
    device : str
        Of the training; what it returns is on the CPU.

    Raises
    ------
    ValueError
        If the checkpoint in ``folder`` belongs to another plan.
    """
    checkpoint = Path(folder) / "checkpoint.pt"
    model = channels_last(built(partial(build_decoder, plan), plan.seed)[0], device)
    if initial is not None:
        model.load_state_dict(initial)
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    start, losses = 0, Losses()
    if saved := read_checkpoint(checkpoint, plan, device):
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        start, losses = saved["step"], Losses(saved["losses"])
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="decoder", disable=not progress)
    for step in bar:
        crops = sample_crops(images, plan.batch, plan.crop, np.random.default_rng([plan.seed, step]), device)
        crops = crops.contiguous(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, plan)
        with mixed(device, plan.bfloat16):
            out = model(crops)
        loss = (out.float() - crops).abs().mean()
        if plan.spectral:
            loss = loss + plan.spectral * spectral_distance(out.float(), crops)
        optimiser.zero_grad()
        loss.backward()
        if plan.max_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.max_norm)
        optimiser.step()
        losses.append(loss)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{losses.read()[-1]:.4f}")
        if (step + 1) % save_every == 0 or step + 1 == plan.steps:
            state = {"plan": asdict(plan), "model": model.state_dict(), "optimiser": optimiser.state_dict()}
            atomic_write(checkpoint, partial(torch.save, state | {"step": step + 1, "losses": losses.read()}))
    return channels_last(model.eval())


def child_of(
    child: ChildPlan,
    parent: tuple[GeneratorPlan, dict[str, Tensor]],
    donor: tuple[GeneratorPlan, dict[str, Tensor]] | None = None,
) -> tuple[GeneratorPlan, dict[str, Tensor]]:
    """Plan and first weights of a child: the parent's, with the donor's last block if there is a donor.

    Raises
    ------
    ValueError
        If the donor's last block does not fit behind the parent's features.
    """
    plan, state = parent
    plan = replace(plan, steps=child.steps, learning_rate=child.learning_rate, seed=child.seed, style=child.style)
    if donor is None:
        return plan, dict(state)
    if donor[0].width != plan.width:
        raise ValueError(f"cannot swap a last block of width {donor[0].width} into a decoder of width {plan.width}")
    return replace(plan, up_last=donor[0].up_last), swap_last_block(state, donor[1])


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
