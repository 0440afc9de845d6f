"""Images that are published and cannot be shipped: where they are, and how to get them, checked and resumable.

- The authors' release, from the paper's public repository: 13 fingerprints (checks/), 10 + 10 images of six generators
  (data/) and the mean residual F_DnCNN (dncnn/).
- Images of real generators, and photographs: centre crops, from the repositories that the registry names.

None states a licence for them, so who wants them fetches them, for a study of their own, and passes none on.
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from PIL import Image
from tqdm.auto import tqdm

from difcore.files import DATA_DIR, PROJECT_DIR, NeedsData, atomic_write, read_registry, sha256_file
from difcore.images.crops import centre_crop, decode, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError, make_root, root_of
from difcore.machine.cache import Unwritable, cache_folder, needed_folder

SITE = "https://github.com/"
REPOSITORY = f"{SITE}Sergo2020/DIF_pytorch_official"
# The commit the registry was made from. Only its abbreviation is known; the site's addresses resolve abbreviations.
# Were another commit to be served, the hashes of the registry would tell.
COMMIT = "96f482d"
RELEASE_FOLDER = "dif_official"
FETCHED = f"{RELEASE_FOLDER}-{COMMIT}"  # in the cache
LICENCE = (
    "the repositories state no licence for these images: use them for your own study, and do not pass them on or "
    "publish them"
)
AT_A_TIME = 8  # downloads
PHOTOS, PAIRED = "photos", "pix2pix"  # the reals of most sets; the set that has its own


class FetchError(RuntimeError):
    """An image or the release could not be had; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """Where one file comes from."""

    file: str  # its place under the target, such as "sd14/000.webp"
    repository: str  # its place on the site, also the next two
    commit: str
    path: str
    sha256: str  # of the bytes there
    crop: int | None = None  # side of the centre crop that is kept, losslessly, px; None keeps the bytes as they are
    pixels: str = ""  # ``sha256_pixels`` of that crop

    def is_in(self, folder: Path) -> bool:
        """Whether ``folder`` has the file as it should be."""
        path = folder / self.file
        if not path.is_file():
            return False
        if self.crop is None:
            return sha256_file(path) == self.sha256
        with suppress(ImageError):
            return sha256_pixels(decode(path)) == self.pixels
        return False

    def copies(self, mirror: Path) -> list[Path]:
        """Where ``mirror`` may have it: as a fetch leaves it or as the site has it, with and without the commit."""
        places = (Path(RELEASE_FOLDER, self.file), self.file, Path(self.repository, self.commit, self.path))
        return [mirror / place for place in (*places, Path(self.repository, self.path)) if (mirror / place).is_file()]


def release_registry() -> dict[str, str]:
    """Path of each file of the release, relative to its root, to its SHA-256."""
    return read_registry(DATA_DIR / "release_registry.txt")


def real_registry() -> tuple[Source, ...]:
    """Every image of real generators, and every photograph, that there is to fetch."""
    with (DATA_DIR / "real_sources.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    return tuple(Source(a, b, c, d, e, int(crop) if crop else None, pixels) for a, b, c, d, e, crop, pixels in rows)


def release_in(folder: Path | str) -> Path | None:
    """The release's root if ``folder`` is it or holds it as dif_official/ with no file missing, by their names."""
    names = release_registry()
    roots = (Path(folder) / RELEASE_FOLDER, Path(folder))
    return next((root for root in roots if all((root / name).is_file() for name in names)), None)


def locate(data_root: Path | str | None = None) -> Path:
    """Folder of the release, with checks/, data/ and dncnn/.

    The first that holds all of it: ``data_root`` (default: the environment variable DIFCORE_DATA), what
    ``fetch_release`` put into the cache, <project>/../shared/data. NeedsData if none does.
    """
    named = os.path.expanduser(os.environ.get("DIFCORE_DATA", "") if data_root is None else data_root)
    folders: list[Path | str] = [named] if named else []
    with suppress(Unwritable):
        folders.append(cache_folder("release") / FETCHED)
    for folder in (*folders, PROJECT_DIR.parent / "shared" / "data"):
        if found := release_in(folder):
            return found
    raise NeedsData("needs `difcore fetch`")


def fetch_release(mirror: Path | None = None, progress: bool = True) -> Path:
    """Bring the release into the cache, where ``locate`` finds it; as ``fetch``."""
    own = REPOSITORY.removeprefix(SITE)
    sources = [Source(name, own, COMMIT, name, digest) for name, digest in release_registry().items()]
    return fetch(sources, needed_folder("release") / FETCHED, mirror, progress)


def fetch(
    sources: Sequence[Source],
    folder: Path | None = None,
    mirror: Path | None = None,
    progress: bool = True,
    site: str = SITE,
    retries: int = 2,
) -> Path:
    """Bring files into ``folder``; what is there and right is kept, so a fetch resumes."""
    target = needed_folder("real") if folder is None else Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    # The threads end before the folder that they write to goes: else its removal fails, and hides why the fetch did.
    with TemporaryDirectory(prefix=".fetching-", dir=target) as scratch, ThreadPoolExecutor(AT_A_TIME) as pool, quiet():
        there = list(pool.map(lambda source: source.is_in(target), sources))
        todo = [source for source, right in zip(sources, there, strict=True) if not right]
        if mirror and (missing := [source.file for source in todo if not source.copies(mirror)]):
            what = "the release" if todo[0].commit == COMMIT else "the images"
            raise FetchError(f"{mirror} is no copy of {what}: {len(missing)} files missing, such as {missing[0]}")

        def bring(source: Source) -> None:
            if mirror is None:
                original = download(source, Path(scratch) / source.sha256[:16], site, retries)
                keep_source(source, original, target)
                original.unlink()
                return
            for found in source.copies(mirror):
                if sha256_file(found) == source.sha256:
                    return keep_source(source, found, target)
                if source.crop and found == mirror / source.file and source.is_in(mirror):
                    return copy(found, target / source.file)
            raise FetchError(f"{mirror}: {source.file} is another file, its SHA-256 differs from the registry's")

        bar = tqdm(total=len(sources), initial=len(sources) - len(todo), unit="file", disable=not progress)
        with bar:
            for _ in pool.map(bring, todo):
                bar.update()
    return target


def keep_source(source: Source, original: Path, target: Path) -> None:
    """Store an original that was checked: its bytes, or the centre crop of its pixels, lossless."""
    if source.crop is None:
        return copy(original, target / source.file)
    pixels = centre_crop(decode(original), source.crop)
    if sha256_pixels(pixels) != source.pixels:
        raise FetchError(f"{source.file}: the original is the registry's, but is decoded to other pixels here")
    image = Image.fromarray(pixels)
    atomic_write(target / source.file, lambda path: image.save(path, "WEBP", lossless=True, quality=60, method=4))


def copy(source: Path, target: Path) -> None:
    """Copy a file; none sees half of it."""
    atomic_write(target, lambda path: shutil.copyfile(source, path))


@contextmanager
def quiet() -> Iterator[None]:
    """Without pooch's line per file, which would break a bar."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def download(source: Source, folder: Path, site: str, retries: int) -> Path:
    """Download a file into ``folder`` with pooch, which checks it; FetchError in one line if it cannot be had."""
    import pooch
    import requests

    base, name = f"{site}{source.repository}/raw/{source.commit}/", quote(source.path)
    try:
        downloads = pooch.create(folder, base, registry={name: f"sha256:{source.sha256}"}, retry_if_failed=retries)
        return Path(downloads.fetch(name, downloader=pooch.HTTPDownloader(timeout=30)))
    except requests.exceptions.HTTPError as error:
        raise FetchError(f"{base}{name} could not be had: {error}".splitlines()[0]) from error
    except requests.exceptions.RequestException as error:
        reason = f"no connection to {base} ({type(error).__name__})"
        raise FetchError(f"{reason}; try again later, or give a local copy with --mirror DIR") from error
    except ValueError as error:  # pooch's word for a wrong hash
        raise FetchError(f"{base}{name}: its SHA-256 differs from the registry's") from error


def lay_out(folder: Path, reals: Path | None = None, test_reals: Path | None = None) -> dict[str, int]:
    """Links under ``folder``/root in the layout of a data root; images in each of its folders.

    Every generator's reals are ``reals`` to train on and ``test_reals`` to test on; by default the photographs of
    photos/train and photos/test. pix2pix has its own reals, the photographs that its images stand for. Links of an
    earlier call are replaced, in these folders alone.
    """
    root = folder / "root"
    train = [folder / PHOTOS / "train"] if reals is None else [reals]
    test = [test_reals] if test_reals is not None else [folder / PHOTOS / "test"] if reals is None else []
    sets = sorted({source.file.split("/")[0] for source in real_registry()} - {PHOTOS, PAIRED})
    images = root_of({name: folder / name for name in sets if (folder / name).is_dir()}, train, test)
    if (folder / PAIRED).is_dir():
        images |= root_of({PAIRED: folder / PAIRED / "1_fake"}, [folder / PAIRED / "0_real"])
    own = [Path(name, side) for name in (*sets, PAIRED) for side in ("0_real", "1_fake", "test/0_real")]
    if linked := [root / place for place in own if (root / place).resolve() != root.resolve() / place]:
        raise FolderError(f"{linked[0]} is, or lies in, a link to another folder; expected a folder of links to images")
    for place in own:
        for link in (root / place).iterdir() if (root / place).is_dir() else ():
            if link.is_symlink():
                link.unlink()
    return make_root(root, images)
