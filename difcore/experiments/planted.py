"""The audit for confounds on two classes, and on copies of them in which a confound was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from difcore.audit.findings import Audit, audit_classes
from difcore.audit.watermark import MESSAGES, write_mark
from difcore.experiments.claiming import judge
from difcore.experiments.own import demo_folders
from difcore.images.changes import resized
from difcore.images.crops import usable_crops
from difcore.images.folders import list_images
from difcore.records.claims import Claim

Pictures = list[NDArray[np.uint8]]
NOTHING, UNKNOWN = "nothing", "not looked at"
NOISE = 3.0  # grey levels of the noise that is planted
EXPECTED = {  # what is planted to the check that has to find it
    "the mark of Stable Diffusion's scripts": "mark",
    "the same faint noise": "shared residual, fake",
    "an enlargement by 1.2": "resampling",
    "three of the real images": "copies",
}


@dataclass(frozen=True)
class Controls:
    """Audits of the files as they are, and by what was planted in copies of them, which for ``NOTHING`` is nothing."""

    given: Audit
    planted: dict[str, Audit]

    def findings(self) -> pd.DataFrame:
        """check, verdict, finding, advice: of the files as they are."""
        rows = [(f.check, f.verdict, f.sentence, f.advice or "none needed") for f in self.given.findings]
        return pd.DataFrame(rows, columns=["check", "verdict", "finding", "advice"])

    def table(self) -> pd.DataFrame:
        """planted, check (that has to find it), before (its verdict without), verdict, others (that turned too)."""
        rows, before = [], {finding.check: finding.verdict for finding in self.planted[NOTHING].findings}
        for name, check in EXPECTED.items():
            verdict = {f.check: f.verdict for f in self.planted[name].findings}.get(check, UNKNOWN)
            confounded = [f.check for f in self.planted[name].confounded()]
            others = ", ".join(other for other in confounded if other != check and before[other] == "fine")
            rows.append((name, check, before.get(check, UNKNOWN), verdict, others or "none"))
        return pd.DataFrame(rows, columns=["planted", "check", "before", "verdict", "others"])

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
    """Audit two folders (without any: the demo images of generator ``name``), then copies with planted confounds."""
    if bool(real_dir) != bool(fake_dir):
        raise ValueError("give both folders, of real and of generated images, or neither for the demo")
    if not real_dir:
        with demo_folders([name], demo_images, crop) as folders:
            return audit_with_controls(folders["real"], folders[name], name, 0, crop, most, planted, seed)
    real_paths, fake_paths = list_images(real_dir), list_images(fake_dir)
    real, fake = _crops(real_paths, crop, planted), _crops(fake_paths, crop, planted)
    audits = {what: _audit_copies(real, copies, seed) for what, copies in plants(real, fake, seed).items()}
    return Controls(audit_classes(real_paths, fake_paths, most, seed), audits)


def plants(real: Pictures, fake: Pictures, seed: int) -> dict[str, Pictures]:
    """The generated images, with something planted, by what it is."""
    noise = NOISE * np.random.default_rng([seed, 44]).standard_normal(fake[0].shape)
    changed = (
        [write_mark(image, MESSAGES["StableDiffusionV1"]) for image in fake],
        [np.clip(np.rint(image + noise), 0, 255).astype(np.uint8) for image in fake],
        [_enlarged(image, 1.2) for image in fake],
        [*fake[3:], *real[:3]],
    )
    return {NOTHING: fake, **dict(zip(EXPECTED, changed, strict=True))}


def _enlarged(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    return resized(image, scale)[: len(image), : len(image)]


def _crops(paths: Sequence[Path], crop: int, most: int) -> Pictures:
    """The first ``most`` images that are large enough."""
    found = list(usable_crops(paths, crop, most).values())
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
