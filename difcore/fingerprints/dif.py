"""Fitting a pattern to residuals: DIF, begun again where a fit does not set out; the averaged residual of Marra18."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from difcore.files import derived_seed
from difcore.fingerprints.correlation import FLAT, Array, centres, chunks, ncc, standardise, zero_mean
from difcore.fingerprints.detector import LAST_BATCHES, Detector
from difcore.fingerprints.priors import DOWNSAMPLING, IN_CHANNELS, build_prior
from difcore.machine.devices import (
    TF32,
    Device,
    as_tensor,
    built,
    channels_last,
    exact,
    free_bytes,
    has_fused,
    keep_freed_memory,
    mixed,
    normal_on,
    upload,
)

LOOK_EVERY = 20  # steps: between looks at the separation a GPU is not waited for
APART = 1.5  # standard deviations of a class: the nearer centre is then the right one in 77 % of images, if normal
LEVEL = 0.01  # of the test that a fit begun again has set out
SHARE, ENOUGH = 8, 32  # one of so many images of a class is held out, if there are enough of them
OWN, HELD_OUT = "own images", "held out"  # what a fit is judged by


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
        m: how far apart the correlations of a real and a fake should be. Officially 0.01: the loss then has nothing to
        gain once the classes are .01 apart, four times the chance level 1 / sqrt(C H W) at 256 px, and learns no
        clearer fingerprint.
    input_noise : float
        Standard deviation of the fresh noise added to the fixed input z ~ U(0, 0.1) at each step.
    ema : float
        Decay of the running average of the outputs, which is the fingerprint.
    boost : bool
        Add max(0, m - |rho(mean fake R) - rho(mean real R)|) / m to the loss and halve the sum.
    alpha : float
        With boost: scale each residual by U(alpha, 1) before the means. Pearson correlation ignores it without.
    patience : int or None
        End when the separation of the running average in the last 20 batches has not improved for so many steps.
    prior : str
        Architecture of g_theta, see ``difcore.fingerprints.priors``.
    fits : int
        At most so many fits: one that does not set out is begun again (``fit_restarted``). 1: one, as in the paper.
    bfloat16 : bool
        Run the prior in bfloat16.
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
        positive = self.steps >= 1 and self.batch >= 2 and self.margin > 0 and self.fits >= 1
        if not positive or not 0 < self.alpha <= 1 or not 0 <= self.ema < 1:
            raise ValueError(f"out of range: {self}")


def check_residuals(real: Array, fake: Array) -> None:
    """Raise ValueError unless both are (N >= 2, 3, H >= 16, W >= 16) of one size."""
    for label, x in (("real", real), ("fake", fake)):
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < DOWNSAMPLING:
            raise ValueError(f"{label} residuals must be (N, 3, H, W) with H, W >= 16, got {tuple(x.shape)}")
        if len(x) < 2:
            raise ValueError(f"a fit needs at least 2 {label} residuals, got {len(x)}")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real and fake residuals differ in size: {tuple(real.shape[1:])}, {tuple(fake.shape[1:])}")


def draw_batches(
    counts: tuple[int, int], batch: int, steps: int, alpha: float | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rows (S, B) of the reals followed by the fakes, half of each; factors (S, B, 1) from U(alpha, 1), or (S, 0)."""
    half = min(batch // 2, *counts)
    draws = [shuffled(n, half, rng) for n in counts]
    rows, scale = [], []
    for _ in range(steps):
        rows.append(np.concatenate([next(draws[0]), counts[0] + next(draws[1])])[rng.permutation(2 * half)])
        scale.append(rng.uniform(alpha, 1, (2 * half, 1)) if alpha is not None else np.empty(0))
    return torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(scale)).float()


def shuffled(n: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of ``count`` indices below ``n``: every index once before any comes again."""
    queue = np.empty(0, int)
    while True:
        while len(queue) < count:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:count]
        queue = queue[count:]


def feed(real: Array, fake: Array, rows: Tensor, device: Device) -> Callable[[int], Tensor]:
    """Function of the step: the residuals in its row, (B, 3, H, W) float32 on the device, until the next call.

    On the CPU a batch is converted row by row into one buffer, from wherever the residuals are. A GPU is sent all of
    them once, if half of its free memory holds them, and gathers there; else each batch goes through pinned memory,
    while the GPU is at the last one.
    """
    device, n_real, shape = torch.device(device), len(real), tuple(real.shape[1:])
    kind = torch.float16 if all(as_tensor(x[:0]).dtype == torch.float16 for x in (real, fake)) else torch.float32
    total = (n_real + len(fake), *shape)
    if device.type != "cpu" and 2 * int(np.prod(total)) * kind.itemsize <= free_bytes(device):
        stored, there, start = torch.empty(total, dtype=kind, device=device), upload(rows, device), 0
        for piece in (piece for part in (real, fake) for piece in chunks(part)):
            stored[start : start + len(piece)] = upload(as_tensor(piece).to(kind), device)
            start += len(piece)
        return lambda step: stored.index_select(0, there[step]).float()
    kept = torch.empty(rows.shape[1], *shape) if device.type == "cpu" else None

    def gathered(step: int) -> Tensor:
        # torch hands pinned memory out again when what was in it has been sent
        buffer = torch.empty(rows.shape[1], *shape, pin_memory=device.type == "cuda") if kept is None else kept
        for place, row in enumerate(rows[step].tolist()):  # straight into its place: no copies on the way
            buffer[place] = as_tensor(real[row] if row < n_real else fake[row - n_real])
        return buffer.to(device, non_blocking=True)

    return gathered


def spreads(x: Array) -> Tensor:
    """Length of each mean-free sample, (N,) float32: the denominator of its correlations; infinite if constant."""
    out = []
    for part in chunks(x):
        flat = as_tensor(part).flatten(1).float()
        spread = (flat - flat.mean(1, keepdim=True)).norm(dim=1)
        out.append(spread.masked_fill(spread <= FLAT * flat.norm(dim=1), torch.inf))
    return torch.cat(out)


def batch_statistics(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of the reals' correlations, of the fakes', and the standard deviation within the classes: (3,)."""
    within = torch.cat([real - real.mean(), fake - fake.mean()]).square().mean().sqrt()
    return torch.stack([real.mean(), fake.mean(), within])


def separation_of(history: Tensor) -> float:
    """|mu_fake - mu_real| over the spread within the classes, both averaged over batches (N, 3)."""
    real, fake, within = history.cpu().double().numpy().mean(0)
    return float(abs(fake - real) / max(within, 1e-12))


def pair_loss(rho: Tensor, fake: Tensor, margin: float) -> Tensor:
    """DIF's loss for correlations ``rho`` (B,) with labels ``fake`` (B,): a scalar >= 0.

    The two halves of the batch are paired. With Delta = |rho_a - rho_b|, a pair of one label costs Delta, a pair of
    two labels max(0, m - Delta); the mean is divided by m (official code).
    """
    half = len(rho) // 2
    delta = (rho[:half] - rho[half : 2 * half]).abs()
    same = fake[:half] == fake[half : 2 * half]
    return torch.where(same, delta, (margin - delta).clamp_min(0)).mean() / margin


def direction_of(image: Tensor) -> Tensor:
    """``image`` flattened, mean-free and of unit length, (D,)."""
    direction = image.flatten() - image.mean()
    return direction / direction.norm().clamp_min(1e-12)


@exact
def fit_dif(
    real: Array,
    fake: Array,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Detector:
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
    Detector
        Without filter and null, which ``Detector.fit`` adds.

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
    model, drawn = built(partial(build_prior, plan.prior), plan.seed)
    model = channels_last(model, device).train()
    z = torch.rand(1, IN_CHANNELS, *padded, generator=drawn).mul_(0.1)
    z = z.to(device, memory_format=torch.channels_last)
    normal = normal_on(device, plan.seed, drawn)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, fused=has_fused(device) or None)
    alpha, rng = plan.alpha if plan.boost else None, np.random.default_rng(plan.seed)
    rows, scale = draw_batches((len(real), len(fake)), plan.batch, plan.steps, alpha, rng)
    batch_of, norms = feed(real, fake, rows, device), torch.cat([spreads(real), spreads(fake)]).to(device)
    # Where in the batch each class is, as indices: a mask would make a GPU wait to be counted.
    order = (rows >= len(real)).int().argsort(dim=1, stable=True)
    reals, fakes = (upload(part, device) for part in order.chunk(2, 1))
    rows, scale = upload(rows, device), upload(scale, device)
    generated = rows >= len(real)
    average = torch.zeros(shape, device=device)
    history = torch.zeros(plan.steps, 3, device=device)  # see batch_statistics
    best, best_step = -np.inf, 0
    bar = tqdm(range(1, plan.steps + 1), desc=f"DIF {name}".strip(), disable=not progress)
    for step in bar:
        k = step - 1
        residuals, spread = batch_of(k).flatten(1), norms[rows[k]]
        fresh = z + plan.input_noise * normal(z.shape).to(z)
        with mixed(device, plan.bfloat16):
            image = model(fresh)
        image = image[0, :, : shape[1], : shape[2]].float()
        direction = direction_of(image)
        rho = residuals @ direction / spread  # direction is mean-free, so the residuals' means drop out
        loss = pair_loss(rho, generated[k], plan.margin)
        if plan.boost:
            scaled = residuals * scale[k]
            means = standardise(torch.stack([scaled[part[k]].mean(0) for part in (fakes, reals)]))
            gap = (means @ direction).diff().abs().squeeze()
            loss = (loss + (plan.margin - gap).clamp_min(0) / plan.margin) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            average.lerp_(image, 1 - plan.ema)
            of_average = residuals @ direction_of(average) / spread
            history[k] = batch_statistics(of_average[reals[k]], of_average[fakes[k]])
        if on_step:
            mu_real, mu_fake = history[k, :2].tolist()
            on_step(step, {"loss": loss.item(), "mu_real": mu_real, "mu_fake": mu_fake})
        if step % LOOK_EVERY == 0:
            apart = separation_of(history[max(0, step - LAST_BATCHES) : step])
            bar.set_postfix(separation=f"{apart:.2f}")
            best, best_step = (apart, step) if apart > best else (best, best_step)
            if plan.patience is not None and step - best_step >= plan.patience:
                break
    pattern = average.cpu()
    mu_real, mu_fake = (float(ncc(pattern[None], part).mean()) for part in (real, fake))
    facts: dict[str, Any] = {"plan": asdict(plan), "steps": step, "n_real": len(real), "n_fake": len(fake)}
    if torch.device(device).type == "cuda":
        facts["tf32"] = TF32
    return Detector(pattern, mu_real, mu_fake, "dif", name, facts)


def fit_marra18(real: Array, fake: Array, name: str = "", clean: bool = False) -> Detector:
    """F_A, the mean of the fakes' residuals (Marra et al. 2018), with the mean training correlation of each class.

    The centres are taken leave-one-out: a fake that is part of the mean would correlate with itself. ``clean`` makes
    rows and columns of F_A mean-free, ``zero_mean``: method "marra18-zm", beyond the paper. Otherwise as ``fit_dif``.
    """
    check_residuals(real, fake)
    total = sum(as_tensor(part).float().sum(0) for part in chunks(fake))
    assert isinstance(total, Tensor)
    n, kept = len(fake), zero_mean if clean else torch.clone
    rho_real = ncc(kept(total)[None], real)[0]
    rho_fake = torch.stack([ncc(kept(total - r)[None], r[None])[0, 0] for r in map(as_tensor, fake)])
    mu_real, mu_fake = centres(torch.cat([rho_real, rho_fake]), torch.arange(len(rho_real) + n) >= len(rho_real))
    method = "marra18-zm" if clean else "marra18"
    return Detector(kept(total) / n, mu_real, mu_fake, method, name, {"n_real": len(real), "n_fake": n})


def fit_restarted(
    real: Array, fake: Array, plan: DifPlan = DifPlan(), name: str = "", device: str = "cpu", progress: bool = False
) -> Detector:
    """``fit_dif``; a fit that did not set out is begun again from another seed with ``boost``, ``plan.fits`` in all.

    The pairs' loss pulls a real and a fake apart whichever correlates more, so that its gradient vanishes on average
    where the classes' correlations are alike, and now and then a fit stays there. The boost's goes by the class means.

    The first fit is given all images and judged by these: less than ``APART`` apart, it has not set out. That finds
    fits that did not move, and is no evidence of detection: a long fit to few images gets even noise so far apart. Fits
    begun again leave out an eighth of the images of each class, where both have 32, and are judged by those: one has
    set out, and is kept, if the held-out fakes correlate more than the held-out reals (Student's one-sided t-test,
    p < ``LEVEL``). If none has, the one is kept whose held-out images are furthest apart, or the first if none has its
    fakes above its reals there. With fewer images all are judged by their own, and the largest separation wins.

    ``metadata``: "fits", how many it took; "separation" of the images that the kept one was judged by; "judged_by".
    """
    first = fit_dif(real, fake, plan, name, device, progress)
    best, chosen, judged_by = separation(first.rho(real), first.rho(fake)), first, OWN
    set_out, fits = best >= APART, 1
    enough = min(len(real), len(fake)) >= ENOUGH
    while not set_out and fits < plan.fits:
        again = replace(plan, seed=derived_seed(plan.seed, fits), boost=True)
        parts = (hold_out(x, again.seed) if enough else (x, x) for x in (real, fake))
        (own_real, out_real), (own_fake, out_fake) = parts
        found = fit_dif(own_real, own_fake, again, name, device, progress)
        apart, fits = separation(found.rho(out_real), found.rho(out_fake)), fits + 1
        set_out = chance_of(apart, len(out_real), len(out_fake)) < LEVEL if enough else apart >= APART
        to_beat = 0.0 if enough and judged_by == OWN else best  # the first's is of images that it has seen
        if apart > to_beat:
            best, chosen, judged_by = apart, found, HELD_OUT if enough else OWN
    judged = {"fits": fits, "separation": round(best, 3), "judged_by": judged_by}
    return replace(chosen, metadata={**chosen.metadata, **judged})


def separation(real: Tensor, fake: Tensor) -> float:
    """Mean correlation of the fakes less that of the reals, over the root mean of the classes' variances."""
    within = ((real.var() + fake.var()) / 2).sqrt().clamp_min(1e-12)
    return float((fake.mean() - real.mean()) / within)


def chance_of(found: float, n_real: int, n_fake: int) -> float:
    """p of Student's one-sided t-test: how often images of one class show such a separation or a larger one."""
    return float(stats.t.sf(found / (1 / n_real + 1 / n_fake) ** 0.5, n_real + n_fake - 2))


def hold_out(x: Array, seed: int) -> tuple[Array, Array]:
    """Images to fit to, and an eighth of them, drawn by ``seed``, to judge by."""
    order, count = np.random.default_rng(seed).permutation(len(x)), len(x) // SHARE
    return x[np.sort(order[count:])], x[np.sort(order[:count])]
