"""What the benchmarks share: this machine's own rate, the official way of denoising, and the record."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from difcore.records.artefacts import versions
from difcore.residuals.denoisers import PAD, SHIPPED, DnCNN, read_dncnn

SIZE = 256
GEMM = 2048
GEMM_GFLOP = 2 * GEMM**3 / 1e9
LAYER_PRODUCTS = 9 * (3 * 64 * 2 + 15 * 64 * 64)  # multiply-adds per padded pixel of DnCNN-S


def denoiser_gflop(images: int, size: int = SIZE) -> float:
    """10^9 floating-point operations (2 per multiply-add) of DnCNN-S on padded images."""
    return 2 * LAYER_PRODUCTS * (size + 2 * PAD) ** 2 * images / 1e9


def matrix_product(dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """A GEMM x GEMM x GEMM matrix product, run once already: a call is ``GEMM_GFLOP`` of work."""
    a, b = torch.randn(2, GEMM, GEMM).to(dtype)
    a @ b
    return lambda: a @ b


def gemm_gflops(dtype: torch.dtype = torch.float32) -> float:
    """Best of five rates, in 10^9 operations per second, of a matrix product: what this machine can do, now."""
    product = matrix_product(dtype)
    return GEMM_GFLOP / min(seconds(product) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def official_model() -> DnCNN:
    """The shipped network as the official code runs it: batch-norm kept, NCHW."""
    return read_dncnn(SHIPPED["photos"])[0].requires_grad_(False)


def official_residuals(model: DnCNN, x: Tensor) -> Tensor:
    """The whole image set in one call, padded by zeros and cut (bias left out: it costs nothing)."""
    padded = torch.nn.functional.pad(x, (PAD,) * 4)
    with torch.no_grad():
        return model(padded)[:, :, PAD:-PAD, PAD:-PAD]


def report(**facts: object) -> None:
    """Print the measurement as one JSON document."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "peak_memory_gib": round(peak, 2)}
    print(json.dumps({**facts, **machine, "versions": versions()}, indent=2))
