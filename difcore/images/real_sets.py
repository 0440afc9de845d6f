"""Images of real generators, and photographs: where they are published, and how to get them.

The registry names each image's public repository, commit, path, SHA-256 and centre crop; it holds no image. The
repositories state no licence for the images, so who fetches them does so for a study of their own and passes none on.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from PIL import Image
from tqdm.auto import tqdm

from difcore.files import DATA_DIR, atomic_write, sha256_file
from difcore.images.crops import centre_crop, decode, sha256_pixels
from difcore.images.decoding import ImageError
from difcore.images.folders import FolderError, make_root, root_of
from difcore.images.release import FetchError, copy_checked, download, quiet_pooch
from difcore.machine.cache import needed_folder

REGISTRY_FILE = DATA_DIR / "real_sources.csv"
SITE = "https://github.com/"
LICENCE = (
    "the repositories state no licence for these images: use them for your own study, and do not pass them on or "
    "publish them"
)
AT_A_TIME = 8  # downloads
PHOTOS, PAIRED = "photos", "pix2pix"  # the reals of most sets; the set that has its own


@dataclass(frozen=True)
class Source:
    """Where one image comes from.

    Attributes
    ----------
    file : str
        Its place under the target, such as "sd14/000.webp".
    repository, commit, path : str
        Its place on the site.
    sha256 : str
        Of the bytes there.
    crop : int or None
        Side of the centre crop that is kept, losslessly, px; None keeps the bytes as they are.
    pixels : str
        ``sha256_pixels`` of that crop; empty where the bytes are kept.
    """

    file: str
    repository: str
    commit: str
    path: str
    sha256: str
    crop: int | None
    pixels: str

    def is_in(self, folder: Path) -> bool:
        """Whether ``folder`` has the image as it should be."""
        path = folder / self.file
        if not path.is_file():
            return False
        if self.crop is None:
            return sha256_file(path) == self.sha256
        try:
            return sha256_pixels(decode(path)) == self.pixels
        except ImageError:
            return False


def registry() -> tuple[Source, ...]:
    """Every image there is to fetch."""
    with REGISTRY_FILE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    return tuple(Source(a, b, c, d, e, int(crop) if crop else None, pixels) for a, b, c, d, e, crop, pixels in rows)


def fetch_real(
    mirror: Path | str | None = None,
    progress: bool = True,
    *,
    folder: Path | str | None = None,
    sources: Sequence[Source] | None = None,
    site: str = SITE,
    retries: int = 2,
) -> Path:
    """Bring the images into ``folder``, as <set>/<name>; what is there and right is kept, so a fetch resumes.

    Parameters
    ----------
    mirror : path, optional
        A local folder to take them from instead of downloading: originals as <repository>/<commit>/<path> or
        <repository>/<path>, or what a fetch has made.
    progress : bool
        Show one bar over all images.
    folder : path, optional
        Target; default difcore's cache.
    sources, site, retries
        What to fetch, from where, and how often to try an image again.

    Raises
    ------
    FetchError
        Without network, for an image that the site or the mirror lacks, or for one that is not the registry's; it is
        named. What was fetched before is kept.
    CacheError
        If the cache cannot be written.
    """
    target = needed_folder("real") if folder is None else Path(folder)
    wanted = registry() if sources is None else sources
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        todo = [s for s, there in zip(wanted, pool.map(lambda s: s.is_in(target), wanted), strict=True) if not there]
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(todo), unit="image", disable=not progress)
    target.mkdir(parents=True, exist_ok=True)
    with bar, quiet_pooch(), TemporaryDirectory(prefix=".fetching-", dir=target) as temporary:

        def bring(source: Source) -> None:
            if mirror is not None:
                _from_mirror(source, Path(mirror), target)
                return
            base, name = f"{site}{source.repository}/raw/{source.commit}/", quote(source.path)
            scratch = Path(temporary) / source.sha256[:16]
            download(name, source.sha256, scratch, base, retries)
            _keep(source, scratch / name, target)
            (scratch / name).unlink()

        with ThreadPoolExecutor(AT_A_TIME if mirror is None else 2) as pool:
            running = [pool.submit(bring, source) for source in todo]
            try:
                for future in as_completed(running):
                    future.result()
                    bar.update()
            finally:
                pool.shutdown(cancel_futures=True)
    return target


def _from_mirror(source: Source, mirror: Path, target: Path) -> None:
    if source.is_in(mirror):
        copy_checked(mirror / source.file, sha256_file(mirror / source.file), target / source.file)
        return
    places = [Path(source.repository, source.commit, source.path), Path(source.repository, source.path)]
    found = next((mirror / place for place in places if (mirror / place).is_file()), None)
    if found is None:
        raise FetchError(f"{mirror} has neither {source.file}, as a fetch leaves it, nor the original {places[0]}")
    if sha256_file(found) != source.sha256:
        raise FetchError(f"{found} is not the original of {source.file}: its SHA-256 differs from the registry's")
    _keep(source, found, target)


def _keep(source: Source, original: Path, target: Path) -> None:
    """Store an original that was checked: its bytes, or the centre crop of its pixels, lossless."""
    if source.crop is None:
        copy_checked(original, source.sha256, target / source.file)
        return
    pixels = centre_crop(decode(original), source.crop)
    if sha256_pixels(pixels) != source.pixels:
        raise FetchError(f"{source.file}: the original is the registry's, but is decoded to other pixels here")
    image = Image.fromarray(pixels)
    atomic_write(target / source.file, lambda path: image.save(path, "WEBP", lossless=True, quality=60, method=4))


def lay_out(folder: Path, reals: Path | None = None, test_reals: Path | None = None) -> dict[str, int]:
    """Links under ``folder``/root in the layout of a data root; images in each of its folders.

    Every generator's reals are ``reals`` to train on and ``test_reals`` to test on; by default the photographs of
    photos/train and photos/test. pix2pix has its own reals, the photographs that its images stand for. Links of an
    earlier call are replaced, in these folders alone.

    Raises
    ------
    FolderError
        If a folder of reals does not exist or holds no image, or one under root is itself a link. Nothing was changed.
    """
    root = folder / "root"
    train = [folder / PHOTOS / "train"] if reals is None else [reals]
    test = [test_reals] if test_reals is not None else [folder / PHOTOS / "test"] if reals is None else []
    sets = sorted({source.file.split("/")[0] for source in registry()} - {PHOTOS, PAIRED})
    images = root_of({name: folder / name for name in sets if (folder / name).is_dir()}, train, test)
    paired = folder / PAIRED
    if paired.is_dir():
        images |= root_of({PAIRED: paired / "1_fake"}, [paired / "0_real"])
    own = [Path(name, side) for name in (*sets, PAIRED) for side in ("0_real", "1_fake", "test/0_real")]
    if linked := [root / place for place in own if (root / place).resolve() != root.resolve() / place]:
        raise FolderError(f"{linked[0]} is, or lies in, a link to another folder; expected a folder of links to images")
    for place in own:
        for link in (root / place).iterdir() if (root / place).is_dir() else ():
            if link.is_symlink():
                link.unlink()
    return make_root(root, images)
