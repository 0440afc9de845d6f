"""How the command line tells of nulls and of verdicts: the fields of its JSON, and what a person reads.

The commands of the command line that use fingerprints: measured on two folders, and asked about images.

Everything heavy is imported inside the functions, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore.cli import options as opt
from difcore.cli.inputs import (
    check_crop,
    choose_denoiser,
    choose_runtime,
    draw_images,
    format_warnings,
    sort_arguments,
)
from difcore.cli.output import (
    answer,
    detection_facts,
    detection_fields,
    facts_table,
    percent,
    show_progress,
    skipped_fields,
    tell_skipped,
)
from difcore.files import shown

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from difcore.fingerprints.detector import Detector


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="FINGERPRINT", help="File of a fingerprint.")],
    real: opt.Real,
    fake: opt.Fake,
    test: opt.Test = None,
    crop: opt.KnownCrop = None,
    jpeg: opt.Jpeg = None,
    denoiser: opt.KnownDenoiser = None,
    recursive: opt.Recursive = False,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    precision: opt.KnownPrecision = "auto",
    false_alarm: opt.FalseAlarm = 0.01,
    reals: opt.Reals = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure a fingerprint on two folders: balanced accuracy by its centres, AUC, what its null calls generated."""
    from difcore.fingerprints.detector import IN_NULL, IN_TRAINING, Bank, Detector
    from difcore.images.crops import list_images

    fitted = Detector.load(path)
    fitted = replace(fitted, name=fitted.name or path.stem)
    check_crop([path], [fitted], crop)
    real_files, fake_files = (draw_images(list_images(folder, recursive), test, seed) for folder in (real, fake))
    runtime = choose_runtime(device, precision)
    used = choose_denoiser(denoiser, [fitted], runtime.device, runtime.wanted())
    bank = Bank([fitted], used)
    bank = bank.with_reals(list_images(reals, recursive), jpeg, show_progress()) if reals else bank
    fingerprint = bank.detectors[0]
    found = fingerprint.evaluate(real_files, fake_files, used, jpeg, show_progress())
    rho, skipped = found.rho, found.skipped
    called = {f"called_{key}": count for key, count in found.called(fingerprint.null, false_alarm).items()}
    trained, in_null = found.count(IN_TRAINING), found.count(IN_NULL)
    warnings = [f"{trained} images are in the training set of {path}: not counted"] if trained else []
    warnings += [f"{in_null} images are among the reals of the null: not counted"] if in_null else []
    warnings += bank.warnings(false_alarm, jpeg, [path]) + format_warnings(real_files, fake_files, jpeg)
    document: dict[str, Any] = {
        "command": "evaluate", "fingerprint": path, "name": fingerprint.name, "method": fingerprint.method,
        "crop": fingerprint.crop, "jpeg": jpeg, "seed": seed, "denoiser": used.name, "denoiser_sha256": used.hash,
        "limit": used.limit, "mu_real": fingerprint.mu_real, "mu_fake": fingerprint.mu_fake,
        "rho_real": rho["real"].mean(), "rho_fake": rho["fake"].mean(),
        **detection_fields(found.detection), "false_alarm": false_alarm, "null": null_fields(fingerprint), **called,
        "in_training_set": trained, "in_null": in_null, "skipped": skipped_fields(skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        here, fitted = (f"real {{{key}_real:+.4f}}, fake {{{key}_fake:+.4f}}" for key in ("rho", "mu"))
        facts = {"mean correlation": here.format(**document), "centres at the fit": fitted.format(**document)}
        facts |= {"null": null_text(fingerprint), **called_facts(document)}
        title = f"{shown(fingerprint.name)} ({fingerprint.method}), denoiser {used.name}"
        console.print(facts_table(title, detection_facts(found.detection) | facts))
        tell_skipped(console, skipped, len(real_files) + len(fake_files))

    answer(document, as_json, tell, warnings)


def detect(
    paths: Annotated[list[Path], typer.Argument(metavar="FINGERPRINT... IMAGE...", help="Files; folders of images.")],
    crop: opt.KnownCrop = None,
    jpeg: opt.Jpeg = None,
    denoiser: opt.KnownDenoiser = None,
    recursive: opt.Recursive = False,
    device: opt.Device = "auto",
    precision: opt.KnownPrecision = "auto",
    false_alarm: opt.FalseAlarm = 0.01,
    reals: opt.Reals = None,
    as_json: opt.AsJson = False,
) -> None:
    """Say of each image whether the fingerprints' generators made it, best match first, at a rate of false alarms."""
    from difcore.fingerprints.detector import Bank, read_named
    from difcore.fingerprints.verdicts import NOT_APPLICABLE, overall
    from difcore.images.crops import list_images

    files, images = sort_arguments(paths, recursive)
    known = read_named(files)
    check_crop(list(known), list(known.values()), crop)
    runtime = choose_runtime(device, precision)
    detectors = list(known.values())
    bank = Bank(detectors, choose_denoiser(denoiser, detectors, runtime.device, runtime.wanted()))
    used = bank.filter()
    bank = bank.with_reals(list_images(reals, recursive), jpeg, show_progress()) if reals else bank
    found = bank.judge(images, false_alarm, jpeg, show_progress())
    judging = dict(zip(known, bank.detectors, strict=True))
    skipped = found.residuals.skipped
    warnings = bank.warnings(false_alarm, jpeg, list(known))
    document: dict[str, Any] = {
        "command": "detect",
        "fingerprints": [
            {"path": p, "name": f.name, "method": f.method, "null": null_fields(f)} for p, f in judging.items()
        ],
        "crop": bank.crop, "jpeg": jpeg, "denoiser": used.name, "denoiser_sha256": used.hash,
        "limit": used.limit, "false_alarm": false_alarm, "correction": "holm", "images": [
            {
                "image": image,
                "best": None if rows.verdict.iloc[0] == NOT_APPLICABLE else rows.fingerprint.iloc[0],
                "verdict": overall(rows.verdict),
                "matches": rows.drop(columns="image").to_dict("records"),
            }
            for image, rows in found.table.groupby("image", sort=False)
        ],
        "skipped": skipped_fields(skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        console.print(matches_table(found.table, false_alarm))
        tell_skipped(console, skipped, len(images))

    answer(document, as_json, tell, warnings)


def null_fields(fingerprint: Detector) -> dict[str, dict[str, float]] | None:
    """A fingerprint's null as in JSON: n, mean and sigma by kind of reals; None without one."""
    if fingerprint.null is None:
        return None
    return {kind: {"n": r.n, "mean": r.mean, "sigma": r.sigma} for kind, r in fingerprint.null.kinds.items()}


def null_text(fingerprint: Detector) -> str:
    """The same as a person reads it."""
    kinds = null_fields(fingerprint) or {}
    return "; ".join(f"{r['n']} {k}, {r['mean']:+.4f} ± {r['sigma']:.4f}" for k, r in kinds.items()) or "none"


def called_facts(document: Mapping[str, Any]) -> dict[str, str]:
    """The same as a person reads it; nothing without a null."""
    if document["called_real"] is None:
        return {}
    counts = (f"{document[f'called_{k}']} of {document[f'n_{k}']} {k}" for k in ("real", "fake"))
    return {f"called generated at {percent(document['false_alarm'])}": ", ".join(counts)}


def matches_table(matches: pd.DataFrame, rate: float) -> Table:
    """The table of ``verdicts.judge``: the fingerprints that were asked about each image, best match first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.caption = (
        "z: standard deviations above real images; p: probability that a real one correlates as much; Holm: the same, "
        f"corrected for the number of fingerprints; generated if at most {rate:g}. No match does not mean real."
    )
    table.add_column("image", overflow="fold")
    table.add_column("fingerprint", overflow="fold")
    for heading in ("correlation", "z", "p", "Holm"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("nearest centre")
    table.add_column("verdict", overflow="fold", min_width=14)
    before = None
    for row in matches.itertuples():
        name = "" if row.image == before else shown(row.image)
        verdict = f"{row.verdict}: {row.reason}" if row.reason else str(row.verdict)
        numbers = (number(row.z, "+.1f"), number(row.p, ".2g"), number(row.p_holm, ".2g"))
        table.add_row(name, shown(row.fingerprint), f"{row.rho:+.4f}", *numbers, str(row.nearest_centre), verdict)
        before = row.image
    return table


def number(value: Any, form: str) -> str:
    """``value`` as text, a dash if there is none."""
    return "–" if value != value else format(value, form)
