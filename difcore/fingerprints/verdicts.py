"""What detectors say of an image: ranked by z, decided at a stated rate of false alarms, or not at all, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from difcore.fingerprints.correlation import nearest_centre
from difcore.fingerprints.null import FEW, Null, log10_ratio, unlike
from difcore.images.crops import read_crop, sha256_pixels
from difcore.images.decoding import open_image
from difcore.images.headers import header_facts
from difcore.stats import holm

if TYPE_CHECKING:
    from difcore.fingerprints.detector import Detector

FLAT = 0.95  # share of pixels like their neighbours from which a crop is constant but for a few
LOW, HIGH, CUT = (0.2, 0.3), 0.4, -22.0  # bands in cycles per px, and dB between them
CONTENT = 16  # hex digits kept of an image's hash
GENERATED, NO_MATCH, UNDECIDED, NOT_APPLICABLE = "generated", "no match", "undecided", "not applicable"
FALSE_ALARM = 0.01
NO_NULL = "no null"  # in a detector's metadata: why the reals that were given make none
DEMOSAICED = "demosaiced photographs"  # a kind of reals that only counts for images with a lattice
# Share of a residual that a lattice of period 2 explains: the least of the shipped null's demosaiced photographs, and
# more than any of its lossless ones (the greatest: 0.00033).
LATTICE = 0.0004
COLUMNS = ("image", "fingerprint", "rho", "z", "p", "p_holm", "log10_lr", "nearest_centre", "verdict", "reason")


def contents(hashes: Iterable[str]) -> list[str]:
    """What is kept of images' ``sha256_pixels``: their first 64 bits, 16 hex digits."""
    return [digest[:CONTENT] for digest in hashes]


@dataclass(frozen=True)
class Condition:
    """What is known of one image.

    ``flat``: share of the crop's pixels that are as their right and lower neighbours. ``cut``: power in the spectrum's
    highest band over that of the middle one, dB. ``jpeg_quality``: IJG's. ``content``: ``sha256_pixels`` of the crop.
    """

    flat: float
    cut: float
    jpeg_quality: int | None
    content: str

    @property
    def constant(self) -> bool:
        """Whether the crop shows next to nothing; a letterboxed image may, though all of it does not."""
        return self.flat >= FLAT

    @property
    def resampled(self) -> bool:
        """Whether the spectrum is cut off: the image was made larger.

        Of 100 images each of five clean generators, of TAEF2 and of JPEG photographs, and of 68 lossless ones, two of
        SD 2.1 are below -22 dB and no other. Of 60 photographs made larger by 1.5 or 2 with Lanczos three in four are,
        made twice as large with bicubic or bilinear half; by a quarter, or by half with softer kernels, none.
        """
        return not self.constant and self.cut < CUT


def condition_of(source: Path | np.ndarray, crop: int) -> Condition:
    """Of a readable image of at least ``crop`` px a side."""
    pixels, jpeg = read_crop(source, crop), None
    if isinstance(source, Path):
        with open_image(source) as image:
            quality = header_facts(image, source.suffix)["jpeg_quality"]
        jpeg = None if np.isnan(quality) else int(quality)
    return Condition(flat_share(pixels), spectral_cut(pixels), jpeg, sha256_pixels(pixels))


def flat_share(pixels: np.ndarray) -> float:
    """Share of the pixels of uint8 (H, W, 3) that equal both their right and their lower neighbour, 0 to 1."""
    same = (pixels[:-1, :-1] == pixels[1:, :-1]) & (pixels[:-1, :-1] == pixels[:-1, 1:])
    return float(same.all(-1).mean())


def spectral_cut(pixels: np.ndarray) -> float:
    """Mean power above .4 cycles per px over that between .2 and .3, in dB, of uint8 (H, W, 3); 0 without any.

    Frequencies are the larger of the two directions': what was made larger by s has next to nothing above 1 / (2 s).
    A Hann window keeps the border out.
    """
    image = pixels.astype(np.float32) - pixels.mean((0, 1), dtype=np.float32)
    window = np.hanning(pixels.shape[0])[:, None, None] * np.hanning(pixels.shape[1])[None, :, None]
    power = (np.abs(np.fft.fft2(image * window, axes=(0, 1))) ** 2).mean(-1)
    f = np.maximum(*np.abs(np.meshgrid(*(np.fft.fftfreq(n) for n in power.shape), indexing="ij")))
    high, low = power[f > HIGH].mean(), power[(f > LOW[0]) & (f < LOW[1])].mean()
    return float(10 * np.log10(high / low)) if high > 0 and low > 0 else 0.0


def not_applicable(detector: Detector, condition: Condition, rho: float, unfit: str) -> str:
    """Why the detector says nothing of the image; empty if it does. ``unfit``: why it says nothing of any."""
    if condition.constant or rho == 0:
        return "constant image"
    return unfit or ("in training set" if contents([condition.content])[0] in detector.trained else "")


def undecided(detector: Detector, condition: Condition, rho: float, asked: int, rate: float, jpeg: bool) -> str:
    """Why an image that was not called generated may be so nevertheless; empty if nothing speaks for that."""
    if detector.null is None:
        return f"no null: {detector.metadata.get(NO_NULL, 'give --reals')}"
    if detector.null.smallest * asked > rate:
        return f"{detector.null.n} reals cannot vouch for it"
    if detector.foreign and (jpeg or condition.jpeg_quality is not None):
        return "JPEG last: does not survive"
    if detector.fakes is not None and unlike(detector.null, detector.fakes, rho):
        return "outside what was calibrated"
    return "made larger" if condition.resampled else ""


def judge(
    detectors: Mapping[str, Detector],
    rho: np.ndarray,
    images: Sequence[str],
    conditions: Sequence[Condition],
    rate: float = FALSE_ALARM,
    unfit: Mapping[str, str] | None = None,
    jpeg: bool = False,
    lattices: np.ndarray | None = None,
) -> pd.DataFrame:
    """Every image by every detector, best match (highest z) first for each image, not applicable ones last.

    "Generated": a real image would correlate as much with a probability of at most ``rate``, corrected by Holm for the
    number of detectors that were asked about it. z leaves demosaiced reals aside: it says whose, not whether.

    ``rho`` (K, N): of K detectors by name, N images. ``unfit``: by name, why a detector applies to none of them.
    ``jpeg``: they were re-encoded just now. ``lattices`` (N,): share of each residual that a lattice of period 2
    explains; below ``LATTICE`` the image is no demosaiced photograph, and their probability does not count.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a false-alarm rate lies between 0 and 1, got {rate}")
    known = list(detectors.items())
    z, p, plain, margin, ratio = (np.full(rho.shape, np.nan) for _ in range(5))
    for k, (_, d) in enumerate(known):
        margin[k] = (rho[k] - d.mu_real) / (d.mu_fake - d.mu_real or 1)
        if d.null is not None:
            ordinary = d.null.without(DEMOSAICED)
            z[k], plain[k], p[k] = ordinary.z(rho[k]), ordinary.p(rho[k]), false_alarm_of(d.null, rho[k], lattices)
            if d.fakes is not None:
                ratio[k] = log10_ratio(d.null, d.fakes, rho[k])
    rows = []
    for i, (image, condition) in enumerate(zip(images, conditions, strict=True)):
        mute = [not_applicable(d, condition, rho[k, i], (unfit or {}).get(n, "")) for k, (n, d) in enumerate(known)]
        asked = np.array([not reason for reason in mute]) & ~np.isnan(p[:, i])
        adjusted, ordinary_only = (np.full(len(known), np.nan) for _ in range(2))
        adjusted[asked], ordinary_only[asked] = holm(p[asked, i]), holm(plain[asked, i])
        # From the highest z down; then those without a null and so without z, by margin; those that do not apply last.
        order = [(bool(mute[k]), np.isnan(z[k, i]), -np.nan_to_num(z[k, i]), -margin[k, i]) for k in range(len(known))]
        for k in sorted(range(len(known)), key=order.__getitem__):
            name, d = known[k]
            near = "generated" if bool(nearest_centre(rho[k, i], d.mu_real, d.mu_fake)) else "real"
            verdict, reason = GENERATED, mute[k]
            if reason:
                verdict = NOT_APPLICABLE
            elif not adjusted[k] <= rate:
                reason = "a camera's mosaic may do so" if ordinary_only[k] <= rate else ""
                reason = reason or undecided(d, condition, float(rho[k, i]), int(asked.sum()), rate, jpeg)
                verdict = UNDECIDED if reason else NO_MATCH
            numbers = float(rho[k, i]), z[k, i], p[k, i], adjusted[k], ratio[k, i]
            rows.append((image, name, *numbers, near, verdict, reason))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def false_alarm_of(null: Null, rho: np.ndarray, lattices: np.ndarray | None = None) -> np.ndarray:
    """Probability that a real image correlates as much, (N,), demosaiced ones counted as ``judge`` says."""
    mosaic = np.full(rho.shape, True) if lattices is None else lattices >= LATTICE
    return np.where(mosaic, null.p(rho), null.without(DEMOSAICED).p(rho))


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on one image from those of all detectors: the first of these that any of them says."""
    return next((v for v in (GENERATED, UNDECIDED, NO_MATCH) if v in set(verdicts)), NOT_APPLICABLE)


def null_warnings(detectors: Mapping[object, Detector] | Mapping[str, Detector], rate: float) -> list[str]:
    """Where a rate of false alarms cannot be stated, or rests on little."""
    found = []
    for label, detector in detectors.items():
        null = detector.null
        if null is None:
            cause = detector.metadata.get(NO_NULL)
            advice = f"{cause}; give others" if cause else "give --reals, real images"
            found.append(f"{label} has no null, so no rate of false alarms can be stated: {advice}")
        elif few := [f"{reals.n} {kind}" for kind, reals in null.kinds.items() if reals.n < FEW]:
            found.append(f"{label}: its null is of {', '.join(few)} only, taken for normally distributed; give --reals")
        if null is not None and null.smallest > rate:
            found.append(f"{label}: {null.n} reals cannot vouch for a rate of {rate:g}")
    return found
