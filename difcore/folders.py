"""What is in a folder of images. ``difcore.layouts`` has trees of generators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from difcore.encodings import HEAD, looks_like_image

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
