"""A DIF fit from images: the official trainer's schedule against ours, equal steps, 128 + 128 images of 256 px.

    python benchmarks/fit.py [--steps 480] [--official-steps 3] [--precision float32]

The official trainer denoises every batch of 64 again; its time is extrapolated from --official-steps measured ones.
Ours denoises each image once; its whole time is measured: denoising, and all steps.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import gemm_gflops, official_model, official_residuals, report, seconds

from difcore.fingerprints.correlation import standardise
from difcore.fingerprints.dif import DifPlan, fit_dif, pair_loss
from difcore.fingerprints.priors import IN_CHANNELS, build_prior
from difcore.images.scenes import scene
from difcore.machine.devices import to_batch
from difcore.residuals.denoisers import LIMIT, load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import resolve


def main() -> None:
    """Measure both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--official-steps", type=int, default=3)
    parser.add_argument("--images", type=int, default=128, help="of each class")
    parser.add_argument("--precision", default="auto", help="of ours: auto, float32 or bfloat16")
    options = parser.parse_args()
    runtime = resolve("cpu", options.precision)
    n = options.images
    images = np.stack([scene(k) for k in range(2 * n)])
    x, fake = to_batch(images).contiguous(), torch.arange(2 * n) >= n
    denoiser = load_denoiser("photos", bfloat16=runtime.bfloat16, limit=LIMIT)
    plan = DifPlan(steps=options.steps, bfloat16=runtime.bfloat16)
    gemm = gemm_gflops()

    network, prior = official_model(), build_prior().train()
    z = torch.rand(1, IN_CHANNELS, 256, 256) * 0.1
    optimiser = torch.optim.AdamW(prior.parameters(), lr=plan.learning_rate)

    def official_step() -> None:
        index = torch.randperm(2 * n)[: plan.batch]
        residuals = standardise(official_residuals(network, x[index]))
        rho = residuals @ standardise(prior(z + plan.input_noise * torch.randn(z.shape)))[0]
        loss = pair_loss(rho, fake[index], plan.margin)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    official = [seconds(official_step) for _ in range(options.official_steps)]
    values: list[np.ndarray] = []
    denoising = seconds(lambda: values.append(residuals_of(images, denoiser, cache=False).values))
    fitting = seconds(lambda: fit_dif(values[0][:n], values[0][n:], plan, progress=True))
    extrapolated = options.steps * float(np.mean(official))
    report(
        benchmark="fit",
        images=f"{n}+{n}",
        steps=options.steps,
        bfloat16=runtime.bfloat16,
        official_seconds_per_step=official,
        official_seconds_extrapolated=extrapolated,
        ours_seconds_denoising=denoising,
        ours_seconds_fitting=fitting,
        ours_seconds=denoising + fitting,
        times_faster=extrapolated / (denoising + fitting),
        gemm_gflops=gemm,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
