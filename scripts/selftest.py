"""Write what `difcore selftest` and `difcore doctor` compare with: data/selftest.csv and data/weights_registry.txt.

    python scripts/selftest.py

After every change of weights or of a shipped fingerprint. Numbers are of the CPU in float32; what each may differ by
is said in ``ALLOWED``.
"""

from __future__ import annotations

import pandas as pd

from difcore.experiments.selftest import PINNED, measured
from difcore.files import DATA_DIR, atomic_text, sha256_file
from difcore.runtime import Runtime

# By the beginning of a check's name: differences in float32 and in bfloat16. Means of images and changes by decoders:
# 8-bit steps, a pixel in twenty may be rounded otherwise. Residuals: 8-bit steps, of which older instructions (SSE4.1)
# change .00001 and bfloat16 .01. Scores: correlations, of which these change .00002 and .0003.
ALLOWED = {
    "mean": (0.05, 0.05), "what jpg": (0.2, 0.2), "what": (0.0, 0.0), "residuals": (0.002, 0.03),
    "score": (0.0005, 0.002),
}  # fmt: skip


def main() -> None:
    """Compute, write the files."""
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
