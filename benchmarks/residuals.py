"""Residuals: ours against the official way and against this machine's matrix product, alternating in one run.

    python benchmarks/residuals.py [--images 10] [--repeats 5]

Official way: batch-norm kept, NCHW, the whole image set in one call. Ours: batch-norm folded, channels-last, fused
ReLU, one image per call on a CPU.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import SIZE, denoiser_gflop, gemm_gflops, official_model, official_residuals, report, seconds

from difcore.denoisers import LIMIT, load_denoiser
from difcore.scenes import scene
from difcore.tensors import to_batch


def main() -> None:
    """Alternate the three measurements; report the best of each and the median of the ratios within a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = np.stack([scene(k) for k in range(options.images)])
    ours, quick = (load_denoiser("photos", bfloat16=b, limit=LIMIT) for b in (False, True))
    x = to_batch(images).contiguous()
    plain, official = load_denoiser("photos"), official_model()
    assert plain.bias is not None
    difference = (plain(x[:1]) + plain.bias - official_residuals(official, x[:1])).abs().max().item()
    rows = []
    for _ in range(options.repeats):
        rows.append(
            {
                "official": seconds(lambda: official_residuals(official, x)),
                "ours": seconds(lambda: [ours(to_batch(image)) for image in images]),
                "ours_bfloat16": seconds(lambda: [quick(to_batch(image)) for image in images]),
                "gemm": gemm_gflops(),
            }
        )
    work = denoiser_gflop(options.images)
    report(
        benchmark="residuals",
        images=options.images,
        size=SIZE,
        largest_difference=difference,
        seconds_official=min(r["official"] for r in rows),
        seconds_ours=min(r["ours"] for r in rows),
        seconds_ours_bfloat16=min(r["ours_bfloat16"] for r in rows),
        gemm_gflops=max(r["gemm"] for r in rows),
        ours_gflops=work / min(r["ours"] for r in rows),
        ours_over_official=float(np.median([r["ours"] / r["official"] for r in rows])),
        bfloat16_over_official=float(np.median([r["ours_bfloat16"] / r["official"] for r in rows])),
        ours_gflops_over_gemm=float(np.median([work / r["ours"] / r["gemm"] for r in rows])),
        best_gflops_over_best_gemm=work / min(r["ours"] for r in rows) / max(r["gemm"] for r in rows),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
