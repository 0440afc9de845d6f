"""What the command line makes of its arguments; every mistake is a ValueError that says what was expected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difcore.fingerprints.detector import Detector
    from difcore.fingerprints.dif import DifPlan
    from difcore.residuals.denoisers import Denoiser
    from difcore.runtime import Runtime

FINGERPRINT_SUFFIX = ".safetensors"
SHARED_BY_ALL_METHODS = {"seed", "bfloat16"}  # of the options that go into a plan


def check_out(path: Path) -> None:
    """Raise ValueError unless a fingerprint can be written to ``path``: told before a long fit, not after it."""
    if path.suffix != FINGERPRINT_SUFFIX:
        raise ValueError(f"{path}: a fingerprint's file name ends in {FINGERPRINT_SUFFIX}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the name of a file to write")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"{path} cannot be written: {there} is {'read-only' if there.is_dir() else 'not a folder'}")


def make_plan(method: str, **given: Any) -> DifPlan:
    """The fit's plan: what was given, DifPlan's defaults for what is None.

    Raises
    ------
    ValueError
        For an unknown method or prior, a value out of range, or an option that the method has no use for.
    """
    from difcore.fingerprints.dif import DifPlan
    from difcore.fingerprints.fitting import FITTED, check_method
    from difcore.fingerprints.priors import PRIORS

    check_method(method, FITTED)
    chosen = {name: value for name, value in given.items() if value is not None}
    idle = [name for name in chosen if name not in SHARED_BY_ALL_METHODS]
    if method != "dif" and idle:
        raise ValueError(f"--{idle[0].replace('_', '-')} means nothing to --method {method}")
    plan = DifPlan(**chosen)
    if plan.prior not in PRIORS:
        raise ValueError(f"unknown prior {plan.prior!r}; choose from {', '.join(PRIORS)}")
    return plan


def in_mode(mode: str, method: str, denoiser: str, limit: bool, margin: float | None) -> tuple[str, bool, float | None]:
    """(denoiser, limit, margin) of a fit as the mode has them; a margin that was given stays.

    Raises
    ------
    ValueError
        If there is no such mode.
    """
    from difcore.fingerprints.presets import preset

    chosen = preset(mode)
    asked = chosen.margin if margin is None and method == "dif" else margin
    return chosen.filter(denoiser), limit and chosen.limit is not None, asked


def training_count(mode: str, train: int | None, images: Sequence[Sequence[Path]]) -> int | None:
    """N_S of a fit: what was given, else the mode's where both classes have more images than that."""
    from difcore.fingerprints.presets import preset

    usual = preset(mode).n_train
    return usual if train is None and usual and min(map(len, images)) > usual else train


def choose_runtime(device: str, precision: str) -> Runtime:
    """``difcore.runtime.resolve``, whose module takes seconds to import."""
    from difcore.runtime import resolve

    return resolve(device, precision)


def hand_down(device: str, precision: str) -> None:
    """Set what "auto" is for this process and those that it starts: what was asked for, where it was.

    Raises
    ------
    ValueError
        If this machine has no such device, or cannot compute in the precision.
    """
    given = {"DIFCORE_DEVICE": device, "DIFCORE_PRECISION": precision}
    os.environ.update({name: value for name, value in given.items() if value != "auto"})
    if any(os.environ.get(name, "auto") != "auto" for name in given):
        choose_runtime("auto", "auto")  # told now, not by each notebook


def choose_denoiser(
    name: str | None,
    detectors: Sequence[Detector] = (),
    device: str = "cpu",
    bfloat16: bool | None = False,
    limit: bool = True,
) -> Denoiser:
    """The denoiser called ``name`` or stored in that file, as ``filter_for``; without ``limit`` not limited.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such denoiser.
    """
    from difcore.fingerprints.detector import filter_for, filter_name
    from difcore.residuals.bias import SUFFIX
    from difcore.residuals.denoisers import SHIPPED, load_denoiser

    name = name or filter_name(detectors)
    known, base = [*SHIPPED, "highpass"], name.removesuffix(SUFFIX)
    if base not in known and not Path(base).is_file():
        raise ValueError(f"unknown denoiser {name!r}: choose {', '.join(known)}, or give the file of one")
    if base in SHIPPED and not SHIPPED[base].is_file():
        raise ValueError(
            f"the weights of denoiser {base!r} are missing ({SHIPPED[base]}); choose another by --denoiser"
        )
    if not limit:
        return load_denoiser(name, device, bool(bfloat16), None)
    return filter_for(detectors, name, device, bfloat16)


def format_warnings(real: Sequence[Path], fake: Sequence[Path], jpeg: int | None, prefix: str = "") -> list[str]:
    """The format audit's warnings, and what to do about them by ``--jpeg``; empty if the classes' files are alike."""
    from difcore.audit.formats import confounds_of

    return [f"{prefix}{text}" for text in confounds_of(real, fake, jpeg, can_match=False).warnings]


def check_crop(paths: Sequence[Path], detectors: Sequence[Detector], crop: int | None) -> None:
    """Raise ValueError if a crop was asked for that a detector does not have."""
    for path, detector in zip(paths, detectors, strict=True):
        if crop is not None and crop != detector.crop:
            raise ValueError(f"{path} was fitted at a crop of {detector.crop} px, so --crop {crop} does not fit it")


def sort_arguments(paths: Sequence[Path], recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """(fingerprint files, image files) among mixed arguments: *.safetensors are fingerprints, folders hold images.

    Raises
    ------
    ValueError
        If a file is missing, a folder holds no images, or there is no fingerprint or no image.
    """
    from difcore.images.crops import list_images

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
        missing = f"fingerprint (*{FINGERPRINT_SUFFIX})" if not fingerprints else "image or folder of images"
        raise ValueError(f"no {missing} given; expected fingerprints and images")
    return fingerprints, list(dict.fromkeys(images))


def draw_images(images: Sequence[Path], count: int | None, seed: int) -> list[Path]:
    """``count`` of the images at random and whatever is no image (to be named), in their order; all if it is None.

    Raises
    ------
    ValueError
        If there are fewer.
    """
    import numpy as np

    from difcore.images.folders import is_image

    if count is None:
        return list(images)
    begun = [k for k, path in enumerate(images) if is_image(path)]
    if count > len(begun):
        raise ValueError(f"asked for {count} images, {images[0].parent} holds only {len(begun)}")
    left_out = {begun[k] for k in np.random.default_rng(seed).permutation(len(begun))[count:]}
    return [path for k, path in enumerate(images) if k not in left_out]
