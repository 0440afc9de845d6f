"""What the inspector, detection by drop and the comparison show: known fingerprints, images, what each says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from difcore.demo.generators import fakes_of
from difcore.experiments.claiming import judge_above
from difcore.experiments.pools import FAKE_SEED, REAL_SEED, kept_scenes
from difcore.figures.inspection import Look, inspection, inspection_charts
from difcore.figures.spectra import rho_by_frequency, spectral_peaks
from difcore.figures.style import NotebookFigure
from difcore.files import DATA_DIR, NeedsData
from difcore.fingerprints.detector import Detector, read_named
from difcore.images.crops import read_crop
from difcore.images.decoding import ImageError
from difcore.images.folders import list_images
from difcore.paper import GENERATORS
from difcore.records import Claim
from difcore.residuals.sets import residuals_of
from difcore.stats import auc, auc_estimate

NAMES = ("demo-deconv2", "demo-deconv2-mixed", "demo-nearest")  # a decoder, its child, and one that is no kin
FILES: dict[str, Path] = {name: DATA_DIR / f"fingerprint_{name.replace('-', '_')}.safetensors" for name in NAMES}
DEMO, PUBLISHED = "demo", "published"
FIRST = 600_000  # of the seeds of the images that are shown: none is fitted to
Pixels = np.ndarray  # uint8 (H, W, 3)


def known_fingerprints(wanted: Sequence[str], data_root: str = "") -> dict[str, Detector]:
    """Detectors by name, each with its filter: "demo": the shipped ones; "published": the authors', if they are here.

    Anything else is a fingerprint's file.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or no fingerprint.
    """
    found: dict[str, Detector] = {}
    for word in wanted:
        if word == PUBLISHED:
            with suppress(NeedsData, FileNotFoundError):
                found |= {name: Detector.published(name, data_root or None) for name in GENERATORS}
        else:
            files = [*FILES.values()] if word == DEMO else [Path(word)]
            found |= {d.name: replace(d, denoiser=d.filter()) for d in read_named(files).values()}
    return found


def demo_pictures(n: int = 2, size: int = 256) -> dict[str, Pixels]:
    """``n`` scenes, and as many fakes of each of ``NAMES``, by file name: "real_000.png", "demo-nearest_001.png"."""
    made = {"real": kept_scenes(range(REAL_SEED + FIRST, REAL_SEED + FIRST + n), size)}
    seeds = range(FAKE_SEED + FIRST, FAKE_SEED + FIRST + n)
    made |= {name: fakes_of(name, seeds, size, scenes_of=kept_scenes) for name in NAMES}
    return {f"{name}_{k:03}.png": image for name, images in made.items() for k, image in enumerate(images)}


@dataclass(frozen=True)
class Room:
    """Fingerprints and images by name; what was looked at once is kept."""

    detectors: Mapping[str, Detector]
    images: Mapping[str, Path | Pixels]
    kept: dict[tuple[str, int, str], tuple[Pixels, np.ndarray]] = field(default_factory=dict, compare=False, repr=False)

    def seen(self, fingerprint: str, image: str) -> tuple[Pixels, np.ndarray]:
        """The image's crop and its residual as this fingerprint sees them; ImageError if the image is too small."""
        detector = self.detectors[fingerprint]
        key = (image, detector.crop, detector.filter().hash)
        if key not in self.kept:
            pixels = read_crop(self.images[image], detector.crop)
            values = residuals_of(pixels[None], detector.filter(), detector.crop).values[0].astype(np.float32)
            self.kept[key] = pixels, values
        return self.kept[key]

    def sees(self, fingerprint: str, image: str) -> bool:
        """Whether the image can be used, and is large enough."""
        with suppress(ImageError):
            return bool(self.seen(fingerprint, image))
        return False

    def view(self, fingerprint: str, image: str, look: Look) -> NotebookFigure:
        """The inspector's panes, the same as its controls show."""
        return inspection(*self.seen(fingerprint, image), self.detectors[fingerprint], look, f"{fingerprint} × {image}")

    def charts(self, fingerprint: str, image: str) -> NotebookFigure:
        """What is below the panes: radial profiles, the number line, rho by lattice."""
        return inspection_charts(*self.seen(fingerprint, image), self.detectors[fingerprint])

    def table(self, fingerprints: Sequence[str]) -> pd.DataFrame:
        """rho of every image with these fingerprints, NaN where it cannot be used; z, p, and rho's parts by lattice."""
        rows = []
        for name in fingerprints:
            detector, pattern = self.detectors[name], self.detectors[name].pattern.numpy()
            for image in self.images:
                try:
                    residual = self.seen(name, image)[1]
                except ImageError:  # the inspector says why
                    rows.append({"image": image, "fingerprint": name, "rho": np.nan, "z": np.nan, "p": np.nan})
                    continue
                rho, null = float(detector.rho(residual[None])[0]), detector.null
                judged = {"z": float(null.z(rho)), "p": float(null.p(rho))} if null else {"z": np.nan, "p": np.nan}
                rows.append({"image": image, "fingerprint": name, "rho": rho, **judged})
                rows[-1] |= {f"rho {part}": value for part, value in rho_by_frequency(residual, pattern).items()}
        return pd.DataFrame(rows)

    def peaks(self, fingerprints: Sequence[str]) -> pd.DataFrame:
        """The lines in the fingerprints' spectra."""
        found = [spectral_peaks(self.detectors[n].pattern.numpy()).assign(fingerprint=n) for n in fingerprints]
        return pd.concat(found, ignore_index=True)[["fingerprint", "period", "grid", "height", "fy", "fx"]]


def open_room(fingerprints: Sequence[str], images: str = "", data_root: str = "", demo_images: int = 2) -> Room:
    """The fingerprints, see ``known_fingerprints``, and the images of a folder; without one the demo's."""
    pictures: Mapping[str, Path | Pixels] = (
        {path.name: path for path in list_images(images)} if images else demo_pictures(demo_images)
    )
    return Room(known_fingerprints(fingerprints, data_root), pictures)


def inspection_claims(table: pd.DataFrame, data: str) -> list[Claim]:
    """Of ``30_inspector``: images correlate more with their own generator's fingerprint than real ones do, by z.

    Of a real image the fingerprint with the highest z counts: it is one image, however many are asked.
    """
    origin = table["image"].str.rsplit("_", n=1).str[0]
    real = table[origin == "real"].groupby("image")["z"].max().dropna()
    own = table.loc[origin == table["fingerprint"], "z"].dropna()
    text = f"Images correlate more with their own generator's fingerprint than real ones do (on {data})"
    told = "ρ of generated images is near its centre, of real ones near 0"
    if not len(real) or not len(own):
        return [Claim(text, told, None, "not comparable", "no file's name says what made it, or there is no null")]
    found = auc_estimate(auc(real, own), len(real), len(own))
    low, high = found.interval
    ours = f"AUC of z {found.value:.2f} [{low:.2f}, {high:.2f}], {len(real)} reals, {len(own)} generated"
    return [judge_above(text, told, ours, found, 0.5, "they correlate less")]
