"""Write data/real_sources.csv, the registry of `difcore fetch --real`, from images that are already here.

    python scripts/real_sources.py DATA_ROOT

DATA_ROOT holds sources.csv, the crops that it names, and photos/{train,test} as their repository has them. Added to
each row is the hash of the crop's pixels, by which `fetch` knows what it has. No image goes into the registry.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from difcore.files import DATA_DIR, sha256_file
from difcore.images.crops import decode, sha256_pixels
from difcore.images.folders import list_images

PHOTOS = ("EliSchwartz/imagenet-sample-images", "22d0a5c9c5c76d13532da2d29ea7fa2e9e034387")


def main() -> None:
    """Read, hash, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    root = parser.parse_args().data_root
    with (root / "sources.csv").open(encoding="utf-8", newline="") as stream:
        rows = [list(row.values()) for row in csv.DictReader(stream)]
    rows = [[*row, sha256_pixels(decode(root / row[0]))] for row in rows]
    for part in ("train", "test"):
        for path in list_images(root / "photos" / part):
            rows.append([f"photos/{part}/{path.name}", *PHOTOS, path.name, sha256_file(path), "", ""])
    with (DATA_DIR / "real_sources.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "repository", "commit", "path", "sha256", "crop", "pixels"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
