"""The bench of a detection table: generators, sizes, plans; its cells, each one detector fitted and tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from difcore.detectors import methods
from difcore.detectors.trained import ClassifierPlan
from difcore.experiments.pools import (
    FAMILIES,
    Sets,
    Source,
    demo_names,
    demo_sources,
    divide,
    folder_sources,
    repeats,
    without_copies,
)
from difcore.files import NeedsData
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.presets import preset
from difcore.paper import DISPLAY
from difcore.records.artefacts import versions
from difcore.records.cells import Cell, Dependence, run_cells
from difcore.records.claims import check_results
from difcore.residuals.denoisers import REFERENCES, Denoiser
from difcore.runtime import Runtime
from difcore.stats import as_row, detection

RECIPE_TUNED = (
    "the decoders' recipe was chosen by what DIF and Marra18 make of two of them, their children's by the tree"
)
PRIOR_LABELS = {"unet": "U-Net", "u1net": "U1-Net", "dnet": "D-Net", "cnet": "C-Net"}


@dataclass(frozen=True)
class Bench:
    """Generators, and how detectors are fitted to them and tested."""

    sources: Mapping[str, Source]
    absent: Mapping[str, str] = field(default_factory=dict)  # why a generator that was asked for is not there
    real_data: bool = False  # images from a folder: a control with one last encoding goes with every cell
    label: str = "demo data"  # where the images come from, for records and figures
    crop: int = 256  # side of the centre crops, px
    plan: DifPlan = DifPlan()
    training: ClassifierPlan = ClassifierPlan()
    denoiser: str = "photos"  # residual filter, as ``load_denoiser`` takes it
    runtime: Runtime = Runtime()
    qualities: tuple[int | None, ...] = (None,)  # JPEG qualities of the last encoding of both classes; None: as it is
    max_test: int | None = None  # at most so many test images of each class
    progress: bool = False
    tuned: str = ""  # what was chosen by results on these very generators, for their claims
    mode: str = "ours"  # see ``in_mode``

    def in_mode(self, mode: str) -> Bench:
        """The bench with the margin and the F_DnCNN of a mode, "paper" or "ours"; ValueError for another."""
        chosen = preset(mode)
        plan = replace(self.plan, margin=chosen.margin, fits=chosen.fits)
        return replace(self, plan=plan, denoiser=chosen.filter(self.denoiser), mode=mode)

    def filter(self, name: str = "") -> Denoiser:
        """A residual filter; the bench's own, if none is named."""
        return self.runtime.denoiser(name or self.denoiser)

    def record(self, parameters: Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> dict[str, Any]:
        """What a record keeps of a table: parameters with the grid of ``axes`` in words, weights, data, runtime."""
        shown = {"generators": self.sources, **axes}
        parts = [f"{name.replace('_', ' ')}: {', '.join(map(str, values))}" for name, values in shown.items()]
        test, used = f"at most {self.max_test}" if self.max_test else "all", self.filter()
        found = {
            "mode": self.mode,
            "margin": self.plan.margin,
            "F_DnCNN": used.metadata.get("bias", "border profile of the mean residual"),
            "grid": "; ".join([*parts, f"{self.crop} px, {self.plan.steps} DIF steps, test images: {test}"]),
        }
        kept = {"parameters": {**(parameters or {}), **found}, "weights": {used.name: used.hash}}
        return {**kept, "data": self.label, "runtime": self.runtime}

    def depends(
        self, names: Iterable[str], encoding: str = "native", division: str = "", *, filter_hash: str = "",
        plan: bool = False, training: bool = False,
    ) -> Dependence:  # fmt: skip
        """All that numbers measured on images of ``names`` depend on, besides the values of their cell.

        Everything is in it but what the caller says is not used: the filter (no hash), the plans.
        """
        images = tuple(self.sources[name].digest for name in dict.fromkeys(names))
        plans = repr(self.plan) if plan else "", repr(self.training) if training else ""
        ran_on = self.runtime.numbers(), tuple(versions().items())
        return Dependence(images, self.crop, encoding, division, filter_hash, *plans, *ran_on)

    def load(self, data: str) -> Sets:
        """Images of "generator|encoding"; "a>b|encoding" trains on a's and tests on b's.

        Where all of b's reals are a's training images, the test reals are a's: its test images, or else what a draw of
        its training images leaves.
        """
        names, _, encoding = data.partition("|")
        quality = next(q for q in self.qualities if encoding_label(q) == encoding)
        first, _, other = names.partition(">")
        sets = self.sources[first].load(quality)
        if not other:
            return sets
        tests = self.sources[other].load(quality)
        real, fake = tests.test_real or tests.real, tests.test_fake or tests.fake
        test_real = sets.test_real if repeats(real, sets.real) else real
        return without_copies(replace(sets, test_real=test_real, test_fake=fake))  # they may share some of their reals


def encoding_label(quality: int | None) -> str:
    """How tables call a last encoding."""
    return "native" if quality is None else f"JPEG q{quality}"


@dataclass(frozen=True)
class Setup:
    """What a notebook asks of its bench: these are its parameters."""

    data_root: Path | str = ""  # <root>/<generator>/{0_real,1_fake}, see ``pools``; empty: the demo's generators
    profile: str = "demo"  # "paper" needs ``data_root``: demo images are not the paper's
    mode: str = "ours"  # or "paper", see ``Bench.in_mode``
    generators: Sequence[str] = ()  # names; empty: all of the family
    size: int = 128  # side of demo images, and of the centre crops of a folder's, px
    pool: int = 128  # demo images of each class to draw training images from
    test: int = 64  # demo test images of each class; a folder's are all tested on, or at most so many if it is not 0
    steps: int = 480
    denoiser: str = "photos"
    classifier: Mapping[str, Any] = field(default_factory=dict)  # fields of ``ClassifierPlan``
    control_quality: int = 95  # JPEG quality of the format-matched control of real data; 0: none
    runtime: Runtime = Runtime()
    progress: bool = False


def open_bench(family: str, setup: Setup = Setup()) -> Bench:
    """The generators of a folder where there are any, else the demo's.

    Parameters
    ----------
    family : {"ltim", "gan", "variants"}
        Whose table it is: the paper's text-to-image models, its GANs, or fine-tuned models with their sources.
        Generators that the paper does not know count as text-to-image models.

    Raises
    ------
    NeedsData
        In the profile "paper" without a folder, or with one that holds no generator of the family. Elsewhere such a
        folder (the authors' release alone, say) is taken for none.
    FolderError
        If ``data_root`` is no folder.
    """
    given, bfloat16 = setup.generators, setup.runtime.bfloat16
    plan, training = DifPlan(steps=setup.steps, bfloat16=bfloat16), {"bfloat16": bfloat16, **setup.classifier}
    bench = Bench({}, crop=setup.size, plan=plan, training=ClassifierPlan(**training), denoiser=setup.denoiser)
    bench = replace(bench, runtime=setup.runtime, progress=setup.progress).in_mode(setup.mode)
    if setup.data_root:
        names = tuple(given) or FAMILIES[family]
        found, absent = folder_sources(setup.data_root, names, setup.size, others=not given and family == "ltim")
        if found:
            control = (None, setup.control_quality) if setup.control_quality else (None,)
            bench = replace(bench, real_data=True, label=f"images of {', '.join(found)}", max_test=setup.test or None)
            return replace(bench, sources=found, absent=absent, qualities=control)
        if setup.profile == "paper":
            raise NeedsData(
                f"needs a generator of {', '.join(names)} in the data folder, as <generator>/{{0_real,1_fake}}"
            )
    elif setup.profile == "paper":
        raise NeedsData("needs `--data-root DIR` with <generator>/{0_real,1_fake}")
    names = tuple(name for name in given if name not in DISPLAY) or demo_names(family)
    found, absent = demo_sources(names, setup.size, setup.pool, setup.test)
    return replace(bench, sources=found, absent=absent, tuned="" if family == "gan" else RECIPE_TUNED)


def detect(
    sets: Sets, values: Mapping[str, Any], plan: DifPlan, training: ClassifierPlan, runtime: Runtime = Runtime(),
    sizes: Sequence[int] = (), max_test: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One cell: fit ``values["method"]`` to ``n_train`` images of each class, test it on others: ``stats.as_row``."""
    runtime.check()
    parts = divide(sets, values["n_train"], values["seed"], sizes, max_test)
    denoiser = runtime.denoiser(values["filter"] or "highpass")  # classifiers ignore it
    plan = replace(plan, prior=values["prior"] or plan.prior)
    images = parts.real.images, parts.fake.images
    detector = methods.fit(values["method"], *images, denoiser, values["seed"], plan, training)
    real, fake = (detector.score(pool.images) for pool in (parts.test_real, parts.test_fake))
    return as_row(detection(real, fake, detector.threshold))


def run_table(bench: Bench, rows: Sequence[Mapping[str, Any]], title: str) -> pd.DataFrame:
    """Every row's setting on every generator and encoding, as a tidy table; absent generators are listed at its end.

    Parameters
    ----------
    rows : sequence of mappings
        ``method``, ``n_train``, ``seed`` and, where they differ from the bench's, ``filter``, ``prior``; ``generator``
        for one generator alone, and ``fitted_on`` where the detector is fitted to another one's images.

    Returns
    -------
    DataFrame
        generator, encoding, method, filter, prior, n_train, seed, accuracy, auc, their intervals, n_real, n_fake,
        seconds, status ("ok", or why there is no result).

    Raises
    ------
    CellsFailed, NeedsData
        If no cell has a result.
    """
    fixed: dict[str, Any] = {
        "plan": bench.plan,
        "training": bench.training,
        "runtime": bench.runtime,
        "max_test": bench.max_test,
    }
    table = run_bench(bench, partial(detect, **fixed, sizes=sizes_of(rows)), table_cells(bench, rows), title)
    for column, named in (("method", methods.LABELS), ("prior", PRIOR_LABELS)):
        table[column] = table[column].map(lambda name, named=named: named.get(name, name))
    table["filter"] = table["filter"].map(filter_label)
    table = with_absent(table, bench)
    counts = table.columns.intersection(["n_train", "seed", "n_real", "n_fake"])
    return table.astype(dict.fromkeys(counts, "Int64"))  # whole numbers also beside rows without a result


def run_bench(bench: Bench, work: Any, cells: Sequence[Cell], title: str) -> pd.DataFrame:
    """``run_cells`` on the bench's images; CellsFailed or NeedsData if no cell has a result."""
    jobs, progress = bench.runtime.workers, bench.progress
    return check_results(run_cells(work, cells, bench.load, n_jobs=jobs, progress=progress, title=title))


def with_absent(table: pd.DataFrame, bench: Bench) -> pd.DataFrame:
    """The table with a row at its end for each generator that is not there, its status the reason."""
    missing = pd.DataFrame([{"generator": name, "status": reason} for name, reason in bench.absent.items()])
    return pd.concat([table, missing], ignore_index=True) if len(missing) else table


def sizes_of(rows: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """All N_S of a grid."""
    return tuple(sorted({row["n_train"] for row in rows}))


def table_cells(bench: Bench, rows: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The cells of ``run_table``; what a row's method does not use is left out of what they depend on."""
    digest = cache(lambda name: bench.filter(name).hash if name else "")
    # Demo images have test images of their own, so that the other N_S of the table change nothing.
    division, cells = f"{sizes_of(rows) if bench.real_data else ()} {bench.max_test}", []
    for row in rows:
        dif, by_residuals = row["method"] == "dif", row["method"] in methods.FINGERPRINTS
        used = row.get("filter", bench.denoiser) if by_residuals else ""
        setting = {"method": row["method"], "filter": used, "prior": row.get("prior", bench.plan.prior) if dif else ""}
        setting |= {"n_train": row["n_train"], "seed": row["seed"]}
        for name in [row["generator"]] if "generator" in row else bench.sources:
            fitted = row.get("fitted_on", name)
            other = {} if fitted == name else {"fitted_on": fitted}
            pair = f"{fitted}>{name}" if other else name
            for encoding in map(encoding_label, bench.qualities):
                shared = {"filter_hash": digest(used), "plan": dif, "training": not by_residuals}
                depends = bench.depends((fitted, name), encoding, division, **shared)
                values = {"generator": name, "encoding": encoding, **setting, **other}
                cells.append(Cell(values, f"{pair}|{encoding}", depends))
    return cells


def filter_label(name: str) -> str:
    """How tables call a residual filter: "Gaussian high-pass", "wavelet", or "DnCNN" with its weights' name."""
    if name.startswith("highpass"):
        return "Gaussian high-pass" + (f", sigma {name.partition(':')[2]} px" if ":" in name else "")
    return name if name in REFERENCES else f"DnCNN ({Path(name).stem})" if name else ""
