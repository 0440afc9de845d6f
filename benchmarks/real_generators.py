"""DIF on real generators: fit on some images of each class, test on the rest, also with one last encoding for both.

    python benchmarks/real_generators.py DATA_ROOT OUT_DIR [--steps 480] [--seeds 0] [--margins 0.03] [--batch 64]
        [--precision float32] [--no-limit] [--methods DIF Marra18 Marra18-ZM]

DATA_ROOT holds photos/{train,test} and, as far as present, sd1/ and taef2/. Reals of the fit come from photos/train,
reals of the test are all of photos/test. The last encoding, JPEG of quality 95, is given to both classes in two ways:
to the files, as one would who saves both folders anew, and to the crops, whose 8x8 blocks then lie alike in all images.
Marra18-ZM is the averaged residual with rows and columns made mean-free. If the authors' release is found, its 13
fingerprints are tested on sd1 too, with the filter for them. Every AUC also by the parts of fingerprint and residuals:
their grid of 8 px alone, what is left without it, and rows and columns made mean-free.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from difcore.artefacts import NeedsData, save_artefact
from difcore.denoisers import LIMIT, Denoiser, load_denoiser
from difcore.experiments.folders import draw
from difcore.experiments.published import published_fingerprints
from difcore.experiments.published_parts import correlate_parts
from difcore.fingerprints import Fingerprint
from difcore.fit import DifPlan, fit_dif, fit_marra18
from difcore.folders import is_image, list_images
from difcore.images import decode
from difcore.matching import FOREIGN_DENOISER
from difcore.release import locate
from difcore.residuals import ResidualSet, residuals_of
from difcore.runtime import resolve
from difcore.stats import as_row, auc, detection

TRAIN = {"sd1": 128, "taef2": 100}  # images of each class
METHODS = ("DIF", "Marra18", "Marra18-ZM")
QUALITY = 95
ENCODINGS = ("native", f"files as JPEG q{QUALITY}", f"crops as JPEG q{QUALITY}")


def load(folder: Path, encoding: str, denoiser: Denoiser) -> ResidualSet:
    """Residuals of the centre crops of a folder whose files, or crops, got one last encoding."""
    if not encoding.startswith("files"):
        return residuals_of(folder, denoiser, jpeg=QUALITY if encoding.startswith("crops") else None, progress=True)
    with tempfile.TemporaryDirectory() as saved:
        for path in filter(is_image, list_images(folder)):
            Image.fromarray(decode(path)).save(Path(saved) / f"{path.stem}.jpg", quality=QUALITY)
        return residuals_of(Path(saved), denoiser, progress=True)


def auc_by_part(prints: Mapping[str, Fingerprint], real: ResidualSet, fake: ResidualSet) -> dict[str, dict[str, float]]:
    """AUC of each fingerprint by each part but the whole: {fingerprint: {"auc: grid of 8 px": ..., ...}}."""
    rho = correlate_parts(torch.stack([p.pattern for p in prints.values()]), [real.values, fake.values])
    return {
        name: {f"auc: {part}": auc(r[k], f[k]) for part, (r, f) in rho.items() if part != "whole"}
        for k, name in enumerate(prints)
    }


def rows_of(
    name: str,
    encoding: str,
    photos: ResidualSet,
    test: ResidualSet,
    fakes: ResidualSet,
    plan: DifPlan,
    methods: Sequence[str] = METHODS,
) -> list[dict[str, object]]:
    """Each method fitted on ``TRAIN[name]`` images of each class, tested on what is left."""
    count, seed = TRAIN[name], plan.seed
    chosen = draw(fakes.hashes, count, seed)
    rest = np.setdiff1d(np.arange(len(fakes)), chosen)
    real, fake, held_out = photos.take(draw(photos.hashes, count, seed)), fakes.take(chosen), fakes.take(rest)
    assert not set(real.hashes + fake.hashes) & set(test.hashes + held_out.hashes)
    fits = {
        "DIF": partial(fit_dif, plan=plan, progress=True),
        "Marra18": fit_marra18,
        "Marra18-ZM": partial(fit_marra18, clean=True),
    }
    prints = {method: fits[method](real.values, fake.values, name=name) for method in methods}
    rows, parts = [], auc_by_part(prints, test, held_out)
    for method, fingerprint in prints.items():
        rho = [fingerprint.scores(s.values) for s in (test, held_out)]
        facts = {"generator": name, "encoding": encoding, "method": method}
        facts["margin"] = plan.margin if method == "DIF" else np.nan
        result = as_row(detection(*rho, fingerprint.threshold))
        rows.append({**facts, "n_train": count, **result, **parts[method], "seed": seed})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Write detection.csv and published_on_sd1.csv with their run.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--margins", type=float, nargs="+", default=[DifPlan.margin])
    parser.add_argument("--batch", type=int, default=DifPlan.batch)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--precision", default="auto", help="of ours: auto, float32 or bfloat16")
    parser.add_argument("--no-limit", action="store_true", help="residuals as the filters give them, as in the paper")
    options = parser.parse_args()
    runtime = resolve("cpu", options.precision)
    started, limit = time.perf_counter(), None if options.no_limit else LIMIT
    denoiser = load_denoiser("photos", bfloat16=runtime.bfloat16, limit=limit)
    tables, rows = {}, []
    try:
        foreign = load_denoiser(FOREIGN_DENOISER, bfloat16=runtime.bfloat16, limit=limit)
        sets = [load(options.data_root / folder, "native", foreign) for folder in ("photos/test", "sd1")]
        published = published_fingerprints(locate())
        results = {n: detection(*(f.scores(s.values) for s in sets), f.threshold) for n, f in published.items()}
        parts = auc_by_part(published, *sets)
        listed = [{"fingerprint": n, "images": "sd1", **as_row(result), **parts[n]} for n, result in results.items()]
        tables["published_on_sd1"] = pd.DataFrame(listed)
        print(tables["published_on_sd1"].to_string(), flush=True)
    except (NeedsData, ValueError) as error:
        print(f"published fingerprints left out: {error}")
    for encoding in ENCODINGS:
        photos, test = (load(options.data_root / f"photos/{part}", encoding, denoiser) for part in ("train", "test"))
        for name in TRAIN:
            if not (options.data_root / name).is_dir():
                continue
            fakes = load(options.data_root / name, encoding, denoiser)
            for seed, margin in product(options.seeds, options.margins):
                plan = DifPlan(options.steps, options.batch, margin=margin, seed=seed, bfloat16=runtime.bfloat16)
                rows += rows_of(name, encoding, photos, test, fakes, plan, options.methods)
    tables["detection"] = pd.DataFrame(rows)
    save_artefact(
        options.out,
        "real_generators",
        tables=tables,
        figures={},
        claims=[],
        parameters={
            "steps": options.steps,
            "batch": options.batch,
            "bfloat16": runtime.bfloat16,
            "limit": limit,
            "n_train": TRAIN,
        },
        seed=options.seeds[0],
        n="see the tables",
        seconds=time.perf_counter() - started,
        weights={denoiser.name: denoiser.hash},
        data="photographs, SD 1.x outputs, TAEF2 reconstructions",
    )


if __name__ == "__main__":
    main()
