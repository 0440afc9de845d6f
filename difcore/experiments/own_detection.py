"""Fingerprints and images in; a ranked table, and what shows the evidence in each image, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from difcore.demo.generators import SHIPPED
from difcore.experiments.claiming import decide, judge_above, percent
from difcore.experiments.own import demo_folders, train_your_own
from difcore.experiments.pools import MIN_TEST
from difcore.files import shown
from difcore.fingerprints.bank import detect_images
from difcore.fingerprints.detector import FOREIGN_DENOISER, Fingerprint, load_fingerprint, load_recorded
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.verdicts import FALSE_ALARM, GENERATED, NOT_APPLICABLE, null_warnings
from difcore.images.crops import Skipped, list_images, read_crop
from difcore.records.artefacts import Claim
from difcore.residuals.denoisers import LIMIT, Denoiser, load_denoiser
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime
from difcore.stats import (
    share_estimate,
    wilson,
)


@dataclass(frozen=True)
class OwnDetection:
    """What fingerprints say of images.

    Attributes
    ----------
    table : DataFrame
        As ``decisions.judge``: best match first for each image.
    fingerprints : dict of name to Fingerprint
    denoiser : Denoiser
    images, residuals : dict of file name to uint8 (crop, crop, 3), float16 (3, crop, crop)
        What the evidence is drawn from.
    skipped, warnings : tuples
    """

    table: pd.DataFrame
    fingerprints: dict[str, Fingerprint]
    images: dict[str, np.ndarray]
    residuals: dict[str, np.ndarray]
    denoiser: Denoiser
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]

    def z(self, most: int = 24) -> pd.DataFrame:
        """z of each image (rows, the first ``most``) with each fingerprint (columns); NaN without a null."""
        wide = self.table.pivot(index="image", columns="fingerprint", values="z")
        return wide.reindex(list(self.images)[:most])[list(self.fingerprints)]

    def best(self) -> pd.Series | None:
        """The row of the best match of all; None if no fingerprint applies to any image."""
        rows = self.table[self.table["verdict"] != NOT_APPLICABLE]
        if not len(rows):
            return None
        return rows.iloc[0] if rows["z"].isna().all() else rows.loc[rows["z"].idxmax()]


def matching_filter(
    fingerprints: Sequence[Fingerprint], name: str, runtime: Runtime = Runtime()
) -> tuple[Denoiser, tuple[str, ...]]:
    """The filter called ``name`` in the precision the fingerprints were fitted with; a warning if there is none.

    For the authors' fingerprints it is the one for them.
    """
    name = FOREIGN_DENOISER if all(f.foreign for f in fingerprints) else name
    recorded = {f.metadata.get("denoiser_sha256") for f in fingerprints}
    denoiser = load_recorded(name, fingerprints, runtime.device, runtime.wanted())
    if denoiser.twin in recorded:
        return denoiser, ("fitted in another precision than it is used in here: correlations differ by rounding",)
    text = f"no fingerprint was fitted on residuals of {name}: correlations and decisions need not hold"
    return denoiser, () if recorded <= {None} or denoiser.hash in recorded else (text,)


def detect_your_own(
    fingerprints: Sequence[Fingerprint | Path | str],
    images: Path | str | Sequence[Path],
    denoiser: str = "photos",
    runtime: Runtime = Runtime(),
    progress: bool = False,
    false_alarm: float = FALSE_ALARM,
    reals: Path | str = "",
) -> OwnDetection:
    """Every image against every fingerprint, with what per-image evidence needs.

    ``false_alarm`` and the folder ``reals``, if there is one, are those of ``detect_images``.

    Raises
    ------
    FolderError, ImageError, ValueError
        No images, none usable, two of one name, fingerprints of different sizes or of one name, no fingerprint.
    """
    loaded = [f if isinstance(f, Fingerprint) else named(load_fingerprint(f), Path(f)) for f in fingerprints]
    if not loaded:
        raise ValueError("no fingerprint given")
    used, warnings = matching_filter(loaded, denoiser, runtime)
    files = list_images(images) if isinstance(images, str | Path) else list(images)
    given = list_images(reals) if reals else []
    found = detect_images(loaded, files, used, progress=progress, rate=false_alarm, reals=given)
    crop, named_files = loaded[0].crop, set(found.table["image"])
    usable = [path for path in files if str(path) in named_files]
    residuals = residuals_of(usable, used, crop).values
    crops = {shown(path.name): read_crop(path, crop) for path in usable}
    if len(crops) < len(usable):
        raise ValueError("images need file names of their own")
    table = found.table.assign(image=found.table["image"].map(lambda path: shown(Path(path).name)))
    warnings += tuple(null_warnings(found.fingerprints, false_alarm))
    values = {shown(path.name): np.array(residuals[k]) for k, path in enumerate(usable)}
    return OwnDetection(table, found.fingerprints, crops, values, used, found.skipped, warnings)


def named(fingerprint: Fingerprint, path: Path) -> Fingerprint:
    """The fingerprint, called like its file if it has no name."""
    return fingerprint if fingerprint.name else replace(fingerprint, name=path.stem)


def detect_or_show(
    fingerprints: Sequence[Path | str],
    images: Path | str,
    denoiser: str,
    generators: Sequence[str],
    demo_images: int = 6,
    n_train: int = 48,
    crop: int = 128,
    steps: int = 200,
    runtime: Runtime = Runtime(),
    seed: int = 0,
    progress: bool = False,
    false_alarm: float = FALSE_ALARM,
    reals: Path | str = "",
) -> OwnDetection:
    """``detect_your_own``; without files, fingerprints of demo generators are fitted and shown images of all of them.

    The demo's file names begin with what made the image: "real_000.png", "demo-deconv2_000.png".

    Raises
    ------
    ValueError
        If there are fingerprints without images, or the other way round.
    """
    if bool(fingerprints) != bool(images):
        raise ValueError("give fingerprints and a folder of images, or neither for the demo")
    if fingerprints:
        return detect_your_own(fingerprints, images, denoiser, runtime, progress, false_alarm, reals)
    used = load_denoiser(denoiser, runtime.device, runtime.bfloat16, LIMIT)
    plan = DifPlan(steps=steps, bfloat16=runtime.bfloat16, seed=seed)
    present = [name for name in generators if weights_exist(name)]
    with demo_folders(present, n_train + MIN_TEST, crop) as folders:
        size: dict[str, Any] = {"n_train": n_train, "crop": crop, "control_quality": 0, "progress": progress}
        runs = [train_your_own(folders["real"], folders[n], used, plan, **size, name=n) for n in present]
    with demo_folders(present, demo_images, crop, first=100_000) as folders:
        files = [path for folder in folders.values() for path in list_images(folder)]
        return detect_your_own([run.fingerprint for run in runs], files, denoiser, runtime, progress, false_alarm)


def weights_exist(generator: str) -> bool:
    """Whether a demo generator is shipped."""
    return SHIPPED.get(generator, Path(generator)).is_file()


def detect_claims(table: pd.DataFrame, data: str, rate: float = FALSE_ALARM) -> list[Claim]:
    """Of ``19_detect_your_own``, where names tell what made an image: how often the best match is right; false alarms.

    Parameters
    ----------
    table : DataFrame
        As ``decisions.judge``; file names begin with the fingerprint's name, or with "real".
    rate : float
        Of false alarms, that it was judged at.
    """
    table = table[table["verdict"] != NOT_APPLICABLE]
    table = table.assign(origin=table["image"].str.rsplit("_", n=1).str[0])
    return [naming_claim(table, data), alarm_claim(table, data, rate)]


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
