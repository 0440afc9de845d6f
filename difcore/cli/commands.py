"""The commands that fit fingerprints and that use them. Heavy imports are inside, so that ``--help`` is quick."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from difcore.cli import options as opt
from difcore.cli import output as told
from difcore.cli.inputs import check_out, draw_images, open_bank, prepare, sort_arguments, training_count
from difcore.cli.output import answer, facts_table, show_progress
from difcore.files import atomic_text, shown


@opt.grouped
def fit(
    real_dir: opt.RealDir,
    fake_dir: opt.FakeDir,
    out: opt.Out,
    own: opt.Own,
    of: opt.Fitting,
    given: opt.Plan,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a fingerprint to real and generated images; measure it on images left out, whose reals are its null."""
    from difcore.audit.findings import look_closer
    from difcore.audit.formats import confounds_of, matched
    from difcore.fingerprints.detector import Bank, Detector
    from difcore.fingerprints.fitting import FitOptions
    from difcore.fingerprints.verdicts import FALSE_ALARM
    from difcore.images.folders import list_images

    check_out(out)
    plan, used = prepare(of, given, own.mode)
    real, fake = (list_images(folder, of.recursive) for folder in (real_dir, fake_dir))
    train = own.train if own.matched else training_count(own.mode, own.train, (real, fake))
    real, fake = matched(real, fake, of.jpeg, of.seed) if own.matched else (real, fake)
    options = FitOptions(train, own.hold_out, of.crop, of.jpeg)
    fitted = Detector.fit(real, fake, used, plan, options, of.method, own.name or out.stem, show_progress())
    assert (report := fitted.report) is not None
    fitted.save(out)
    checked = look_closer(confounds_of(real, fake, of.jpeg), real, fake, of.seed)
    document: dict[str, Any] = {
        "command": "fit", "out": out, "name": fitted.name, "method": of.method, "crop": of.crop, "jpeg": of.jpeg,
        "seed": of.seed, **told.filter_fields(used), "plan": fitted.metadata.get("plan"), "mode": own.mode,
        "F_DnCNN": used.metadata.get("bias"), "steps": fitted.metadata.get("steps"),
        "n_train_real": fitted.metadata["n_real"], "n_train_fake": fitted.metadata["n_fake"],
        "mu_real": fitted.mu_real, "mu_fake": fitted.mu_fake, **told.detection_fields(report.held_out),
        "verdict": checked.verdict, "confounds": checked.names, "null": told.null_fields(fitted),
        "skipped": list(map(vars, report.skipped)),
        "warnings": [*checked.warnings, *Bank([fitted], used).warnings(FALSE_ALARM, of.jpeg, [out])],
    }  # fmt: skip
    facts = {key: document[key] for key in ("method", "steps", "denoiser", "F_DnCNN")}
    facts["trained on"] = "{n_train_real} real, {n_train_fake} fake images at {crop} px".format(**document)
    facts |= {"null": told.null_text(document), "file": out, "verdict": checked.line()}
    held_out = facts_table("\nHeld out", told.detection_facts(document))
    left_out = told.skipped_text(report.skipped, len(real) + len(fake))
    answer(document, as_json, facts_table(f"Fingerprint {shown(fitted.name)}", facts), held_out, left_out)


@opt.grouped
def cross_detect(
    root: Annotated[Path, Argument(help="Folder of <generator>/{0_real,1_fake}, or with classes between.")],
    of: opt.Fitting,
    given: opt.Plan,
    train: Annotated[int | None, Option(min=2, show_default="half", help="Images of each class to train on.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a fingerprint to each generator and test it on every generator's other images."""
    from difcore.audit.formats import confounds_of
    from difcore.experiments.own import cross_detect as cross
    from difcore.fingerprints.fitting import FitOptions
    from difcore.images.folders import find_generators

    plan, used = prepare(of, given)
    found = find_generators(root, of.recursive)
    pairs = {each.name: (each.real_images(of.recursive), each.fake_images(of.recursive)) for each in found}
    options = FitOptions(train, crop=of.crop, jpeg=of.jpeg)
    table, _, skipped = cross(root, used, plan, of.method, options, of.recursive, show_progress())
    audits = {name: confounds_of(*pair, of.jpeg, can_match=False) for name, pair in pairs.items()}
    results = told.with_intervals(table)
    document: dict[str, Any] = {
        "command": "cross-detect", "root": root, "method": of.method, "crop": of.crop, "jpeg": of.jpeg,
        "seed": of.seed, **told.filter_fields(used), "generators": list(pairs), "results": results,
        "skipped": list(map(vars, skipped)),
        "warnings": [f"{name}: {text}" for name, audit in audits.items() for text in audit.warnings],
    }  # fmt: skip
    accuracy = told.cross_table(results, "accuracy", "Balanced accuracy", told.percent)
    area = told.cross_table(results, "auc", "\nAUC", "{:.3f}".format)
    total = sum(len(images) for pair in pairs.values() for images in pair)
    answer(document, as_json, accuracy, area, told.skipped_text(skipped, total))


@opt.grouped
def evaluate(
    path: Annotated[Path, Argument(metavar="FINGERPRINT", help="File of a fingerprint.")],
    real: Annotated[Path, Option(help="Folder of real images.")],
    fake: Annotated[Path, Option(help="Folder of the generator's images.")],
    of: opt.Using,
    test: Annotated[int | None, Option(min=1, show_default="all", help="Images of each class, at random.")] = None,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Measure a fingerprint on two folders: balanced accuracy by its centres, AUC, what its null calls generated."""
    from difcore.audit.formats import confounds_of
    from difcore.fingerprints.detector import IN_NULL, IN_TRAINING
    from difcore.images.folders import list_images

    _, bank = open_bank([path], of)
    detector, used = bank.detectors[0], bank.filter()
    reals, fakes = (draw_images(list_images(folder, of.recursive), test, seed) for folder in (real, fake))
    found = detector.evaluate(reals, fakes, used, of.jpeg, show_progress())
    trained, in_null = found.count(IN_TRAINING), found.count(IN_NULL)
    warnings = [f"{trained} images are in the training set of {path}: not counted"] if trained else []
    warnings += [f"{in_null} images are among the reals of the null: not counted"] if in_null else []
    warnings += bank.warnings(of.false_alarm, of.jpeg, [path])
    document: dict[str, Any] = {
        "command": "evaluate", "fingerprint": path, "name": detector.name, "method": detector.method,
        "crop": detector.crop, "jpeg": of.jpeg, "seed": seed, **told.filter_fields(used), "mu_real": detector.mu_real,
        "mu_fake": detector.mu_fake, **{f"rho_{label}": rho.mean() for label, rho in found.rho.items()},
        **told.detection_fields(found.detection), **found.calibration(detector),
        "false_alarm": of.false_alarm, "null": told.null_fields(detector),
        **{f"called_{label}": n for label, n in found.called(detector.null, of.false_alarm).items()},
        "in_training_set": trained, "in_null": in_null, "skipped": list(map(vars, found.skipped)),
        "warnings": [*warnings, *confounds_of(reals, fakes, of.jpeg, can_match=False).warnings],
    }  # fmt: skip
    facts = told.detection_facts(document)
    facts["found at 1 % and 5 % of these reals"] = " and ".join(told.percent(document[f"found_at_{k}"]) for k in (1, 5))
    if document["cllr"] is not None:
        facts["likelihood ratios"] = "cost {cllr:.3f} bit, calibration error {calibration_error:.3f}".format(**document)
    facts["mean correlation"] = "real {rho_real:+.4f}, fake {rho_fake:+.4f}".format(**document)
    facts["centres at the fit"] = "real {mu_real:+.4f}, fake {mu_fake:+.4f}".format(**document)
    facts["null"] = told.null_text(document)
    if detector.null:
        counts = "{called_real} of {n_real} real, {called_fake} of {n_fake} fake".format(**document)
        facts[f"called generated at {told.percent(of.false_alarm)}"] = counts
    title = f"{shown(detector.name)} ({detector.method}), denoiser {used.name}"
    left_out = told.skipped_text(found.skipped, len(reals) + len(fakes))
    answer(document, as_json, facts_table(title, facts), left_out)


@opt.grouped
def detect(
    paths: Annotated[list[Path], Argument(metavar="FINGERPRINT... IMAGE...", help="Files; folders of images.")],
    of: opt.Using,
    report: Annotated[
        Path | None, Option(help="Write an examiner's report, one HTML file.", show_default="none")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Say of each image whether the fingerprints' generators made it, best match first, at a rate of false alarms."""
    from difcore.fingerprints.verdicts import NOT_APPLICABLE, overall

    files, images = sort_arguments(paths, of.recursive)
    files, bank = open_bank(files, of)
    found = bank.judge(images, of.false_alarm, of.jpeg, show_progress())
    skipped = found.residuals.skipped
    document: dict[str, Any] = {
        "command": "detect",
        "fingerprints": [
            {"path": path, "name": d.name, "method": d.method, "null": told.null_fields(d)}
            for path, d in zip(files, bank.detectors, strict=True)
        ],
        "crop": bank.crop, "jpeg": of.jpeg, **told.filter_fields(bank.filter()), "false_alarm": of.false_alarm,
        "correction": "holm", "images": [
            {
                "image": image,
                "best": None if rows.verdict.iloc[0] == NOT_APPLICABLE else rows.fingerprint.iloc[0],
                "verdict": overall(rows.verdict),
                "matches": rows.drop(columns="image").to_dict("records"),
            }
            for image, rows in found.table.groupby("image", sort=False)
        ],
        "skipped": list(map(vars, skipped)), "warnings": bank.warnings(of.false_alarm, of.jpeg, files),
    }  # fmt: skip
    if report:
        from difcore.batch.examiner import examiners_report
        from difcore.experiments.dropping import examined

        named = {d.name: path for path, d in zip(files, bank.detectors, strict=True)}
        page = examiners_report(
            examined(bank, found, of.false_alarm, of.jpeg), shlex.join(["difcore", *sys.argv[1:]]), named
        )
        document["report"] = atomic_text(report, page)
    answer(document, as_json, told.matches_table(document), told.skipped_text(skipped, len(images)))
