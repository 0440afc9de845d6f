"""Train the demo ProGANs as the shipped weights were, one after the other.

    python scripts/train_progans.py [NAME ...] [--folder DIR] [--export]

Without names: all, the four of the checkpoints first. Resumes from DIR.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from difcore.demo.generators import PROGAN_FILES, PROGAN_T, PROGANS
from difcore.experiments.train_progan import train_shipped
from difcore.files import DATA_DIR, PACKAGE_DIR, PROJECT_DIR, atomic_write
from difcore.runtime import resolve


def main() -> None:
    """Train, print what came of it, copy the weights to data/ if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGANS))
    parser.add_argument("--folder", type=Path, default=Path("outputs/training"), help="for checkpoints and weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--export", action="store_true", help="replace the shipped weights in data/")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args()
    if options.export and DATA_DIR.parent != PROJECT_DIR:
        parser.error(f"--export writes to data/ of a checkout, and difcore is installed in {PACKAGE_DIR}")
    runtime = resolve(options.device, options.precision, options.threads)
    for name in options.names or PROGANS:
        started = time.perf_counter()
        run = train_shipped(name, options.folder, runtime.device, not options.quiet, bfloat16=runtime.bfloat16)
        seconds = time.perf_counter() - started
        print(f"{name}: {seconds:.0f} s, last 100 Wasserstein estimates {run.losses[-100:, 0].mean():.3f}", flush=True)
        for epoch, path in run.paths.items() if options.export else ():
            target = PROGAN_FILES[name if name in PROGAN_T else f"{name}-e{epoch}"]
            atomic_write(target, lambda temporary, source=path: shutil.copyfile(source, temporary))


if __name__ == "__main__":
    main()
