"""Train DnCNN-S as the shipped weights were: on a folder of photographs, on procedural scenes, or on both.

    python scripts/train_denoiser.py OUT_DIR --photos DIR [--scenes N] --steps N --snapshots 1000 2000 ...

Resumes from OUT_DIR. Choose a snapshot with scripts/denoiser_agreement.py, then store it with --export.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from difcore.experiments.denoising import SIGMAS, training_images
from difcore.images.crops import read_crop
from difcore.images.folders import is_image, list_images
from difcore.residuals.denoiser_training import TrainingPlan, export_snapshot, psnr, train_dncnn
from difcore.residuals.denoisers import FoldedDnCNN, read_dncnn, save_denoiser
from difcore.runtime import resolve


def main() -> None:
    """Train, or export one snapshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--scenes", type=int, default=0, help="number of 256 px scenes (seeds from 10000)")
    parser.add_argument("--steps", type=int, default=5300)
    parser.add_argument("--snapshots", type=int, nargs="*", default=[1000, 2000, 3000, 4000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", help="of the middle layers: auto, float32 or bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--export", type=int, nargs="+", metavar="STEP", help="store (the mean of) these snapshots")
    parser.add_argument("--out", type=Path, help="file for --export")
    parser.add_argument("--clean", type=Path, help="lossless images for the PSNR stored by --export")
    options = parser.parse_args()
    images: list[np.ndarray] = []
    if options.photos:
        images += training_images(options.photos, 0, 0)
    if options.scenes:
        images += training_images(None, options.scenes, 256)
    runtime = resolve(options.device, options.precision)
    plan = TrainingPlan(options.steps, seed=options.seed, bfloat16=runtime.bfloat16)
    if options.export is None:
        train_dncnn(images, plan, options.folder, options.snapshots, device=runtime.device)
        return
    parts = [f"{len(images) - options.scenes} photographs"] if options.photos else []
    parts += [f"{options.scenes} scenes of 256 px"] if options.scenes else []
    facts = {"data": " and ".join(parts), "schedule": "reduced: CPU, see plan"}
    chosen = [options.folder / f"snapshot-{step:06d}.pt" for step in options.export]
    path = export_snapshot(chosen, images, options.out, plan, facts)
    if options.clean:
        model, bias, metadata = read_dncnn(path)
        clean = [read_crop(p, None) for p in list_images(options.clean) if is_image(p)]
        values = {f"psnr_{s}_db": round(psnr(FoldedDnCNN(model, bfloat16=plan.bfloat16), clean, s), 2) for s in SIGMAS}
        save_denoiser(path, model, bias, metadata | values | {"psnr_images": f"{len(clean)} of {options.clean.name}"})
        print(values)


if __name__ == "__main__":
    main()
