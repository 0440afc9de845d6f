"""Make a data folder for the detection tables, of links to images that lie in folders of any layout.

    python scripts/make_root.py ROOT --generator sd1=DIR --generator taef2=DIR --real DIR [--test-real DIR]

Writes ROOT/<generator>/0_real, ROOT/<generator>/1_fake and, with --test-real, ROOT/<generator>/test/0_real. All
generators share the reals. Images in test/0_real are tested on and never trained on; without it, and for the fakes,
the images to test on are those that a draw of training images leaves. Then:

    ./run_all.sh --profile paper --data-root ROOT --only 10 12 14 15 17 --grid n_train=128
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from difcore.images.folders import FolderError, left_out, make_root, root_of
from difcore.paper import DISPLAY


def main() -> None:
    """Parse the command line, make the folder, print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--generator", action="append", required=True, metavar="NAME=DIR",
                        help=f"folder of its images; the paper's names: {', '.join(DISPLAY)}")  # fmt: skip
    parser.add_argument("--real", action="append", type=Path, required=True, help="real images to train on")
    parser.add_argument("--test-real", action="append", type=Path, default=[], help="real images to test on")
    options = parser.parse_args()
    pairs = [entry.partition("=") for entry in options.generator]
    if wrong := [name for name, sign, folder in pairs if not (name and sign and folder)]:
        parser.error(f"--generator {wrong[0]!r}: expected NAME=DIR")
    try:
        generators = {name: Path(folder) for name, _, folder in pairs}
        counts = make_root(options.root, root_of(generators, options.real, options.test_real))
    except (FolderError, FileExistsError) as error:
        parser.error(str(error))
    for folder, count in counts.items():
        print(f"{folder}: {count} images")
    for path in left_out([*generators.values(), *options.real, *options.test_real]):
        print(f"left out, no image: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
