"""Peak memory of residuals, a short fit and scoring for many images of 256 px.

    python benchmarks/memory.py [--images 2000] [--precision float32]

The images are written to a temporary folder as files, half called real and half fake, and read from there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import report, seconds
from PIL import Image

from difcore.fingerprints.dif import DifPlan, fit_dif
from difcore.images.folders import list_images
from difcore.residuals.denoisers import LIMIT, load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import resolve


def main() -> None:
    """Run the whole way and report the process's peak resident memory, pages of mapped files included."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--precision", default="auto", help="of ours: auto, float32 or bfloat16")
    options = parser.parse_args()
    runtime = resolve("cpu", options.precision)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.images):
            coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((256, 256))
            coarse.save(Path(folder) / f"{k:05d}.png", compress_level=1)
        denoiser, sets = load_denoiser("photos", bfloat16=runtime.bfloat16, limit=LIMIT), []
        paths = list_images(folder)
        halves = (paths[: options.images // 2], paths[options.images // 2 :])
        elapsed = seconds(lambda: sets.extend(residuals_of(half, denoiser, cache=False) for half in halves))
        fingerprint = fit_dif(sets[0].values, sets[1].values, DifPlan(steps=3, bfloat16=runtime.bfloat16))
        scores = [fingerprint.rho(s.values) for s in sets]
    counts = [len(score) for score in scores]
    report(benchmark="memory", images=counts, size=256, bfloat16=runtime.bfloat16, seconds_residuals=elapsed)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
