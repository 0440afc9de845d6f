"""Residuals: ours against the official way and against this machine's matrix product, alternating in one run.

    python benchmarks/residuals.py [--images 10] [--repeats 5]

Official way: batch-norm kept, NCHW, the whole image set in one call. Ours: batch-norm folded, channels-last, fused
ReLU, one image per call on a CPU; the same in bfloat16, and by ncnn where it is installed ("engine"). After each image
come matrix products for as long as it took: on a machine that others use too, both rates are then of the same moment.
The ratio is the median over images; beside it best over best.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import GEMM_GFLOP, SIZE, denoiser_gflop, matrix_product, official_model, official_residuals, report, seconds

from difcore.images.scenes import scene
from difcore.machine.devices import to_batch
from difcore.machine.winograd import TORCH, installed
from difcore.residuals.denoisers import LIMIT, load_denoiser

PRODUCTS = 5  # matrix products that take about as long as one image


def main() -> None:
    """Alternate the measurements; report the best of each and the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = np.stack([scene(k) for k in range(options.images)])
    ours, quick = (load_denoiser("photos", bfloat16=b, limit=LIMIT) for b in (False, True))
    engine = load_denoiser("photos", limit=LIMIT, engine=installed() or TORCH)
    x = to_batch(images).contiguous()
    plain, official = load_denoiser("photos"), official_model()
    assert plain.bias is not None
    difference = (plain(x[:1]) + plain.bias - official_residuals(official, x[:1])).abs().max().item()
    between = (ours(x[:1]) - engine(x[:1])).abs().max().item()
    product, rows, pairs = matrix_product(), [], []
    for _ in range(options.repeats):
        official_seconds = seconds(lambda: official_residuals(official, x))
        each = []
        for image in images:
            own = seconds(lambda image=image: ours(to_batch(image)))
            each.append((own, [seconds(product) for _ in range(PRODUCTS)]))
        quick_seconds = seconds(lambda: [quick(to_batch(image)) for image in images])
        engine_seconds = seconds(lambda: [engine(to_batch(image)) for image in images])
        took = {"official": official_seconds, "ours": sum(own for own, _ in each), "ours_bfloat16": quick_seconds}
        rows.append({**took, "engine": engine_seconds})
        pairs += each
    work = denoiser_gflop(1)
    ours_rates = [work / own for own, _ in pairs]
    gemm_rates = [GEMM_GFLOP / taken for _, several in pairs for taken in several]
    report(
        benchmark="residuals",
        images=options.images,
        size=SIZE,
        largest_difference=difference,
        engine=engine.engine,
        engines_largest_difference=between,
        seconds_official=min(r["official"] for r in rows),
        seconds_ours=min(r["ours"] for r in rows),
        seconds_engine=min(r["engine"] for r in rows),
        seconds_ours_bfloat16=min(r["ours_bfloat16"] for r in rows),
        gemm_gflops=max(gemm_rates),
        ours_gflops=max(ours_rates),
        ours_over_official=float(np.median([r["ours"] / r["official"] for r in rows])),
        engine_over_official=float(np.median([r["engine"] / r["official"] for r in rows])),
        ours_over_engine=float(np.median([r["ours"] / r["engine"] for r in rows])),
        bfloat16_over_official=float(np.median([r["ours_bfloat16"] / r["official"] for r in rows])),
        ours_gflops_over_gemm=float(np.median([work / own / (GEMM_GFLOP / np.mean(g)) for own, g in pairs])),
        best_gflops_over_best_gemm=max(ours_rates) / max(gemm_rates),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
