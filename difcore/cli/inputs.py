"""What the command line makes of its arguments; every mistake is a ValueError that says what was expected."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difcore.cli.options import Fitting, Plan, Using
from difcore.cli.output import show_progress

if TYPE_CHECKING:
    from difcore.fingerprints.detector import Bank
    from difcore.fingerprints.dif import DifPlan
    from difcore.residuals.denoisers import Denoiser

FINGERPRINT_SUFFIX = ".safetensors"


def check_out(path: Path) -> None:
    """Raise ValueError unless a fingerprint can be written to ``path``: told before a long fit, not after it."""
    if path.suffix != FINGERPRINT_SUFFIX:
        raise ValueError(f"{path}: a fingerprint's file name ends in {FINGERPRINT_SUFFIX}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the name of a file to write")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"{path} cannot be written: {there} is {'read-only' if there.is_dir() else 'not a folder'}")


def make_plan(method: str, given: Mapping[str, Any], **rest: Any) -> DifPlan:
    """The fit's plan: what was given; ``rest``, and DifPlan's defaults, for what is None."""
    from difcore.fingerprints.dif import DifPlan
    from difcore.fingerprints.fitting import FITTED, check_method
    from difcore.fingerprints.priors import PRIORS

    check_method(method, FITTED)
    chosen = {name: value for name, value in given.items() if value is not None}
    if method != "dif" and chosen:
        raise ValueError(f"--{next(iter(chosen)).replace('_', '-')} means nothing to --method {method}")
    plan = DifPlan(**rest | chosen)
    if plan.prior not in PRIORS:
        raise ValueError(f"unknown prior {plan.prior!r}; choose from {', '.join(PRIORS)}")
    return plan


def prepare(of: Fitting, given: Plan, mode: str = "ours") -> tuple[DifPlan, Denoiser]:
    """The plan and the residual filter of a fit."""
    from difcore.fingerprints.presets import preset
    from difcore.residuals.denoisers import LIMIT
    from difcore.runtime import resolve

    usual, runtime = preset(mode), resolve(of.device, of.precision)
    rest = {"margin": usual.margin, "fits": usual.fits, "bfloat16": runtime.bfloat16, "seed": of.seed}
    plan = make_plan(of.method, vars(given), **rest)
    limit = usual.held(LIMIT if of.limit else None)
    name = checked_denoiser(usual.filter(of.denoiser))
    return plan, runtime.denoiser(name, limit)


def training_count(mode: str, train: int | None, images: Sequence[Sequence[Path]]) -> int | None:
    """N_S of a fit: what was given, else the mode's where both classes have more images than that."""
    from difcore.fingerprints.presets import preset

    usual = preset(mode).n_train
    return usual if train is None and usual and min(map(len, images)) > usual else train


def open_bank(paths: Sequence[Path], of: Using) -> tuple[list[Path], Bank]:
    """The fingerprints' files, each once, and their bank."""
    from difcore.fingerprints.detector import Bank, filter_name, read_named
    from difcore.images.folders import list_images
    from difcore.runtime import resolve

    known = read_named(paths)
    for path, detector in known.items():
        if of.crop not in (None, detector.crop):
            raise ValueError(f"{path} was fitted at a crop of {detector.crop} px, so --crop {of.crop} does not fit it")
    runtime, detectors = resolve(of.device, of.precision), list(known.values())
    name = checked_denoiser(of.denoiser or filter_name(detectors))
    bank = Bank(detectors, runtime.denoiser_of(detectors, name))
    if of.reals:
        bank = bank.with_reals(list_images(of.reals, of.recursive), of.jpeg, show_progress())
    return list(known), bank


def checked_denoiser(name: str) -> str:
    """The name, if it is of a shipped denoiser whose weights are there, or of a file."""
    from difcore.residuals.bias import SUFFIX
    from difcore.residuals.denoisers import NAMES, SHIPPED, has_name

    base = name.removesuffix(SUFFIX)
    if base in SHIPPED and not SHIPPED[base].is_file():
        path = SHIPPED[base]
        raise ValueError(f"the weights of denoiser {base!r} are missing ({path}); choose another by --denoiser")
    if not has_name(name) and not Path(base).is_file():
        raise ValueError(f"unknown denoiser {name!r}: choose {', '.join(NAMES)}, or give the file of one")
    return name


def sort_arguments(paths: Sequence[Path], recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """(fingerprint files, image files) among mixed arguments: *.safetensors are fingerprints, folders hold images."""
    from difcore.images.folders import list_images

    fingerprints = [path for path in paths if path.suffix == FINGERPRINT_SUFFIX]
    images: list[Path] = []
    for path in paths:
        if path.suffix == ".pt":
            raise ValueError(f"{path} is no difcore fingerprint; convert it with `difcore import-official`")
        if path.suffix != FINGERPRINT_SUFFIX:
            if not path.exists():
                raise ValueError(f"{path} does not exist; expected an image, a folder of images or a fingerprint")
            images += list_images(path, recursive) if path.is_dir() else [path]
    if not fingerprints or not images:
        missing = "image or folder of images" if fingerprints else f"fingerprint (*{FINGERPRINT_SUFFIX})"
        raise ValueError(f"no {missing} given; expected fingerprints and images")
    return fingerprints, list(dict.fromkeys(images))


def draw_images(images: Sequence[Path], count: int | None, seed: int) -> list[Path]:
    """``count`` of the images at random and whatever is no image (to be named), in their order; all if it is None."""
    import numpy as np

    from difcore.images.folders import is_image

    if count is None:
        return list(images)
    begun = [k for k, path in enumerate(images) if is_image(path)]
    if count > len(begun):
        raise ValueError(f"asked for {count} images, {images[0].parent} holds only {len(begun)}")
    left_out = {begun[k] for k in np.random.default_rng(seed).permutation(len(begun))[count:]}
    return [path for k, path in enumerate(images) if k not in left_out]
