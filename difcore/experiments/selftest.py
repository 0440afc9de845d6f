"""Does an installation compute what it should? A few own images through everything, against pinned numbers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from difcore.demo.decoders import SOURCE_STYLE
from difcore.demo.generators import fakes_of
from difcore.files import DATA_DIR
from difcore.fingerprints.detector import Detector
from difcore.images.crops import read_crop
from difcore.images.scenes import rendered
from difcore.residuals.denoisers import SHIPPED
from difcore.residuals.sets import residuals_of
from difcore.runtime import Runtime

FINGERPRINT, PINNED = DATA_DIR / "fingerprint_demo_deconv2.safetensors", DATA_DIR / "selftest.csv"
GENERATOR, SIZE, REALS, FAKES = "demo-deconv2", 128, range(9000, 9004), range(9100, 9104)
FORMATS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"lossless": True}, "jpg": {"quality": 75}}


def measured(runtime: Runtime) -> dict[str, float]:
    """Each pinned quantity as it is here: of images, decoders, every shipped filter, and a detector's scores."""
    real, fake = rendered(REALS, SIZE, SOURCE_STYLE), fakes_of(GENERATOR, FAKES, SIZE)
    found = {"mean of the scenes": real.mean(), "mean of the generated images": fake.mean()}
    with TemporaryDirectory() as folder:
        for suffix, settings in FORMATS.items():
            Image.fromarray(real[0]).save(path := Path(folder, f"0.{suffix}"), **settings)
            found[f"what {suffix} changes"] = np.abs(read_crop(path, SIZE) - real[0].astype(float)).mean()
    images = np.concatenate([real, fake])
    for name in (*SHIPPED, "highpass"):
        values = residuals_of(images, runtime.denoiser(name), SIZE, cache=False).values.astype(np.float64)
        found[f"residuals of {name}, in 8-bit steps"] = 255 * np.sqrt((values**2).mean())
    detector = Detector.load(FINGERPRINT)
    own = runtime.denoiser(detector.metadata["denoiser"], detector.metadata["limit"])
    rho = detector.rho(residuals_of(images, own, SIZE, cache=False)).tolist()
    return found | {f"score of {'scene' if k < len(real) else 'fake'} {k}": value for k, value in enumerate(rho)}


def beside_pinned(runtime: Runtime = Runtime()) -> pd.DataFrame:
    """What was pinned beside what is computed here: check, pinned, here, tolerance in this precision, ok.

    Tolerances allow for decoders, processors and rounding; another filter, weight or crop differs by more.
    """
    table = pd.read_csv(PINNED)
    table["here"], table["tolerance"] = table.check.map(measured(runtime)), table[runtime.precision]
    table["ok"] = (table.here - table.pinned).abs() <= table.tolerance
    return table[["check", "pinned", "here", "tolerance", "ok"]]
