"""The authors' release: where it is on this machine, and how to get it.

13 published fingerprints (checks/), 10 + 10 images of six generators (data/) and the mean residual F_DnCNN (dncnn/),
from the paper's public repository. It carries no licence, so it is downloaded by who wants it and never redistributed.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

from difcore.files import DATA_DIR, PROJECT_DIR, NeedsData, atomic_write, sha256_file
from difcore.machine.cache import Unwritable, cache_folder, needed_folder

REPOSITORY = "https://github.com/Sergo2020/DIF_pytorch_official"
# The commit the registry was made from. Only its abbreviation is known; the site's addresses resolve abbreviations.
# Were another commit to be served, the hashes of the registry would tell.
COMMIT = "96f482d"
BASE_URL = f"{REPOSITORY}/raw/{COMMIT}/"
REGISTRY_FILE = DATA_DIR / "release_registry.txt"
RELEASE_FOLDER = "dif_official"
FETCHED = f"{RELEASE_FOLDER}-{COMMIT}"  # in the cache


class FetchError(RuntimeError):
    """The release could not be had; the message is one line that says what to do."""


def registry() -> dict[str, str]:
    """Path of each file of the release, relative to its root, to its SHA-256."""
    lines = REGISTRY_FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line.strip())


def fetched_folder() -> Path | None:
    """Where ``fetch`` puts the release: in difcore's cache; None if there can be none."""
    try:
        return cache_folder("release") / FETCHED
    except Unwritable:
        return None


def verify(folder: Path | str, files: Mapping[str, str] | None = None) -> dict[str, str]:
    """What ``folder`` lacks or has wrong of the release: path to "missing" or "wrong". Empty when all is well."""
    problems = {}
    for name, digest in (registry() if files is None else files).items():
        path = Path(folder) / name
        if not path.is_file():
            problems[name] = "missing"
        elif sha256_file(path) != digest:
            problems[name] = "wrong"
    return problems


def release_in(folder: Path | str, files: Mapping[str, str] | None = None) -> Path | None:
    """The release's root if ``folder`` is it or holds it as dif_official/ with no file missing, else None.

    Looks at names only; ``verify`` compares the contents.
    """
    names = registry() if files is None else files
    for root in (Path(folder) / RELEASE_FOLDER, Path(folder)):
        if all((root / name).is_file() for name in names):
            return root
    return None


def locate(data_root: Path | str | None = None) -> Path:
    """Folder of the release, with checks/, data/ and dncnn/.

    The first that holds all of it: ``data_root`` (default: the environment variable DIFCORE_DATA), what ``fetch`` put
    into the cache, <project>/../shared/data.

    Raises
    ------
    NeedsData
        If none does.
    """
    named = os.path.expanduser(os.environ.get("DIFCORE_DATA", "") if data_root is None else data_root)
    for folder in (named, fetched_folder(), PROJECT_DIR.parent / "shared" / "data"):
        found = release_in(folder) if folder else None
        if found is not None:
            return found
    raise NeedsData("needs `difcore fetch`")


def fetch(
    mirror: Path | str | None = None,
    progress: bool = True,
    *,
    folder: Path | str | None = None,
    files: Mapping[str, str] | None = None,
    base_url: str = BASE_URL,
    retries: int = 2,
) -> Path:
    """Bring the release into ``folder``; files already there with the right hash are kept, so a fetch resumes.

    Parameters
    ----------
    mirror : path, optional
        A local copy to take instead of downloading: the release's root, or a folder that holds it as dif_official/.
    progress : bool
        Show one bar over all files.
    folder : path, optional
        Target; default difcore's cache, where ``locate`` finds it.
    files, base_url, retries
        What to fetch (path to SHA-256), from where, and how often to try a file again.

    Raises
    ------
    FetchError
        Without network, for a file the server lacks, or for one whose SHA-256 is not the registry's.
    CacheError
        If the cache cannot be written.
    """
    target = needed_folder("release") / FETCHED if folder is None else Path(folder)
    wanted = registry() if files is None else dict(files)
    todo = verify(target, wanted)
    source = None if mirror is None else _mirror_root(Path(mirror), wanted)
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), unit="file", disable=not progress)
    with bar, quiet_pooch():
        for name in todo:
            if source is None:
                download(name, wanted[name], target, base_url, retries)
            else:
                copy_checked(source / name, wanted[name], target / name)
            bar.update()
    return target


def _mirror_root(mirror: Path, wanted: Mapping[str, str]) -> Path:
    """The release's root at or in ``mirror``; FetchError that names what is missing otherwise."""
    root = release_in(mirror, wanted)
    if root is None:
        missing = [name for name in wanted if not (mirror / name).is_file()]
        raise FetchError(f"{mirror} is no copy of the release: {len(missing)} files missing, such as {missing[0]}")
    return root


def copy_checked(source: Path, digest: str, target: Path) -> None:
    """Copy one file, checked before it takes its place; FetchError if it is another one."""

    def write(temporary: Path) -> None:
        shutil.copyfile(source, temporary)
        if sha256_file(temporary) != digest:
            raise FetchError(f"{source} is not the file of the registry: its SHA-256 differs from the registry's")

    atomic_write(target, write)


@contextmanager
def quiet_pooch() -> Iterator[None]:
    """Without pooch's line per file, which would break a bar."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def download(name: str, digest: str, target: Path, base_url: str, retries: int) -> None:
    """Download one file with pooch (temporary file, checked, then moved into place).

    Raises
    ------
    FetchError
        Without network, if the server lacks the file, or if it is another one.
    """
    import pooch
    import requests

    try:
        downloads = pooch.create(target, base_url, registry={name: f"sha256:{digest}"}, retry_if_failed=retries)
        downloads.fetch(name, downloader=pooch.HTTPDownloader(timeout=30))
    except requests.exceptions.HTTPError as error:
        raise FetchError(f"{base_url}{name} could not be had: {error}".splitlines()[0]) from error
    except requests.exceptions.RequestException as error:
        reason = f"no connection to {base_url} ({type(error).__name__})"
        raise FetchError(f"{reason}; try again later, or give a local copy with --mirror DIR") from error
    except ValueError as error:  # pooch's word for a wrong hash
        raise FetchError(f"{base_url}{name}: its SHA-256 differs from the registry's") from error
