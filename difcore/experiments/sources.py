"""Where the images of a detection experiment come from: sources, and those of a folder of generators.

A folder holds <root>/<generator>/{0_real,1_fake} (or <generator>/<class>/{0_real,1_fake}) for any generators. Train and
test are drawn from there by the images' content. Where <generator>/test/0_real or <generator>/test/1_fake is there, it
holds that class's test images, and all others may be trained on. ``scripts/make_root.py`` makes such a folder of links.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from difcore.experiments.pools import Sets, make_pool, without_copies
from difcore.files import sha256_bytes, sha256_file
from difcore.folders import FolderError, list_images
from difcore.images import ImageError, Skipped, read_crop
from difcore.paper import DISPLAY, GAN, LTIM, VARIANTS

CLASSES = ("0_real", "1_fake")
FAMILIES = {"ltim": LTIM, "gan": GAN, "variants": tuple(dict.fromkeys([*VARIANTS.values(), *VARIANTS]))}


@dataclass(frozen=True)
class Source:
    """One generator: its name, a hash of its images, and how to read them (given a JPEG quality or None)."""

    name: str
    digest: str
    load: Callable[[int | None], Sets]


def generator_paths(folder: Path) -> dict[str, list[Path]]:
    """Image files of one generator's folder: "real", "fake" and, where there are any, "test_real", "test_fake".

    Raises
    ------
    FolderError
        If a class has no images.
    """
    pairs = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in (*CLASSES, "test"))]
    paths = {}
    for label, side in zip(("real", "fake"), CLASSES, strict=True):
        there = [pair / side for pair in pairs if (pair / side).is_dir()]
        if not there:
            raise FolderError(f"{folder.name} has no {side}")
        paths[label] = [path for place in there for path in list_images(place)]
        if (folder / "test" / side).is_dir():
            paths[f"test_{label}"] = list_images(folder / "test" / side)
    return paths


def folder_sets(paths: Mapping[str, Sequence[Path]], crop: int, jpeg: int | None) -> Sets:
    """The centre crops of a generator's images; what cannot be used is in ``skipped``.

    Raises
    ------
    ImageError
        If a class has no usable image.
    """
    pools: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for label, files in paths.items():
        images, names = [], []
        for path in files:
            try:
                images.append(read_crop(path, crop))
                names.append(str(path))
            except ImageError as error:
                skipped.append(Skipped(path, str(error)))
        if not images:
            raise ImageError(f"none of {len(files)} {label.replace('_', ' ')} images could be used")
        pools[label] = make_pool(images, names, jpeg)
    return without_copies(Sets(**pools, skipped=tuple(skipped)))


def is_generator(folder: Path) -> bool:
    """Whether a folder holds 0_real or 1_fake, itself or one level down."""
    return folder.is_dir() and any((p / side).is_dir() for p in (folder, *folder.iterdir()) for side in CLASSES)


def folder_sources(
    root: Path | str, wanted: Sequence[str], crop: int, others: bool = True
) -> tuple[dict[str, Source], dict[str, str]]:
    """Generators of ``root`` by name in the order of ``wanted``, and why the others of ``wanted`` are absent.

    Parameters
    ----------
    others : bool
        Take generators that no family of the paper names, too.

    Raises
    ------
    FolderError
        If ``root`` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FolderError(f"{root} is not a folder; expected <root>/<generator>/{{0_real,1_fake}}")
    there = sorted(p.name for p in root.iterdir() if not p.name.startswith(".") and is_generator(p))
    extra = [name for name in there if name not in wanted and name not in DISPLAY] if others else []
    found, absent = {}, {}
    for name in (*wanted, *extra):
        if name not in there:
            absent[name] = "absent: not in the data folder"
            continue
        try:
            paths = generator_paths(root / name)
        except FolderError as error:
            reason = str(error).partition(";")[0].replace(f"{root}/", "")
            absent[name] = f"absent: {reason}"
            continue
        hashes = [f"{label} {sha256_file(path)}" for label, files in paths.items() for path in files if path.is_file()]
        digest = sha256_bytes(" ".join(hashes).encode())
        found[name] = Source(name, digest, partial(folder_sets, paths, crop))
    return found, absent
