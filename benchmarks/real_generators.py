"""Fingerprints on real generators: fitted on some images of one, tested on the rest, on every other's, on new reals.

    python benchmarks/real_generators.py DATA_ROOT OUT_DIR [--filter photos-long] [--n-train 64] [--steps 250]
        [--seeds 0 1 2] [--methods DIF Marra18 Marra18-ZM] [--generators sd14 ldm ...] [--encodings native jpeg]
        [--precision auto] [--no-limit] [--no-control]

DATA_ROOT holds photos/{train,test}, cbsd68 and folders of generated images; sources.csv there names each image's
origin. Reals of a fit come from photos/train; reals of the test are photos/test and, apart, cbsd68. Images of one
prompt or one starting noise are never on both sides of a split (``group_of``). "jpeg" encodes the crops of both classes
as JPEG q95, whose 8x8 blocks then lie alike in all images.

Tables: ``published``: the authors' fingerprints, their centres untouched, on every generator (if the release is found);
``cross``: each fit on each generator's images; ``control``: DIF fitted to permuted labels. Each row is a balanced
accuracy with Newcombe's interval and an AUC with its own, n, seed. Fits are kept in OUT_DIR/fits: a run that is killed,
or several at once for some seeds each, lose none, and a last run puts the tables together.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from difcore.experiments.published import published_fingerprints
from difcore.files import NeedsData, derived_seed, sha256_bytes
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan, fit_marra18, fit_restarted
from difcore.images.sources import locate
from difcore.machine.source_digest import code_digest
from difcore.records import artefact
from difcore.residuals.denoisers import LIMIT
from difcore.residuals.sets import ResidualSet, residuals_of
from difcore.stats import as_row, detection

GENERATORS = ("sd14", "sd21", "ldm", "glid3xl", "dalle_mini")
REALS = {"photos": "photos/test", "cbsd68": "cbsd68"}
METHODS = ("DIF", "Marra18", "Marra18-ZM")
JPEG = {"native": None, "jpeg": 95}


def group_of(folder: str, origin: str) -> str:
    """What an image must not share with one on the other side of a split: its prompt, or its starting noise.

    DALL-E-Mini's images of one prompt lie in one folder; GLID-3-XL's of one file name began from one noise.
    """
    path = Path(origin)
    return {"dalle_mini": path.parent.name, "glid3xl": path.stem}.get(folder, origin)


def groups(root: Path, folder: str, images: ResidualSet) -> list[str]:
    """The group of each image, by sources.csv; without an entry an image is a group of its own."""
    table = root / "sources.csv"
    origin: dict[str, str] = {}
    if table.is_file():
        with table.open(encoding="utf-8") as stream:
            origin = {row["file"]: row["path"] for row in csv.DictReader(stream)}
    files = [f"{folder}/{Path(name).name}" for name in images.names]
    return [group_of(folder, origin.get(file, file)) for file in files]


def divide(group: Sequence[str], n_train: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test): whole groups in random order until ``n_train`` images are there; the rest is tested on."""
    order = rng.permutation(sorted(set(group)))
    rank = {name: k for k, name in enumerate(order)}
    by_group = np.array(sorted(range(len(group)), key=lambda i: (rank[group[i]], i)))
    train = by_group[:n_train]
    seen = {group[i] for i in train}
    return np.sort(train), np.array([i for i in range(len(group)) if group[i] not in seen], int)


def fit(method: str, real: np.ndarray, fake: np.ndarray, plan: DifPlan, name: str) -> Detector:
    """A fingerprint by one of ``METHODS``."""
    if method == "DIF":
        return fit_restarted(real, fake, plan, name, progress=True)
    return fit_marra18(real, fake, name, clean=method == "Marra18-ZM")


def kept(path: Path, make: Callable[[], Detector]) -> Detector:
    """The fingerprint of a file, fitted first unless it is there."""
    if not path.is_file():
        make().save(path)
    return Detector.load(path)


def tested(print_: Detector, reals: Mapping[str, np.ndarray], fakes: Mapping[str, np.ndarray]) -> list[dict]:
    """A row for each set of generated images and each source of reals."""
    rho_real = {source: print_.rho(values).numpy() for source, values in reals.items()}
    rho_fake = {generator: print_.rho(values).numpy() for generator, values in fakes.items()}
    return [
        {"images": generator, "reals": source, **as_row(detection(real, fake, print_.threshold))}
        for generator, fake in rho_fake.items()
        for source, real in rho_real.items()
    ]


def main() -> None:
    """Write the tables with their run.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--filter", default="photos-long")
    parser.add_argument("--n-train", type=int, default=64)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--generators", nargs="+", default=GENERATORS)
    parser.add_argument("--encodings", nargs="+", choices=list(JPEG), default=["native"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-limit", action="store_true", help="residuals as the filter gives them, as in the paper")
    parser.add_argument("--no-control", action="store_true", help="no fit of permuted labels")
    options = parser.parse_args()
    code = code_digest(fit_restarted)
    started, limit = time.perf_counter(), None if options.no_limit else LIMIT
    asked = {key: value for key, value in vars(options).items() if key not in ("data_root", "out")}
    given = {"output_dir": options.out, "seed": options.seeds[0], "device": "auto", "limit": limit}
    record = artefact("real_generators", asked | given)
    runtime, denoiser = record.runtime, record.filter(options.filter, limit)
    tables: dict[str, list[dict]] = {"published": [], "cross": [], "control": []}

    def keep(table: str, **facts: object) -> None:
        tables[table].append(facts)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}, flush=True)

    for encoding in options.encodings:
        load = partial(residuals_of, denoiser=denoiser, jpeg=JPEG[encoding], progress=True)
        reals = {source: load(options.data_root / folder).values for source, folder in REALS.items()}
        sets = {name: load(options.data_root / name) for name in options.generators}
        try:
            for name, print_ in published_fingerprints(locate()).items():
                for row in tested(print_, reals, {generator: s.values for generator, s in sets.items()}):
                    keep("published", fingerprint=name, encoding=encoding, **row)
        except NeedsData as error:
            print(f"published fingerprints left out: {error}")
        photos = load(options.data_root / "photos/train")
        for seed in options.seeds:
            for name in options.generators:
                rng = np.random.default_rng(derived_seed(seed, name))
                train, rest = divide(groups(options.data_root, name, sets[name]), options.n_train, rng)
                real = photos.values[np.sort(rng.permutation(len(photos))[: options.n_train])]
                fake = sets[name].values[train]
                fakes = {other: s.values if other != name else s.values[rest] for other, s in sets.items()}
                plan = DifPlan(options.steps, seed=seed, bfloat16=runtime.bfloat16)
                facts = {"fitted_on": name, "encoding": encoding, "n_train": len(train), "seed": seed}

                def file(method: str, *parts: object) -> Path:
                    key = sha256_bytes(repr((denoiser.hash, code, method, *parts)).encode())[:16]
                    return options.out / "fits" / f"{key}.safetensors"

                used = (name, encoding, len(train), plan)
                for method in options.methods:
                    print_ = kept(file(method, *used), partial(fit, method, real, fake, plan, name))
                    for row in tested(print_, reals, fakes):
                        keep("cross", method=method, **facts, **row)
                if not options.no_control and "DIF" in options.methods and seed == options.seeds[0]:
                    mixed = rng.permutation(2 * len(train))
                    both = np.concatenate([real, fake])[mixed]
                    other = replace(plan, seed=seed + 1)
                    make = partial(fit, "DIF", both[: len(train)], both[len(train) :], other, name)
                    for row in tested(kept(file("permuted", *used), make), reals, {name: fakes[name]}):
                        keep("control", method="DIF, labels permuted", **facts, **row)
        record.seconds = time.perf_counter() - started
        record.save(
            "see the tables",
            {name: pd.DataFrame(rows) for name, rows in tables.items() if rows},
            data="photographs; images of real generators, see sources.csv of the data root",
        )


if __name__ == "__main__":
    main()
