"""The audit for confounds on two classes, and on copies of them in which a confound was planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from difcore.audit.findings import Audit, Finding, audit_classes
from difcore.audit.watermark import MESSAGES, write_mark
from difcore.experiments.claiming import judge
from difcore.experiments.own import demo_folders
from difcore.images.crops import list_images, read_crop
from difcore.images.decoding import ImageError
from difcore.records.claims import Claim

Pictures = list[NDArray[np.uint8]]
NOTHING = "nothing"
NOISE = 3.0  # grey levels of the noise that is planted


@dataclass(frozen=True)
class Controls:
    """Audits by what was planted; those of ``NOTHING`` are of the classes as they are.

    Attributes
    ----------
    given : Audit
        Of the files as they are.
    planted : dict of str to Audit
    expected : dict of str to str
        What was planted to the check that has to find it.
    """

    given: Audit
    planted: dict[str, Audit]
    expected: dict[str, str]

    def findings(self) -> pd.DataFrame:
        """check, verdict, finding, advice: of the files as they are."""
        return pd.DataFrame([_row(finding) for finding in self.given.findings])

    def table(self) -> pd.DataFrame:
        """planted, expected (check), verdict (the check's), before (its verdict without), others (confounded too)."""
        before = {finding.check: finding.verdict for finding in self.planted[NOTHING].findings}
        rows = []
        for name, check in self.expected.items():
            found = self.planted[name]
            verdict = next((f.verdict for f in found.findings if f.check == check), "not looked at")
            others = ", ".join(f.check for f in found.confounded() if f.check != check and before[f.check] == "fine")
            was = before.get(check, "not looked at")
            rows.append(
                {"planted": name, "check": check, "before": was, "verdict": verdict, "others": others or "none"}
            )
        return pd.DataFrame(rows)

    def claims(self, data: str) -> list[Claim]:
        """Each planted confound is found by its check alone."""
        claims = []
        for row in self.table().itertuples():
            text = f"The audit finds {row.planted}, planted in one class (on {data})"
            ours = f"{row.check}: {row.before} before, {row.verdict} then; other checks that turned: {row.others}"
            if row.before == "confounded":
                claims.append(Claim(text, "not tested", ours, "not comparable", "it was there before"))
            else:
                good = row.verdict == "confounded" and row.others == "none"
                claims.append(judge(text, "not tested", ours, good, "not found, or taken for another"))
        return claims


def audit_with_controls(
    real_dir: Path | str,
    fake_dir: Path | str,
    name: str,
    demo_images: int,
    crop: int,
    most: int,
    planted: int,
    seed: int,
) -> Controls:
    """Audit two folders (without any: the demo images of generator ``name``), then copies with planted confounds.

    Copies are PNG files of centre crops of ``crop`` px of ``planted`` images of each class.

    Raises
    ------
    ValueError
        If one folder is given without the other, or fewer than three images of a class are as large as the crop.
    """
    if bool(real_dir) != bool(fake_dir):
        raise ValueError("give both folders, of real and of generated images, or neither for the demo")
    if not real_dir:
        with demo_folders([name], demo_images, crop) as folders:
            return audit_with_controls(folders["real"], folders[name], name, 0, crop, most, planted, seed)
    paths = {"real": list_images(real_dir), "fake": list_images(fake_dir)}
    pictures = {key: _crops(files, crop, planted) for key, files in paths.items()}
    audits, expected = {}, {}
    for label, (check, plant) in plants(seed).items():
        audits[label] = _audit_copies(*plant(pictures["real"], pictures["fake"]), seed)
        if check:
            expected[label] = check
    return Controls(audit_classes(paths["real"], paths["fake"], most, seed), audits, expected)


def plants(seed: int) -> dict[str, tuple[str, Callable[[Pictures, Pictures], tuple[Pictures, Pictures]]]]:
    """What is planted: its name to (the check that has to find it, a function of real and fake pictures)."""
    rng = np.random.default_rng([seed, 44])

    def one_noise(real: Pictures, fake: Pictures) -> tuple[Pictures, Pictures]:
        noise = NOISE * rng.standard_normal(fake[0].shape)
        return real, [np.clip(np.rint(image + noise), 0, 255).astype(np.uint8) for image in fake]

    return {
        NOTHING: ("", lambda real, fake: (real, fake)),
        "the mark of Stable Diffusion's scripts": (
            "mark",
            lambda real, fake: (real, [write_mark(image, MESSAGES["StableDiffusionV1"]) for image in fake]),
        ),
        "the same faint noise": ("shared residual, fake", one_noise),
        "an enlargement by 1.2": ("resampling", lambda real, fake: (real, [_enlarged(image, 1.2) for image in fake])),
        "three of the real images": ("copies", lambda real, fake: (real, [*fake[3:], *real[:3]])),
    }


def _enlarged(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    side = round(len(image) * scale)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))[: len(image), : len(image)]


def _crops(paths: Sequence[Path], crop: int, most: int) -> Pictures:
    found: Pictures = []
    for path in paths:
        if len(found) == most:
            break
        try:
            found.append(read_crop(path, crop))
        except ImageError:
            continue
    if len(found) < 3:
        raise ValueError(f"{len(found)} of {len(paths)} images have {crop} px a side; expected three at least")
    return found


def _audit_copies(real: Pictures, fake: Pictures, seed: int) -> Audit:
    with TemporaryDirectory(prefix="difcore-") as root:
        for name, images in (("real", real), ("fake", fake)):
            (Path(root) / name).mkdir()
            for k, image in enumerate(images):
                Image.fromarray(image).save(Path(root) / name / f"{k:03d}.png", compress_level=1)
        return audit_classes(list_images(Path(root) / "real"), list_images(Path(root) / "fake"), len(real), seed)


def _row(finding: Finding) -> dict[str, str]:
    row = {"check": finding.check, "verdict": finding.verdict, "finding": finding.sentence}
    return row | {"advice": finding.advice or "none needed"}
