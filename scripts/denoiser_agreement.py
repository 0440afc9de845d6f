"""PSNR and agreement with the published fingerprints of training snapshots, into one CSV.

    python scripts/denoiser_agreement.py OUT.csv --clean DIR --run LABEL SNAPSHOT_DIR [--photos DIR] [--scenes N]

Rows of LABEL already in OUT.csv are replaced. F_DnCNN of each snapshot is measured on the run's training images.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from difcore.experiments.cross_scores import CrossScores
from difcore.experiments.denoising import SIGMAS, training_images
from difcore.experiments.published import score_release
from difcore.files import atomic_text, sha256_bytes, sha256_file
from difcore.images.crops import read_crop
from difcore.images.folders import is_image, list_images
from difcore.images.sources import locate
from difcore.paper import GAN, WITH_IMAGES
from difcore.residuals.bias import border_profile
from difcore.residuals.denoiser_training import mean_residual, psnr
from difcore.residuals.denoisers import LIMIT, Denoiser, DnCNN, FoldedDnCNN
from difcore.runtime import resolve
from difcore.stats import auc, detection


def snapshot_denoiser(snapshot: Path | str, images: Sequence[np.ndarray], bfloat16: bool = False) -> Denoiser:
    """The residual filter of a training snapshot, with F_DnCNN measured on ``images``, limited."""
    state = torch.load(snapshot, map_location="cpu", weights_only=True)
    features = state["last.weight"].shape[1]
    depth = 2 + sum(key.startswith("middle.") and value.ndim == 4 for key, value in state.items())
    model = DnCNN(depth, features)
    model.load_state_dict(state)
    filter_ = FoldedDnCNN(model.eval(), bfloat16=bfloat16)
    bias = border_profile(mean_residual(filter_, images))
    digest = sha256_bytes(f"{sha256_file(snapshot)} {bfloat16} {LIMIT}".encode(), bias.numpy().tobytes())
    return Denoiser(Path(snapshot).stem, filter_, bias, digest, limit=LIMIT)


def agreement_along(
    snapshots: Mapping[int, Denoiser], release: Path | str, clean: Sequence[np.ndarray], label: str, seed: int = 0
) -> pd.DataFrame:
    """A row for each training step: its PSNR, and its ``agreement`` with the published fingerprints."""
    rows = []
    for step, denoiser in tqdm(snapshots.items(), desc=f"agreement ({label})"):
        psnrs = {f"psnr_{s}": psnr(denoiser.filter, clean, s, seed) for s in SIGMAS}
        rows.append({"denoiser": label, "step": step, **psnrs, **agreement(score_release(release, denoiser))})
    return pd.DataFrame(rows)


def agreement(scores: CrossScores) -> dict[str, float]:
    """How well a denoiser brings the published fingerprints back to life, as one row of numbers.

    AUC and accuracy of each on its own images, SD 1.4 and MJ on each other's, and the highest AUC of a GAN's on these.
    """
    row: dict[str, float] = {}
    for name in WITH_IMAGES:
        result = detection(*scores.row(name, name), scores.fingerprints[name].threshold)
        row[f"auc_{name}"], row[f"accuracy_{name}"] = result.auc, result.accuracy
    row["mean_auc"] = float(np.mean([row[f"auc_{name}"] for name in WITH_IMAGES]))
    row["cross_sd14_on_mj"] = auc(*scores.row("sd14", "mj"))
    row["cross_mj_on_sd14"] = auc(*scores.row("mj", "sd14"))
    row["max_gan"] = max(auc(*scores.row(gan, images)) for gan in GAN for images in ("sd14", "mj"))
    return row


def main() -> None:
    """Measure the snapshots of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", nargs=2, metavar=("LABEL", "DIR"), required=True)
    parser.add_argument("--clean", type=Path, required=True, help="lossless images for the PSNR")
    parser.add_argument("--clean-images", type=int, default=10, help="how many of them")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--scenes", type=int, default=0)
    parser.add_argument("--bias-images", type=int, default=120, help="training images that F_DnCNN is measured on")
    parser.add_argument("--steps", type=int, nargs="*", help="only these snapshots")
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    options = parser.parse_args()
    label, folder = options.run
    images = training_images(options.photos, 0, 0) if options.photos else []
    images += training_images(None, options.scenes, 256) if options.scenes else []
    images = images[:: max(1, len(images) // options.bias_images)]
    found = {int(p.stem.split("-")[1]): p for p in sorted(Path(folder).glob("snapshot-*.pt"))}
    chosen = {k: p for k, p in found.items() if not options.steps or k in options.steps}
    bfloat16 = resolve("cpu", options.precision).bfloat16
    denoisers = {k: snapshot_denoiser(p, images, bfloat16) for k, p in chosen.items()}
    clean = [read_crop(p, None) for p in list_images(options.clean) if is_image(p)][: options.clean_images]
    table = agreement_along(denoisers, locate(), clean, label)
    if options.out.is_file():
        old = pd.read_csv(options.out)
        keep = ~((old.denoiser == label) & old.step.isin(table.step))
        table = pd.concat([old[keep], table]).sort_values(["denoiser", "step"], kind="stable")
    atomic_text(options.out, table.round(4).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    main()
