"""DIF on real generators: fit on some images of each class, test on the rest, also with one last encoding for both.

    python benchmarks/real_generators.py DATA_ROOT OUT_DIR [--steps 250] [--seeds 0] [--bfloat16]

DATA_ROOT holds photos/{train,test} and, as far as present, sd1/ and taef2/. Reals of the fit come from photos/train,
reals of the test are all of photos/test. If the authors' release is found, its 13 fingerprints are tested on sd1 too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from difcore.artefacts import NeedsData, save_artefact
from difcore.denoisers import load_denoiser
from difcore.experiments.folders import draw
from difcore.experiments.published import published_fingerprints
from difcore.fit import DifPlan, fit_dif, fit_marra18
from difcore.release import locate
from difcore.residuals import ResidualSet, residuals_of
from difcore.stats import as_row, detection

TRAIN = {"sd1": 128, "taef2": 100}  # images of each class


def main() -> None:
    """Write detection.csv and published_on_sd1.csv with their run.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    started, denoiser = time.perf_counter(), load_denoiser("photos", bfloat16=options.bfloat16)
    rows, tables = [], {}

    def load(folder: str, jpeg: int | None) -> ResidualSet:
        return residuals_of(options.data_root / folder, denoiser, jpeg=jpeg, progress=True)

    for jpeg in (None, 95):
        photos, test = load("photos/train", jpeg), load("photos/test", jpeg)
        assert not set(photos.hashes) & set(test.hashes)
        for name, count in TRAIN.items():
            if not (options.data_root / name).is_dir():
                continue
            fakes = load(name, jpeg)
            for seed in options.seeds:
                chosen = draw(fakes.hashes, count, seed)
                rest = np.setdiff1d(np.arange(len(fakes)), chosen)
                real, fake = photos.take(draw(photos.hashes, count, seed)), fakes.take(chosen)
                held_out = fakes.take(rest)
                assert not set(fake.hashes) & set(held_out.hashes)
                plan = DifPlan(steps=options.steps, seed=seed, bfloat16=options.bfloat16)
                prints = {
                    "DIF": fit_dif(real.values, fake.values, plan, name, progress=True),
                    "Marra18": fit_marra18(real.values, fake.values, name),
                }
                for method, fingerprint in prints.items():
                    rho = [fingerprint.scores(s.values) for s in (test, held_out)]
                    facts = {"generator": name, "encoding": f"JPEG q{jpeg}" if jpeg else "native", "method": method}
                    result = as_row(detection(*rho, fingerprint.threshold))
                    rows.append({**facts, "n_train": count, **result, "seed": seed})
                    print(rows[-1], flush=True)
    tables["detection"] = pd.DataFrame(rows)
    try:
        sets = [load(folder, None) for folder in ("photos/test", "sd1")]
        published = published_fingerprints(locate())
        results = {n: detection(*(f.scores(s.values) for s in sets), f.threshold) for n, f in published.items()}
        listed = [{"fingerprint": name, "images": "sd1", **as_row(result)} for name, result in results.items()]
        tables["published_on_sd1"] = pd.DataFrame(listed)
    except (NeedsData, ValueError) as error:
        print(f"published fingerprints left out: {error}")
    save_artefact(
        options.out,
        "real_generators",
        tables=tables,
        figures={},
        claims=[],
        parameters={"steps": options.steps, "bfloat16": options.bfloat16, "n_train": TRAIN},
        seed=options.seeds[0],
        n="see the tables",
        seconds=time.perf_counter() - started,
        weights={denoiser.name: denoiser.hash},
        data="photographs, SD 1.x outputs, TAEF2 reconstructions",
    )


if __name__ == "__main__":
    main()
