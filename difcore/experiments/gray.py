"""The gray-image experiment (official code): an architecture asked for plain gray betrays its artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from difcore.fingerprints.correlation import grid_share
from difcore.fingerprints.priors import IN_CHANNELS, build_prior
from difcore.machine.devices import built, channels_last, exact, normal_on


@exact
def gray_image(
    size: int = 128,
    steps: int = 1000,
    epochs: Sequence[int] = (1, 10, 100, 1000),
    learning_rate: float = 5e-5,
    prior: str = "unet",
    target: float = 0.5,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[int, np.ndarray]]:
    """Train the prior to output a gray image; what remains is its own pattern, not the data's.

    Minimises mean (g_theta(z + noise) - target)^2 with AdamW, z ~ U(0, 0.1) fixed, noise ~ N(0, 0.03^2) fresh.

    Parameters
    ----------
    size : int
        Side in px, a multiple of 16 from 32 on (official: 128).
    steps, learning_rate : int, float
        Official: 1000 and 5e-5.
    epochs : sequence of int
        Steps whose output is kept, each at most ``steps``.

    Returns
    -------
    table : step, loss, grid_period_2, grid_period_4, ..., grid_period_16, seed
        ``grid_period_p``: share of the mean-free output's energy at the frequencies of a grid of period p px.
    outputs : dict of step to float32 (3, size, size)

    Raises
    ------
    ValueError
        For a size that is no multiple of 16 or below 32, or a kept step beyond the last.
    """
    if size % 16 or size < 32:
        raise ValueError(f"the size must be a multiple of 16, at least 32, got {size}")
    if max(epochs) > steps or min(epochs) < 1:
        raise ValueError(f"kept steps must be in 1..{steps}, got {tuple(epochs)}")
    model, drawn = built(partial(build_prior, prior), seed)
    model, normal = channels_last(model, device).train(), normal_on(device, seed, drawn)
    z = torch.rand(1, IN_CHANNELS, size, size, generator=drawn).mul_(0.1)
    z = z.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    rows, outputs = [], {}
    for step in tqdm(range(1, steps + 1), desc="gray image", disable=not progress):
        image = model(z + 0.03 * normal(z.shape).to(z))
        loss = (image - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in epochs:
            outputs[step] = image[0].detach().float().cpu().numpy()
            shares = {f"grid_period_{p}": grid_share(outputs[step], p) for p in (2, 4, 8, 16)}
            rows.append({"step": step, "loss": loss.item(), **shares, "seed": seed})
    return pd.DataFrame(rows), outputs
