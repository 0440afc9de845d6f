"""PSNR and agreement with the published fingerprints of training snapshots, into one CSV.

    python scripts/denoiser_agreement.py OUT.csv --clean DIR --run LABEL SNAPSHOT_DIR [--photos DIR] [--scenes N]

Rows of LABEL already in OUT.csv are replaced. F_DnCNN of each snapshot is measured on the run's training images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from difcore.experiments.denoising import agreement_along, snapshot_denoiser, training_images
from difcore.files import atomic_text
from difcore.images.crops import read_crop
from difcore.images.folders import is_image, list_images
from difcore.images.release import locate
from difcore.runtime import resolve


def main() -> None:
    """Measure the snapshots of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", nargs=2, metavar=("LABEL", "DIR"), required=True)
    parser.add_argument("--clean", type=Path, required=True, help="lossless images for the PSNR")
    parser.add_argument("--clean-images", type=int, default=10, help="how many of them")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scenes", type=int, default=0)
    parser.add_argument("--bias-images", type=int, default=120, help="training images that F_DnCNN is measured on")
    parser.add_argument("--steps", type=int, nargs="*", help="only these snapshots")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    options = parser.parse_args()
    label, folder = options.run
    images = training_images(options.photos, 0, 0) if options.photos else []
    images += training_images(None, options.scenes, 256) if options.scenes else []
    images = images[:: max(1, len(images) // options.bias_images)]
    found = {int(p.stem.split("-")[1]): p for p in sorted(Path(folder).glob("snapshot-*.pt"))}
    chosen = {k: p for k, p in found.items() if not options.steps or k in options.steps}
    bfloat16 = resolve("cpu", options.precision).bfloat16
    denoisers = {k: snapshot_denoiser(p, images, bfloat16) for k, p in chosen.items()}
    clean = [read_crop(p, None) for p in list_images(options.clean) if is_image(p)][: options.clean_images]
    table = agreement_along(denoisers, locate(), clean, label)
    if options.out.is_file():
        old = pd.read_csv(options.out)
        keep = ~((old.denoiser == label) & old.step.isin(table.step))
        table = pd.concat([old[keep], table]).sort_values(["denoiser", "step"], kind="stable")
    atomic_text(options.out, table.round(4).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
