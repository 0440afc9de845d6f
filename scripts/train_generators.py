"""Train demo generators as the shipped weights were, one after the other.

    python scripts/train_generators.py [NAME ...] [--folder DIR] [--steps N] [--export]

Without names: all but demo-deconv2, parents before their children. Resumes from DIR. A child starts from the parent's
weights in data/, so export a parent before its children are trained; --export does so after each training.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from difcore.demo.generators import SHIPPED
from difcore.experiments.train_generators import train_generator
from difcore.files import DATA_DIR, PACKAGE_DIR, PROJECT_DIR, atomic_write
from difcore.runtime import resolve


def main() -> None:
    """Train, print what each file says of itself, copy it to data/ if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SHIPPED))
    parser.add_argument("--folder", type=Path, default=Path("outputs/training"), help="for checkpoints and weights")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, mps, or auto: a GPU where there is one")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--export", action="store_true", help="replace the shipped weights in data/")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args()
    if options.export and DATA_DIR.parent != PROJECT_DIR:
        parser.error(f"--export writes to data/ of a checkout, and difcore is installed in {PACKAGE_DIR}")
    runtime = resolve(options.device, options.precision, options.threads)
    for name in options.names or [name for name in SHIPPED if name != "demo-deconv2"]:
        run = train_generator(name, options.folder, runtime=runtime, progress=not options.quiet, steps=options.steps)
        print(name, {key: value for key, value in run.facts.items() if key != "name"}, flush=True)
        if options.export:
            atomic_write(SHIPPED[name], lambda target, source=run.path: shutil.copyfile(source, target))


if __name__ == "__main__":
    main()
