"""Folders of images: one of them, or a tree of generators with their real and fake images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class FolderError(ValueError):
    """A folder that is not what was expected; the message says which and what was expected."""


@dataclass(frozen=True)
class GeneratorFolders:
    """One generator's folders of real and of fake images: one pair, or one pair per class."""

    name: str
    real: tuple[Path, ...]
    fake: tuple[Path, ...]

    def real_images(self) -> list[Path]:
        """Image files of all real folders."""
        return [path for folder in self.real for path in list_images(folder)]

    def fake_images(self) -> list[Path]:
        """Image files of all fake folders."""
        return [path for folder in self.fake for path in list_images(folder)]


def list_images(folder: Path | str) -> list[Path]:
    """Direct children of ``folder`` with one of ``SUFFIXES`` in any case, sorted by name; hidden ones are ignored.

    Whatever has the suffix is listed, broken links and folders too: reading them says why they are skipped.

    Raises
    ------
    FolderError
        If the folder is missing, is no folder, cannot be read or holds no such child.
    """
    folder, wanted = Path(folder), f"expected a folder of images ({', '.join(s[1:] for s in SUFFIXES)})"
    if not folder.is_dir():
        raise FolderError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}; {wanted}")
    children = sorted(_children(folder), key=lambda path: path.name)
    images = [path for path in children if path.suffix.lower() in SUFFIXES]
    if not images:
        raise FolderError(f"{folder} holds no images ({len(children)} other entries); {wanted}")
    return images


def find_generators(root: Path | str) -> list[GeneratorFolders]:
    """Generators under ``root``, sorted by name.

    Two layouts, which may be mixed: ``<root>/<generator>/{0_real,1_fake}`` (the paper's) and
    ``<root>/<generator>/<class>/{0_real,1_fake}`` (CNNDetection's). Folders with neither are ignored.

    Raises
    ------
    FolderError
        If there is no generator, or if one of a pair's folders is missing or without images; all are named.
    """
    root = Path(root)
    wanted = "expected <root>/<generator>/{0_real,1_fake} or <root>/<generator>/<class>/{0_real,1_fake}"
    if not root.is_dir():
        raise FolderError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}; {wanted}")
    if _is_pair(root):
        raise FolderError(f"{root} is itself a generator's folder: give the folder above it; {wanted}")
    found, problems = [], []
    for generator in sorted(path for path in _children(root) if path.is_dir()):
        pairs = [path for path in (generator, *sorted(_children(generator))) if _is_pair(path)]
        for pair in pairs:
            for side in ("0_real", "1_fake"):
                try:
                    list_images(pair / side)
                except FolderError as error:
                    problems.append(str(error).partition(";")[0])
        if pairs:
            reals, fakes = (tuple(pair / side for pair in pairs) for side in ("0_real", "1_fake"))
            found.append(GeneratorFolders(generator.name, reals, fakes))
    if problems:
        raise FolderError(f"{'; '.join(problems)}; expected images of both classes, in 0_real and in 1_fake")
    if not found:
        raise FolderError(f"{root} holds no generator; {wanted}")
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise FolderError(f"{folder} cannot be read ({error.strerror}); expected a folder of images") from error


def _is_pair(folder: Path) -> bool:
    return any((folder / side).exists() for side in ("0_real", "1_fake"))
