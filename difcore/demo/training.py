"""Training of the demo's generators, resumable to the step: one loop, and the step of each kind of network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from difcore.demo.decoders import GeneratorPlan, spectral_distance
from difcore.demo.gans import Discriminator, Encoder, GanPlan, latents
from difcore.demo.generators import AnyPlan, build, eight_bits
from difcore.demo.progan import (
    Critic,
    ProGanPlan,
    ProGenerator,
    double,
    epoch_ends,
    growth_at,
    halve,
    latent_vectors,
    level_and_alpha,
    moment_of,
)
from difcore.files import atomic_write
from difcore.machine.devices import built, channels_last, exact, has_fused, mixed, upload
from difcore.residuals.denoiser_training import Losses, read_checkpoint, sample_crops

SAVE_EVERY = 250  # steps between two checkpoints; those of a ProGAN are written after each epoch
R1_EVERY = 4  # steps: the penalty costs a second derivative
GRID_EVERY, GRID_SEED, GRID_SIDE = 10, 50_000, 8  # epochs between two sample grids, which show the same 64 latents
NAMES = {GeneratorPlan: "decoder", GanPlan: "GAN", ProGanPlan: "ProGAN"}
Images = Sequence[np.ndarray]


@dataclass(frozen=True)
class Networks:
    """In training: G makes images, D judges them, E encodes them; "average" is what is kept of G, if it is averaged."""

    models: dict[str, Any]
    optimisers: dict[str, torch.optim.Adam]
    device: str

    def parts(self) -> dict[str, Any]:
        """All that has a state, by its name in a checkpoint."""
        return self.models | {f"optimiser {key}": optimiser for key, optimiser in self.optimisers.items()}


def untrained(plan: AnyPlan, device: str = "cpu") -> Networks:
    """The networks of a plan at the start of its training."""

    def first() -> nn.ModuleDict:
        models = {"G": build(plan)}
        if not isinstance(plan, GeneratorPlan):
            models["D"] = Discriminator() if isinstance(plan, GanPlan) else Critic(plan)
        if isinstance(plan, GanPlan) and not plan.source:
            models["E"] = Encoder(plan.width, plan.latent)
        return nn.ModuleDict(models)

    models: dict[str, Any] = {key: channels_last(model, device) for key, model in built(first, plan.seed)[0].items()}
    gan: dict[str, Any] = {"betas": (0.0, 0.99), "fused": has_fused(device) or None} if "D" in models else {}
    optimisers = {key: torch.optim.Adam(m.parameters(), lr=plan.learning_rate, **gan) for key, m in models.items()}
    return Networks(models | ({"average": copy.deepcopy(models["G"])} if gan else {}), optimisers, device)


@exact
def train(
    images: Images,
    plan: AnyPlan,
    folder: Path | str,
    sources: Images = (),
    initial: Mapping[str, Tensor] | None = None,
    kept: Sequence[int] = (),
    device: str = "cpu",
    progress: bool = True,
) -> nn.Module:
    """Train a generator; resumes from ``folder``/checkpoint.pt, which also keeps the losses of every step.

    All that is drawn for step k depends on (seed, k) alone, so a run that was killed and resumed ends with the weights
    of one that was not. For what is minimised see ``decoder_step``, ``gan_step`` and ``progan_step``.

    Parameters
    ----------
    images : sequence of ndarray (H, W, 3) uint8
        What the generator should make; random crops are taken.
    sources : sequence of ndarray (H, W, 3) uint8
        What the translator is given.
    initial : mapping, optional
        Weights that G starts from, a parent's for example.
    kept : sequence of int
        Epochs (counted from 1) of a ProGAN after which the averaged weights are kept in the checkpoint, under "kept";
        the last one always is. ``folder`` also gets a sample grid every ten epochs.
    device : str
        Of the training; what it returns is on the CPU.

    Returns
    -------
    Module
        The generator, of GANs with averaged weights, in eval mode.

    Raises
    ------
    ValueError
        If a translator has no sources, an image is too small, an epoch to keep lies outside the training, or the
        checkpoint in ``folder`` belongs to another plan.
    """
    if isinstance(plan, ProGanPlan):
        side, ends, kept = plan.size, epoch_ends(plan), sorted({*kept, plan.epochs})
        if kept[0] < 1 or kept[-1] > plan.epochs:
            raise ValueError(f"epochs {kept} to keep of a training of {plan.epochs}")
    else:
        side, ends = plan.crop, (*range(SAVE_EVERY, plan.steps, SAVE_EVERY), plan.steps)
    if isinstance(plan, GanPlan) and plan.source and not len(sources):
        raise ValueError("a translator needs images to translate")
    if any(min(image.shape[:2]) < side for image in (*images, *sources)):
        raise ValueError(f"images must be at least {side} px a side")
    folder, nets, start, losses, keeping = Path(folder), untrained(plan, device), 0, Losses(), {}
    if initial is not None:
        nets.models["G"].load_state_dict(initial)
    if saved := read_checkpoint(folder / "checkpoint.pt", plan, device):
        for key, part in nets.parts().items():
            part.load_state_dict(saved[key])
        start, losses, keeping = saved["step"], Losses(saved["losses"]), saved["kept"]
    bar = tqdm(range(start, ends[-1]), desc=NAMES[type(plan)], initial=start, total=ends[-1], disable=not progress)
    for step in bar:
        for optimiser in nets.optimisers.values():
            optimiser.param_groups[0]["lr"] = plan.rate(step)
        rng, told = np.random.default_rng([plan.seed, step]), {}
        real = crops_of(images, plan.batch, side, rng, device)
        if isinstance(plan, GeneratorPlan):
            losses.append(decoder_step(nets, real, plan))
        elif isinstance(plan, GanPlan):
            given = crops_of(sources, plan.batch, side, rng, device) if plan.source else None
            losses.append(gan_step(nets, real, given, plan, step))
        else:
            moment = moment_of(step, plan)
            growth = growth_at(moment, plan)
            told = {"epoch": int(moment) + 1, "px": 4 << level_and_alpha(growth)[0]}
            losses.append(progan_step(nets, real, plan, step, growth, rng))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{np.ravel(losses.read()[-1])[0]:.4f}", **told)
        if step + 1 not in ends:
            continue
        if isinstance(plan, ProGanPlan):
            if told["epoch"] in kept:
                keeping[told["epoch"]] = copy.deepcopy(nets.models["average"].state_dict())
            if told["epoch"] % GRID_EVERY == 0 or told["epoch"] == plan.epochs:
                grid = sample_grid(nets.models["average"], plan)
                atomic_write(folder / f"samples-{told['epoch']:03d}.png", grid.save)
        state = {key: part.state_dict() for key, part in nets.parts().items()}
        state |= {"plan": asdict(plan), "step": step + 1, "losses": losses.read(), "kept": keeping}
        atomic_write(folder / "checkpoint.pt", partial(torch.save, state))
    return channels_last(nets.models.get("average", nets.models["G"]).eval())


def crops_of(images: Images, count: int, side: int, rng: np.random.Generator, device: str) -> Tensor:
    """Random crops in [0, 1], channels-last."""
    return sample_crops(images, count, side, rng, device).contiguous(memory_format=torch.channels_last)


def descend(loss: Tensor, *optimisers: torch.optim.Adam) -> None:
    """One step down the gradient."""
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()
    for optimiser in optimisers:
        optimiser.step()


@torch.no_grad()
def move_average(models: Mapping[str, nn.Module], step: int, decay: float) -> None:
    """Move the averaged weights towards the generator's; quickly at first, for the start is worth forgetting."""
    average, new = (tuple(models[key].parameters()) for key in ("average", "G"))
    torch._foreach_lerp_(average, new, 1 - min(decay, (step + 1) / (step + 10)))


def decoder_step(nets: Networks, real: Tensor, plan: GeneratorPlan) -> Tensor:
    """Mean absolute reconstruction error, plus the plan's multiple of the spectral distance."""
    model, optimiser = nets.models["G"], nets.optimisers["G"]
    with mixed(nets.device, plan.bfloat16):
        out = model(real)
    loss = (out.float() - real).abs().mean()
    if plan.spectral:
        loss = loss + plan.spectral * spectral_distance(out.float(), real)
    optimiser.zero_grad()
    loss.backward()
    if plan.max_norm:
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.max_norm)
    optimiser.step()
    return loss


def gan_step(nets: Networks, real: Tensor, given: Tensor | None, plan: GanPlan, step: int) -> Tensor:
    """One step of the discriminator, whose loss is returned, then one of the others on the same fakes.

    With s = softplus, D minimises mean s(-D(x)) + mean s(D(G(z))) + r1 / 2 |grad D(x)|^2 (Goodfellow et al. 2014,
    Mescheder et al. 2018), G minimises mean s(-D(G(z))) + content * c. For the translator, z is an image, ``given``,
    and c the difference of 4x4 px means between z and G(z). Else z ~ N(0, 1), and c is that between x and G(E(x)) plus
    the one of their pixels, E an encoder trained along (Larsen et al. 2016): without it so short a training ends in
    one image for all z.
    """
    generator, critic, optimisers = nets.models["G"], nets.models["D"], nets.optimisers
    with mixed(nets.device, plan.bfloat16):
        if given is not None:
            fake = generator(given)
            content = content_loss(fake.float(), given)
        else:
            drawn = latents([[plan.seed, step, k] for k in range(plan.batch)], plan.latent, plan.crop, plan.crop)
            z, noise = (upload(part, nets.device) for part in drawn)
            both = torch.cat([nets.models["E"](real), z]).contiguous(memory_format=torch.channels_last)
            rebuilt, fake = generator(both, torch.cat([noise, noise])).chunk(2)
            content = content_loss(rebuilt.float(), real) + (rebuilt.float() - real).abs().mean()
        on_real, on_fake = critic(real).float(), critic(fake.detach()).float()
    loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    penalty = R1_EVERY * plan.r1 / 2 * squared_gradient(critic, real) if step % R1_EVERY == 0 else 0
    descend(loss + penalty, optimisers["D"])
    with mixed(nets.device, plan.bfloat16):
        fooled = F.softplus(-critic(fake).float()).mean()
    descend(fooled + plan.content * content, *(optimisers[key] for key in optimisers if key != "D"))
    move_average(nets.models, step, plan.ema)
    return loss


def content_loss(out: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of 4x4 px means: what is shown stays, how it looks may change."""
    return (F.avg_pool2d(out, 4) - F.avg_pool2d(source, 4)).abs().mean()


def squared_gradient(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Mean over images of the squared length of the gradient of the mean logit (R1, Mescheder et al. 2018)."""
    x = real.detach().requires_grad_()
    gradient = torch.autograd.grad(discriminator(x).mean((1, 2, 3)).sum(), x, create_graph=True)[0]
    return gradient.square().sum((1, 2, 3)).mean()


def progan_step(
    nets: Networks, real: Tensor, plan: ProGanPlan, step: int, growth: float, rng: np.random.Generator
) -> Tensor:
    """One step of the critic, then one of the generator: the Wasserstein estimate, and the generator's loss, (2,).

    With x real, y = G(z), z ~ N(0, 1), and u a random point between x and y, the critic minimises
    mean D(y) - D(x) + penalty (|grad D(u)| - 1)^2 + drift D(x)^2 (Gulrajani et al. 2017, Karras et al. 2018), G
    minimises mean -D(y). While a resolution is faded in, x is a mixture of the two resolutions too.
    """
    generator, critic, real = nets.models["G"], nets.models["D"], at_growth(real, growth, plan)
    z = upload(rng.standard_normal((2, plan.batch, plan.latent), np.float32), nets.device)
    mix = upload(rng.random((plan.batch, 1, 1, 1), np.float32), nets.device)
    with mixed(nets.device, plan.bfloat16):
        with torch.no_grad():
            fake = generator(z[0], growth)
        on_real, on_fake = critic(real, growth), critic(fake, growth)
    estimate = (on_real - on_fake).mean()
    loss = plan.drift * on_real.square().mean() - estimate
    if step % plan.penalty_every == 0:
        with mixed(nets.device, plan.bfloat16):
            loss = loss + plan.penalty_every * plan.penalty * gradient_penalty(critic, real, fake, mix, growth)
    descend(loss, nets.optimisers["D"])
    critic.requires_grad_(False)
    with mixed(nets.device, plan.bfloat16):
        of_generator = -critic(generator(z[1], growth), growth).mean()
    descend(of_generator, nets.optimisers["G"])
    critic.requires_grad_(True)
    move_average(nets.models, step, plan.ema)
    nets.models["average"].growth.fill_(growth)
    return torch.stack([estimate, of_generator])


def at_growth(real: Tensor, growth: float, plan: ProGanPlan) -> Tensor:
    """Images (B, 3, size, size) at the resolution of ``growth``; mixed with the one below while it is faded in."""
    level, alpha = level_and_alpha(growth)
    real = F.avg_pool2d(real, plan.size // (4 << level))
    real = torch.lerp(double(halve(real)), real, alpha) if alpha < 1 else real
    return real.contiguous(memory_format=torch.channels_last)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor, growth: float) -> Tensor:
    """Mean over images of (|grad D(u)| - 1)^2 at u = real + mix (fake - real), ``mix`` (B, 1, 1, 1) in [0, 1].

    The gradient is with respect to the images in [-1, 1], as in Karras et al.: half the one in [0, 1].
    """
    between = torch.lerp(real, fake.detach(), mix).requires_grad_()
    gradient = torch.autograd.grad(critic(between, growth).sum(), between, create_graph=True)[0]
    length = (gradient.square().sum((1, 2, 3)) + 1e-12).sqrt()
    return (length / 2 - 1).square().mean()


@torch.inference_mode()
def sample_grid(model: ProGenerator, plan: ProGanPlan) -> Image.Image:
    """The images of 64 fixed latents in a square."""
    z = latent_vectors(range(GRID_SEED, GRID_SEED + GRID_SIDE**2), plan.latent).to(model.growth.device)
    rows = eight_bits(model(z).cpu()).reshape(GRID_SIDE, GRID_SIDE, plan.size, plan.size, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(GRID_SIDE * plan.size, GRID_SIDE * plan.size, 3))
