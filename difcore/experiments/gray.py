"""The gray-image experiment (official code): an architecture asked for plain gray betrays its artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from difcore.experiments.claiming import judge
from difcore.fingerprints.correlation import grid_share
from difcore.fingerprints.priors import IN_CHANNELS, build_prior
from difcore.machine.devices import built, channels_last, normal_on, true_float32
from difcore.records.claims import Claim
from difcore.runtime import Runtime

GRAY = 0.5


def gray_image(
    size: int = 128,
    steps: int = 1000,
    kept: Sequence[int] = (1, 10, 100, 1000),
    learning_rate: float = 5e-5,
    seed: int = 0,
    runtime: Runtime = Runtime(),
) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Train a U-Net to output a gray image; what remains is its own pattern, not the data's.

    Minimises mean (g_theta(z + noise) - 1/2)^2 with AdamW, z ~ U(0, 0.1) fixed, noise ~ N(0, 0.03^2) fresh. Defaults
    are the official values.
    """
    if size % 16 or size < 32:
        raise ValueError(f"the size must be a multiple of 16, at least 32, got {size}")
    if not any(1 <= step <= steps for step in kept):
        raise ValueError(f"kept steps must be in 1..{steps}, got {tuple(kept)}")
    device = runtime.device
    model, drawn = built(partial(build_prior, "unet"), seed)
    model, normal = channels_last(model, device).train(), normal_on(device, seed, drawn)
    z = torch.rand(1, IN_CHANNELS, size, size, generator=drawn).mul_(0.1)
    z = z.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    rows, outputs = [], {}
    with true_float32(device):
        for step in tqdm(range(1, steps + 1), desc="gray image"):
            image = model(z + 0.03 * normal(z.shape).to(z))
            loss = (image - GRAY).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step in kept:
                outputs[step] = image[0].detach().float().cpu().numpy()
                shares = {f"grid_period_{p}": grid_share(outputs[step], p) for p in (2, 4, 8, 16)}
                rows.append({"step": step, "loss": loss.item(), **shares, "seed": seed})
    return pd.DataFrame(rows), outputs


def gray_claims(table: pd.DataFrame, size: int) -> list[Claim]:
    """The output's grid is far stronger than chance, and stays as the loss falls."""
    table = table.sort_values("step")
    first, last = table.iloc[0], table.iloc[-1]
    periods = [int(c.rsplit("_", 1)[1]) for c in table.columns if c.startswith("grid_period_")]
    excess = {p: last[f"grid_period_{p}"] / (p * p / size**2) for p in periods}
    strongest = max(excess, key=lambda p: excess[p])
    share = table[f"grid_period_{strongest}"]
    stays = bool(share.min() > 10 * strongest**2 / size**2 and (table.loss.diff().dropna() < 0).all())
    return [
        judge(
            "An architecture with up-sampling leaves a grid although its target is plain gray",
            "seen as peaks in Fourier space",
            f"grid of period {strongest} px holds {excess[strongest]:.0f} times white noise's share",
            excess[strongest] > 10,
            "no period stands out ten-fold",
        ),
        judge(
            "The pattern remains while the output approaches gray",
            "visible at every epoch shown",
            f"loss {first.loss:.2g} to {last.loss:.2g}, share of period {strongest}: {share.min():.3f} to "
            f"{share.max():.3f} over {len(table)} steps",
            stays,
            "at some step the grid is as faint as noise, or the loss did not fall",
        ),
    ]
