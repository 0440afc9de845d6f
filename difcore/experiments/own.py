"""Two folders in, a fingerprint with its held-out accuracy and its model card out.

Without folders it shows itself on demo images, written to a temporary folder and read back like anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from difcore.audit.findings import look_closer
from difcore.audit.formats import Confounds, confounds_of
from difcore.demo.generators import fakes_of
from difcore.detectors import methods
from difcore.detectors.trained import ClassifierPlan
from difcore.experiments.bench import encoding_label
from difcore.experiments.claiming import area_of, measured
from difcore.experiments.own_folders import HELD_OUT
from difcore.experiments.pools import FAKE_SEED, REAL_SEED, Division, divide, folder_sets, kept_scenes
from difcore.files import shown
from difcore.fingerprints.detector import Fingerprint, contents
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.null import null_of
from difcore.fingerprints.verdicts import FALSE_ALARM
from difcore.images.crops import Skipped, list_images
from difcore.paper import LOW_SAMPLES, LOW_SAMPLES_DROP
from difcore.records.artefacts import Claim
from difcore.residuals.denoisers import Denoiser
from difcore.stats import (
    SURE,
    as_row,
    detection,
    sum_estimate,
)

KINDS = {  # of fingerprints, for their model cards
    "dif": "A Deep Image Fingerprint (Sinitsa & Fried, 2023)",
    "marra18": "The averaged residual of a generator's images (Marra et al., 2018)",
    "marra18-zm": "The averaged residual of a generator's images (Marra et al., 2018), rows and columns made mean-free",
}


@dataclass(frozen=True)
class OwnFingerprint:
    """What a fit to two folders gives.

    Attributes
    ----------
    fingerprint : Fingerprint
        Of the images as they are.
    table : DataFrame
        encoding, n_train, accuracy, auc, intervals, n_real, n_fake, seed: on images that were not drawn for training.
    rho : dict of "real", "fake" to correlations of those images
    division : Division
    skipped : tuple of Skipped
        Images left out.
    confounds : Confounds
        What the format audit says of the two folders.
    """

    fingerprint: Fingerprint
    table: pd.DataFrame
    rho: dict[str, np.ndarray]
    division: Division
    skipped: tuple[Skipped, ...]
    confounds: Confounds

    @property
    def warnings(self) -> tuple[str, ...]:
        """The audit's sentences."""
        return self.confounds.warnings

    def histogram(self) -> dict[str, Any]:
        """What ``plots.score_histograms`` draws."""
        centres = {"mu_real": self.fingerprint.mu_real, "mu_fake": self.fingerprint.mu_fake}
        return {"scores_real": self.rho["real"], "scores_fake": self.rho["fake"], **centres}

    def null_table(self, rate: float = FALSE_ALARM) -> pd.DataFrame:
        """The null, and how far above it the held-out fakes are: a row per kind of reals.

        ``fakes_z``: their median z; ``fakes_found``: how many of ``n_fakes`` are called generated at ``rate``;
        ``least_p``: the lowest probability of a false alarm that so many reals can vouch for.
        """
        null, fakes, n = self.fingerprint.null, self.rho["fake"], len(self.rho["fake"])
        kinds = {} if null is None else null.kinds
        columns = ["reals", "n", "mean", "sigma", "least_p", "fakes_z", "fakes_found", "n_fakes", "rate"]
        rows = [
            (kind, r.n, r.mean, r.sigma, r.smallest, np.median(r.z(fakes)), (r.p(fakes) <= rate).sum(), n, rate)
            for kind, r in kinds.items()
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
    n_train: int = 128,
    crop: int = 256,
    control_quality: int = 95,
    name: str = "mine",
    method: str = "dif",
    progress: bool = False,
) -> OwnFingerprint:
    """Fit a fingerprint to ``n_train`` images of each folder; test it on the others, also with one last encoding.

    The control is a fit of its own: both classes are encoded as JPEG of ``control_quality`` (0: no control).
    All of it is computed on the denoiser's device. ``method`` is one of ``methods.FITTED``.

    Raises
    ------
    FolderError, ImageError, ValueError
        Folders without images, no usable image; an unknown method.
    NotEnough
        If fewer than ``MIN_TEST`` images of a class would be left to test on.
    """
    methods.check_method(method, methods.FITTED)
    paths = {"real": list_images(real_dir), "fake": list_images(fake_dir)}
    rows, runs = [], []
    for quality in (None, control_quality) if control_quality else (None,):
        sets = folder_sets(paths, crop, quality)
        parts = divide(sets, n_train, plan.seed)
        detector = methods.fit(
            method, parts.real.images, parts.fake.images, plan.seed, denoiser,
            plan=plan, training=ClassifierPlan(), device=denoiser.device, progress=progress,
        )  # fmt: skip
        rho = {key: detector.score(getattr(parts, f"test_{key}").images) for key in ("real", "fake")}
        result = as_row(detection(rho["real"], rho["fake"], detector.threshold))
        rows.append({"encoding": encoding_label(quality), "n_train": n_train, **result, "seed": plan.seed})
        runs.append((detector, rho, parts, sets.skipped))
    detector, rho, parts, skipped = runs[0]
    assert isinstance(detector, methods.FingerprintDetector) and isinstance(detector.fingerprint, Fingerprint)
    fingerprint = replace(
        detector.fingerprint,
        name=name,
        metadata={**detector.fingerprint.metadata, "crop": crop, "jpeg": None},
        null=null_of({HELD_OUT: rho["real"]}),
        trained=frozenset(contents([*parts.real.hashes, *parts.fake.hashes])),
        null_images=frozenset(contents(parts.test_real.hashes)),
    )
    confounds = look_closer(confounds_of(paths["real"], paths["fake"]), paths["real"], paths["fake"], plan.seed)
    return OwnFingerprint(fingerprint, pd.DataFrame(rows), rho, parts, skipped, confounds)


def train_or_show(
    real_dir: Path | str,
    fake_dir: Path | str,
    denoiser: Denoiser,
    plan: DifPlan,
    n_train: int,
    crop: int,
    control_quality: int,
    name: str,
    method: str = "dif",
    demo_images: int = 60,
    progress: bool = False,
) -> OwnFingerprint:
    """``train_your_own`` on two folders; without any, on ``demo_images`` images of each class of generator ``name``.

    Raises
    ------
    ValueError
        If one folder is given without the other.
    """
    if bool(real_dir) != bool(fake_dir):
        raise ValueError("give both folders, of real and of generated images, or neither for the demo")
    rest: dict[str, Any] = {"n_train": n_train, "crop": crop, "control_quality": control_quality}
    rest |= {"name": name, "method": method}
    if real_dir:
        return train_your_own(real_dir, fake_dir, denoiser, plan, **rest, progress=progress)
    with demo_folders([name], demo_images, crop) as folders:
        return train_your_own(folders["real"], folders[name], denoiser, plan, **rest, progress=progress)


def null_lines(fingerprint: Fingerprint) -> list[str]:
    """What a model card says of the null."""
    kinds = {} if fingerprint.null is None else fingerprint.null.kinds
    return [
        f"- null: {reals.n} {kind} correlate by {reals.mean:+.5f} ± {reals.sigma:.5f}; `difcore detect` calls an image "
        f"generated where a real one would correlate as much with a probability of at most 1 % "
        f"(no probability below {reals.smallest:.1g} is stated)"
        for kind, reals in kinds.items()
    ]


def model_card(run: OwnFingerprint, data: str) -> str:
    """A fingerprint's model card, Markdown: what it is, fitted to what, how well it does, where it must not be used."""
    found, native = run.fingerprint, run.table.iloc[0]
    limit, plan = (found.metadata.get(key) for key in ("limit", "plan"))
    trained = []
    if plan:
        steps = f"{found.metadata['steps']} steps of {plan['batch']}"
        trained = [f"- prior {plan['prior']}, {steps}, learning rate {plan['learning_rate']}"]
    lines = [
        f"# Fingerprint {shown(found.name)}",
        "",
        f"{KINDS[found.method]}: says whether one certain generator made an image.",
        "",
        f"- images: {shown(data)}; {native.n_train} + {native.n_train} to fit on, drawn with seed {native.seed}",
        f"- centre crops of {found.crop} px, never resized",
        f"- residual filter: {found.metadata.get('denoiser')} ({str(found.metadata.get('denoiser_sha256'))[:12]}), "
        + (f"residuals limited to {limit} of their root mean square" if limit else "residuals not limited"),
        f"- F_DnCNN: {found.metadata.get('F_DnCNN') or 'none'}",
        *trained,
        f"- centres: real {found.mu_real:+.5f}, generated {found.mu_fake:+.5f}; the nearer one decides below",
        *null_lines(found),
        "",
        "| last encoding | balanced accuracy | 95 % interval | AUC | 95 % interval | test images |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.encoding} | {row.accuracy:.3f} | {row.accuracy_low:.3f} to {row.accuracy_high:.3f} | {row.auc:.3f} | "
        f"{row.auc_low:.3f} to {row.auc_high:.3f} | {row.n_real} + {row.n_fake} |"
        for row in run.table.itertuples()
    ]
    lines += ["", "No image, and no crop of one, was both fitted to and tested on."]
    if run.skipped:
        lines += ["", f"{len(run.skipped)} images were left out, first: {run.skipped[0].reason}."]
    lines += ["", f"Verdict on the two folders: {run.confounds.line()}."]
    lines += ["", *(f"Warning: {text}." for text in run.warnings)] if run.warnings else []
    lines += [
        "",
        "## Do not use it",
        "",
        "- on images that were resized, shifted or re-encoded: the pattern has to stay aligned;",
        "- as evidence that an image is real: it knows one generator;",
        "- where the reals differ from those above in format or origin, without measuring again.",
    ]
    return "\n".join(lines) + "\n"


NOT_THE_PAPERS = "not the paper's generators"


def own_claims(table: pd.DataFrame, data: str, method: str = "DIF") -> list[Claim]:
    """Of ``18_train_your_own``: it detects; it does not need the classes' formats to differ."""
    first = table.iloc[0]
    told = f"at N_S = {LOW_SAMPLES} most models lose {LOW_SAMPLES_DROP:.0f} points (S C.1)"
    text = f"{method} detects images of this generator from {first.n_train}+{first.n_train} training images (on {data})"
    claims = [Claim(text, told, measured(first), "not comparable", NOT_THE_PAPERS)]
    for _, row in table.iloc[1:].iterrows():
        change = sum_estimate([1, -1], [area_of(row), area_of(first)], f"{row.n_real} + {row.n_fake} images")
        lost = change.value < 0 and change.p(0) <= SURE
        text = f"Detection does not rest on the classes' formats: it survives one last encoding ({row.encoding})"
        ours = f"AUC {first.auc:.3f} [{first.auc_low:.3f}, {first.auc_high:.3f}] becomes {row.auc:.3f}"
        why = "it falls: the encoding takes it away" if lost else f"no fall to be seen on {change.basis}"
        verdict = "does not hold" if lost else "consistent"
        claims.append(Claim(text, "not tested", ours, verdict, why, change.p(0), open="consistent"))
    return claims
