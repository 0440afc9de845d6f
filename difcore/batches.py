"""The batches of a DIF fit: which residuals each step sees, drawn beforehand, and how they come to its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from difcore.correlation import FLAT, chunks
from difcore.devices import Device, free_bytes
from difcore.priors import DOWNSAMPLING
from difcore.tensors import as_tensor, upload

Residuals = np.ndarray | Tensor


def check_residuals(real: np.ndarray | Tensor, fake: np.ndarray | Tensor) -> None:
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

    Attributes
    ----------
    rows : Tensor (S, B) int64
        Residuals by their place in the reals followed by the fakes.
    reals, fakes : Tensor (S, B / 2) int64
        Where in the batch each class is. Indices, for a mask would make a GPU wait to be counted.
    scale : Tensor (S, B, 1) float32
        Factors of the residuals; empty, (S, 0), without them.
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
    """Batches of at most ``batch`` of (reals, fakes) in ``counts``: each class is shown whole before any comes again.

    ``alpha``: with factors from U(alpha, 1).
    """
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
    """Residuals of both classes, gathered into float32 batches on a device.

    On the CPU a batch is converted row by row into one buffer, from wherever the residuals are. A GPU is sent all of
    them once, as they are stored, if half of its free memory holds them, and gathers there. Otherwise each batch is
    filled into pinned memory and sent, while the GPU is at the last one.

    Parameters
    ----------
    real, fake : (N, 3, H, W)
        Any float type.
    rows : Tensor (S, B) int64
        Of a ``Schedule``, on the CPU.
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
    half = all(as_tensor(part[:0]).dtype == torch.float16 for part in parts)
    return torch.float16 if half else torch.float32


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
