"""Images in, by path or as bytes; for each known fingerprint a verdict, its evidence, and what the file says of itself.

What a file says stands beside the verdict and never decides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from difcore.audit.watermark import MESSAGES, read_carriers, read_marks
from difcore.experiments.showroom import demo_pictures
from difcore.files import sha256_file, shown
from difcore.fingerprints.detector import Bank, Judged
from difcore.fingerprints.verdicts import COLUMNS, FALSE_ALARM, NOT_APPLICABLE
from difcore.images.crops import Skipped, decode, read_crop
from difcore.images.decoding import ImageError
from difcore.images.provenance import stated
from difcore.residuals.sets import ResidualSet

MOST_FILES, MOST_BYTES = 40, 40 * 2**20  # that are taken at once, and of one file
LONGEST_NAME = 120  # characters


@dataclass(frozen=True)
class Examined:
    """What was found in some files.

    Attributes
    ----------
    bank, false_alarm
        What was asked, and at which rate.
    table : DataFrame
        As ``Bank.decide``.
    files : dict of image to SHA-256 of the file
    crops, residuals : dict of image to uint8 (crop, crop, 3), float16 (3, crop, crop)
    stated : DataFrame
        image, kind, value: what the file says of itself, and the mark of Stable Diffusion's scripts.
    refused : tuple of Skipped
    """

    bank: Bank
    false_alarm: float
    table: pd.DataFrame
    files: dict[str, str]
    crops: dict[str, np.ndarray]
    residuals: dict[str, np.ndarray]
    stated: pd.DataFrame
    refused: tuple[Skipped, ...]

    def best(self) -> pd.DataFrame:
        """The best match of each image: its first row that applies, or its first."""
        order = self.table.assign(mute=self.table["verdict"] == NOT_APPLICABLE).sort_values("mute", kind="stable")
        return (
            order.drop_duplicates("image").set_index("image").loc[list(self.files)].drop(columns="mute").reset_index()
        )

    def refused_table(self) -> pd.DataFrame:
        """image, reason."""
        return pd.DataFrame([(str(s.path), s.reason) for s in self.refused], columns=["image", "reason"])

    def evidence(self, image: str, fingerprint: str) -> dict[str, Any]:
        """What ``figures.evidence_panels`` draws of one of them."""
        pattern = next(d.pattern.numpy() for d in self.bank.detectors if d.name == fingerprint)
        drawn = {"image": self.crops[image], "residual": self.residuals[image]}
        return {**drawn, "pattern": pattern, "name": fingerprint}


def examined(
    bank: Bank, judged: Judged, false_alarm: float, jpeg: int | None = None, labels: Mapping[str, str] | None = None
) -> Examined:
    """Files that ``bank`` judged, with hashes and what they say; ``labels``: what to call their paths.

    ``jpeg``: the quality that they were encoded at again before.
    """
    called = labels or {}
    paths = {called.get(name, name): Path(name) for name in judged.residuals.names}
    rows, crops = [], {}
    for image, path in paths.items():
        whole = decode(path)
        crops[image] = read_crop(whole, bank.crop, jpeg)
        rows += [(image, kind, value) for kind, value in what_it_says(path, whole).items()]
    return Examined(
        bank,
        false_alarm,
        judged.table.assign(image=[called.get(name, name) for name in judged.table["image"]]),
        {image: sha256_file(path) for image, path in paths.items()},
        crops,
        dict(zip(paths, map(np.asarray, judged.residuals.values), strict=True)),
        pd.DataFrame(rows, columns=["image", "kind", "value"]),
        tuple(Skipped(Path(called.get(str(s.path), str(s.path))), s.reason) for s in judged.residuals.skipped),
    )


def what_it_says(path: Path, pixels: np.ndarray) -> dict[str, str]:
    """``stated``, and the known marks that ``audit.watermark`` reads in the whole image."""
    found = stated(path)
    bits = read_carriers(pixels)[0]
    for message in MESSAGES:
        reading = read_marks([bits], message)
        if reading.marked[0]:
            found["mark"] = f"{message}, {reading.errors[0]:.0%} of its bits wrong"
    return found


def examine_bytes(files: Sequence[tuple[str, bytes]], bank: Bank, false_alarm: float = FALSE_ALARM) -> Examined:
    """``examined``, of files given by name and content, as a browser hands them over; nothing of them is kept.

    Refused, each with its reason: what is beyond ``MOST_FILES`` files or ``MOST_BYTES`` of one, what is no image, too
    small or damaged.
    """
    refused: list[Skipped] = []
    with TemporaryDirectory(prefix="difcore-") as root:
        labels: dict[str, str] = {}
        for k, (given, content) in enumerate(files):
            name = shown(Path(given).name)[-LONGEST_NAME:] or f"file {k}"
            labelled = chain([name], (f"{name} ({n})" for n in count(k)))
            label = next(text for text in labelled if text not in labels.values())
            path = Path(root) / f"{k:03}{Path(name).suffix[:9]}"
            reason = f"too many: at most {MOST_FILES} files at once" if k >= MOST_FILES else ""
            if not reason and len(content) > MOST_BYTES:
                reason = f"too large: {len(content) / 2**20:.0f} MiB, at most {MOST_BYTES // 2**20}"
            if not reason:
                path.write_bytes(content)
                try:
                    read_crop(path, bank.crop)
                except ImageError as error:
                    reason = str(error)
            if reason:
                refused.append(Skipped(Path(label), reason))
            else:
                labels[str(path)] = label
        if not labels:
            empty, nothing = pd.DataFrame(columns=list(COLUMNS)), np.empty((0, 3, bank.crop, bank.crop), np.float16)
            judged = Judged(empty, ResidualSet(nothing, (), ()))
        else:
            judged = bank.judge([Path(path) for path in labels], false_alarm)
        found = examined(bank, judged, false_alarm, labels=labels)
    return replace(found, refused=(*refused, *found.refused))


def summary(found: Examined) -> pd.DataFrame:
    """A row per image: the best match, z, p, verdict with its reason, and in one column what the file says."""
    best = found.best()
    said = found.stated.assign(text=found.stated["kind"] + ": " + found.stated["value"].str.slice(0, 60))
    said = said.groupby("image")["text"].agg("; ".join)
    verdict = best["verdict"] + best["reason"].map(lambda reason: f": {reason}" if reason else "")
    rows = best[["image", "fingerprint", "z", "p", "p_holm"]].assign(verdict=verdict)
    return rows.assign(**{"the file says": [said.get(image, "nothing") for image in best["image"]]})


def demo_files(n: int = 3, size: int = 128) -> list[tuple[str, bytes]]:
    """``demo_pictures`` as PNG files, two of them with statements of their own, and a text that is no image."""
    files, generated = [], PngInfo()
    generated.add_text("parameters", "a house by a lake, Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    camera = Image.Exif()
    camera.update({271: "Demo", 272: "Camera 1"})
    for name, pixels in demo_pictures(n, size).items():
        says: dict[str, Any] = {"demo-deconv2_000.png": {"pnginfo": generated}, "real_000.png": {"exif": camera}}
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **says.get(name, {}))
        files.append((name, buffer.getvalue()))
    return [*files, ("notes.txt", b"no image")]
