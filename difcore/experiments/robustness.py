"""What detectors still see after what happens to images on their way: both classes are changed alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from difcore.detectors import methods
from difcore.experiments.bench import Bench
from difcore.experiments.claiming import judge_above
from difcore.experiments.detection_claims import silent
from difcore.experiments.pools import MIN_TEST, Pool, Sets, divide
from difcore.experiments.travel import exploded
from difcore.files import derived_seed, sha256_file
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.verdicts import contents
from difcore.images.changes import changes
from difcore.images.crops import centre_crop, centre_crops, sha256_pixels
from difcore.machine.source_digest import code_digest
from difcore.records.cells import Cell, NotEnough, run_cells
from difcore.records.claims import OK, Claim, over_cells
from difcore.runtime import Runtime
from difcore.stats import Estimate, as_row, auc_estimate, detection, found_at, sum_estimate

UNCHANGED = "none"
FINDS = 0.75  # AUC below which there is nothing to lose


@dataclass(frozen=True)
class Trial:
    """What is tried: methods fitted to ``n_train`` images of each class by each seed, or one ``detector`` (a file)."""

    methods: Sequence[str]
    n_train: int
    seeds: Sequence[int]
    crop: int  # px, of the fit; a detector has its own
    detector: str = ""
    limit: float = 0.0  # of residuals, in root mean squares; 0: none


def robustness_table(bench: Bench, trial: Trial) -> pd.DataFrame:
    """Each detector on each generator's test images after each operation of ``images.changes``.

    Operations act on the bench's crops, larger than the detector's: what shifting and making smaller need.

    Returns
    -------
    DataFrame
        generator, method, filter, n_train, seed, operation; accuracy at the detector's own threshold, auc, their
        intervals, n_real, n_fake; found_at_5, the share of fakes found at 5 % of these reals; status.

    Raises
    ------
    ValueError, CellsFailed, NeedsData
        If the bench's crops are smaller than the detector's; if no cell has a result.
    """
    own = Detector.load(trial.detector) if trial.detector else None
    if bench.crop < (own.crop if own else trial.crop):
        raise ValueError(f"images of {bench.crop} px are smaller than the detector's crop")
    used = own.filter() if own else bench.runtime.denoiser(bench.denoiser, trial.limit or None)
    shared = {
        "encoding": "native",
        "filter": used.name if own else bench.denoiser,
        "n_train": 0 if own else trial.n_train,
    }
    known = f"{sha256_file(trial.detector) if own else trial.crop} {version('scikit-image')}"  # which blurs
    asked = [own.method] if own else list(trial.methods)
    cells = [
        Cell({"generator": name, **shared, "seed": seed}, f"{name}|native",
             bench.depends([name], division=f"{bench.max_test} {known} {asked} {trial.limit}", filter_hash=used.hash,
                           plan="dif" in asked))
        for name, seed in product(bench.sources, trial.seeds[:1] if own else trial.seeds)
    ]  # fmt: skip
    work = partial(tried, plan=bench.plan, runtime=bench.runtime, trial=trial, most=bench.max_test)
    found = run_cells(work, cells, bench.load, n_jobs=bench.runtime.workers, progress=bench.progress,
                      title="robustness", code=code_digest(tried))  # fmt: skip
    return exploded(found)


def unseen(pool: Pool, detector: Detector, most: int | None) -> np.ndarray:
    """At most so many images of a pool that the detector was neither fitted to nor has its null of."""
    own = contents(sha256_pixels(centre_crop(image, detector.crop)) for image in pool.images)
    index = [k for k, x in enumerate(own) if x not in detector.trained | detector.null_images]
    if len(index) < MIN_TEST:
        raise NotEnough(f"too few images: {len(index)} that the detector has not seen, needed {MIN_TEST}")
    return pool.take(index[:most]).images


def tried(
    sets: Sets, values: Mapping[str, Any], plan: DifPlan, runtime: Runtime, trial: Trial, most: int | None
) -> dict[str, Any]:
    """One cell: detectors, and a row for each operation and detector."""
    runtime.check()
    seed = values["seed"]
    detectors: list[methods.AnyDetector] = []
    if trial.detector:
        detectors = [own := Detector.load(trial.detector)]
        classes = {label: unseen(getattr(sets, label), own, most) for label in ("real", "fake")}
    else:
        parts = divide(sets, values["n_train"], seed, (), most)
        used = runtime.denoiser(values["filter"], trial.limit or None)
        real, fake = (centre_crops(pool.images, trial.crop) for pool in (parts.real, parts.fake))
        detectors = [methods.fit(method, real, fake, used, seed, plan) for method in trial.methods]
        classes = {"real": parts.test_real.images, "fake": parts.test_fake.images}
    rows, crop = [], detectors[0].crop
    for name, change in changes(crop).items():
        changed: dict[str, np.ndarray] = {}
        for label, images in classes.items():
            drawn = (np.random.default_rng(derived_seed(seed, f"{name} {label} {k}")) for k in range(len(images)))
            after = [change(image, rng) for image, rng in zip(images, drawn, strict=True)]
            if min(min(image.shape[:2]) for image in after) >= crop:
                changed[label] = np.stack([centre_crop(image, crop) for image in after])
        if len(changed) < len(classes):
            continue  # made smaller, images do not fill a crop
        for detector in detectors:
            scores = {label: detector.score(images) for label, images in changed.items()}
            real, fake = scores["real"], scores["fake"]
            found = as_row(detection(real, fake, detector.threshold)) | {"found_at_5": found_at(real, fake, 0.05)}
            rows.append({"operation": name, "method": detector.method, **found})
    return {"tests": rows}


@over_cells
def robustness_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Whether methods find less where images are resized, or cropped elsewhere: at lag zero they have to."""
    claims, table = [], table[table["status"] == OK]
    for method, part in table.groupby("method", sort=False):
        before = mean_auc(part[part["operation"] == UNCHANGED])
        for kind, what in (("resize", "resized"), ("offset", "cropped elsewhere")):
            text = f"{method} finds images less well after they were {what} (on {data})"
            after = mean_auc(part[part["operation"].str.startswith(kind)])
            if np.isnan(before.value + after.value) or before.value < FINDS:
                claims.append(silent(text, "not tested", "it finds too few as they are, or none is large enough"))
                continue
            drop = sum_estimate([1, -1], [before, after], before.basis)
            ours = f"AUC {before.value:.3f} becomes {after.value:.3f}, mean of these operations"
            claims.append(judge_above(text, "not tested", ours, drop, 0.0, "it finds them as before"))
    return claims


def mean_auc(rows: pd.DataFrame) -> Estimate:
    """Mean AUC of rows with the interval of one of them: the operations share their test images."""
    if not len(rows):
        return Estimate(float("nan"), lambda confidence: (float("nan"), float("nan")), "no row")
    one = rows.groupby("generator")[["n_real", "n_fake"]].min()
    return auc_estimate(float(rows["auc"].mean()), int(one["n_real"].min()), int(one["n_fake"].sum()))
