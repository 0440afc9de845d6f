"""Training of the demo autoencoders and of their children, resumable to the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.checkpoints import Losses, read_checkpoint
from difcore.decoders import LatentDecoder, swap_last_block
from difcore.denoiser_training import sample_crops
from difcore.devices import built, exact, mixed
from difcore.files import atomic_write
from difcore.tensors import channels_last, upload

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
        Of the network, see ``difcore.decoders.LatentDecoder``.
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
