"""Correlations of photographs with the published fingerprints, into the table that is shipped: their null.

    python scripts/published_null.py DATA_ROOT [OUT.csv] [--limit N]

DATA_ROOT holds photos/train (JPEG files) and the authors' release as dif_official/. No image of photos/test, nor of
the release, is looked at: those are what the null is tested on. Three kinds of photographs are made of the files
(``difcore.images.kinds``): "jpeg", as they are; "lossless", every second; "demosaiced", the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from difcore.experiments.published import published_fingerprints
from difcore.files import DATA_DIR, atomic_text
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import FOREIGN_DENOISER
from difcore.images.folders import list_images
from difcore.images.kinds import demosaiced, lossless
from difcore.images.sources import locate
from difcore.residuals.denoisers import LIMIT, load_denoiser
from difcore.residuals.sets import residuals_of

CROP = 256  # px


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
    made = {"lossless": lossless(files[::2]), "demosaiced": demosaiced(files[1::2])}
    sources = {"jpeg": files, **{kind: np.stack([*images.values()]) for kind, images in made.items()}}
    for kind, source in sources.items():
        rho = ncc(patterns, residuals_of(source, denoiser, CROP, progress=True).values)
        table = pd.DataFrame(rho.numpy().T, columns=list(prints)).round(5)
        table.insert(0, "kind", kind)
        tables.append(table)
    atomic_text(options.out, pd.concat(tables).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
