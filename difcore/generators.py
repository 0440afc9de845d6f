"""Small generators whose images stand in for the paper's where none of those are at hand. Always named demo-*.

Each is an autoencoder: real scenes go in, and what its decoder makes of their latents are the fakes. As in latent
diffusion models, it is the decoder, through its up-sampling and borders, that leaves the fingerprint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from difcore.denoiser_training import sample_crops
from difcore.files import DATA_DIR, atomic_safetensors, atomic_write
from difcore.tensors import channels_last, to_batch

SHIPPED = {"demo-deconv2": DATA_DIR / "demo_deconv2.safetensors"}
DOWNSAMPLING = 4


def conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and SiLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.SiLU())


class LatentDecoder(nn.Module):
    """Encoder to a latent 4x smaller, decoder back with two 2x2 deconvolutions; both convolutional.

    Parameters
    ----------
    width : int
        Feature channels.
    latent : int
        Channels of the latent.
    """

    def __init__(self, width: int = 64, latent: int = 24) -> None:
        super().__init__()
        w, cells = width, 3 * DOWNSAMPLING**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(DOWNSAMPLING), conv(cells, w), conv(w, w), nn.Conv2d(w, latent, 3, 1, 1)
        )
        deconvolve = [
            nn.Sequential(nn.ConvTranspose2d(a, b, 2, 2), nn.SiLU(), conv(b, b)) for a, b in ((w, w), (w, w // 2))
        ]
        self.decoder = nn.Sequential(conv(latent, w), conv(w, w), *deconvolve, nn.Conv2d(w // 2, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of images (B, 3, H, W) in [0, 1], H and W multiples of 4; not clipped."""
        return self.decoder(self.encoder(x - 0.5)) + 0.5


@dataclass(frozen=True)
class GeneratorPlan:
    """One training of a decoder: equal plans and images give equal weights."""

    steps: int = 3000
    batch: int = 8
    crop: int = 64
    learning_rate: float = 2e-3
    width: int = 64
    latent: int = 24
    seed: int = 0
    bfloat16: bool = False


def train_decoder(
    images: Sequence[np.ndarray], plan: GeneratorPlan, folder: Path | str, progress: bool = True, save_every: int = 250
) -> LatentDecoder:
    """Minimise the mean absolute reconstruction error on random crops; resumes from ``folder``/checkpoint.pt.

    Raises
    ------
    ValueError
        If the checkpoint in ``folder`` belongs to another plan.
    """
    checkpoint = Path(folder) / "checkpoint.pt"
    torch.manual_seed(plan.seed)
    model = channels_last(LatentDecoder(plan.width, plan.latent))
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["plan"] != asdict(plan):
            raise ValueError(f"{checkpoint} belongs to another plan: {saved['plan']}")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        start = saved["step"]
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, desc="decoder", disable=not progress)
    for step in bar:
        crops = sample_crops(images, plan.batch, plan.crop, np.random.default_rng([plan.seed, step]))
        crops = crops.contiguous(memory_format=torch.channels_last)
        rate = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * step / plan.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50)
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
            out = model(crops)
        loss = (out.float() - crops).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % save_every == 0 or step + 1 == plan.steps:
            state = {"plan": asdict(plan), "model": model.state_dict(), "optimiser": optimiser.state_dict()}
            atomic_write(checkpoint, partial(torch.save, state | {"step": step + 1}))
    return model.eval()


@torch.inference_mode()
def generate(model: LatentDecoder, images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Fakes: 8-bit reconstructions (N, H, W, 3) of uint8 images (N, H, W, 3) with sides that are multiples of 4."""
    out = []
    for k in range(0, len(images), batch):
        out.append(
            (model(to_batch(images[k : k + batch])).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        )
    return np.concatenate(out)


def save_decoder(path: Path | str, model: LatentDecoder, plan: GeneratorPlan, metadata: Mapping[str, Any]) -> Path:
    """Write the weights in half precision with their plan."""
    tensors = {key: value.half() for key, value in model.state_dict().items()}
    return atomic_safetensors(path, tensors, {**metadata, "plan": asdict(plan), "kind": "decoder"})


def load_decoder(name: str | Path = "demo-deconv2") -> LatentDecoder:
    """The decoder shipped under ``name``, or the one in a file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    path = SHIPPED.get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"no decoder weights at {path}")
    with safe_open(path, "pt") as stream:
        plan = json.loads(stream.metadata()["plan"])
        state = {key: stream.get_tensor(key).float() for key in stream.keys()}  # noqa: SIM118 - not a dict
    model = LatentDecoder(plan["width"], plan["latent"])
    model.load_state_dict(state)
    return model.eval()
