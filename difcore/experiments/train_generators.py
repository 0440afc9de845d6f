"""Train the demo generators by name, measure them on scenes they never saw, show what they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from tqdm.auto import tqdm

from difcore.demo.decoders import SOURCE_STYLE, ChildPlan, child_of
from difcore.demo.gans import GanPlan
from difcore.demo.generators import (
    CHILDREN,
    DECODERS,
    GANS,
    SHIPPED,
    fakes_of,
    generate,
    load_generator,
    read_facts,
    save_generator,
    weights_path,
)
from difcore.demo.training import train
from difcore.experiments.claiming import judge
from difcore.files import atomic_write, sha256_bytes, sha256_file
from difcore.images.scenes import rendered
from difcore.records.claims import Claim
from difcore.runtime import Runtime
from difcore.stats import mean_interval

SIZE = 128  # of the scenes that the shipped ones were trained on
SCENES = {SOURCE_STYLE: 300, "mixed": 300}  # their number
OTHER_SCENES = 80  # their number in any other style: enough to fine-tune on
TRAINING_SEED, HELD_OUT_SEED, SHOWN_SEED = 20_000, 90_000_000, 91_000_000
GOOD_PSNR = 25.0  # dB


@dataclass(frozen=True)
class GeneratorRun:
    """What a training leaves: the file, the loss of each step, what the file says of itself."""

    name: str
    path: Path
    losses: list[float]
    facts: dict[str, Any]


def training_scenes(
    folder: Path | str, style: str, count: int = 0, size: int = SIZE, progress: bool = True
) -> tuple[list[np.ndarray], str]:
    """``count`` scenes of a style (0: as many as for the shipped), uint8 (size, size, 3) each, and what they are."""
    count = count or SCENES.get(style, OTHER_SCENES)
    path = Path(folder) / f"scenes-{style}-{count}x{size}.npy"
    if not path.is_file():
        seeds = tqdm(range(TRAINING_SEED, TRAINING_SEED + count), desc=f"scenes ({style})", disable=not progress)
        atomic_write(path, partial(np.save, arr=rendered(seeds, size, style)))
    text = f"{count} scenes {size}x{size}, style {style}, seeds {TRAINING_SEED}-{TRAINING_SEED + count - 1}"
    return list(np.load(path)), text


def psnr_of_each(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """PSNR of the 8-bit output for each uint8 image (N, H, W, 3), in dB, (N,)."""
    return np.array([peak_signal_noise_ratio(*pair) for pair in zip(images, generate(model, images), strict=True)])


def train_generator(
    generator: str,
    output_dir: Path | str,
    scenes: int = 0,
    size: int = SIZE,
    test: int = 16,
    runtime: Runtime = Runtime(),
    progress: bool = True,
    **changes: int | None,
) -> GeneratorRun:
    """Train a generator as the shipped one was, or with other ``steps`` or ``seed``; resumes."""
    recipes: dict[str, Any] = {**DECODERS, **CHILDREN, **GANS}
    if generator not in recipes:
        raise ValueError(f"unknown generator {generator!r}; choose from {', '.join(recipes)}")
    changes = {key: value for key, value in changes.items() if value is not None and (value or key != "steps")}
    recipe = replace(recipes[generator], **changes)
    images, text = training_scenes(output_dir, recipe.style, scenes, size, progress)
    facts: dict[str, Any] = {"name": generator, "data": text}
    sources: list[np.ndarray] = []
    plan, initial = recipe, None
    if isinstance(recipe, GanPlan):
        facts["sources"] = "latents ~ N(0, 1)"
        if recipe.source:
            sources, facts["sources"] = training_scenes(output_dir, recipe.source, scenes, size, progress)
    if isinstance(recipe, ChildPlan):
        family = [load_generator(name) for name in (recipe.parent, recipe.donor) if name]
        plan, initial = child_of(recipe, *((of, model.state_dict()) for model, of in family))
        facts |= {"parent": recipe.parent, "donor": recipe.donor, "style": recipe.style}
    plan = replace(plan, bfloat16=runtime.bfloat16)
    key = sha256_bytes(repr((recipe, plan, len(images), size)).encode())[:8]
    work = Path(output_dir) / f"{generator}-{key}"
    model = train(images, plan, work, sources, initial, device=runtime.device, progress=progress)
    if not isinstance(plan, GanPlan):
        unseen = rendered(range(HELD_OUT_SEED, HELD_OUT_SEED + test), size, plan.style)
        facts["psnr_heldout_db"] = round(float(psnr_of_each(model, unseen).mean()), 2)
        facts["psnr_images"] = f"{test} scenes {size}x{size}, style {plan.style}, seeds from {HELD_OUT_SEED}"
    path = save_generator(Path(output_dir) / f"{generator}.safetensors", model, plan, facts)
    losses = torch.load(work / "checkpoint.pt", "cpu", weights_only=True)["losses"]
    return GeneratorRun(generator, path, losses, facts | {"plan": asdict(plan)})


def facts_table(names: Sequence[str] = tuple(SHIPPED), test: int = 16) -> pd.DataFrame:
    """One row for each shipped generator: what it is, where it comes from, PSNR in dB (decoders), size.

    Columns: generator, design, parent, parameters, kB, steps, seed, style; psnr, psnr_low, psnr_high: mean over
    ``test`` scenes that no training saw, measured here, and its t interval.
    """
    rows = []
    scenes: dict[str, np.ndarray] = {}
    for name in names:
        model, plan = load_generator(name)
        facts, psnr = read_facts(name), dict.fromkeys(("psnr", "psnr_low", "psnr_high"), np.nan)
        if "psnr_heldout_db" in facts:
            if plan.style not in scenes:
                scenes[plan.style] = rendered(range(HELD_OUT_SEED, HELD_OUT_SEED + test), SIZE, plan.style)
            each = psnr_of_each(model, scenes[plan.style])
            psnr = dict(zip(psnr, (float(each.mean()), *mean_interval(each, bounds=(-np.inf, np.inf))), strict=True))
        parameters, kilobytes = sum(p.numel() for p in model.parameters()), weights_path(name).stat().st_size / 1000
        what = {"generator": name, "design": design_of(plan), "parent": facts.get("parent", "")}
        what |= {"parameters": parameters, "kB": round(kilobytes), "steps": plan.steps, "seed": plan.seed}
        rows.append(what | {"style": plan.style} | psnr)
    return pd.DataFrame(rows)


def design_of(plan: Any) -> str:
    """How a generator comes to full resolution, in a few words."""
    if isinstance(plan, GanPlan):
        return f"GAN, {plan.design}"
    ups = plan.up_first if plan.up_first == plan.up_last else f"{plan.up_first}, {plan.up_last}"
    return f"latent {plan.latent}, {ups}{', attention' if plan.attention else ''}"


def samples(
    names: Sequence[str], n: int, size: int = SIZE, first_seed: int = SHOWN_SEED
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """``n`` fakes of each generator, uint8 (n, size, size, 3), and what those that are given images were given."""
    seeds, fakes, sources = range(first_seed, first_seed + n), {}, {}
    scenes_of = cache(lambda style: rendered(seeds, size, style))
    for name in names:
        model, plan = load_generator(name)
        if style := plan.source if isinstance(plan, GanPlan) else SOURCE_STYLE:
            sources[name] = scenes_of(style)
        fakes[name] = generate(model, sources[name]) if style else fakes_of(name, seeds, size)
    return fakes, sources


def hashes(others: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each shipped generator's file, and of others, by name."""
    return {name: sha256_file(path) for name, path in {**SHIPPED, **others}.items()}


def generator_claims(table: pd.DataFrame) -> list[Claim]:
    """Of ``06_train_generators``: the demo decoders are good enough that a fingerprint is more than blur."""
    decoders = table[table.generator.isin(list(DECODERS))]
    worst = decoders.loc[decoders.psnr.idxmin()]
    text = f"every demo decoder reconstructs scenes it never saw with at least {GOOD_PSNR:g} dB"
    told = "not stated for the paper's generators"
    ours = f"{worst.psnr:.1f} dB [{worst.psnr_low:.1f}, {worst.psnr_high:.1f}] ({worst.generator}) to "
    ours += f"{decoders.psnr.max():.1f} dB, {len(decoders)} decoders"
    if worst.psnr_low < GOOD_PSNR <= worst.psnr_high:
        return [Claim(text, told, ours, "undecided", f"the interval of {worst.generator} includes {GOOD_PSNR:g} dB")]
    return [judge(text, told, ours, bool(worst.psnr >= GOOD_PSNR), "blur would be part of the fingerprint")]
