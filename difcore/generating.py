"""From a generator in memory to fakes of eight bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from difcore.gan_training import latents
from difcore.gans import GanPlan
from difcore.progan import ProGanPlan, latent_vectors
from difcore.tensors import to_batch


def eight_bits(images: Tensor) -> np.ndarray:
    """Images (N, 3, H, W), clipped to [0, 1], as uint8 (N, H, W, 3)."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def generate(model: nn.Module, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Fakes made of images: 8-bit outputs (N, H, W, 3) for uint8 images (N, H, W, 3) with sides of multiples of 4."""
    out = [eight_bits(model(to_batch(images[k : k + batch]))) for k in range(0, len(images), batch)]
    return np.concatenate(out)


@torch.inference_mode()
def generate_from_noise(model: nn.Module, plan: GanPlan, seeds: Sequence[int], size: int, batch: int = 8) -> np.ndarray:
    """Fakes (N, size, size, 3) uint8 of latent seeds."""
    out = []
    for k in range(0, len(seeds), batch):
        inputs = latents([[plan.seed, seed] for seed in seeds[k : k + batch]], plan.latent, size, size)
        out.append(eight_bits(model(*inputs)))
    return np.concatenate(out)


@torch.inference_mode()
def generate_progan(model: nn.Module, plan: ProGanPlan, seeds: Sequence[int], size: int, batch: int = 32) -> np.ndarray:
    """Fakes (N, size, size, 3) uint8 of latent seeds, which mean the same latents to all ProGANs.

    Raises
    ------
    ValueError
        If the size is not the model's.
    """
    if size != plan.size:
        raise ValueError(f"this ProGAN makes images of {plan.size} px a side and no others, not {size}")
    z = latent_vectors(seeds, plan.latent)
    return np.concatenate([eight_bits(model(part)) for part in z.split(batch)])
