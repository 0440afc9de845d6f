"""Training of a ProGAN: images per second at each resolution, in full and in mixed precision, CPU and GPU.

    python benchmarks/progan.py [--steps 12] [--rounds 3] [--size 64]

A step is one of the critic and one of the generator, on the shipped plan's batch; on a GPU on eight times as many.
The precisions alternate; the best round of each counts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from common import gemm_gflops, report, seconds

from difcore.demo.progan import ProGanPlan, ProGenerator, doublings
from difcore.demo.training import crops_of, progan_step, untrained


def images_per_second(plan: ProGanPlan, level: int, steps: int, device: str) -> float:
    """Rate of ``steps`` steps at 4 * 2^level px, after two to warm up."""
    images = list(np.random.default_rng(0).integers(0, 256, (32, plan.size, plan.size, 3), dtype=np.uint8))
    nets = untrained(plan, device)

    def run(count: int) -> None:
        for step in range(count):
            rng = np.random.default_rng(step)
            real = crops_of(images, plan.batch, plan.size, rng, device)
            loss = progan_step(nets, real, plan, step, float(level), rng)
        loss.tolist()  # waits for the device

    run(2)
    return steps * plan.batch / seconds(lambda: run(steps))


def main() -> None:
    """Measure every resolution in both precisions, in alternation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    plan = ProGanPlan(size=options.size)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rates: dict[str, dict[str, dict[int, float]]] = {}
    for device in devices:
        batch = plan.batch * (8 if device == "cuda" else 1)
        found: dict[str, dict[int, float]] = {"float32": {}, "bfloat16": {}}
        for level in range(doublings(plan) + 1):
            for _ in range(options.rounds):
                for name, best in found.items():
                    tried = replace(plan, batch=batch, bfloat16=name == "bfloat16")
                    rate = images_per_second(tried, level, options.steps, device)
                    best[4 << level] = max(rate, best.get(4 << level, 0.0))
        rates[device] = found
    report(
        benchmark="progan",
        size=options.size,
        batch={device: plan.batch * (8 if device == "cuda" else 1) for device in devices},
        parameters_of_the_generator=sum(p.numel() for p in ProGenerator(plan).parameters()),
        images_per_second=rates,
        gpu=torch.cuda.get_device_name() if len(devices) > 1 else None,
        gemm_gflops=gemm_gflops(),
        gemm_gflops_bfloat16=gemm_gflops(dtype=torch.bfloat16),
    )


if __name__ == "__main__":
    main()
