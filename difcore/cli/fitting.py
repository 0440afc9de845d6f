"""The commands of the command line that fit fingerprints; ``difcore.cli.app`` puts all commands together.

Everything heavy is imported inside the functions, so that ``--help`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from difcore.cli import options as opt
from difcore.cli.inputs import (
    check_out,
    choose_denoiser,
    choose_runtime,
    format_warnings,
    in_mode,
    make_plan,
    training_count,
)
from difcore.cli.judging import null_fields, null_text
from difcore.cli.output import (
    answer,
    cross_table,
    detection_facts,
    detection_fields,
    facts_table,
    percent,
    show_progress,
    skipped_fields,
    tell_skipped,
    with_intervals,
)
from difcore.files import shown

if TYPE_CHECKING:
    from rich.console import Console


def fit(
    real_dir: opt.RealDir,
    fake_dir: opt.FakeDir,
    out: opt.Out,
    name: Annotated[str, typer.Option(show_default="the file's", help="The generator's name.")] = "",
    train: opt.Train = None,
    hold_out: opt.HoldOut = True,
    method: opt.Method = "dif",
    mode: opt.Mode = "ours",
    crop: opt.Crop = 256,
    jpeg: opt.Jpeg = None,
    denoiser: opt.FitDenoiser = "photos",
    recursive: opt.Recursive = False,
    matched: opt.Matched = False,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    limit: opt.FitLimit = True,
    steps: opt.Steps = None,
    batch: opt.Batch = None,
    learning_rate: opt.LearningRate = None,
    margin: opt.Margin = None,
    input_noise: opt.InputNoise = None,
    ema: opt.Ema = None,
    boost: opt.Boost = None,
    alpha: opt.Alpha = None,
    patience: opt.Patience = None,
    fits: opt.Fits = None,
    prior: opt.Prior = None,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a fingerprint to real and generated images; measure it on images left out, whose reals are its null."""
    from difcore.audit import formats as confounds
    from difcore.audit.findings import look_closer
    from difcore.fingerprints.detector import Bank, Detector
    from difcore.fingerprints.fitting import FitOptions
    from difcore.fingerprints.presets import preset
    from difcore.fingerprints.verdicts import FALSE_ALARM
    from difcore.images.crops import list_images

    denoiser, limit, margin = in_mode(mode, method, denoiser, limit, margin)
    check_out(out)
    runtime = choose_runtime(device, precision)
    plan = make_plan(
        method, steps=steps, batch=batch, learning_rate=learning_rate, margin=margin, input_noise=input_noise, ema=ema,
        boost=boost, alpha=alpha, patience=patience, prior=prior, bfloat16=runtime.bfloat16, seed=seed,
        fits=preset(mode).fits if fits is None and method == "dif" else fits,
    )  # fmt: skip
    real, fake = list_images(real_dir, recursive), list_images(fake_dir, recursive)
    train = train if matched else training_count(mode, train, (real, fake))
    real, fake = confounds.matched(real, fake, jpeg, seed) if matched else (real, fake)
    used = choose_denoiser(denoiser, (), runtime.device, runtime.bfloat16, limit)
    name = name or out.stem
    fitted = Detector.fit(
        real, fake, used, plan, FitOptions(train, hold_out, crop, jpeg), method, name, show_progress()
    )
    assert (result := fitted.report) is not None
    fitted.save(out)
    checked = look_closer(confounds.confounds_of(real, fake, jpeg), real, fake, seed)
    warnings = [*checked.warnings, *Bank([fitted], used).warnings(FALSE_ALARM, jpeg, [out])]
    document: dict[str, Any] = {
        "command": "fit", "out": out, "name": name, "method": method, "crop": crop, "jpeg": jpeg, "seed": seed,
        "denoiser": used.name, "denoiser_sha256": used.hash, "limit": used.limit, "plan": fitted.metadata.get("plan"),
        "mode": mode, "F_DnCNN": used.metadata.get("bias"),
        "steps": fitted.metadata.get("steps"), "n_train_real": fitted.metadata["n_real"],
        "n_train_fake": fitted.metadata["n_fake"], "mu_real": fitted.mu_real, "mu_fake": fitted.mu_fake,
        **detection_fields(result.held_out), "verdict": checked.verdict, "confounds": checked.names,
        "null": null_fields(fitted), "skipped": skipped_fields(result.skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        trained = f"{document['n_train_real']} real, {document['n_train_fake']} fake images at {crop} px"
        facts = {
            "method": method,
            "steps": document["steps"],
            "denoiser": used.name,
            "F_DnCNN": used.metadata.get("bias"),
            "trained on": trained,
            "null": null_text(fitted),
            "file": out,
            "verdict": checked.line(),
        }
        console.print(facts_table(f"Fingerprint {shown(name)}", facts))
        held_out = detection_facts(result.held_out) if result.held_out else {"images": "none"}
        console.print(facts_table("\nHeld out", held_out))
        tell_skipped(console, result.skipped, len(real) + len(fake))

    answer(document, as_json, tell, warnings)


def cross_detect(
    root: opt.Root,
    train: opt.TrainHalf = None,
    method: opt.Method = "dif",
    crop: opt.Crop = 256,
    jpeg: opt.Jpeg = None,
    denoiser: opt.FitDenoiser = "photos",
    recursive: opt.Recursive = False,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    limit: opt.FitLimit = True,
    steps: opt.Steps = None,
    batch: opt.Batch = None,
    learning_rate: opt.LearningRate = None,
    margin: opt.Margin = None,
    patience: opt.Patience = None,
    prior: opt.Prior = None,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a fingerprint to each generator and test it on every generator's other images."""
    from difcore.experiments.own import cross_detect as cross
    from difcore.fingerprints.fitting import FitOptions
    from difcore.images.crops import find_generators

    runtime = choose_runtime(device, precision)
    plan = make_plan(
        method, steps=steps, batch=batch, learning_rate=learning_rate, margin=margin, patience=patience, prior=prior,
        bfloat16=runtime.bfloat16, seed=seed,
    )  # fmt: skip
    generators = find_generators(root, recursive)
    used = choose_denoiser(denoiser, (), runtime.device, runtime.bfloat16, limit)
    options = FitOptions(train, crop=crop, jpeg=jpeg)
    table, _, skipped = cross(root, used, plan, method, options, recursive, show_progress())
    pairs = {
        generator.name: (generator.real_images(recursive), generator.fake_images(recursive)) for generator in generators
    }
    warnings = [text for name, pair in pairs.items() for text in format_warnings(*pair, jpeg, f"{name}: ")]
    document: dict[str, Any] = {
        "command": "cross-detect", "root": root, "method": method, "crop": crop, "jpeg": jpeg, "seed": seed,
        "denoiser": used.name, "denoiser_sha256": used.hash, "limit": used.limit, "generators": list(pairs),
        "results": [with_intervals(row) for row in table.to_dict("records")],
        "skipped": skipped_fields(skipped), "warnings": warnings,
    }  # fmt: skip

    def tell(console: Console) -> None:
        console.print(cross_table(table, "accuracy", "Balanced accuracy", percent))
        console.print(cross_table(table, "auc", "\nAUC", "{:.3f}".format))
        tell_skipped(console, skipped, sum(len(images) for pair in pairs.values() for images in pair))

    answer(document, as_json, tell, warnings)
