"""Fitting a fingerprint to residuals: Deep Image Fingerprint (DIF) and the averaged residual of Marra et al. 2018."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from difcore.correlation import FLAT, centres, chunks, ncc, standardise
from difcore.fingerprints import LAST_BATCHES, Fingerprint
from difcore.grids import zero_mean
from difcore.priors import DOWNSAMPLING, IN_CHANNELS, build_prior
from difcore.tensors import as_tensor, channels_last, keep_freed_memory


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
        Early stop: end when the separation of the last 20 batches (mu_fake - mu_real over their spread) has not
        improved for so many steps. None: run all steps.
    prior : str
        Architecture of g_theta, see ``difcore.priors``.
    bfloat16 : bool
        Run the prior in bfloat16: faster on GPUs and on CPUs with AMX.
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
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.alpha != 1 and not self.boost:
            raise ValueError("alpha scales residuals, which Pearson correlation ignores: it needs boost=True")
        if not 0 < self.alpha <= 1 or self.steps < 1 or self.batch < 2 or self.margin <= 0 or not 0 <= self.ema < 1:
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

    rho_i = NCC(g_theta(z + noise), R_i); minimise ``pair_loss``; F_E = running average of the outputs; the centres
    are the mean correlations of the last 20 batches. Residuals are read, never denoised again: a step costs one
    pass of the prior and one matrix-vector product.

    Parameters
    ----------
    real, fake : (N, 3, H, W)
        Residuals, any float type, H, W >= 16; N >= 2 each.
    name : str
        The generator's.
    on_step : callable, optional
        Called with the step (from 1) and {"loss", "mu_real", "mu_fake"} of its batch.

    Returns
    -------
    Fingerprint

    Raises
    ------
    ValueError
        If a class has fewer than two residuals or the shapes differ.
    """
    check_residuals(real, fake)
    if device == "cpu":
        keep_freed_memory()
    shape = tuple(real.shape[1:])
    # At least 2x2 at the bottom of the U-Net: batch-norm cannot train on a single value.
    padded = [max(2, -(-side // DOWNSAMPLING)) * DOWNSAMPLING for side in shape[1:]]
    norms = {False: spreads(real).to(device), True: spreads(fake).to(device)}
    rng = np.random.default_rng(plan.seed)
    torch.manual_seed(plan.seed)
    model = channels_last(build_prior(plan.prior), device).train()
    z = torch.rand(1, IN_CHANNELS, *padded).mul_(0.1).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, fused=True)
    average = torch.zeros(shape, device=device)
    history: list[tuple[float, float, float]] = []
    best, best_step = -np.inf, 0
    half = min(plan.batch // 2, len(real), len(fake))
    draws = {False: shuffled(len(real), half, rng), True: shuffled(len(fake), half, rng)}
    batch = torch.empty(2 * half, *shape, device=device)
    bar = tqdm(range(1, plan.steps + 1), desc=f"DIF {name}".strip(), disable=not progress)
    for step in bar:
        index = {label: next(draw) for label, draw in draws.items()}
        order = rng.permutation(2 * half)
        for row, k in enumerate(order):  # each residual straight into its place: no copies on the way
            batch[row] = as_tensor(real[index[False][k]] if k < half else fake[index[True][k - half]])
        labels = torch.from_numpy(order >= half).to(device)
        spread = torch.cat([norms[k][index[k]] for k in (False, True)])[order]
        fresh = z + plan.input_noise * torch.randn(z.shape, device="cpu").to(z)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=plan.bfloat16):
            image = model(fresh)
        image = image[0, :, : shape[1], : shape[2]].float()
        direction = image.flatten() - image.mean()
        direction = direction / direction.norm().clamp_min(1e-12)
        rho = batch.flatten(1) @ direction / spread  # direction is mean-free, so the residuals' means drop out
        loss = pair_loss(rho, labels, plan.margin)
        if plan.boost:
            scale = torch.from_numpy(rng.uniform(plan.alpha, 1, (2 * half, 1))).to(batch)
            scaled = batch.flatten(1) * scale
            means = standardise(torch.stack([scaled[labels].mean(0), scaled[~labels].mean(0)]))
            gap = (means @ direction).diff().abs().squeeze()
            loss = (loss + (plan.margin - gap).clamp_min(0) / plan.margin) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            average.lerp_(image, 1 - plan.ema)
            history.append(batch_statistics(rho, labels))
        if on_step:
            on_step(step, {"loss": loss.item(), "mu_real": history[-1][0], "mu_fake": history[-1][1]})
        if step % 20 == 0:
            separation = separation_of(history[-LAST_BATCHES:])
            bar.set_postfix(separation=f"{separation:.2f}")
            if separation > best:
                best, best_step = separation, step
            if plan.patience is not None and step - best_step >= plan.patience:
                break
    mu_real, mu_fake, _ = np.mean(history[-LAST_BATCHES:], 0)
    facts = {"plan": asdict(plan), "steps": len(history), "n_real": len(real), "n_fake": len(fake)}
    return Fingerprint(average.cpu(), float(mu_real), float(mu_fake), "dif", name, facts)


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


def check_residuals(real: np.ndarray | Tensor, fake: np.ndarray | Tensor) -> None:
    """Raise ValueError unless both are (N >= 2, 3, H >= 16, W >= 16) of one size."""
    for label, x in (("real", real), ("fake", fake)):
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < DOWNSAMPLING:
            raise ValueError(f"{label} residuals must be (N, 3, H, W) with H, W >= 16, got {tuple(x.shape)}")
        if len(x) < 2:
            raise ValueError(f"a fit needs at least 2 {label} residuals, got {len(x)}")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real and fake residuals differ in size: {tuple(real.shape[1:])}, {tuple(fake.shape[1:])}")


def spreads(x: np.ndarray | Tensor) -> Tensor:
    """Length of each mean-free sample, (N,) float32: the denominator of its correlations; infinite if constant."""
    out = []
    for part in chunks(x):
        flat = as_tensor(part).flatten(1).float()
        spread = (flat - flat.mean(1, keepdim=True)).norm(dim=1)
        out.append(spread.masked_fill(spread <= FLAT * flat.norm(dim=1), torch.inf))
    return torch.cat(out)


def shuffled(n: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of ``count`` indices below ``n``: every index once before any comes again."""
    queue = np.empty(0, int)
    while True:
        while len(queue) < count:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:count]
        queue = queue[count:]


def batch_statistics(rho: Tensor, fake: Tensor) -> tuple[float, float, float]:
    """Mean correlation of the reals, of the fakes, and the standard deviation within the classes."""
    real, gen = rho[~fake], rho[fake]
    within = torch.cat([real - real.mean(), gen - gen.mean()]).square().mean().sqrt()
    return float(real.mean()), float(gen.mean()), float(within)


def separation_of(history: list[tuple[float, float, float]]) -> float:
    """|mu_fake - mu_real| over the spread within the classes, averaged over batches."""
    real, fake, within = np.mean(history, 0)
    return float(abs(fake - real) / max(within, 1e-12))
