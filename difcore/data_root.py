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


def left_out(folders: Sequence[Path]) -> list[Path]:
    """What else is in ``folders``: it is not linked."""
    return [path for folder in folders for path in list_images(folder) if not is_image(path)]


def root_of(
    generators: Mapping[str, Path], real: Sequence[Path], test_real: Sequence[Path] = ()
) -> dict[str, list[Path]]:
    """The images of each folder of a data root, by its place such as "sd14/0_real".

    Raises
    ------
    FolderError
        If a folder does not exist or holds no image.
    """
    fakes = {name: image_files([folder]) for name, folder in generators.items()}
    reals = {"0_real": image_files(real)} | ({"test/0_real": image_files(test_real)} if test_real else {})
    return {f"{name}/{side}": x for name, own in fakes.items() for side, x in {"1_fake": own, **reals}.items()}


def make_root(root: Path, images: Mapping[str, Sequence[Path]]) -> dict[str, int]:
    """The folder of links to what ``root_of`` gives; the number of images in each of its folders.

    Raises
    ------
    FileExistsError
        As ``link_images``.
    """
    return {place: link_images(files, root / place) for place, files in images.items()}
