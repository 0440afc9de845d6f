"""Small generators whose images stand in for the paper's where none of those are at hand. Always named demo-*.

Six autoencoders: real scenes go in, and what the decoder makes of their latents are the fakes. As in latent diffusion
models, it is the decoder, through its up-sampling and borders, that leaves the fingerprint. Children of them, for
lineage. Five small GANs. Four ProGANs, each at five epochs of its training, and one of each style of scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from difcore.demo.decoders import SOURCE_STYLE, ChildPlan, GeneratorPlan, LatentDecoder
from difcore.demo.gans import DESIGNS, GanPlan, latents
from difcore.demo.progan import ProGanPlan, ProGenerator, latent_vectors
from difcore.files import DATA_DIR, atomic_safetensors, read_safetensors
from difcore.images.scenes import STYLES, rendered
from difcore.machine.devices import to_batch


def decoder_plan(kind: str, seed: int, last: str = "", **changes: Any) -> GeneratorPlan:
    """Recipe of a shipped decoder whose two doublings are of ``kind`` and ``last`` (``kind`` too if empty)."""
    plan = GeneratorPlan(2000, latent=12, seed=seed, residual=True, max_norm=1.0, spectral=0.02)
    return replace(plan, up_first=kind, up_last=last or kind, **changes)


DECODERS: dict[str, GeneratorPlan] = {
    "demo-deconv2": decoder_plan("deconv2", 0),
    "demo-deconv4": decoder_plan("deconv4", 1),
    "demo-nearest": decoder_plan("nearest", 2),
    "demo-bilinear": decoder_plan("bilinear", 3, steps=2500),
    "demo-shuffle": decoder_plan("shuffle", 4),
    "demo-attention": decoder_plan("nearest", 5, "deconv2", attention=True),
}
CHILDREN: dict[str, ChildPlan] = {
    "demo-deconv4-foliage": ChildPlan("demo-deconv4", "foliage-binned", seed=11),
    "demo-nearest-swapped": ChildPlan("demo-nearest", donor="demo-shuffle", seed=12),
    "demo-attention-city": ChildPlan("demo-attention", "city-binned", seed=13),
    "demo-deconv2-pebbles": ChildPlan("demo-deconv2", "pebbles-binned", seed=14),
    "demo-bilinear-fabric": ChildPlan("demo-bilinear", "fabric-binned", seed=15),
    "demo-deconv2-clouds": ChildPlan("demo-deconv2", "clouds-binned", seed=16),
    "demo-deconv2-mixed": ChildPlan("demo-deconv2", "mixed-binned", seed=17),
    "demo-deconv2-pebbles-city": ChildPlan("demo-deconv2-pebbles", "city-binned", seed=18),
}
GANS: dict[str, GanPlan] = {
    "demo-dcgan": GanPlan("deconv", seed=21),
    "demo-resgan": GanPlan("resnet", seed=22),
    "demo-shufflegan": GanPlan("shuffle", width=32, seed=23),
    "demo-stylegan": GanPlan("style", seed=24),
    "demo-translate": GanPlan("translate", "fabric", width=32, seed=25),
}
PROGAN_STYLES = [name for name, style in STYLES.items() if style.camera == "bilinear"]
SHORTER = ProGanPlan(epochs=46, decay_from=34.0)
PROGANS: dict[str, ProGanPlan] = {
    "demo-progan-a": ProGanPlan("pebbles", seed=41),
    "demo-progan-b": ProGanPlan("pebbles", seed=42),
    "demo-progan-ahat": ProGanPlan("city", seed=41),
    "demo-progan-bhat": ProGanPlan("city", seed=42),
    **{f"demo-progan-t-{style}": replace(SHORTER, style=style, seed=50 + k) for k, style in enumerate(PROGAN_STYLES)},
}
PROGAN_EPOCHS = (20, 32, 40, 52, 70)
PROGAN_T = tuple(run for run in PROGANS if run.startswith("demo-progan-t-"))


def progan_checkpoints() -> tuple[str, ...]:
    """Names of the 20 checkpoints, in the order of the paper's Fig. H: runs A, B, hat A, hat B, epochs ascending."""
    return tuple(f"{run}-e{epoch}" for run in PROGANS if run not in PROGAN_T for epoch in PROGAN_EPOCHS)


def shipped_files(names: Iterable[str]) -> dict[str, Path]:
    """Where shipped weights lie, by name."""
    return {name: DATA_DIR / f"{name.replace('-', '_')}.safetensors" for name in names}


SHIPPED = shipped_files((*DECODERS, *CHILDREN, *GANS))
PROGAN_FILES = shipped_files((*progan_checkpoints(), *PROGAN_T))
AnyPlan = GeneratorPlan | GanPlan | ProGanPlan
KINDS: dict[str, type[AnyPlan]] = {"decoder": GeneratorPlan, "gan": GanPlan, "progan": ProGanPlan}


def build(plan: AnyPlan) -> nn.Module:
    """The untrained generator of a plan."""
    if isinstance(plan, GanPlan):
        return DESIGNS[plan.design](plan.width, plan.latent)
    return ProGenerator(plan) if isinstance(plan, ProGanPlan) else LatentDecoder(plan)


def weights_path(name: str | Path) -> Path:
    """File of a shipped generator, or ``name`` itself if it is none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    shipped = SHIPPED | PROGAN_FILES
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"no generator weights at {path}; shipped: {', '.join(shipped)}")
    return path


def save_generator(path: Path | str, model: nn.Module, plan: AnyPlan, metadata: Mapping[str, Any]) -> Path:
    """Write the weights in half precision with their plan."""
    tensors = {key: value.half() for key, value in model.state_dict().items()}
    kind = next(kind for kind, plans in KINDS.items() if isinstance(plan, plans))
    return atomic_safetensors(path, tensors, {**metadata, "plan": asdict(plan), "kind": kind})


def load_generator(name: str | Path) -> tuple[Any, Any]:
    """A shipped generator, or the one in a file, in eval mode, and the plan that it was trained by.

    A ``LatentDecoder`` or ``Translator`` maps images to images, a ``ProGenerator`` latent vectors (see
    ``latent_vectors``), the other GANs what ``latents`` gives.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    tensors, facts = read_safetensors(weights_path(name))
    plan = KINDS[facts["kind"]](**facts["plan"])
    model = build(plan)
    model.load_state_dict({key: values.float() for key, values in tensors.items()})
    return model.eval(), plan


def read_facts(name: str | Path) -> dict[str, Any]:
    """What a generator's file says of itself: kind, name, data, plan; a decoder's PSNR in dB, a ProGAN's epoch."""
    return read_safetensors(weights_path(name))[1]


def real_style(name: str | Path) -> str:
    """Style of the scenes that a shipped generator's fakes are compared with: what its own training showed it.

    Decoders and all their children are compared with the scenes that decoders are given.
    """
    facts = read_facts(name)
    return SOURCE_STYLE if facts["kind"] == "decoder" else str(facts["plan"]["style"])


def eight_bits(images: Tensor) -> np.ndarray:
    """Images (N, 3, H, W), clipped to [0, 1], as uint8 (N, H, W, 3)."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def generate(model: nn.Module, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Fakes made of images: 8-bit outputs (N, H, W, 3) for uint8 images (N, H, W, 3) with sides of multiples of 4."""
    parts = (to_batch(images[k : k + batch]) for k in range(0, len(images), batch))
    return np.concatenate([eight_bits(model(part)) for part in parts])


@torch.inference_mode()
def generate_from(model: nn.Module, inputs: Iterable[Tensor], batch: int = 8) -> np.ndarray:
    """Fakes (N, H, W, 3) uint8 of a model's inputs, (N, ...) each."""
    return np.concatenate([eight_bits(model(*part)) for part in zip(*(x.split(batch) for x in inputs), strict=True)])


def fakes_of(
    name: str | Path,
    seeds: Sequence[int],
    size: int = 128,
    scenes_of: Callable[[Sequence[int], int, str], np.ndarray] = rendered,
) -> np.ndarray:
    """One fake for each seed, uint8 (N, size, size, 3), determined by the generator, the seed and size.

    Decoders reconstruct the scene of that seed, the translator translates the scene of that seed in the
    style that it was trained on, the other GANs and the ProGANs draw their latent from the seed.

    Parameters
    ----------
    name : str or path
        A shipped generator, or a weights file.
    seeds : sequence of int
        All ProGANs make their images of the same latents.
    size : int
        Side in px: a multiple of 4, of 16 for GANs that start from noise; a ProGAN has one size only, its own.
    scenes_of : callable
        Gives scenes, of seeds, size and style, where they are kept somewhere.

    Raises
    ------
    FileNotFoundError
        If the generator has no weights.
    ValueError
        If there is no seed, or the size does not suit the generator.
    """
    model, plan = load_generator(name)
    if not len(seeds):
        raise ValueError("no seed to make a fake of")
    if isinstance(plan, ProGanPlan):
        if size != plan.size:
            raise ValueError(f"this ProGAN makes images of {plan.size} px a side and no others, not {size}")
        return generate_from(model, [latent_vectors(seeds, plan.latent)], 32)
    if isinstance(plan, GanPlan) and not plan.source:
        return generate_from(model, latents([[plan.seed, seed] for seed in seeds], plan.latent, size, size))
    if size % 4:
        raise ValueError(f"sides must be multiples of 4 px, not {size}")
    return generate(model, scenes_of(seeds, size, plan.source if isinstance(plan, GanPlan) else SOURCE_STYLE))
