"""Folders of images, in which all is used or named, and trees of generators in the layouts that people have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from difcore.images.decoding import HEAD, encoding_of

SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # passed over without a word, as names with a dot are
EXPECTED = "expected a folder of images (png, jpg, webp, avif, heic, tiff, ...)"
REAL, FAKE = ("0_real", "real", "nature"), ("1_fake", "fake", "ai")  # names of the two classes, in any case
SPLITS = ("train", "val", "valid", "validation", "test")  # levels that are no generator's name
DEEPEST = 4  # levels below the root at which a pair of classes may lie
WANTED = (
    "expected <root>/<generator>/{0_real,1_fake} or <root>/<generator>/<class>/{0_real,1_fake}; also real and fake, "
    "nature and ai; levels called train, val or test may lie anywhere between"
)


class FolderError(ValueError):
    """A folder that is not what was expected; the message says which and what was expected."""


def list_images(folder: Path | str, recursive: bool = False) -> list[Path]:
    """All that is in ``folder``, sorted by name; with ``recursive`` also all that is in the folders inside it.

    Content decides what is an image, not a name, so nothing is left out here: reading a text file, a broken link or a
    folder gives the reason why it is not used. Only hidden entries and ``SYSTEM`` files are passed over.

    Raises
    ------
    FolderError
        If the folder is missing, is no folder, cannot be read or holds no image, by the first bytes of its files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FolderError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}; {EXPECTED}")
    found = list(_entries(folder, recursive, frozenset()))
    if not any(is_image(path) for path in found):
        inner = sum(path.is_dir() for path in found)
        told = f", {inner} of them folders: --recursive reads them" if inner and not recursive else ""
        raise FolderError(f"{folder} holds no images ({len(found)} other entries{told}); {EXPECTED}")
    return found


def is_image(path: Path) -> bool:
    """Whether ``path`` is a file that begins like an image, of an encoding that is read or not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return encoding_of(stream.read(HEAD)) is not None
    except OSError:
        return False


def _children(folder: Path) -> list[Path]:
    """What is directly in a folder, by name, without hidden entries and ``SYSTEM`` files."""
    try:
        found = [path for path in folder.iterdir() if path.name[0] != "." and path.name.lower() not in SYSTEM]
    except OSError as error:
        raise FolderError(f"{folder} cannot be read ({error.strerror}); {EXPECTED}") from error
    return sorted(found, key=lambda path: path.name)


def _entries(folder: Path, recursive: bool, above: frozenset[Path]) -> Iterator[Path]:
    above |= {folder.resolve()}
    for path in _children(folder):
        if recursive and path.is_dir() and path.resolve() not in above:  # links may lead back up
            yield from _entries(path, recursive, above)
        else:
            yield path


@dataclass(frozen=True)
class GeneratorFolders:
    """One generator's folders of real and of fake images: one pair, or one pair per class.

    ``test_real`` and ``test_fake`` are those under a level called test or val, where there are others as well.
    """

    name: str
    real: tuple[Path, ...]
    fake: tuple[Path, ...]
    test_real: tuple[Path, ...] = ()
    test_fake: tuple[Path, ...] = ()

    def real_images(self, recursive: bool = False) -> list[Path]:
        """What is in all real folders."""
        return [path for folder in (*self.real, *self.test_real) for path in list_images(folder, recursive)]

    def fake_images(self, recursive: bool = False) -> list[Path]:
        """What is in all fake folders."""
        return [path for folder in (*self.fake, *self.test_fake) for path in list_images(folder, recursive)]


def find_generators(root: Path | str, recursive: bool = False) -> list[GeneratorFolders]:
    """Generators under ``root``, sorted by name.

    Layouts, which may be mixed: ``<root>/<generator>/{0_real,1_fake}`` (the paper's),
    ``<root>/<generator>/<class>/{0_real,1_fake}`` (CNNDetection's), with classes called real and fake or nature and ai
    (GenImage's), in any case, and with levels called train, val or test anywhere. Other folders are ignored.

    Raises
    ------
    FolderError
        If there is no generator, if one of a pair's folders is missing or without images (all are named), or if the
        pairs lie a level too deep.
    """
    found, problems = scan_generators(root, recursive)
    if problems:
        raise FolderError(f"{'; '.join(problems.values())}; expected images of both classes, in 0_real and in 1_fake")
    if not found:
        raise FolderError(f"{root} holds no generator; {WANTED}")
    if len(found) == 1:
        (only,) = found
        inner = sorted({name for folder in (*only.real, *only.fake) for name in _names(folder, Path(root))[1:]})
        if len(inner) > 1:
            raise FolderError(
                f"{root} holds a single folder of pairs, {only.name}: if what is in it ({', '.join(inner[:3])}, ...) "
                f"are generators, give {Path(root) / only.name}; {WANTED}"
            )
    return found


def scan_generators(root: Path | str, recursive: bool = False) -> tuple[list[GeneratorFolders], dict[str, str]]:
    """Generators under ``root``, as ``find_generators``, and by name what is wrong with those that cannot be used."""
    root = Path(root)
    if not root.is_dir():
        raise FolderError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}; {WANTED}")
    pairs: dict[str, list[_Pair]] = {}
    for pair in _pairs(root, DEEPEST):
        names = _names(pair.folder, root)
        if not names:
            raise FolderError(f"{root} is itself a generator's folder: give the folder above it; {WANTED}")
        if len(names) > 2:
            raise FolderError(f"{pair.folder} lies a level too deep: give {root / names[0]} or below; {WANTED}")
        pairs.setdefault(names[0], []).append(pair)
    problems = {name: "; ".join(wrong) for name in sorted(pairs) if (wrong := _problems(pairs[name], root, recursive))}
    return [_generator(name, pairs[name], root) for name in sorted(pairs) if name not in problems], problems


class _Pair(NamedTuple):
    """A folder, and those in it that are called like a class of images."""

    folder: Path
    real: list[Path]
    fake: list[Path]


def _pairs(folder: Path, depth: int) -> Iterator[_Pair]:
    """Every folder, down to ``depth`` levels, with folders of real or fake images directly in it."""
    inside = [path for path in _children(folder) if path.is_dir()]
    real, fake = ([path for path in inside if path.name.lower() in names] for names in (REAL, FAKE))
    if real or fake:
        yield _Pair(folder, real, fake)
    for path in inside if depth else ():
        if path not in (*real, *fake):
            yield from _pairs(path, depth - 1)


def _names(folder: Path, root: Path) -> list[str]:
    """Levels between ``root`` and a folder, without those of ``SPLITS`` and the class itself: generator, class."""
    return [part for part in folder.relative_to(root).parts if part.lower() not in (*SPLITS, *REAL, *FAKE)]


def _under(folder: Path, root: Path, levels: Sequence[str]) -> bool:
    """Whether one of ``levels`` lies between ``root`` and a folder."""
    return any(part.lower() in levels for part in folder.relative_to(root).parts)


def _generator(name: str, pairs: Sequence[_Pair], root: Path) -> GeneratorFolders:
    parts: dict[str, tuple[Path, ...]] = {}
    for label in ("real", "fake"):
        sides = [(_under(pair.folder, root, SPLITS[1:]), side) for pair in pairs for side in getattr(pair, label)]
        train, test = (tuple(side for held_out, side in sides if held_out is wanted) for wanted in (False, True))
        parts |= {label: train or test, f"test_{label}": test if train else ()}
    return GeneratorFolders(name, **parts)


def _problems(pairs: Sequence[_Pair], root: Path, recursive: bool) -> list[str]:
    """What is missing of a generator's pairs; under a level of ``SPLITS`` one class alone will do."""
    found = []
    for side in (side for _, real, fake in pairs for side in (*real, *fake)):
        try:
            list_images(side, recursive)
        except FolderError as error:
            found.append(str(error).partition(";")[0])
    whole = any(real for _, real, _ in pairs) and any(fake for _, _, fake in pairs)
    for folder, real, fake in pairs:
        if not (real and fake) and not (whole and _under(folder, root, SPLITS)):
            here, names, others = (real[0], REAL, FAKE) if real else (fake[0], FAKE, REAL)
            found.append(f"{folder / others[names.index(here.name.lower())]} does not exist")
    return found


def link_images(images: Sequence[Path], folder: Path) -> int:
    """Link every image into ``folder`` under its own name; how many. FileExistsError if a name is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        link = folder / image.name
        if not (link.is_symlink() and link.resolve() == image.resolve()):
            link.symlink_to(os.path.relpath(image.resolve(), folder.resolve()))
    return len(images)


def left_out(folders: Sequence[Path]) -> list[Path]:
    """What in ``folders`` is no image, and so not linked by ``make_root``."""
    return [path for folder in folders for path in list_images(folder) if not is_image(path)]


def root_of(
    generators: Mapping[str, Path], real: Sequence[Path], test_real: Sequence[Path] = ()
) -> dict[str, list[Path]]:
    """The images of each folder of a data root, by its place such as "sd14/0_real"; FolderError as ``list_images``."""

    def images(folders: Sequence[Path]) -> list[Path]:
        return [path for folder in folders for path in list_images(folder) if is_image(path)]

    fakes = {name: images([folder]) for name, folder in generators.items()}
    reals = {"0_real": images(real)} | ({"test/0_real": images(test_real)} if test_real else {})
    return {f"{name}/{side}": x for name, own in fakes.items() for side, x in {"1_fake": own, **reals}.items()}


def make_root(root: Path, images: Mapping[str, Sequence[Path]]) -> dict[str, int]:
    """The folder of links to what ``root_of`` gives; the number of images in each of its folders."""
    return {place: link_images(files, root / place) for place, files in images.items()}
