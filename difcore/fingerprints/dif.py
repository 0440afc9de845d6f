"""Fitting a pattern to residuals: Deep Image Fingerprint (DIF), begun again where a fit does not set out, and the
averaged residual of Marra et al. 2018."""

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
from difcore.fingerprints.correlation import FLAT, centres, chunks, ncc, standardise, zero_mean
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

Residuals = np.ndarray | Tensor


def check_residuals(real: Residuals, fake: Residuals) -> None:
    """Raise ValueError unless both are (N >= 2, 3, H >= 16, W >= 16) of one size."""
    for label, x in (("real", real), ("fake", fake)):
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < DOWNSAMPLING:
            raise ValueError(f"{label} residuals must be (N, 3, H, W) with H, W >= 16, got {tuple(x.shape)}")
        if len(x) < 2:
            raise ValueError(f"a fit needs at least 2 {label} residuals, got {len(x)}")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(f"real and fake residuals differ in size: {tuple(real.shape[1:])}, {tuple(fake.shape[1:])}")


@dataclass(frozen=True)
class Schedule:
    """Batches of S steps, B residuals each, half of them real.

    ``rows`` (S, B) int64: residuals by their place in the reals followed by the fakes. ``reals``, ``fakes``
    (S, B / 2) int64: where in the batch each class is; indices, for a mask would make a GPU wait to be counted.
    ``scale`` (S, B, 1) float32: factors of the residuals; empty, (S, 0), without them.
    """

    rows: Tensor
    reals: Tensor
    fakes: Tensor
    scale: Tensor

    def to(self, device: Device) -> Schedule:
        """The same on ``device``."""
        return Schedule(*(upload(part, device) for part in (self.rows, self.reals, self.fakes, self.scale)))


def draw_schedule(
    counts: tuple[int, int], batch: int, steps: int, alpha: float | None, rng: np.random.Generator
) -> Schedule:
    """Batches of at most ``batch`` of (reals, fakes) in ``counts``, drawn beforehand; factors from U(alpha, 1)."""
    half = min(batch // 2, *counts)
    draws = [shuffled(n, half, rng) for n in counts]
    rows, places, scale = [], [], []
    for _ in range(steps):
        both = np.concatenate([next(draws[0]), counts[0] + next(draws[1])])
        order = rng.permutation(2 * half)
        rows.append(both[order])
        places.append(np.argsort(order >= half, kind="stable"))  # the reals' places in order, then the fakes'
        scale.append(rng.uniform(alpha, 1, (2 * half, 1)) if alpha is not None else np.empty(0))
    reals, fakes = np.stack(places).reshape(steps, 2, half).swapaxes(0, 1)
    factors = torch.from_numpy(np.stack(scale)).float()
    return Schedule(torch.from_numpy(np.stack(rows)), as_tensor(reals.copy()), as_tensor(fakes.copy()), factors)


def shuffled(n: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of ``count`` indices below ``n``: every index once before any comes again."""
    queue = np.empty(0, int)
    while True:
        while len(queue) < count:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:count]
        queue = queue[count:]


class Feed:
    """Residuals of both classes (N, 3, H, W), gathered into float32 batches of a ``Schedule``'s rows on a device.

    On the CPU a batch is converted row by row into one buffer, from wherever the residuals are. A GPU is sent all of
    them once, as they are stored, if half of its free memory holds them, and gathers there. Otherwise each batch is
    filled into pinned memory and sent, while the GPU is at the last one.
    """

    def __init__(self, real: Residuals, fake: Residuals, rows: Tensor, device: Device) -> None:
        self.parts, self.rows, self.device = (real, fake), rows, torch.device(device)
        self.shape = (rows.shape[1], *real.shape[1:])
        self.stored: Tensor | None = None
        self.buffer = torch.empty(self.shape) if self.device.type == "cpu" else None
        if self.buffer is None and 2 * stored_bytes(real, fake) <= free_bytes(self.device):
            self.stored, self.rows = stored_on(self.device, real, fake), upload(rows, self.device)

    def spreads(self) -> Tensor:
        """``spreads`` of the reals followed by the fakes, (N,) float32 on the device."""
        parts = self.parts if self.stored is None else [self.stored]
        return torch.cat([spreads(part) for part in parts]).to(self.device)

    def batch(self, step: int) -> Tensor:
        """Residuals of ``step`` (0-based), (B, 3, H, W) float32 on the device, until the next call."""
        if self.stored is not None:
            return self.stored.index_select(0, self.rows[step]).float()
        buffer, n_real = self.buffer, len(self.parts[0])
        if buffer is None:  # torch hands pinned memory out again when what was in it has been sent
            buffer = torch.empty(self.shape, pin_memory=self.device.type == "cuda")
        for place, row in enumerate(self.rows[step].tolist()):  # straight into its place: no copies on the way
            buffer[place] = as_tensor(self.parts[0][row] if row < n_real else self.parts[1][row - n_real])
        return buffer.to(self.device, non_blocking=True)


def stored_type(*parts: Residuals) -> torch.dtype:
    """What residuals are kept as on a GPU: float16 if they are that, else float32."""
    return torch.float16 if all(as_tensor(part[:0]).dtype == torch.float16 for part in parts) else torch.float32


def stored_bytes(*parts: Residuals) -> int:
    """Size of residuals (N, 3, H, W) on a GPU."""
    return sum(int(np.prod(part.shape)) for part in parts) * stored_type(*parts).itemsize


def stored_on(device: Device, *parts: Residuals) -> Tensor:
    """Residuals (N, 3, H, W) one after the other on ``device``; read a chunk at a time."""
    dtype = stored_type(*parts)
    out = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=dtype, device=device)
    start = 0
    for part in parts:
        for piece in chunks(part):
            out[start : start + len(piece)] = upload(as_tensor(piece).to(dtype), device)
            start += len(piece)
    return out


def spreads(x: Residuals) -> Tensor:
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
        Architecture of g_theta, see ``difcore.fingerprints.priors``.
    fits : int
        At most so many fits: one that does not set out is begun again (``fit_restarted``). 1: one, as in the paper.
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


@exact
def fit_dif(
    real: Residuals,
    fake: Residuals,
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
        That records no filter and has no null: ``Detector.fit`` adds them.

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
    pattern = average.cpu()
    mu_real, mu_fake = (float(ncc(pattern[None], part).mean()) for part in (real, fake))
    facts: dict[str, Any] = {"plan": asdict(plan), "steps": step, "n_real": len(real), "n_fake": len(fake)}
    if torch.device(device).type == "cuda":
        facts["tf32"] = TF32
    return Detector(pattern, mu_real, mu_fake, "dif", name, facts)


def fit_marra18(real: Residuals, fake: Residuals, name: str = "", clean: bool = False) -> Detector:
    """F_A, the mean of the fakes' residuals (Marra et al. 2018), with the mean training correlation of each class.

    The centres are taken leave-one-out: a fake that is part of the mean would correlate with itself. ``clean`` makes
    rows and columns of F_A mean-free, ``zero_mean``: method "marra18-zm", beyond the paper.

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
    return Detector(kept(total) / n, mu_real, mu_fake, method, name, {"n_real": len(real), "n_fake": n})


def direction_of(image: Tensor) -> Tensor:
    """``image`` flattened, mean-free and of unit length, (D,)."""
    direction = image.flatten() - image.mean()
    return direction / direction.norm().clamp_min(1e-12)


APART = 1.5  # standard deviations of a class: the nearer centre is then the right one in 77 % of images, if normal
LEVEL = 0.01  # of the test that a fit begun again has set out
SHARE, ENOUGH = 8, 32  # one of so many images of a class is held out, if there are enough of them
OWN, HELD_OUT = "own images", "held out"  # what a fit is judged by


def fit_restarted(
    real: Residuals,
    fake: Residuals,
    plan: DifPlan = DifPlan(),
    name: str = "",
    device: str = "cpu",
    progress: bool = False,
) -> Detector:
    """``fit_dif``; a fit that did not set out is begun again from another seed with ``boost``, ``plan.fits`` in all.

    The pairs' loss pulls a real and a fake apart whichever correlates more, so that its gradient vanishes on average
    where the classes' correlations are alike, and now and then a fit stays there. The boost's does not, for it goes by
    the class means.

    Separation is (mu_fake - mu_real) / s, s the standard deviation within the classes. The first fit is given all
    images and judged by these, which it has seen: less than ``APART`` apart, it has not set out. That finds fits that
    did not move, no more. It is no evidence of detection: a long fit to few images gets even noise so far apart.

    Fits begun again leave out an eighth of the images of each class, where both have 32, and are judged by those: such
    a fit has set out if the held-out fakes correlate more than the held-out reals (Student's one-sided t-test,
    p < ``LEVEL``), and is kept. If none has, the one is kept whose held-out images are furthest apart, or the first if
    none has its fakes above its reals there: what the first fit makes of its own images is never set against it. With
    fewer images there is nothing but their own to judge by: all fits are, as the first, and the largest separation
    wins.

    Parameters, errors: as ``fit_dif``.

    Returns
    -------
    Detector
        ``metadata["fits"]`` says how many fits it took, ``metadata["separation"]`` how far apart the kept one has the
        images that it was judged by, and ``metadata["judged_by"]`` which those were: "own images" or "held out"; its
        plan is that of the fit that was kept.
    """
    first = fit_dif(real, fake, plan, name, device, progress)
    best, chosen, judged_by = separation(first.rho(real), first.rho(fake)), first, OWN
    set_out, fits = best >= APART, 1
    enough = min(len(real), len(fake)) >= ENOUGH
    while not set_out and fits < plan.fits:
        again = replace(plan, seed=derived_seed(plan.seed, fits), boost=True)
        (kept_real, out_real), (kept_fake, out_fake) = (
            hold_out(x, again.seed) if enough else (x, x) for x in (real, fake)
        )
        found = fit_dif(kept_real, kept_fake, again, name, device, progress)
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


def hold_out(x: Residuals, seed: int) -> tuple[Residuals, Residuals]:
    """Images to fit to, and an eighth of them, drawn by ``seed``, to judge by."""
    order = np.random.default_rng(seed).permutation(len(x))
    count = len(x) // SHARE
    return x[np.sort(order[count:])], x[np.sort(order[:count])]
