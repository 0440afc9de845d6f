"""Correlations of photographs with the published fingerprints, into the table that is shipped: their null.

    python scripts/published_null.py DATA_ROOT [OUT.csv] [--limit N]

DATA_ROOT holds photos/train (JPEG files) and the authors' release as dif_official/. No image of photos/test, nor of
the release, is looked at: those are what the null is tested on. Three kinds of photographs are made of the files:

- "jpeg": as they are; the 8 x 8 blocks lie where they lie;
- "lossless": every second, made smaller to a short side of 272 px (Lanczos) and not encoded again; those under 340 px
  are left out;
- "demosaiced": the others, as small, through ``scenes.bayer_camera``, which leaves the lattice of period 2 of a
  camera's own pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from difcore.experiments.published import published_fingerprints
from difcore.files import DATA_DIR, atomic_text
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import FOREIGN_DENOISER
from difcore.images.crops import centre_crop, decode
from difcore.images.folders import list_images
from difcore.images.scenes import bayer_camera
from difcore.images.sources import locate
from difcore.residuals.denoisers import LIMIT, load_denoiser
from difcore.residuals.sets import residuals_of

CROP, SHORT, SMALLEST = 256, 272, 340  # px


def smaller(files: list[Path]) -> Iterator[np.ndarray]:
    """Each photograph at a short side of ``SHORT`` px, whole; those under ``SMALLEST`` are left out."""
    for path in files:
        image = Image.fromarray(decode(path))
        if min(image.size) >= SMALLEST:
            scale = SHORT / min(image.size)
            width, height = (max(SHORT, round(side * scale)) for side in image.size)
            yield np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def lossless(files: list[Path]) -> np.ndarray:
    """Centres of the smaller photographs."""
    return np.stack([centre_crop(image, CROP) for image in smaller(files)])


def demosaiced(files: list[Path]) -> np.ndarray:
    """Crops of the smaller photographs seen by a camera, at a random phase of its mosaic."""
    crops = []
    for k, image in enumerate(smaller(files)):
        rng = np.random.default_rng(k)
        seen = bayer_camera(centre_crop(image, CROP + 2).astype(np.float32) / 255, rng)
        y, x = rng.integers(2, size=2)
        crops.append(seen[y : y + CROP, x : x + CROP])
    return np.stack(crops)


def main() -> None:
    """Correlate the three kinds with the 13 fingerprints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=DATA_DIR / "published_null.csv")
    parser.add_argument("--limit", type=int, help="only so many photographs")
    options = parser.parse_args()
    files = list_images(options.data_root / "photos" / "train")[: options.limit]
    denoiser = load_denoiser(FOREIGN_DENOISER, limit=LIMIT)
    prints = published_fingerprints(locate(options.data_root))
    patterns = torch.stack([p.pattern for p in prints.values()])
    tables = []
    sources = {"jpeg": files, "lossless": lossless(files[::2]), "demosaiced": demosaiced(files[1::2])}
    for kind, source in sources.items():
        rho = ncc(patterns, residuals_of(source, denoiser, CROP, progress=True).values)
        table = pd.DataFrame(rho.numpy().T, columns=list(prints)).round(5)
        table.insert(0, "kind", kind)
        tables.append(table)
    atomic_text(options.out, pd.concat(tables).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
