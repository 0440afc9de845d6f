"""F_DnCNN as the paper has it: the plain mean residual of the filter's own training images (A.2).

The shipped files hold its border profile alone. The mean itself is measured again where the training images are:
procedural scenes anywhere, photographs in ``photos/train`` of the data folder. It is kept by content.

F_DnCNN, the filter's own bias: what is left of it without sampling noise, and its form at other crop sizes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from difcore.files import PROJECT_DIR, atomic_write, sha256_bytes, sha256_file
from difcore.images.crops import read_crop
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images
from difcore.images.scenes import scene
from difcore.machine.cache import keep, optional_folder, used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BORDER = 32  # px from the edge beyond which a stack of 17 3x3 convolutions no longer sees it (17), with a margin


def border_profile(bias: Tensor) -> Tensor:
    """The part of a measured F_DnCNN (3, H, W) that the filter can have: a constant, and a profile along each edge.

    F(y, x) = c + p_top(y) + p_bottom(y) + p_left(x) + p_right(x), p = 0 beyond ``BORDER`` px: a filter that is
    shift-invariant up to its zero padding has no other bias. The mean residual of n images also holds what these
    images left, of standard deviation sd(R) / sqrt(n) per pixel. Subtracting that from every residual gives all of
    them something in common, which correlates more with the quieter ones; for n = 360 that is 1 / 360, a quarter of
    what a fingerprint correlates. The paper subtracts the mean itself (A.2), of 1024 images.

    Sizes up to ``2 * BORDER`` are returned as they are: no pixel is out of the border's reach.
    """
    height, width = bias.shape[1:]
    if min(height, width) <= 2 * BORDER:
        return bias
    constant = bias[:, BORDER:-BORDER, BORDER:-BORDER].mean((1, 2), keepdim=True)
    rows = bias[:, :, BORDER:-BORDER].mean(2, keepdim=True) - constant  # (3, H, 1)
    columns = bias[:, BORDER:-BORDER].mean(1, keepdim=True) - constant  # (3, 1, W)
    rows[:, BORDER:-BORDER], columns[:, :, BORDER:-BORDER] = 0, 0
    return constant + rows + columns


def bias_for_size(bias: Tensor, height: int, width: int) -> Tensor:
    """F_DnCNN for a crop of another size than it was measured at, (3, height, width).

    The bias is a border pattern plus a constant: far from the border the filter is shift-invariant. A smaller size
    keeps the four corners and drops middle rows and columns; a larger one inserts, in the middle, the mean of the rows
    (columns) that do not see the border.
    """
    for axis, size in ((1, height), (2, width)):
        stored = bias.shape[axis]
        first = bias.narrow(axis, 0, min((size + 1) // 2, (stored + 1) // 2))
        tail = min(size // 2, stored // 2)
        last = bias.narrow(axis, stored - tail, tail)
        extra = size - first.shape[axis] - tail
        inner = bias.narrow(axis, BORDER, stored - 2 * BORDER) if stored > 2 * BORDER else bias
        middle = inner.mean(axis, keepdim=True).expand(*(extra if a == axis else n for a, n in enumerate(bias.shape)))
        bias = torch.cat([first, middle, last], axis)
    return bias


SUFFIX = ":mean"  # of a denoiser's name: "photos:mean" is "photos" with the plain mean as F_DnCNN
SCENES = "scenes of 256 px"  # how the metadata of a filter call what it was trained on
FIRST_SCENE = 10_000
# How near the profile of these images has to come to the stored one, of its largest value. The filters were trained on
# crops that began a pixel earlier in two photographs of five: that alone is some .3 with 360 images.
SAME = 0.6
STOOD_IN = "border profile: the training images are not here, so it stood in for the mean"


class StandIn(UserWarning):
    """The mode is the paper's, and F_DnCNN is not."""


def tell_stand_in(name: str, bias: str) -> None:
    """Warn if ``bias``, what ``mean_bias`` says of F_DnCNN of filter ``name``, is no mean."""
    if bias.startswith(STOOD_IN):
        warnings.warn(f"F_DnCNN of {name} is not the paper's: {bias}", StandIn, stacklevel=3)


def photographs() -> Path | None:
    """``photos/train`` of the data folder (DIFCORE_DATA, or <project>/../shared/data), if it is there."""
    for root in (os.environ.get("DIFCORE_DATA"), PROJECT_DIR.parent / "shared" / "data"):
        if root and (found := Path(os.path.expanduser(root)) / "photos" / "train").is_dir():
            return found
    return None


def training_sources(metadata: Mapping[str, Any]) -> list[Path] | range | None:
    """Files or scene seeds that a filter was trained on, as many as it says; None where they are not here."""
    count, data = metadata.get("training_images"), str(metadata.get("data", ""))
    if not count:
        return None
    if data.endswith(SCENES):
        return range(FIRST_SCENE, FIRST_SCENE + count)
    folder = photographs()
    files = list_images(folder) if folder and data.endswith("photographs") else []
    return files if len(files) == count else None


def crops(sources: list[Path] | range, size: int) -> Iterator[np.ndarray]:
    """Centre crops of the sources that have one, uint8 (size, size, 3) each."""
    for source in sources:
        if isinstance(source, int):
            yield scene(source, size)
            continue
        try:
            yield read_crop(source, size)
        except ImageError:
            continue


def key_of(sources: list[Path] | range, size: int, weights: str) -> str:
    """A hash of all that the mean depends on: images, crop size, filter, the code of all that and torch's version."""
    from difcore.residuals.sets import filter_code  # which imports the denoisers, and these this

    marks = [sha256_file(s) if isinstance(s, Path) else str(s) for s in sources]
    if isinstance(sources, range):
        marks.append(sha256_bytes(scene(sources[0], size).tobytes()))  # changes when scenes do
    return sha256_bytes("\n".join([weights, str(size), filter_code(), *marks]).encode())


def read_mean(path: Path | None, size: int) -> tuple[Tensor, int] | None:
    """A kept mean (3, S, S) and of how many images it is; None if there is none (a damaged file counts as none)."""
    if path is None:
        return None
    with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(path) as kept:
        mean, n = torch.from_numpy(kept["mean"]), int(kept["n"])
        if mean.shape == (3, size, size):
            used(path)
            return mean, n
    return None


def mean_bias(
    residual_of: Callable[[Tensor], Tensor], profile: Tensor, weights: str, metadata: Mapping[str, Any]
) -> tuple[Tensor, str]:
    """The plain mean of a filter's training images, (3, S, S), and in words what it is; else ``profile`` and why.

    Parameters
    ----------
    residual_of : callable
        The filter without a bias, padding and all: (1, 3, S, S) in [0, 1] to the same shape.
    profile : Tensor (3, S, S)
        The stored one. Images whose mean has another profile are others than the filter was trained on.
    weights : str
        Hash of the filter, for what is kept.
    """
    sources = training_sources(metadata)
    if sources is None:
        return profile, STOOD_IN
    size = profile.shape[-1]
    folder = optional_folder("residuals")
    path = folder / f"mean-{key_of(sources, size, weights)[:32]}.npz" if folder else None
    known = read_mean(path, size)
    if known is not None:
        mean, n = known
    else:
        total, n = torch.zeros(3, size, size, dtype=torch.float64), 0
        for image in crops(sources, size):
            x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
            total += residual_of(x)[0].double().cpu()
            n += 1
        mean = (total / max(n, 1)).float()
        if path:
            keep(lambda: atomic_write(path, lambda p: np.savez(p, mean=mean.numpy(), n=n)))
    apart = float((border_profile(mean) - profile).abs().max() / profile.abs().max())
    if apart > SAME:
        return profile, f"{STOOD_IN} (those here have another profile)"
    what = "training images" if isinstance(sources, list) else "scenes like those it was trained on"
    return mean, f"mean of {n} {what}"
