"""Train the demo generators by name, measure them on scenes they never saw, show what they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from difcore.demo import generators
from difcore.demo.gans import GanPlan
from difcore.demo.generator_training import SOURCE_STYLE, ChildPlan, GeneratorPlan, child_of, train_decoder, train_gan
from difcore.demo.generators import CHILDREN, DECODERS, GANS, SHIPPED, generate
from difcore.experiments.claiming import judge
from difcore.files import atomic_write, sha256_bytes
from difcore.images.scenes import rendered
from difcore.records.artefacts import Claim
from difcore.stats import mean_interval

SIZE = 128  # of the scenes that the shipped ones were trained on
SCENES = {SOURCE_STYLE: 300, "mixed": 300}  # their number
OTHER_SCENES = 80  # their number in any other style: enough to fine-tune on
TRAINING_SEED, HELD_OUT_SEED = 20_000, 90_000_000
GOOD_PSNR = 25.0  # dB
Plan = GeneratorPlan | GanPlan


@dataclass(frozen=True)
class GeneratorRun:
    """What a training leaves: the file, the loss of each step, what the file says of itself."""

    name: str
    path: Path
    losses: list[float]
    facts: dict[str, Any]


def training_scenes(
    folder: Path | str, style: str = SOURCE_STYLE, count: int | None = None, size: int = SIZE, progress: bool = True
) -> list[np.ndarray]:
    """``count`` scenes of a style, uint8 (size, size, 3) each; rendered once, then read from ``folder``.

    By default as many as the shipped generators were trained on.
    """
    count = count or SCENES.get(style, OTHER_SCENES)
    path = Path(folder) / f"scenes-{style}-{count}x{size}.npy"
    if not path.is_file():
        seeds = tqdm(range(TRAINING_SEED, TRAINING_SEED + count), desc=f"scenes ({style})", disable=not progress)
        atomic_write(path, partial(np.save, arr=rendered(seeds, size, style)))
    return list(np.load(path))


def psnr_of_each(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """10 log10(255^2 / mean squared error) of the 8-bit output for each uint8 image (N, H, W, 3), in dB, (N,)."""
    error = np.square(generate(model, images).astype(float) - images).mean((1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-12))


def reconstruction_psnr(model: nn.Module, images: np.ndarray) -> float:
    """Mean of ``psnr_of_each``."""
    return float(psnr_of_each(model, images).mean())


def held_out_psnr(model: nn.Module, style: str = SOURCE_STYLE, count: int = 16, size: int = SIZE) -> float:
    """PSNR in dB of a decoder on scenes whose seeds no training uses."""
    return reconstruction_psnr(model, rendered(range(HELD_OUT_SEED, HELD_OUT_SEED + count), size, style))


def default_plan(name: str) -> ChildPlan | Plan:
    """The recipe of a shipped generator.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    recipes: dict[str, ChildPlan | Plan] = {**DECODERS, **CHILDREN, **GANS}
    if name not in recipes:
        raise ValueError(f"unknown generator {name!r}; choose from {', '.join(recipes)}")
    return recipes[name]


def train_generator(
    name: str,
    folder: Path | str,
    steps: int | None = None,
    scenes: int | None = None,
    size: int = SIZE,
    test: int = 16,
    seed: int | None = None,
    bfloat16: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> GeneratorRun:
    """Train a generator as the shipped one was, or with other ``steps`` or ``seed``; resumes.

    Leaves ``folder``/<name>.safetensors. A child starts from the shipped weights of its parent.

    Parameters
    ----------
    name : str
        Of ``DECODERS``, ``CHILDREN`` or ``GANS``.
    scenes, size : int
        Training scenes (by default as many as for the shipped ones) and their side in px; seeds from 20000.
    bfloat16, device : bool, str
        Of the training, whatever the shipped one was trained in and on.
    test : int
        Held-out scenes that a decoder's PSNR is measured on.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If a child's parent is not there.
    """
    recipe = default_plan(name)
    recipe = replace(recipe, steps=steps or recipe.steps, seed=recipe.seed if seed is None else seed)
    style = recipe.style
    images = training_scenes(folder, style, scenes, size, progress)
    facts: dict[str, Any] = {"name": name, "data": describe(images, style)}
    checkpoints = Path(folder) / f"{name}-{sha256_bytes(repr((recipe, scenes, size, bfloat16)).encode())[:8]}"
    plan: Plan
    model: nn.Module
    if isinstance(recipe, GanPlan):
        sources = training_scenes(folder, recipe.source, scenes, size, progress) if recipe.source else []
        plan = replace(recipe, bfloat16=bfloat16)
        model = train_gan(images, plan, checkpoints, sources, progress, device=device)
        facts["sources"] = describe(sources, recipe.source) if recipe.source else "latents ~ N(0, 1)"
    else:
        if isinstance(recipe, ChildPlan):
            plan, initial = first_weights(recipe)
            facts |= {"parent": recipe.parent, "donor": recipe.donor, "style": recipe.style}
        else:
            plan, initial = recipe, None
        plan = replace(plan, bfloat16=bfloat16)
        model = train_decoder(images, plan, checkpoints, progress, initial=initial, device=device)
        facts["psnr_heldout_db"] = round(held_out_psnr(model, style, test, size), 2)
        facts["psnr_images"] = f"{test} scenes {size}x{size}, style {style}, seeds from {HELD_OUT_SEED}"
    path = generators.save_generator(Path(folder) / f"{name}.safetensors", model, plan, facts)
    losses = torch.load(checkpoints / "checkpoint.pt", "cpu", weights_only=True)["losses"]
    return GeneratorRun(name, path, losses, facts | {"plan": asdict(plan)})


def describe(images: Sequence[np.ndarray], style: str) -> str:
    """The training data in words."""
    count, size = len(images), len(images[0])
    return f"{count} scenes {size}x{size}, style {style}, seeds {TRAINING_SEED}-{TRAINING_SEED + count - 1}"


def first_weights(child: ChildPlan) -> tuple[GeneratorPlan, dict[str, Any]]:
    """Plan and first weights of a child, from the shipped files of its parent and donor."""
    family = []
    for name in filter(None, (child.parent, child.donor)):
        model, plan = generators.load_with_plan(name)
        assert isinstance(plan, GeneratorPlan)
        family.append((plan, model.state_dict()))
    return child_of(child, *family)


def facts_table(names: Sequence[str] | None = None, test: int = 16) -> pd.DataFrame:
    """One row for each shipped generator: what it is, where it comes from, PSNR in dB (decoders), size.

    Columns: generator, design, parent, parameters, kB, steps, seed, style; psnr, psnr_low, psnr_high: mean over
    ``test`` scenes that no training saw, measured here, and its t interval.
    """
    rows = []
    scenes: dict[str, np.ndarray] = {}
    for name in names or SHIPPED:
        model, plan = generators.load_with_plan(name)
        assert isinstance(plan, Plan)
        facts = generators.read_facts(name)
        psnr = dict.fromkeys(("psnr", "psnr_low", "psnr_high"), np.nan)
        if "psnr_heldout_db" in facts:
            if plan.style not in scenes:
                scenes[plan.style] = rendered(range(HELD_OUT_SEED, HELD_OUT_SEED + test), SIZE, plan.style)
            each = psnr_of_each(model, scenes[plan.style])
            psnr = dict(zip(psnr, (float(each.mean()), *mean_interval(each, bounds=(-np.inf, np.inf))), strict=True))
        rows.append(
            {
                "generator": name,
                "design": design_of(plan),
                "parent": facts.get("parent", ""),
                "parameters": sum(p.numel() for p in model.parameters()),
                "kB": round(generators.weights_path(name).stat().st_size / 1000),
                "steps": plan.steps,
                "seed": plan.seed,
                "style": plan.style,
                **psnr,
            }
        )
    return pd.DataFrame(rows)


def design_of(plan: Plan) -> str:
    """How a generator comes to full resolution, in a few words."""
    if isinstance(plan, GanPlan):
        return f"GAN, {plan.design}"
    ups = plan.up_first if plan.up_first == plan.up_last else f"{plan.up_first}, {plan.up_last}"
    return f"latent {plan.latent}, {ups}{', attention' if plan.attention else ''}"


def samples(
    names: Sequence[str], n: int, size: int = SIZE, first_seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """``difcore.demo.generators.sample`` of each generator, and what those that are given images were given.

    Each scene is rendered once for all.

    Returns
    -------
    (fakes, sources) : dict of name to ndarray uint8 (n, size, size, 3)
    """
    seeds = range(first_seed, first_seed + n)
    fakes, sources = {}, {}
    given: dict[str, np.ndarray] = {}
    for name in names:
        model, plan = generators.load_with_plan(name)
        style = plan.source if isinstance(plan, GanPlan) else SOURCE_STYLE
        if not style:
            fakes[name] = generators.sample(name, n, size, first_seed)
            continue
        if style not in given:
            given[style] = rendered(seeds, size, style)
        sources[name] = given[style]
        fakes[name] = generate(model, sources[name])
    return fakes, sources


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
