"""Fingerprints on real generators: fitted on some images of one, tested on the rest, on every other's, on new reals.

    python benchmarks/real_generators.py DATA_ROOT OUT_DIR [--filter photos-long highpass:.5 ...] [--n-train 64]
        [--steps 250] [--seeds 0 1 2] [--methods DIF Marra18 Marra18-ZM] [--generators sd14 ldm ...]
        [--fitted-as native jpeg] [--tested-as native jpeg] [--precision auto] [--no-limit] [--no-control]

DATA_ROOT holds photos/{train,test}, cbsd68 and folders of generated images; sources.csv there names each image's
origin. Reals of a fit come from photos/train, those of its null are the rest of photos/train, as they are, made smaller
and seen by a camera's mosaic; reals of the test are photos/test and, apart, cbsd68. Images of one prompt or one
starting noise are never on both sides of a split (``group_of``). "jpeg" encodes the crops of both classes as JPEG q95,
whose 8x8 blocks then lie alike in all images.

Tables: ``published``: the authors' fingerprints, their centres untouched, on every set (if the release is found);
``cross``: each fit on each set. Sets are those of the generators, and two that no fingerprint may find: cbsd68, and
photos/test with the invisible mark of Stable Diffusion's scripts. ``control``: DIF fitted to mixed halves. Each row
is a balanced accuracy with Newcombe's interval, an AUC with its own, and the shares called generated at a false-alarm
rate of 1 % by the null (``called_real``, ``called_fake``), n, seed. Fits are kept in OUT_DIR/fits: a run that is
killed, or several at once for some seeds each, lose none, and a last run puts the tables together.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from difcore.audit.watermark import MESSAGES, write_mark
from difcore.experiments.published import published_fingerprints
from difcore.figures.heatmaps import MatrixPanel, matrix_panels
from difcore.figures.style import NotebookFigure
from difcore.files import NeedsData, derived_seed, sha256_bytes
from difcore.fingerprints.correlation import lattice_shares
from difcore.fingerprints.detector import Detector, published_null
from difcore.fingerprints.dif import DifPlan, fit_marra18, fit_restarted
from difcore.fingerprints.null import Null, null_of
from difcore.fingerprints.verdicts import DEMOSAICED, FALSE_ALARM, false_alarm_of
from difcore.images.crops import read_crop
from difcore.images.folders import list_images
from difcore.images.kinds import demosaiced, lossless
from difcore.images.sources import locate
from difcore.machine.source_digest import code_digest
from difcore.records import artefact
from difcore.residuals.denoisers import LIMIT, Denoiser
from difcore.residuals.sets import ResidualSet, residuals_of
from difcore.stats import as_row, detection

GENERATORS = ("sd14", "sd21", "ldm", "glid3xl", "dalle_mini")
SHOWN = {"ldm": "LDM", "glid3xl": "GLID-3-XL"}  # others are named in the paper
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


@dataclass(frozen=True)
class Images:
    """Residuals of a set of images, and the share of each that a lattice of 2 px explains."""

    values: np.ndarray
    lattices: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Images:
        """Of residuals (N, 3, H, W)."""
        return cls(values, lattice_shares(values))

    def take(self, index: np.ndarray) -> Images:
        """Some of them."""
        return Images(self.values[index], self.lattices[index])


def tested(print_: Detector, null: Null | None, reals: Mapping[str, Images], sets: Mapping[str, Images]) -> list[dict]:
    """A row for each set of images and each source of reals, but a source against itself."""
    rho = {id(x): print_.rho(x.values).double().numpy() for x in (*reals.values(), *sets.values())}

    def called(x: Images) -> float:
        return float((false_alarm_of(null, rho[id(x)], x.lattices) <= FALSE_ALARM).mean()) if null else np.nan

    return [
        {"images": name, "reals": source, **as_row(detection(rho[id(real)], rho[id(fake)], print_.threshold)),
         "called_real": called(real), "called_fake": called(fake)}
        for name, fake in sets.items() for source, real in reals.items() if name != source
    ]  # fmt: skip


def marked(folder: Path, crop: int = 256) -> np.ndarray:
    """Centre crops of photographs, uint8 (N, crop, crop, 3), with the mark of Stable Diffusion's scripts."""
    return np.stack([write_mark(read_crop(p, crop), MESSAGES["StableDiffusionV1"]) for p in list_images(folder)])


def measure(options: argparse.Namespace, denoiser: Denoiser, bfloat16: bool, keep: Callable[..., None]) -> None:
    """All rows of one residual filter, each given to ``keep`` with the name of its table."""
    code = code_digest(fit_restarted)
    root: Path = options.data_root
    files = list_images(root / "photos/train")
    photographs = {DEMOSAICED: demosaiced(files[1::2]), "lossless photographs": lossless(files[::2])}
    reals: dict[str, dict[str, Images]] = {}
    sets: dict[str, dict[str, Images]] = {}
    photos: dict[str, ResidualSet] = {}
    kinds: dict[str, dict[str, np.ndarray]] = {}
    group: dict[str, list[str]] = {}
    for encoding in dict.fromkeys([*options.fitted_as, *options.tested_as]):
        load = partial(residuals_of, denoiser=denoiser, jpeg=JPEG[encoding], progress=True)
        reals[encoding] = {source: Images.of(load(root / folder).values) for source, folder in REALS.items()}
        found = {name: load(root / name) for name in options.generators}
        group |= {name: groups(root, name, images) for name, images in found.items()}
        sets[encoding] = {name: Images.of(images.values) for name, images in found.items()}
        sets[encoding] |= {"cbsd68": reals[encoding]["cbsd68"]}
        sets[encoding] |= {"photos, marked": Images.of(load(marked(root / REALS["photos"])).values)}
        photos[encoding] = load(root / "photos/train")
        kinds[encoding] = {kind: load(np.stack([*images.values()])).values for kind, images in photographs.items()}
        try:
            for name, print_ in published_fingerprints(locate()).items():
                for row in tested(print_, published_null(print_), reals[encoding], sets[encoding]):
                    keep("published", fingerprint=name, tested_as=encoding, **row)
        except NeedsData as error:
            print(f"published fingerprints left out: {error}")
    for encoding, seed, name in product(options.fitted_as, options.seeds, options.generators):
        rng = np.random.default_rng(derived_seed(seed, name))
        train, rest = divide(group[name], options.n_train, rng)
        chosen = np.sort(rng.permutation(len(photos[encoding]))[: options.n_train])
        real, fake = photos[encoding].values[chosen], sets[encoding][name].values[train]
        plan = DifPlan(options.steps, seed=seed, bfloat16=bfloat16)
        used = (name, encoding, len(train), plan, sha256_bytes(real.tobytes(), fake.tobytes()))
        makers: dict[str, Callable[[], Detector]] = {
            method: partial(fit, method, real, fake, plan, name) for method in options.methods
        }
        if not options.no_control and "DIF" in options.methods and seed == options.seeds[0]:
            # Half of each class in either half: of labels drawn freely, chance leaves one with more fakes to find.
            mixed = [images[rng.permutation(len(images))] for images in (real, fake)]
            halves = [np.concatenate([x[k::2] for x in mixed]) for k in range(2)]
            makers["permuted"] = partial(fit, "DIF", *halves, replace(plan, seed=seed + 1), name)
        trained = {Path(photos[encoding].names[k]).name for k in chosen}
        for method, make in makers.items():
            key = sha256_bytes(repr((denoiser.hash, code, method, *used)).encode())[:16]
            print_ = kept(options.out / "fits" / f"{key}.safetensors", make)
            for tested_as in options.tested_as:
                held = np.setdiff1d(np.arange(len(photos[tested_as])), chosen)
                rho = {"photographs": print_.rho(photos[tested_as].values[held]).numpy()}
                for kind, values in kinds[tested_as].items():
                    unseen = [k for k, f in enumerate(photographs[kind]) if f.name not in trained]
                    rho[kind] = print_.rho(values[unseen]).numpy()
                own = {other: x.take(rest) if other == name else x for other, x in sets[tested_as].items()}
                facts = {"method": method, "fitted_on": name, "fitted_as": encoding, "tested_as": tested_as}
                for row in tested(print_, null_of(rho), reals[tested_as], own):
                    keep("control" if method == "permuted" else "cross", **facts, n_train=len(train), seed=seed, **row)


def travel_figure(cross: pd.DataFrame, reals: str = "photos") -> NotebookFigure:
    """AUC in percent of each method's fingerprints on every generator's images as they are, mean over the seeds."""
    rows = cross[(cross["fitted_as"] == "native") & (cross["tested_as"] == "native") & (cross["reals"] == reals)]
    order = [name for name in dict.fromkeys(rows["fitted_on"]) if name in set(rows["images"])]
    scale = {"unit": "AUC (%)", "vmin": 0, "vmax": 100, "diverging": True, "centre": 50}
    panels = []
    for (name, method), own in rows.groupby(["filter", "method"], sort=False):
        matrix = 100 * own.pivot_table(index="fitted_on", columns="images", values="auc", sort=False).loc[order, order]
        matrix = matrix.rename(index=SHOWN, columns=SHOWN)
        panels.append(MatrixPanel(matrix, f"{method} behind {name}", row_title="fitted on", **scale))
    return matrix_panels(panels)


def main() -> None:
    """Write the tables with their run.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--filter", nargs="+", default=["photos-long"])
    parser.add_argument("--n-train", type=int, default=64)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--generators", nargs="+", default=GENERATORS)
    parser.add_argument("--fitted-as", nargs="+", choices=list(JPEG), default=["native"])
    parser.add_argument("--tested-as", nargs="+", choices=list(JPEG), default=list(JPEG))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-limit", action="store_true", help="residuals as the filter gives them, as in the paper")
    parser.add_argument("--no-control", action="store_true", help="no fit of permuted labels")
    options = parser.parse_args()
    started, limit = time.perf_counter(), None if options.no_limit else LIMIT
    asked = {key: value for key, value in vars(options).items() if key not in ("data_root", "out")}
    given = {"output_dir": options.out, "seed": options.seeds[0], "device": "auto", "limit": limit}
    record = artefact("real_generators", asked | given)
    tables: dict[str, list[dict]] = {"published": [], "cross": [], "control": []}

    def keep(table: str, **facts: object) -> None:
        tables[table].append(facts)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}, flush=True)

    for name in options.filter:
        measure(options, record.filter(name, limit), record.runtime.bfloat16, partial(keep, filter=name))
    record.seconds = time.perf_counter() - started
    if tables["cross"]:
        record.figure("travel", travel_figure(pd.DataFrame(tables["cross"])))
    record.save(
        "see the tables",
        {name: pd.DataFrame(rows) for name, rows in tables.items() if rows},
        data="photographs; images of real generators, see sources.csv of the data root",
    )


if __name__ == "__main__":
    main()
