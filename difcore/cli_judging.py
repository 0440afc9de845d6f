"""The commands of the command line that use fingerprints: measured on two folders, and asked about images.

Everything heavy is imported inside the functions, so that ``--help`` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore import cli_options as opt
from difcore.cli_input import (
    check_crop,
    choose_denoiser,
    choose_runtime,
    draw_images,
    format_warnings,
    mismatches,
    read_fingerprints,
    sort_arguments,
)
from difcore.cli_output import (
    answer,
    detection_facts,
    detection_fields,
    facts_table,
    show_progress,
    skipped_fields,
    tell_skipped,
)
from difcore.cli_verdicts import called_facts, called_generated, matches_table, null_fields, null_text
from difcore.names import shown

if TYPE_CHECKING:
    from rich.console import Console


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
    from difcore.decisions import null_warnings
    from difcore.experiments.folders import IN_NULL, IN_TRAINING, evaluate_folders
    from difcore.experiments.judging import with_nulls
    from difcore.images import list_images

    known = read_fingerprints([path])
    fingerprint = known[path]
    check_crop(known, crop)
    real_files, fake_files = (draw_images(list_images(folder, recursive), test, seed) for folder in (real, fake))
    runtime = choose_runtime(device, precision)
    used = choose_denoiser(denoiser, [fingerprint], runtime.device, runtime.wanted())
    given = list_images(reals, recursive) if reals else []
    judging = with_nulls({str(path): fingerprint}, used, jpeg, given, show_progress())[str(path)]
    found = evaluate_folders(judging, real_files, fake_files, used, jpeg, show_progress())
    rho, skipped = found.rho, found.skipped
    called = called_generated(judging, found, false_alarm)
    trained, in_null = found.count(IN_TRAINING), found.count(IN_NULL)
    warnings = [f"{trained} images are in the training set of {path}: not counted"] if trained else []
    warnings += [f"{in_null} images are among the reals of the null: not counted"] if in_null else []
    warnings += mismatches(known, used, jpeg) + null_warnings({path: judging}, false_alarm)
    warnings += format_warnings(real_files, fake_files, jpeg)
    document: dict[str, Any] = {
        "command": "evaluate", "fingerprint": path, "name": fingerprint.name, "method": fingerprint.method,
        "crop": fingerprint.crop, "jpeg": jpeg, "seed": seed, "denoiser": used.name, "denoiser_sha256": used.hash,
        "limit": used.limit, "mu_real": fingerprint.mu_real, "mu_fake": fingerprint.mu_fake,
        "rho_real": rho["real"].mean(), "rho_fake": rho["fake"].mean(),
        **detection_fields(found.detection), "false_alarm": false_alarm, "null": null_fields(judging), **called,
        "in_training_set": trained, "in_null": in_null, "skipped": skipped_fields(skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        here, fitted = (f"real {{{key}_real:+.4f}}, fake {{{key}_fake:+.4f}}" for key in ("rho", "mu"))
        facts = {"mean correlation": here.format(**document), "centres at the fit": fitted.format(**document)}
        facts |= {"null": null_text(judging), **called_facts(document)}
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
    from difcore.decisions import NOT_APPLICABLE, null_warnings, overall
    from difcore.experiments.judging import detect_images
    from difcore.images import list_images

    files, images = sort_arguments(paths, recursive)
    known = read_fingerprints(files)
    check_crop(known, crop)
    fingerprints = list(known.values())
    runtime = choose_runtime(device, precision)
    used = choose_denoiser(denoiser, fingerprints, runtime.device, runtime.wanted())
    given = list_images(reals, recursive) if reals else []
    found = detect_images(fingerprints, images, used, jpeg, show_progress(), false_alarm, given)
    judging = dict(zip(known, found.fingerprints.values(), strict=True))
    warnings = mismatches(known, used, jpeg) + null_warnings(judging, false_alarm)
    document: dict[str, Any] = {
        "command": "detect",
        "fingerprints": [
            {"path": p, "name": f.name, "method": f.method, "null": null_fields(f)} for p, f in judging.items()
        ],
        "crop": fingerprints[0].crop, "jpeg": jpeg, "denoiser": used.name, "denoiser_sha256": used.hash,
        "limit": used.limit, "false_alarm": false_alarm, "correction": "holm", "images": [
            {
                "image": image,
                "best": None if rows.verdict.iloc[0] == NOT_APPLICABLE else rows.fingerprint.iloc[0],
                "verdict": overall(rows.verdict),
                "matches": rows.drop(columns="image").to_dict("records"),
            }
            for image, rows in found.table.groupby("image", sort=False)
        ],
        "skipped": skipped_fields(found.skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        console.print(matches_table(found.table, false_alarm))
        tell_skipped(console, found.skipped, len(images))

    answer(document, as_json, tell, warnings)
