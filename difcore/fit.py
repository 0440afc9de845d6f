"""Fitting a fingerprint to residuals: Deep Image Fingerprint (DIF) and the averaged residual of Marra et al. 2018."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.batches import Feed, batch_statistics, check_residuals, draw_schedule, separation_of
from difcore.correlation import centres, chunks, ncc, standardise
from difcore.devices import TF32, built, exact, has_fused, mixed, normal_on
from difcore.fingerprints import LAST_BATCHES, Fingerprint
from difcore.grids import zero_mean
from difcore.priors import DOWNSAMPLING, IN_CHANNELS, build_prior
from difcore.tensors import as_tensor, channels_last, keep_freed_memory

LOOK_EVERY = 20  # steps: between looks at the separation a GPU is not waited for


@dataclass(frozen=True)
class DifPlan:
    """All that a DIF fit depends on besides the residuals; the defaults are the official ones, but for the margin.

    Attributes
    ----------
    steps : int
        At most this many (published fits: 320 to 1600, most 480).
    batch : int
        Residuals per step, half of them real (all, if there are fewer).
    learning_rate : float
        AdamW's.
    margin : float
        m: how far apart the correlations of a real and a fake should be. Officially 0.01: the loss then
        has nothing to gain once the classes are .01 apart, four times the chance level 1 / sqrt(C H W) at
        256 px, and learns no clearer fingerprint. The default asks for more; ``benchmarks/real_generators.py``
        measures both.
    input_noise : float
        Standard deviation of the fresh noise added to the fixed input z ~ U(0, 0.1) at each step.
    ema : float
        Decay of the running average of the outputs, which is the fingerprint.
    boost : bool
        Add max(0, m - |rho(mean fake R) - rho(mean real R)|) / m to the loss and halve the sum.
    alpha : float
        With boost: scale each residual by U(alpha, 1) before the means. Under Pearson correlation it does nothing
        without boost, and is then refused.
    patience : int or None
        Early stop: end when the separation of the running average in the last 20 batches (mu_fake - mu_real over
        their spread) has not improved for so many steps. None: run all steps.
    prior : str
        Architecture of g_theta, see ``difcore.priors``.
    fits : int
        At most so many fits: one that does not set out is begun again (``difcore.restarts``). 1: one, as in the paper.
    bfloat16 : bool
        Run the prior in bfloat16.
    seed : int
    """

    steps: int = 480
    batch: int = 64
    learning_rate: float = 5e-4
    margin: float = 0.03
    input_noise: float = 0.03
    ema: float = 0.99
    boost: bool = False
    alpha: float = 1.0
    patience: int | None = None
    prior: str = "unet"
    fits: int = 3
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.alpha != 1 and not self.boost:
            raise ValueError("alpha scales residuals, which Pearson correlation ignores: it needs boost=True")
        if (
            not 0 < self.alpha <= 1
            or self.steps < 1
            or self.batch < 2
            or self.margin <= 0
            or not 0 <= self.ema < 1
            or self.fits < 1
        ):
            raise ValueError(f"out of range: {self}")


def pair_loss(rho: Tensor, fake: Tensor, margin: float) -> Tensor:
    """DIF's loss for correlations ``rho`` (B,) with labels ``fake`` (B,): a scalar >= 0.

    The two halves of the batch are paired. With Delta = |rho_a - rho_b|, a pair of one label costs Delta, a pair of
    two labels max(0, m - Delta); the mean is divided by m (official code).
    """
    half = len(rho) // 2
    delta = (rho[:half] - rho[half : 2 * half]).abs()
    same = fake[:half] == fake[half : 2 * half]
    return torch.where(same, delta, (margin - delta).clamp_min(0)).mean() / margin


def fit_dif(
    real: np.ndarray | Tensor,
    fake: np.ndarray | Tensor,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Fingerprint:
    """Deep Image Fingerprint: train g_theta so that its output correlates with fakes' residuals and not with reals'.

    rho_i = NCC(g_theta(z + noise), R_i); minimise ``pair_loss``; F_E = running average of the outputs. The centres are
    the mean correlations of F_E with all residuals of each class: of the pattern that decides, as it is saved. The
    official trainer averages those of its last 20 batches with what F_E was then. Residuals are read, never denoised
    again: a step costs one pass of the prior and two matrix-vector products.

    Parameters
    ----------
    real, fake : (N, 3, H, W)
        Residuals, any float type, H, W >= 16; N >= 2 each.
    name : str
        The generator's.
    device : str
        Equal seeds give equal fingerprints on one device; others draw other noise.
    on_step : callable, optional
        Called with the step (from 1), {"loss", "mu_real", "mu_fake"} of its batch: the loss of the step's output, the
        mean correlations of F_E so far. A GPU is waited for at each step then.

    Returns
    -------
    Fingerprint

    Raises
    ------
    ValueError
        If a class has fewer than two residuals or the shapes differ.
    """
    check_residuals(real, fake)
    pattern, steps = trained_pattern(real, fake, plan, name, device, progress, on_step)
    mu_real, mu_fake = (float(ncc(pattern[None], part).mean()) for part in (real, fake))
    facts: dict[str, Any] = {"plan": asdict(plan), "steps": steps, "n_real": len(real), "n_fake": len(fake)}
    if torch.device(device).type == "cuda":
        facts["tf32"] = TF32
    return Fingerprint(pattern, mu_real, mu_fake, "dif", name, facts)


@exact
def trained_pattern(
    real: np.ndarray | Tensor,
    fake: np.ndarray | Tensor,
    plan: DifPlan,
    name: str,
    device: str,
    progress: bool,
    on_step: Callable[[int, dict[str, float]], None] | None,
) -> tuple[Tensor, int]:
    """F_E (3, H, W), on the CPU, and how many steps it took. Parameters as of ``fit_dif``."""
    if device == "cpu":
        keep_freed_memory()
    shape = tuple(real.shape[1:])
    # At least 2x2 at the bottom of the U-Net: batch-norm cannot train on a single value.
    padded = [max(2, -(-side // DOWNSAMPLING)) * DOWNSAMPLING for side in shape[1:]]
    model, drawn = built(partial(build_prior, plan.prior), plan.seed)
    model = channels_last(model, device).train()
    z = torch.rand(1, IN_CHANNELS, *padded, generator=drawn).mul_(0.1)
    z = z.to(device, memory_format=torch.channels_last)
    normal = normal_on(device, plan.seed, drawn)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, fused=has_fused(device) or None)
    alpha = plan.alpha if plan.boost else None
    rng = np.random.default_rng(plan.seed)
    schedule = draw_schedule((len(real), len(fake)), plan.batch, plan.steps, alpha, rng)
    feed = Feed(real, fake, schedule.rows, device)
    schedule, norms = schedule.to(device), feed.spreads()
    generated = schedule.rows >= len(real)
    average = torch.zeros(shape, device=device)
    history = torch.zeros(plan.steps, 3, device=device)  # see batch_statistics
    best, best_step = -np.inf, 0
    bar = tqdm(range(1, plan.steps + 1), desc=f"DIF {name}".strip(), disable=not progress)
    for step in bar:
        k = step - 1
        residuals, spread = feed.batch(k).flatten(1), norms[schedule.rows[k]]
        fresh = z + plan.input_noise * normal(z.shape).to(z)
        with mixed(device, plan.bfloat16):
            image = model(fresh)
        image = image[0, :, : shape[1], : shape[2]].float()
        direction = direction_of(image)
        rho = residuals @ direction / spread  # direction is mean-free, so the residuals' means drop out
        loss = pair_loss(rho, generated[k], plan.margin)
        if plan.boost:
            scaled = residuals * schedule.scale[k]
            means = standardise(torch.stack([scaled[part[k]].mean(0) for part in (schedule.fakes, schedule.reals)]))
            gap = (means @ direction).diff().abs().squeeze()
            loss = (loss + (plan.margin - gap).clamp_min(0) / plan.margin) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            average.lerp_(image, 1 - plan.ema)
            of_average = residuals @ direction_of(average) / spread
            history[k] = batch_statistics(of_average[schedule.reals[k]], of_average[schedule.fakes[k]])
        if on_step:
            mu_real, mu_fake = history[k, :2].tolist()
            on_step(step, {"loss": loss.item(), "mu_real": mu_real, "mu_fake": mu_fake})
        if step % LOOK_EVERY == 0:
            separation = separation_of(history[max(0, step - LAST_BATCHES) : step])
            bar.set_postfix(separation=f"{separation:.2f}")
            if separation > best:
                best, best_step = separation, step
            if plan.patience is not None and step - best_step >= plan.patience:
                break
    return average.cpu(), step


def fit_marra18(
    real: np.ndarray | Tensor, fake: np.ndarray | Tensor, name: str = "", clean: bool = False
) -> Fingerprint:
    """F_A, the mean of the fakes' residuals (Marra et al. 2018), with the mean training correlation of each class.

    The centres are taken leave-one-out: a fake that is part of the mean would correlate with itself. ``clean`` makes
    rows and columns of F_A mean-free, ``grids.zero_mean``: method "marra18-zm", beyond the paper.

    Other parameters, errors: as ``fit_dif``.
    """
    check_residuals(real, fake)
    total = sum(as_tensor(part).float().sum(0) for part in chunks(fake))
    assert isinstance(total, Tensor)
    n, kept = len(fake), zero_mean if clean else torch.clone
    rho_real = ncc(kept(total)[None], real)[0]
    rho_fake = torch.stack([ncc(kept(total - r)[None], r[None])[0, 0] for r in map(as_tensor, fake)])
    labels = torch.arange(len(rho_real) + n) >= len(rho_real)
    mu_real, mu_fake = centres(torch.cat([rho_real, rho_fake]), labels)
    method = "marra18-zm" if clean else "marra18"
    return Fingerprint(kept(total) / n, mu_real, mu_fake, method, name, {"n_real": len(real), "n_fake": n})


def direction_of(image: Tensor) -> Tensor:
    """``image`` flattened, mean-free and of unit length, (D,)."""
    direction = image.flatten() - image.mean()
    return direction / direction.norm().clamp_min(1e-12)
