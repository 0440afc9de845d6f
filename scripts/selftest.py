"""Write what `difcore selftest` and `difcore doctor` compare with: a fingerprint, pinned numbers, hashes of weights.

    python scripts/selftest.py [--fit]

--fit makes data/selftest_fingerprint.safetensors anew; the numbers in data/selftest.csv and the hashes in
data/weights_registry.txt always are. Numbers are of the CPU in float32; what each may differ by is said in ``ALLOWED``.
"""

from __future__ import annotations

import argparse

import pandas as pd

from difcore import Detector
from difcore.demo.decoders import SOURCE_STYLE
from difcore.demo.generators import fakes_of
from difcore.experiments.selftest import FINGERPRINT, GENERATOR, PINNED, SIZE, measured
from difcore.files import DATA_DIR, atomic_text, sha256_file
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.fitting import FitOptions
from difcore.images.scenes import rendered
from difcore.residuals.denoisers import LIMIT, load_denoiser
from difcore.runtime import Runtime

REALS, FAKES = range(7000, 7128), range(8000, 8128)  # seeds of the images that the fingerprint is fitted to
# By the beginning of a check's name: differences in float32 and in bfloat16. Means of images and changes by decoders:
# 8-bit steps, a pixel in twenty may be rounded otherwise. Residuals: 8-bit steps, of which older instructions (SSE4.1)
# change .00001 and bfloat16 .01. Scores: correlations, of which these change .00001 and .0003.
ALLOWED = {
    "mean": (0.05, 0.05), "what jpg": (0.2, 0.2), "what": (0.0, 0.0), "residuals": (0.002, 0.03),
    "score": (0.0005, 0.002),
}  # fmt: skip


def main() -> None:
    """Parse the command line, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the fingerprint again, minutes")
    if parser.parse_args().fit:
        real, fake = rendered(REALS, SIZE, SOURCE_STYLE), fakes_of(GENERATOR, FAKES, SIZE)
        used, options = load_denoiser("photos", limit=LIMIT), FitOptions(crop=SIZE)
        Detector.fit(real, fake, used, DifPlan(), options, name=GENERATOR, progress=True).save(FINGERPRINT)
    rows = [
        (check, value, *next(allowed for start, allowed in ALLOWED.items() if check.startswith(start)))
        for check, value in measured(Runtime()).items()
    ]
    table = pd.DataFrame(rows, columns=["check", "pinned", "float32", "bfloat16"])
    atomic_text(PINNED, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    files = sorted(DATA_DIR.glob("*.safetensors"))
    atomic_text(DATA_DIR / "weights_registry.txt", "".join(f"{f.name} {sha256_file(f)}\n" for f in files))


if __name__ == "__main__":
    main()
