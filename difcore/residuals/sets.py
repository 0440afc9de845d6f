"""Residuals of many images: decoded, denoised once, kept on disk under their pixels' hash, returned as one array."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from difcore.files import atomic_write, sha256_bytes
from difcore.images.crops import Skipped, check_quality, read_crop, sha256_pixels, through_jpeg
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images
from difcore.machine.cache import Keeper, needed_folder, optional_folder, used
from difcore.machine.devices import to_batch
from difcore.machine.source_digest import code_digest
from difcore.machine.winograd import TORCH
from difcore.residuals.denoisers import Denoiser, load_denoiser

PIXELS_PER_CALL = {"cpu": 256**2, "cuda": 32 * 256**2}  # a CPU is fastest when a layer's activations stay in cache
DECODERS = {"cuda": 8}  # threads; elsewhere two, since filtering keeps the cores busy
IN_MEMORY = 2**28  # bytes; a larger array of residuals is backed by a file that the system may page out

Source = Path | str | Sequence[Path] | np.ndarray


@dataclass(frozen=True)
class ResidualSet:
    """Residuals of a set of images.

    Attributes
    ----------
    values : ndarray (N, 3, crop, crop) float16
        In the images' units (1 = full range); a memory-mapped file when large.
    names : tuple of str
        File path, or index in the array given.
    hashes : tuple of str
        ``sha256_pixels`` of each native crop, before any re-encoding: the same pixels under other bytes (metadata
        removed, saved anew without loss) are the same image.
    skipped : tuple of Skipped
        Images left out, each with its reason.
    denoiser : Denoiser or None
        The filter that gave them.
    """

    values: np.ndarray
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    denoiser: Denoiser | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Sequence[int] | np.ndarray | slice) -> ResidualSet:
        """The images at ``index``, in that order; nothing skipped is carried along."""
        chosen = np.arange(len(self))[np.asarray(index, int) if isinstance(index, Sequence) else index]
        names = tuple(self.names[i] for i in chosen)
        hashes = tuple(self.hashes[i] for i in chosen)
        return ResidualSet(self.values[chosen], names, hashes, denoiser=self.denoiser)


def residuals_of(
    source: Source,
    denoiser: Denoiser,
    crop: int = 256,
    jpeg: int | None = None,
    cache: Path | str | bool = True,
    progress: bool = False,
) -> ResidualSet:
    """Residuals R = f_D(X) - F_D of the centre crops of images (supplement, equation 1).

    The same pixels are denoised at most once per denoiser, in this run or any other that shares the cache; a run that
    is killed loses the image it was at. Files are decoded each time: what a decoder makes of them is in the key.

    Parameters
    ----------
    source : folder, list of files, or uint8 array (N, H, W, 3)
    crop : int
        Side of the centre crop of native pixels.
    jpeg : int or None
        Re-encode each crop as JPEG of this quality first: the format-matched control.
    cache : bool or path
        True: difcore's cache, as far as it can be written and its limit allows. False: nothing is kept.

    Returns
    -------
    ResidualSet
        Unreadable and too small images are in ``skipped``, not in ``values``.

    Raises
    ------
    FolderError
        If ``source`` is a folder without images.
    ValueError
        If ``source`` is an array of another shape or type.
    ImageError
        If not one image is usable: the message counts and names the reasons.
    """
    check_quality(jpeg)
    root = optional_folder("residuals") if cache is True else Path(cache) if cache else None
    keeper = Keeper(limited=cache is True)
    if isinstance(source, np.ndarray) and (source.ndim != 4 or source.shape[3] != 3 or source.dtype != np.uint8):
        raise ValueError(f"expected uint8 images (N, H, W, 3), got {source.dtype} {source.shape}")
    if isinstance(source, str | Path):
        source = list_images(source)
    values = allocate((len(source), 3, crop, crop))
    names: list[str] = []
    hashes: list[str] = []
    skipped: list[Skipped] = []
    pending: list[tuple[int, Path | None, np.ndarray]] = []
    slots: dict[str, int] = {}
    fewest = 1 if denoiser.engine == TORCH else torch.get_num_threads()  # the other engine gives each thread an image
    per_call = max(fewest, PIXELS_PER_CALL.get(denoiser.device.split(":")[0], 256**2) // crop**2)

    def flush() -> None:
        batch = to_batch(np.stack([image for _, _, image in pending]), denoiser.device)
        out = denoiser(batch).half().cpu().numpy()
        for (slot, stored, _), residual in zip(pending, out, strict=True):
            values[slot] = residual
            if stored is not None:
                keeper.keep(partial(atomic_write, stored, partial(np.save, arr=residual)), residual.nbytes)
        pending.clear()

    bar = tqdm(total=len(source), desc=f"residuals ({denoiser.name})", disable=not progress)
    for k, native in enumerate(decoded(source, crop, denoiser.device)):
        bar.update()
        name = str(k if isinstance(source, np.ndarray) else Path(source[k]))
        if isinstance(native, Exception):
            skipped.append(Skipped(Path(name), str(native)))
            continue
        content, slot = sha256_pixels(native), len(names)
        if content not in slots:  # copies are filled in below
            slots[content] = slot
            filtered = native if jpeg is None else through_jpeg(native, jpeg)
            stored = root / stored_name(sha256_pixels(filtered), denoiser) if root else None
            known = read_stored(stored, crop) if stored else None
            if known is None:
                pending.append((slot, stored, filtered))
            else:
                values[slot] = known
        names.append(name)
        hashes.append(content)
        if len(pending) == per_call:
            flush()
    if pending:
        flush()
    bar.close()
    for slot, content in enumerate(hashes):
        if slots[content] != slot:
            values[slot] = values[slots[content]]
    if not names:
        reasons = "; ".join(sorted({s.reason for s in skipped})[:3])
        raise ImageError(f"none of {len(source)} images could be used ({reasons})")
    return ResidualSet(values[: len(names)], tuple(names), tuple(hashes), tuple(skipped), denoiser)


def decoded(source: Sequence[Path] | np.ndarray, crop: int, device: str) -> Iterator[np.ndarray | Exception]:
    """The centre crop of each image, or why there is none, in order. Threads read files ahead of what is filtered."""

    def attempt(item: Path | np.ndarray) -> np.ndarray | Exception:
        try:
            return read_crop(item, crop)
        except (ImageError, OSError) as error:
            return error

    if isinstance(source, np.ndarray):
        yield from map(attempt, source)
        return
    threads = min(DECODERS.get(device.split(":")[0], 2), os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[np.ndarray | Exception]] = deque()
        for path in source:
            ahead.append(pool.submit(attempt, Path(path)))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def stored_name(pixels: str, denoiser: Denoiser) -> str:
    """Place of a residual in the cache: the hashes of the pixels that were filtered, of the filter and of its code.

    Nothing else determines its values; where the crop was cut and who decoded or re-encoded it shows in the pixels.
    """
    kind = "" if denoiser.device == "cpu" else f"-{denoiser.device.partition(':')[0]}"  # they round otherwise
    kind += "" if denoiser.engine == TORCH else f"-{denoiser.engine}"
    return f"{denoiser.hash[:16]}-{filter_code()}{kind}/{pixels[:2]}/{pixels}.npy"


@cache
def filter_code() -> str:
    """What the filters' arithmetic depends on besides weights: their code and torch's version, as a short hash."""
    return sha256_bytes(f"{code_digest(load_denoiser)} {torch.__version__}".encode())[:8]


def read_stored(path: Path, crop: int) -> np.ndarray | None:
    """A cached residual, or None if there is none of the right shape (a damaged file counts as none)."""
    with suppress(OSError, ValueError, EOFError):
        values = np.load(path, mmap_mode="r")
        if values.shape == (3, crop, crop):
            used(path)
            return values
    return None


def allocate(shape: tuple[int, ...]) -> np.ndarray:
    """A float16 array: in memory if small, else in a nameless temporary file that goes with the array."""
    size = int(np.prod(shape, dtype=np.int64)) * 2
    if size <= IN_MEMORY:
        return np.empty(shape, np.float16)
    folder = None
    with suppress(OSError):  # the system's folder may lie in memory
        folder = needed_folder("residuals")
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.truncate(size)
        return np.memmap(stream, np.float16, "r+", shape=shape)
