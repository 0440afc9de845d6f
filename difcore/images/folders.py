"""A data folder for the detection tables, of links to images that lie in folders of any layout.

What is in a folder of images. ``difcore.images.folders`` has trees of generators.

Trees of generators with their real and fake images, in the layouts that people have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from difcore.images.decoding import HEAD, looks_like_image

SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # passed over without a word, as names with a dot are
EXPECTED = "expected a folder of images (png, jpg, webp, avif, heic, tiff, ...)"


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
        told = "is not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{folder} {told}; {EXPECTED}")
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
            return looks_like_image(stream.read(HEAD))
    except OSError:
        return False


def children(folder: Path) -> list[Path]:
    """What is directly in a folder, in no order, without hidden entries and ``SYSTEM`` files."""
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in SYSTEM]
    except OSError as error:
        raise FolderError(f"{folder} cannot be read ({error.strerror}); {EXPECTED}") from error


def _entries(folder: Path, recursive: bool, above: frozenset[Path]) -> Iterator[Path]:
    above |= {folder.resolve()}
    for path in sorted(children(folder), key=lambda path: path.name):
        if recursive and path.is_dir() and path.resolve() not in above:  # links may lead back up
            yield from _entries(path, recursive, above)
        else:
            yield path


REAL, FAKE = ("0_real", "real", "nature"), ("1_fake", "fake", "ai")  # names of the two classes, in any case
SPLITS = ("train", "val", "valid", "validation", "test")  # levels that are no generator's name
DEEPEST = 4  # levels below the root at which a pair of classes may lie
WANTED = (
    "expected <root>/<generator>/{0_real,1_fake} or <root>/<generator>/<class>/{0_real,1_fake}; also real and fake, "
    "nature and ai; levels called train, val or test may lie anywhere between"
)


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
            names = ", ".join(inner[:3])
            raise FolderError(
                f"{root} holds a single folder of pairs, {only.name}: if what is in it ({names}, ...) are generators, "
                f"give {Path(root) / only.name}; {WANTED}"
            )
    return found


def scan_generators(root: Path | str, recursive: bool = False) -> tuple[list[GeneratorFolders], dict[str, str]]:
    """Generators under ``root``, as ``find_generators``, and by name what is wrong with those that cannot be used.

    Raises
    ------
    FolderError
        If ``root`` is no folder, is itself a generator's, or has pairs a level too deep.
    """
    root = Path(root)
    if not root.is_dir():
        raise FolderError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}; {WANTED}")
    pairs: dict[str, list[Pair]] = {}
    for pair in _pairs(root, DEEPEST):
        names = _names(pair.folder, root)
        if not names:
            raise FolderError(f"{root} is itself a generator's folder: give the folder above it; {WANTED}")
        if len(names) > 2:
            raise FolderError(f"{pair.folder} lies a level too deep: give {root / names[0]} or below; {WANTED}")
        pairs.setdefault(names[0], []).append(pair)
    found, problems = [], {}
    for name in sorted(pairs):
        wrong = _problems(pairs[name], root, recursive)
        if wrong:
            problems[name] = "; ".join(wrong)
        else:
            found.append(_generator(name, pairs[name], root))
    return found, problems


@dataclass(frozen=True)
class Pair:
    """A folder, and those in it that are called like a class of images."""

    folder: Path
    real: tuple[Path, ...]
    fake: tuple[Path, ...]


def _generator(name: str, pairs: Sequence[Pair], root: Path) -> GeneratorFolders:
    parts: dict[str, tuple[Path, ...]] = {}
    for label in ("real", "fake"):
        sides = [(_held_out(pair.folder, root), side) for pair in pairs for side in getattr(pair, label)]
        train, test = (tuple(side for held_out, side in sides if held_out is wanted) for wanted in (False, True))
        parts |= {label: train or test, f"test_{label}": test if train else ()}
    return GeneratorFolders(name, **parts)


def _problems(pairs: Sequence[Pair], root: Path, recursive: bool) -> list[str]:
    """What is missing of a generator's pairs; under a level of ``SPLITS`` one class alone will do."""
    found = []
    for side in (side for pair in pairs for side in (*pair.real, *pair.fake)):
        try:
            list_images(side, recursive)
        except FolderError as error:
            found.append(str(error).partition(";")[0])
    whole = any(pair.real for pair in pairs) and any(pair.fake for pair in pairs)
    for pair in pairs:
        split = any(part.lower() in SPLITS for part in pair.folder.relative_to(root).parts)
        if not (pair.real and pair.fake) and not (split and whole):
            here, names, others = (pair.real[0], REAL, FAKE) if pair.real else (pair.fake[0], FAKE, REAL)
            found.append(f"{pair.folder / others[names.index(here.name.lower())]} does not exist")
    return found


def _pairs(folder: Path, depth: int) -> Iterator[Pair]:
    """Every folder, down to ``depth`` levels, with folders of real or fake images directly in it."""
    inside = sorted(path for path in children(folder) if path.is_dir())
    real, fake = ([path for path in inside if path.name.lower() in names] for names in (REAL, FAKE))
    if real or fake:
        yield Pair(folder, tuple(real), tuple(fake))
    for path in inside if depth else ():
        if path not in (*real, *fake):
            yield from _pairs(path, depth - 1)


def _names(folder: Path, root: Path) -> list[str]:
    """Levels between ``root`` and a folder, without those of ``SPLITS`` and the class itself: generator, class."""
    return [part for part in folder.relative_to(root).parts if part.lower() not in (*SPLITS, *REAL, *FAKE)]


def _held_out(folder: Path, root: Path) -> bool:
    return any(part.lower() in SPLITS[1:] for part in folder.relative_to(root).parts)


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
