"""Tables A and C, Figures B to E and all methods side by side: their grids, and tidy tables made smaller.

Each grid takes a bench and gives a tidy frame, see ``run_table``: a row for each generator, last encoding, method,
filter, prior, N_S and seed. Cells that several of them ask for are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from difcore.demo.generators import CHILDREN
from difcore.detectors.methods import FINGERPRINTS, METHODS
from difcore.experiments.bench import Bench, run_bench, run_table
from difcore.experiments.pools import Sets, divide
from difcore.files import NeedsData
from difcore.fingerprints.priors import PRIORS
from difcore.paper import VARIANTS, paper_order
from difcore.records.cells import OK, Cell
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime
from difcore.stats import (
    Estimate,
    balanced_interval,
    mean_interval,
    nowhere,
    share_estimate,
    sum_estimate,
    t_estimate,
    widest,
)

FRAME = 8  # px: width of the border whose share of a pattern is measured
GRIDS: dict[str, dict[str, Sequence[str]]] = {  # axes beside N_S and seeds, the last fastest; filter "": the bench's
    "Tab. A": {"method": FINGERPRINTS, "filter": ("highpass", "")},
    "Tab. C": {"method": ("dif",), "prior": tuple(PRIORS)},
    "Figs. B, C": {"method": ("dif",)},
    "Fig. D": {"method": ("dif", "resnet50", "grag21", "resnet_m")},
    "methods": {"method": METHODS},
}
SETTING = ("generator", "fitted_on", "method", "filter", "prior", "n_train")
MEAN = "mean"
ENOUGH = 3  # generators, or draws, from which on their spread says how sure a mean is


def run_grid(
    bench: Bench, title: str, n_train: Sequence[int], seeds: Sequence[int], **axes: Sequence[str]
) -> pd.DataFrame:
    """One of ``GRIDS`` on a bench, see ``run_table``; ``axes`` in place of its own.

    A seed's draws are nested, and all its N_S meet the same test images. What the data are too few for is said in the
    column ``status``. Architectures are fitted once each, as in the paper: one whose fits do not set out is a result
    here, not bad luck to be mended by further ones.
    """
    chosen = {**GRIDS[title], **axes, "n_train": sorted(n_train), "seed": seeds}
    if "prior" in chosen:
        bench = replace(bench, plan=replace(bench.plan, fits=1))
    rows = [dict(zip(chosen, values, strict=True)) for values in product(*chosen.values())]
    return run_table(bench, [{**row, "filter": row.get("filter") or bench.denoiser} for row in rows], title)


def variants(
    bench: Bench, parents: Mapping[str, str], n_train: int, seeds: Sequence[int], method: str = "dif"
) -> pd.DataFrame:
    """Fig. E's models: does a parent's fingerprint find the images of the children that were fine-tuned from it?

    Each parent's is tested on the other parents' images, too: a fingerprint that finds any model's shows no kinship.
    """
    if not parents:
        asked = ", ".join(f"{child} from {parent}" for child, parent in known_variants(bench).items())
        raise NeedsData(f"needs a fine-tuned model together with its source: {asked}; has {', '.join(bench.sources)}")
    sources = list(dict.fromkeys(parents.values()))
    pairs = [(tested, fitted) for fitted in sources for tested in sources]
    pairs += [pair for child, parent in parents.items() for pair in ((child, parent), (child, child))]
    shared = {"method": method, "n_train": n_train}
    rows = [{**shared, "seed": k, "generator": a, "fitted_on": b} for a, b in dict.fromkeys(pairs) for k in seeds]
    table = run_table(bench, rows, "Fig. E")
    return table.assign(fitted_on=table.get("fitted_on", table["generator"]).fillna(table["generator"]))


def known_variants(bench: Bench) -> dict[str, str]:
    """Child to parent: the paper's fine-tuned models, or the demo's children."""
    return VARIANTS if bench.real_data else {child: plan.parent for child, plan in CHILDREN.items()}


def variant_parents(bench: Bench) -> dict[str, str]:
    """Child to parent: the fine-tuned models of which the bench has both."""
    return {child: parent for child, parent in known_variants(bench).items() if {child, parent} <= set(bench.sources)}


def variant_images(bench: Bench, parents: Mapping[str, str], n: int = 6) -> tuple[list[np.ndarray], list[str]]:
    """The first ``n`` test images of every parent and child, and whose they are; the demo's show one set of scenes."""
    found = []
    for name in dict.fromkeys(name for child, parent in parents.items() for name in (parent, child)):
        sets = bench.load(f"{name}|native")
        images = (sets.test_fake or sets.fake).images[:n]
        found += [(image, name.removeprefix("demo-")) for image in images]
    return [image for image, _ in found], [title for _, title in found]


def boundary_table(bench: Bench, n_train: int, seed: int = 0) -> pd.DataFrame:
    """How much of each generator's pattern sits at the image's border: generator, border, n_real, n_fake, status.

    ``border`` is the energy per pixel of (mean fake residual - mean real residual) within 8 px of the border over that
    inside. 1: no boundary artefacts; the filter's own border cancels in the difference.
    """
    work = partial(border_energy, denoiser=bench.denoiser, runtime=bench.runtime)
    return run_bench(bench, work, border_cells(bench, n_train, seed), "borders")


def border_cells(bench: Bench, n_train: int, seed: int) -> list[Cell]:
    """The cells of ``boundary_table``."""
    used, shared = bench.filter().hash, {"n_train": n_train, "seed": seed}
    return [
        Cell({"generator": name, **shared}, f"{name}|native", bench.depends([name], filter_hash=used))
        for name in bench.sources
    ]


def border_energy(sets: Sets, values: Mapping[str, Any], denoiser: str, runtime: Runtime) -> dict[str, Any]:
    """One cell of ``boundary_table``."""
    runtime.check()
    parts = divide(sets, values["n_train"], values["seed"])
    used = runtime.denoiser(denoiser)
    pools = (parts.real.images, parts.fake.images)
    real, fake = (residuals_of(images, used, images.shape[1]).values for images in pools)
    energy = (fake.astype(np.float32).mean(0) - real.astype(np.float32).mean(0)) ** 2
    inside = np.zeros(energy.shape[1:], bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    border = float(energy[:, ~inside].mean() / max(float(energy[:, inside].mean()), 1e-30))
    return {"border": border, "n_real": len(real), "n_fake": len(fake)}


def good(table: pd.DataFrame, encoding: str = "native") -> pd.DataFrame:
    """Rows of one encoding that have a result."""
    return table[(table["status"] == OK) & (table["encoding"] == encoding)]


def axes(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Methods and priors, where there are several, N_S and seeds of a table: its grid, for ``Bench.record``."""
    names = {"methods": "method", "priors": "prior", "n_train": "n_train", "seeds": "seed"}
    found = {shown: [v for v in table[name].dropna().unique() if v != ""] for shown, name in names.items()}
    return {shown: values for shown, values in found.items() if shown in ("n_train", "seeds") or len(values) > 1}


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each generator and setting: means over the seeds, and the control with one last encoding beside.

    Returns
    -------
    DataFrame
        Columns of the setting; ``seeds``; ``n_real``, ``n_fake``; ``accuracy``, the balanced one, with its interval for
        one test set (accuracy_low, accuracy_high: what the images leave open); ``accuracy_real``, ``accuracy_fake``;
        ``seeds_low``, ``seeds_high``: t interval of the mean over the seeds (what the draws leave open; empty below
        two); ``auc``; for each further encoding ``accuracy_jpeg_q95`` and ``auc_jpeg_q95``; ``status``, which also
        says which generators are absent.
    """
    by = [column for column in SETTING if column in table]
    rows = []
    for key, part in table[table["status"] == OK].groupby(by, sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": part["seed"].nunique()}
        native = part[part["encoding"] == "native"]
        if len(native):
            row |= means(native)
        for encoding, control in part[part["encoding"] != "native"].groupby("encoding"):
            suffix = encoding.lower().replace(" ", "_")
            row |= {f"{name}_{suffix}": control[name].mean() for name in ("accuracy", "auc")}
        rows.append({**row, "status": OK})
    missing = table[table["status"] != OK]
    columns = [column for column in (*by, "status") if column in missing]
    return pd.concat([pd.DataFrame(rows), missing[columns].drop_duplicates()], ignore_index=True)


def means(rows: pd.DataFrame) -> dict[str, float]:
    """Mean accuracies of repetitions with both intervals of the balanced one, and mean AUC."""
    n_real, n_fake = int(rows["n_real"].min()), int(rows["n_fake"].min())
    real, fake = (float(rows[f"accuracy_{label}"].mean()) for label in ("real", "fake"))
    low, high = balanced_interval(real * n_real, n_real, fake * n_fake, n_fake)
    first, last = mean_interval(rows["accuracy"])
    return {
        "n_real": n_real, "n_fake": n_fake, "accuracy": (real + fake) / 2, "accuracy_low": low, "accuracy_high": high,
        "accuracy_real": real, "accuracy_fake": fake, "seeds_low": first, "seeds_high": last, "auc": rows["auc"].mean(),
    }  # fmt: skip


def matrix(
    table: pd.DataFrame, rows: str, columns: str = "generator", value: str = "accuracy", encoding: str | None = "native"
) -> pd.DataFrame:
    """Means over the seeds as a matrix with a last column "mean" over those columns that every row has.

    Empty where a cell has no result; rows in the order of the table, generators in the paper's. ``encoding`` None
    takes the rows as they are. ValueError if no cell has a result.
    """
    part = good(table, encoding) if encoding else table[table["status"] == OK]
    if not len(part):
        raise ValueError("no cell has a result")
    found = part.groupby([rows, columns], sort=False)[value].mean().unstack(columns).reindex(part[rows].unique())
    found = found[paper_order(list(found.columns)) if columns == "generator" else sorted(found.columns)]
    complete = found.dropna(axis=1)
    return found.assign(**{MEAN: complete.mean(axis=1) if complete.shape[1] else np.nan})


def mean_of(table: pd.DataFrame, column: str) -> dict[str, float]:
    """Mean accuracy over the generators, for each entry of ``column``: generators that every entry has."""
    return matrix(table, column)[MEAN].to_dict() if len(good(table)) else {}


def paired_gap(table: pd.DataFrame, column: str, first: object, second: object, value: str = "accuracy") -> Estimate:
    """Mean ``value`` of ``first`` minus that of ``second``, over the (generator, seed) that both have.

    Draws on one generator are no independent evidence on generators: they are averaged first. With three generators or
    more the interval is over generators; with fewer over the draws, and with fewer than three of those over the test
    images, and ``basis`` says that it holds for these generators, or these fits, alone. Accuracies of all these were
    measured on the same images, so no interval is narrower than what the images leave open.

    NaN without an interval if there is no pair.
    """
    part = good(table)
    index = [name for name in ("generator", "n_train", "seed") if name != column and name in part]
    cells = part.pivot_table(index=index, columns=column, values=value)
    if not {first, second} <= set(cells.columns):
        return Estimate(float("nan"), nowhere, "no pair")
    gaps = (cells[first] - cells[second]).dropna()
    by_generator, by_draw = (gaps.groupby(name).mean() for name in ("generator", "seed"))
    count = f"{len(by_generator)} generator" + "s" * (len(by_generator) != 1)
    if len(by_generator) >= ENOUGH:
        spread = t_estimate(by_generator, count)
    else:
        spread = t_estimate(by_draw, f"{len(by_draw)} draws, {count} alone")
    if value != "accuracy":
        return spread
    used = part.set_index(index).loc[gaps.index].reset_index()
    classes = [e for name in (first, second) for e in class_estimates(used[used[column] == name])]
    images = sum_estimate([0.5, 0.5, -0.5, -0.5], classes, f"the test images, {count} and these fits alone")
    return images if max(len(by_generator), len(by_draw)) < ENOUGH else widest(spread, images)


def class_estimates(rows: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """Mean accuracy of the reals and of the fakes, with intervals over the test images.

    Generators may share their reals, so these count once; each has fakes of its own.
    """
    counts = {"accuracy_real": rows["n_real"].min(), "accuracy_fake": rows.groupby("generator")["n_fake"].min().sum()}
    real, fake = (share_estimate(float(rows[name].mean()), int(n), f"{n} images") for name, n in counts.items())
    return real, fake


def bars(
    table: pd.DataFrame,
    group: str,
    series: str,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    value: str = "accuracy",
) -> pd.DataFrame:
    """Means over the generators for ``figures.grouped_bars``, with the lowest and the highest generator."""
    each = table[table["status"] == OK].groupby([group, series, "generator"], sort=False)[value].mean()
    found = each.groupby(level=[0, 1], sort=False).agg(["mean", "min", "max"]).reset_index()
    found = found.rename(columns={"mean": value, "min": "low", "max": "high"})
    known = paper or {}
    printed = [known.get(a, {}).get(b.split(" (")[0], np.nan) for a, b in zip(found[group], found[series], strict=True)]
    return found.assign(paper=printed)
