"""Two folders in, a detector with its held-out accuracy and its model card out; detectors and images in, evidence out.

Without folders both show themselves on demo images, written to a temporary folder and read back like anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import binomtest

from difcore.audit.findings import look_closer
from difcore.audit.formats import Confounds, confounds_of
from difcore.demo.generators import SHIPPED, fakes_of
from difcore.detectors.methods import LABELS
from difcore.experiments.bench import encoding_label
from difcore.experiments.claiming import area_of, decide, judge_above, measured, percent
from difcore.experiments.cross_scores import CrossScores, patterns_of
from difcore.experiments.pools import FAKE_SEED, MIN_TEST, REAL_SEED, divide, folder_sets, kept_scenes
from difcore.files import shown
from difcore.fingerprints.correlation import ncc
from difcore.fingerprints.detector import FOREIGN_DENOISER, Bank, Detector, read_named
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FITTED, HELD_OUT, FitOptions, check_method, draw, fit_pattern, unique_pair
from difcore.fingerprints.null import null_of, reals_of
from difcore.fingerprints.verdicts import FALSE_ALARM, GENERATED, NOT_APPLICABLE, contents
from difcore.images.crops import Skipped, read_crop
from difcore.images.folders import find_generators, list_images
from difcore.paper import LOW_SAMPLES, LOW_SAMPLES_DROP
from difcore.records import Claim
from difcore.residuals.denoisers import LIMIT, Denoiser
from difcore.runtime import Runtime
from difcore.stats import SURE, as_row, detection, share_estimate, sum_estimate, wilson

KINDS = {  # of fingerprints, for their model cards
    "dif": "A Deep Image Fingerprint (Sinitsa & Fried, 2023)",
    "marra18": "The averaged residual of a generator's images (Marra et al., 2018)",
    "marra18-zm": "The averaged residual of a generator's images (Marra et al., 2018), rows and columns made mean-free",
}


@dataclass(frozen=True)
class Sizes:
    """Of one's own fit: N_S, the crop in px, the control's JPEG quality (0: none), the demo's images of each class."""

    n_train: int = 128
    crop: int = 256
    control_quality: int = 95
    demo_images: int = 60


@dataclass(frozen=True)
class OwnFit:
    """What a fit to two folders gives, measured on images that were not drawn for training."""

    detector: Detector  # of the images as they are
    table: pd.DataFrame  # encoding, n_train, accuracy, auc, intervals, n_real, n_fake, seed
    rho: dict[str, np.ndarray]  # correlations of "real" and "fake"
    skipped: tuple[Skipped, ...]
    confounds: Confounds  # what the format audit says of the two folders

    def null_table(self, rate: float = FALSE_ALARM) -> pd.DataFrame:
        """The null, and how far above it the held-out fakes are: a row per kind of reals.

        ``fakes_z``: their median z; ``fakes_found``: how many of ``n_fakes`` are called generated at ``rate``;
        ``least_p``: the lowest probability of a false alarm that so many reals can vouch for.
        """
        null, fakes, n = self.detector.null, self.rho["fake"], len(self.rho["fake"])
        columns = ["reals", "n", "mean", "sigma", "least_p", "fakes_z", "fakes_found", "n_fakes", "rate"]
        rows = [
            (kind, r.n, r.mean, r.sigma, r.smallest, np.median(r.z(fakes)), (r.p(fakes) <= rate).sum(), n, rate)
            for kind, r in (null.kinds if null else {}).items()
        ]
        return pd.DataFrame(rows, columns=columns)


@contextmanager
def demo_folders(generators: Sequence[str], n: int, size: int, first: int = 0) -> Iterator[dict[str, Path]]:
    """A temporary folder with ``n`` PNG files each of real scenes ("real") and of every generator, by name."""
    with TemporaryDirectory(prefix="difcore-") as root:
        reals, fakes = (range(seed + first, seed + first + n) for seed in (REAL_SEED, FAKE_SEED))
        made = {"real": kept_scenes(reals, size)}
        made |= {name: fakes_of(name, fakes, size, scenes_of=kept_scenes) for name in generators}
        for name, images in made.items():
            (Path(root) / name).mkdir()
            for k, image in enumerate(images):
                Image.fromarray(image).save(Path(root) / name / f"{name}_{k:03d}.png")
        yield {name: Path(root) / name for name in made}


def train_your_own(
    real_dir: Path | str,
    fake_dir: Path | str,
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    name: str = "mine",
    method: str = "dif",
    sizes: Sizes = Sizes(),
    progress: bool = False,
) -> OwnFit:
    """Fit a detector to images of each folder; test it on the others, also with one last encoding for both.

    The control is a fit of its own. All is computed on the denoiser's device. ``method`` is one of ``FITTED``. Without
    folders: on demo images of the generator called ``name``.
    """
    if bool(real_dir) != bool(fake_dir):
        raise ValueError("give both folders, of real and of generated images, or neither for the demo")
    if not real_dir:
        with demo_folders([name], sizes.demo_images, sizes.crop) as folders:
            return train_your_own(folders["real"], folders[name], denoiser, plan, name, method, sizes, progress)
    paths = {"real": list_images(real_dir), "fake": list_images(fake_dir)}
    options, rows, runs = FitOptions(hold_out=False, crop=sizes.crop), [], []
    for quality in (None, sizes.control_quality) if sizes.control_quality else (None,):
        sets = folder_sets(paths, sizes.crop, quality)
        parts = divide(sets, sizes.n_train, plan.seed)
        found = Detector.fit(parts.real.images, parts.fake.images, denoiser, plan, options, method, name, progress)
        rho = {key: found.score(getattr(parts, f"test_{key}").images) for key in ("real", "fake")}
        result = as_row(detection(rho["real"], rho["fake"], found.threshold))
        rows.append({"encoding": encoding_label(quality), "n_train": sizes.n_train, **result, "seed": plan.seed})
        images = frozenset(contents(parts.test_real.hashes))
        null, fakes = null_of({HELD_OUT: rho["real"]}), reals_of(rho["fake"])
        known = replace(found, null=null, fakes=fakes, null_images=images)
        runs.append((known, rho, sets.skipped))
    confounds = look_closer(confounds_of(paths["real"], paths["fake"]), paths["real"], paths["fake"], plan.seed)
    own, rho, skipped = runs[0]
    return OwnFit(own, pd.DataFrame(rows), rho, skipped, confounds)


def model_card(run: OwnFit, data: str) -> str:
    """A detector's model card, Markdown: what it is, fitted to what, how well it does, where it must not be used."""
    found, facts, first = run.detector, run.detector.metadata, run.table.iloc[0]
    limit, plan = facts.get("limit"), facts.get("plan")
    lines = [
        f"# Fingerprint {shown(found.name)}\n",
        f"{KINDS[found.method]}: says whether one certain generator made an image.\n",
        f"- images: {shown(data)}; {first.n_train} + {first.n_train} to fit on, drawn with seed {first.seed}",
        f"- centre crops of {found.crop} px, never resized",
        f"- residual filter: {facts.get('denoiser')} ({str(facts.get('denoiser_sha256'))[:12]}), residuals "
        + (f"limited to {limit} of their root mean square" if limit else "not limited"),
        f"- F_DnCNN: {facts.get('F_DnCNN') or 'none'}",
    ]
    if plan:
        fit = f"{facts['steps']} steps of {plan['batch']}, learning rate {plan['learning_rate']}"
        lines.append(f"- prior {plan['prior']}, {fit}")
    lines.append(f"- centres: real {found.mu_real:+.5f}, generated {found.mu_fake:+.5f}; the nearer one decides below")
    lines += [
        f"- null: {reals.n} {kind} correlate by {reals.mean:+.5f} ± {reals.sigma:.5f}; `difcore detect` calls an image "
        "generated where a real one would correlate as much with a probability of at most 1 % "
        f"(no probability below {reals.smallest:.1g} is stated)"
        for kind, reals in (found.null.kinds if found.null else {}).items()
    ]
    lines += [
        "\n| last encoding | balanced accuracy | 95 % interval | AUC | 95 % interval | test images |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.encoding} | {row.accuracy:.3f} | {row.accuracy_low:.3f} to {row.accuracy_high:.3f} | "
            f"{row.auc:.3f} | {row.auc_low:.3f} to {row.auc_high:.3f} | {row.n_real} + {row.n_fake} |"
            for row in run.table.itertuples()
        ),
        "\nNo image, and no crop of one, was both fitted to and tested on.",
    ]
    if run.skipped:
        lines.append(f"\n{len(run.skipped)} images were left out, first: {run.skipped[0].reason}.")
    lines.append(f"\nVerdict on the two folders: {run.confounds.line()}.")
    lines += ["", *(f"Warning: {text}." for text in run.confounds.warnings)] if run.confounds.warnings else []
    lines += [
        "\n## Do not use it\n",
        "- on images that were resized, shifted or re-encoded: the pattern has to stay aligned;",
        "- as evidence that an image is real: it knows one generator;",
        "- where the reals differ from those above in format or origin, without measuring again.",
    ]
    return "\n".join(lines) + "\n"


def own_claims(run: OwnFit, data: str) -> list[Claim]:
    """Of ``18_train_your_own``: it detects; it does not need the classes' formats to differ."""
    first, method = run.table.iloc[0], LABELS[run.detector.method]
    told = f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)"
    text = f"{method} detects images of this generator from {first.n_train}+{first.n_train} training images (on {data})"
    claims = [Claim(text, told, measured(first), "not comparable", "not the paper's generators")]
    for _, row in run.table.iloc[1:].iterrows():
        change = sum_estimate([1, -1], [area_of(row), area_of(first)], f"{row.n_real} + {row.n_fake} images")
        lost = change.value < 0 and change.p(0) <= SURE
        text = f"Detection does not rest on the classes' formats: it survives one last encoding ({row.encoding})"
        ours = f"AUC {first.auc:.3f} [{first.auc_low:.3f}, {first.auc_high:.3f}] becomes {row.auc:.3f}"
        why = "it falls: the encoding takes it away" if lost else f"no fall to be seen on {change.basis}"
        verdict = "does not hold" if lost else "consistent"
        claims.append(Claim(text, "not tested", ours, verdict, why, change.p(0), open="consistent"))
    return claims


@dataclass(frozen=True)
class Demo:
    """What is shown without files: these generators' detectors, fitted so, and ``demo_images`` of each and of reals."""

    generators: Sequence[str] = ("demo-deconv2", "demo-nearest")
    n_train: int = 48
    crop: int = 128
    steps: int = 200
    seed: int = 0
    demo_images: int = 6


@dataclass(frozen=True)
class OwnDetection:
    """What detectors say of images, and what the evidence is drawn from."""

    table: pd.DataFrame  # as ``Bank.decide``, images by file name
    bank: Bank
    images: dict[str, np.ndarray]  # file name to uint8 (crop, crop, 3)
    residuals: dict[str, np.ndarray]  # file name to float16 (3, crop, crop)
    skipped: tuple[Skipped, ...]

    def z(self, most: int = 24) -> pd.DataFrame:
        """z of each image (rows, the first ``most``) with each fingerprint (columns); NaN without a null."""
        wide = self.table.pivot(index="image", columns="fingerprint", values="z")
        return wide.reindex(list(self.images)[:most])[[d.name for d in self.bank.detectors]]

    def best(self) -> pd.Series | None:
        """The row of the best match of all; None if no fingerprint applies to any image."""
        rows = self.table[self.table["verdict"] != NOT_APPLICABLE]
        if not len(rows):
            return None
        return rows.iloc[0] if rows["z"].isna().all() else rows.loc[rows["z"].idxmax()]

    def evidence(self) -> dict[str, Any] | None:
        """What ``figures.evidence_panels`` draws of the best match; None if there is none."""
        if (best := self.best()) is None:
            return None
        patterns = {d.name: d.pattern.numpy() for d in self.bank.detectors}
        drawn = {"image": self.images[best.image], "residual": self.residuals[best.image]}
        return {**drawn, "pattern": patterns[best.fingerprint], "name": best.fingerprint}


def detect_your_own(
    fingerprints: Sequence[Path | str | Detector],
    images: Path | str | Sequence[Path],
    denoiser: str = "photos",
    runtime: Runtime = Runtime(),
    false_alarm: float = FALSE_ALARM,
    reals: Path | str = "",
    demo: Demo = Demo(),
    progress: bool = False,
) -> OwnDetection:
    """Every image by every detector, with what per-image evidence needs; without either, ``demo``.

    The folder ``reals``, if there is one, takes the place of the nulls. The filter is the one called ``denoiser``, with
    the settings of the detectors; for the authors' it is the one for them. Names of the demo's files begin with what
    made them: "real_000.png", "demo-deconv2_000.png".
    """
    if bool(fingerprints) != bool(images):
        raise ValueError("give fingerprints and a folder of images, or neither for the demo")
    if not fingerprints:
        names = [name for name in demo.generators if SHIPPED.get(name, Path(name)).is_file()]
        used = runtime.denoiser(denoiser, LIMIT)
        plan = DifPlan(steps=demo.steps, bfloat16=runtime.bfloat16, seed=demo.seed)
        sizes = Sizes(demo.n_train, demo.crop, control_quality=0)
        with demo_folders(names, demo.n_train + MIN_TEST, demo.crop) as at:
            fits = [train_your_own(at["real"], at[n], used, plan, n, sizes=sizes, progress=progress) for n in names]
        with demo_folders(names, demo.demo_images, demo.crop, first=100_000) as at:
            files = [path for folder in at.values() for path in list_images(folder)]
            return detect_your_own([f.detector for f in fits], files, denoiser, runtime, false_alarm, progress=progress)
    known = [given for given in fingerprints if isinstance(given, Detector)]
    known += read_named([Path(given) for given in fingerprints if not isinstance(given, Detector)]).values()
    name = FOREIGN_DENOISER if all(d.foreign for d in known) else denoiser
    bank = Bank(known, runtime.denoiser_of(known, name))
    bank = bank.with_reals(list_images(reals), progress=progress) if reals else bank
    judged = bank.judge(images, false_alarm, progress=progress)
    found = judged.residuals
    residuals = {
        shown(Path(path).name): np.array(values) for path, values in zip(found.names, found.values, strict=True)
    }
    if len(residuals) < len(found):
        raise ValueError("images need file names of their own")
    crops = {shown(Path(path).name): read_crop(path, bank.crop) for path in found.names}
    table = judged.table.assign(image=[shown(Path(path).name) for path in judged.table["image"]])
    return OwnDetection(table, bank, crops, residuals, found.skipped)


def detect_claims(table: pd.DataFrame, data: str, false_alarm: float = FALSE_ALARM) -> list[Claim]:
    """Of ``19_detect_your_own``: how often the best match is right, and false alarms at the rate it was judged at.

    ``table``: as ``Bank.decide``; file names begin with the name of the fingerprint, or with "real".
    """
    table = table[table["verdict"] != NOT_APPLICABLE]
    table = table.assign(origin=table["image"].str.rsplit("_", n=1).str[0])
    return [naming_claim(table, data), alarm_claim(table, data, false_alarm)]


def naming_claim(table: pd.DataFrame, data: str) -> Claim:
    """The best match names the generator of a generated image more often than chance, one in so many fingerprints."""
    text = f"The best match names the generator, more often than chance (on {data})"
    told = "cross-detection of unrelated models is low (S C.3)"
    names = set(table["fingerprint"])
    fakes = table[~table["image"].duplicated() & table["origin"].isin(names)]
    if not len(fakes):
        return Claim(text, told, None, "not comparable", "no file's name says which of the generators made it")
    right = int((fakes["fingerprint"] == fakes["origin"]).sum())
    share = share_estimate(right / len(fakes), len(fakes), f"{len(fakes)} fakes")
    ours = f"{right} of {len(fakes)} fakes named rightly, {percent(share.value, *share.interval)}"
    if len(names) < 2:
        return Claim(text, told, ours, "not comparable", "with one fingerprint there is nothing to choose from")
    chance = 1 / len(names)
    return judge_above(text, told, ours, share, chance, f"no more often than chance, {percent(chance)}")


def alarm_claim(table: pd.DataFrame, data: str, rate: float) -> Claim:
    """Real images are called generated at the stated rate at most: binomial, two-sided."""
    text = f"Real images are called generated in no more than {percent(rate)} of cases (on {data})"
    told = "no rate is stated"
    reals = table[(table["origin"] == "real") & table["p_holm"].notna()]  # without a null nothing can be called so
    n, claimed = reals["image"].nunique(), reals.loc[reals["verdict"] == GENERATED, "image"].nunique()
    if not n:
        return Claim(text, told, None, "not comparable", "no file's name says that it is real, or there is no null")
    ours = f"{claimed} of {n} reals, {percent(claimed / n, *wilson(claimed, n))}"
    p = float(binomtest(claimed, n, rate).pvalue)
    return decide(text, told, ours, claimed <= rate * n, p, "more often than stated", f"{n} reals", "consistent")


def cross_detect(
    root: Path | str,
    denoiser: Denoiser,
    plan: DifPlan = DifPlan(),
    method: str = "dif",
    options: FitOptions = FitOptions(),
    recursive: bool = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[str, Detector], tuple[Skipped, ...]]:
    """Fit a detector to each generator under ``root`` and test it on every other's images, none of them trained on.

    Half of each class trains, unless ``options.train`` says how many. Returns the tidy table (train, test, accuracy,
    auc, intervals, n_real, n_fake, seed), the detectors by name, and what was skipped.
    """
    check_method(method, FITTED)
    there = find_generators(root, recursive)
    folders = {each.name: (each.real_images(recursive), each.fake_images(recursive)) for each in there}
    pairs = {name: unique_pair(*two, denoiser, options.crop, options.jpeg, progress) for name, two in folders.items()}
    sets = {(name, label): images for name, pair in pairs.items() for label, images in pair.items()}
    drawn = {key: draw(images.hashes, options.train, plan.seed) for key, images in sets.items()}
    # A real image may be in several generators' folders: what any detector was trained on, no test may contain.
    trained = {sets[key].hashes[i] for key, index in drawn.items() for i in index}
    tests = {key: x.take([i for i, digest in enumerate(x.hashes) if digest not in trained]) for key, x in sets.items()}
    if empty := [f"{name} ({label})" for (name, label), images in tests.items() if not len(images)]:
        raise ValueError(f"too few images: none left to test on of {', '.join(empty)}")
    found = {}
    for name in pairs:
        own = {label: sets[name, label].values[drawn[name, label]] for label in ("real", "fake")}
        found[name] = fit_pattern(method, own["real"], own["fake"], denoiser, plan, name, progress)
    rho = {key: ncc(patterns_of(found), images.values) for key, images in tests.items()}
    real, fake = ({name: rho[name, label] for name in pairs} for label in ("real", "fake"))
    table = CrossScores(found, real, fake).pairs(plan.seed, "train", "test")
    return table, found, tuple(chain(*(images.skipped for images in sets.values())))
