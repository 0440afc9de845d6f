"""Where the images of a detection experiment come from: sources, and those of a folder of generators.

A folder holds <root>/<generator>/{0_real,1_fake} for any generators, or another layout of ``difcore.layouts``. Train
and test are drawn from there by the images' content. What lies under a level called test or val, as in
<generator>/test/0_real, is that class's test images, and all others may be trained on. ``scripts/make_root.py`` makes
such a folder of links.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from difcore.experiments.pools import Sets, make_pool, without_copies
from difcore.files import sha256_bytes, sha256_file
from difcore.folders import list_images
from difcore.images import ImageError, Skipped, read_crop
from difcore.layouts import GeneratorFolders, scan_generators
from difcore.paper import DISPLAY, GAN, LTIM, VARIANTS

FAMILIES = {"ltim": LTIM, "gan": GAN, "variants": tuple(dict.fromkeys([*VARIANTS.values(), *VARIANTS]))}


@dataclass(frozen=True)
class Source:
    """One generator: its name, a hash of its images, and how to read them (given a JPEG quality or None)."""

    name: str
    digest: str
    load: Callable[[int | None], Sets]


def generator_paths(generator: GeneratorFolders) -> dict[str, list[Path]]:
    """Files of one generator's folders: "real", "fake" and, where there are any, "test_real", "test_fake"."""
    folders = {label: getattr(generator, label) for label in ("real", "fake", "test_real", "test_fake")}
    return {
        label: [path for folder in there for path in list_images(folder)] for label, there in folders.items() if there
    }


def folder_sets(paths: Mapping[str, Sequence[Path]], crop: int, jpeg: int | None) -> Sets:
    """The centre crops of a generator's images; what cannot be used is in ``skipped``.

    Raises
    ------
    ImageError
        If a class has no usable image.
    """
    pools: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for label, files in paths.items():
        images, names = [], []
        for path in files:
            try:
                images.append(read_crop(path, crop))
                names.append(str(path))
            except ImageError as error:
                skipped.append(Skipped(path, str(error)))
        if not images:
            raise ImageError(f"none of {len(files)} {label.replace('_', ' ')} images could be used")
        pools[label] = make_pool(images, names, jpeg)
    return without_copies(Sets(**pools, skipped=tuple(skipped)))


def folder_sources(
    root: Path | str, wanted: Sequence[str], crop: int, others: bool = True
) -> tuple[dict[str, Source], dict[str, str]]:
    """Generators of ``root`` by name in the order of ``wanted``, and why the others of ``wanted`` are absent.

    Parameters
    ----------
    others : bool
        Take generators that no family of the paper names, too.

    Raises
    ------
    FolderError
        If ``root`` is no folder, or not laid out as generators with two classes each.
    """
    generators, problems = scan_generators(root)
    there = {generator.name: generator for generator in generators}
    known = sorted([*there, *problems])
    extra = [name for name in known if name not in wanted and name not in DISPLAY] if others else []
    found, absent = {}, {}
    for name in (*wanted, *extra):
        if name not in there:
            reason = problems.get(name, "not in the data folder").partition(";")[0].replace(f"{Path(root)}/", "")
            absent[name] = f"absent: {reason}"
            continue
        paths = generator_paths(there[name])
        hashes = [f"{label} {sha256_file(path)}" for label, files in paths.items() for path in files if path.is_file()]
        digest = sha256_bytes(" ".join(hashes).encode())
        found[name] = Source(name, digest, partial(folder_sets, paths, crop))
    return found, absent
