"""A data folder for the detection tables, of links to images that lie in folders of any layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from difcore.folders import is_image, list_images


def link_images(images: Sequence[Path], folder: Path) -> int:
    """Link every image into ``folder`` under its own name; the number of links.

    Raises
    ------
    FileExistsError
        If something else has one of the names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        link = folder / image.name
        if link.is_symlink() and link.resolve() == image.resolve():
            continue
        link.symlink_to(os.path.relpath(image.resolve(), folder.resolve()))
    return len(images)


def image_files(folders: Sequence[Path]) -> list[Path]:
    """The files in ``folders`` that begin like images."""
    return [path for folder in folders for path in list_images(folder) if is_image(path)]


def make_root(
    root: Path, generators: Mapping[str, Path], real: Sequence[Path], test_real: Sequence[Path] = ()
) -> dict[str, int]:
    """The folder of links; the number of images in each of its folders.

    Raises
    ------
    FolderError
        If a folder does not exist or holds no image.
    """
    counts = {}
    sources = {name: image_files([folder]) for name, folder in generators.items()}
    reals = {"0_real": image_files(real)} | ({"test/0_real": image_files(test_real)} if test_real else {})
    for name, fakes in sources.items():
        for side, images in {"1_fake": fakes, **reals}.items():
            counts[f"{name}/{side}"] = link_images(images, root / name / side)
    return counts
