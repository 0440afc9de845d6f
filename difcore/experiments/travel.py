"""Which residual filter? Fingerprints fitted behind each, tested at home, on other generators and against other reals.

A filter that lets much of an image through shows whatever else the classes differ in, and a fingerprint then looks
perfect at home. What it is worth shows away: against reals of another source, and on images of other generators, which
a fingerprint of one may find only where they are kin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import pandas as pd

from difcore.detectors import methods
from difcore.experiments.bench import Bench, encoding_label, filter_label
from difcore.experiments.claiming import judge_best, percent
from difcore.experiments.detection import MEAN, good, matrix, paired_gap
from difcore.experiments.detection_claims import HIGH_PASS, filter_claims, silent
from difcore.experiments.pools import REAL_SEED, TEST_SEED, Pool, Sets, divide, kept_scenes, make_pool
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import draw
from difcore.images.crops import usable_crops
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images
from difcore.machine.source_digest import code_digest
from difcore.records.cells import Cell, NotEnough, run_cells
from difcore.records.claims import Claim, check_results, over_cells
from difcore.runtime import Runtime
from difcore.stats import as_row, detection

HOME, REALS, GENERATORS, FALSE = "home", "other reals", "other generators", "reals for fakes"
OTHER_STYLE = "mixed"  # scenes of another camera than the one whose scenes the demo's decoders are given


@dataclass(frozen=True)
class Trip:
    """What is asked: these methods behind these filters, fitted to these generators (empty: all) by each seed."""

    methods: Sequence[str]
    filters: Sequence[str]
    n_train: int
    seeds: Sequence[int]
    fitted: Sequence[str] = ()
    limit: float = 0  # of residuals, in root mean squares; 0: none


def other_reals_of(bench: Bench, other_reals: str, test: int) -> Callable[[int | None], Pool]:
    """Reals of another source, given a JPEG quality or None: ``test`` images (0: all) of a folder, or scenes."""
    return partial(read_others, other_reals, bench.crop, test)


def read_others(folder: str, crop: int, test: int, quality: int | None) -> Pool:
    """At most ``test`` images of a folder (0: all); without one, scenes of another camera."""
    if not folder:
        seeds = range(REAL_SEED + TEST_SEED, REAL_SEED + TEST_SEED + (test or 64))
        return make_pool(kept_scenes(seeds, crop, OTHER_STYLE), [f"{OTHER_STYLE} {k}" for k in seeds], quality)
    images = usable_crops(list_images(folder), crop, test or None)
    if not images:
        raise ImageError(f"no image in {folder} has {crop} px a side")
    return make_pool([*images.values()], [path.name for path in images], quality)


def travel_table(bench: Bench, trip: Trip, others: Callable[[int | None], Pool]) -> pd.DataFrame:
    """Each fingerprint on each set of images: a tidy table.

    Parameters
    ----------
    others : callable
        Reals of another source, given a JPEG quality or None.

    Returns
    -------
    DataFrame
        generator (whose images), fitted_on, encoding, method, filter, n_train, seed, test: "home" (its own images
        against held-out reals of its own source), "other reals" (its own against those), "other generators" (theirs
        against its own source's), "reals for fakes" (other reals against its own source's, where .5 is right);
        accuracy, auc, intervals, n_real, n_fake; status.

    Raises
    ------
    CellsFailed, NeedsData
        If no cell has a result.
    """
    strange = " ".join(others(None).hashes)
    digest = cache(lambda name: bench.runtime.denoiser(name, trip.limit or None).hash)
    cells = []
    for quality, name, seed in product(bench.qualities, trip.fitted or bench.sources, trip.seeds):
        for filter_, method in product(trip.filters, trip.methods):
            encoding = encoding_label(quality)
            values = {"fitted_on": name, "encoding": encoding, "method": method, "filter": filter_}
            depends = bench.depends(bench.sources, encoding, f"{bench.max_test} {strange}",
                                    filter_hash=digest(filter_), plan=method == "dif")  # fmt: skip
            cells.append(Cell({**values, "n_train": trip.n_train, "seed": seed}, encoding, depends))
    qualities = {encoding_label(quality): quality for quality in bench.qualities}

    def load(encoding: str) -> tuple[dict[str, Sets], Pool]:
        return {name: bench.load(f"{name}|{encoding}") for name in bench.sources}, others(qualities[encoding])

    work = partial(travelled, plan=bench.plan, runtime=bench.runtime, limit=trip.limit or None, most=bench.max_test)
    return exploded(run_cells(work, cells, load, n_jobs=bench.runtime.workers, progress=bench.progress,
                              title="filters", code=code_digest(travelled)))  # fmt: skip


def exploded(table: pd.DataFrame) -> pd.DataFrame:
    """The table of cells that gave several ``tests`` each, a row a test, in the words of other tables."""
    table = check_results(table)
    long = table.explode("tests", ignore_index=True)
    rows = pd.DataFrame([row if isinstance(row, dict) else {} for row in long.pop("tests")])
    table = pd.concat([long, rows], axis=1)
    for column, named in (("method", lambda name: methods.LABELS.get(name, name)), ("filter", filter_label)):
        table[column] = table[column].map(named)
    return table


def travelled(
    data: tuple[Mapping[str, Sets], Pool], values: Mapping[str, Any], plan: DifPlan, runtime: Runtime,
    limit: float | None, most: int | None,
) -> dict[str, Any]:  # fmt: skip
    """One cell: a fingerprint, and a row for each of its tests."""
    runtime.check()
    sets, strange = data
    own, seed = values["fitted_on"], values["seed"]
    parts = divide(sets[own], values["n_train"], seed, (), most)
    used = runtime.denoiser(values["filter"], limit)
    detector = methods.fit(values["method"], parts.real.images, parts.fake.images, used, seed, plan)
    if known := {*parts.real.hashes, *parts.test_real.hashes} & {*strange.hashes}:
        raise NotEnough(f"{len(known)} of the other reals are among those of {own}")
    tests = {(own, HOME): parts.test_fake.images, ("reals", FALSE): strange.images}
    for name, other in sets.items():
        if name != own:
            pool = other.test_fake or other.fake
            tests[name, GENERATORS] = pool.take(draw(pool.hashes, min(len(pool), most or len(pool)), 0)).images
    real, away = detector.score(parts.test_real.images), detector.score(strange.images)
    rows = []
    for (name, test), images in tests.items():
        fake = away if test == FALSE else detector.score(images)
        rows.append({"generator": name, "test": test, **as_row(detection(real, fake, detector.threshold))})
        if test == HOME:
            rows.append({"generator": name, "test": REALS, **as_row(detection(away, fake, detector.threshold))})
    return {"tests": rows}


def in_short(table: pd.DataFrame) -> pd.DataFrame:
    """encoding, method, filter, and beside them the mean AUC of each test over generators and seeds; how many fits."""
    by = ["encoding", "method", "filter"]
    means = table.pivot_table(index=by, columns="test", values="auc", sort=False)
    return means.assign(fits=table[table["test"] == HOME].groupby(by, sort=False).size()).reset_index()


@over_cells
def travel_claims(table: pd.DataFrame, dncnn: str, data: str) -> list[Claim]:
    """Tab. A's claims at home and against other reals, and whether the filter that wins at home wins there, too."""
    both, claims = table[table["filter"].isin([HIGH_PASS, filter_label(dncnn)])], []
    places = {HOME: f"{data}, reals of the fit's source", REALS: f"{data}, reals of another source"}
    for test, where in places.items():
        found = filter_claims(both[both["test"] == test], where)
        claims += [claim for claim in found if claim.why != "not in this grid"]
    text = f"The filter that is best at home is best against reals of another source, too (on {data})"
    home, away = (table[table["test"] == test] for test in (HOME, REALS))
    means, there = (
        matrix(part, "filter", value="auc")[MEAN].to_dict() if len(good(part)) else {} for part in (home, away)
    )
    if len(means) < 2:
        return [*claims, silent(text, None, "one filter")]
    best = max(means, key=lambda name: means[name])
    ours = f"{best}: AUC {percent(means[best])} at home; away " + ", ".join(
        f"{n} {percent(v)}" for n, v in there.items()
    )
    gaps = [paired_gap(away, "filter", best, other, "auc") for other in means if other != best]
    return [*claims, judge_best(text, "not tested", ours, gaps, "another one is better there")]
