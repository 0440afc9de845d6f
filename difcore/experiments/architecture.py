"""Tab. B read off the living network, row by row beside the paper's."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from difcore.fingerprints.priors import IN_CHANNELS, PRIORS, UNet, build_prior, parameter_count
from difcore.paper import TABLE_B, Block

ACTIVATIONS = {nn.LeakyReLU: "Leaky-ReLU"}


def read_blocks(model: UNet) -> list[Block]:
    """The rows of Tab. B as the modules of a U-Net have them."""
    encoder = [block_of("encoder", stage) for stage in model.encoder]
    decoder = []
    for raise_, stage in zip(model.up, model.decoder, strict=True):
        (deconvolution,) = [m for m in raise_.modules() if isinstance(m, nn.ConvTranspose2d)]
        decoder.append(block_of("decoder", stage, deconvolution.out_channels))
    last = Block("decoder", (model.last.in_channels,), model.last.out_channels, last_activation(model))
    return [*encoder, *decoder, last]


def block_of(part: str, stage: nn.Module, below: int = 0) -> Block:
    """One block: its first convolution's input (``below`` of it from the block below, the rest from the skip)."""
    convolutions = [m for m in stage.modules() if isinstance(m, nn.Conv2d)]
    kinds = {name for m in stage.modules() for kind, name in ACTIVATIONS.items() if isinstance(m, kind)}
    c_in = convolutions[0].in_channels
    channels = (below, c_in - below) if 0 < below < c_in else (c_in,)
    return Block(part, channels, convolutions[-1].out_channels, " and ".join(sorted(kinds)))


@torch.no_grad()
def last_activation(model: UNet) -> str:
    """ "TanH" if the output is the hyperbolic tangent of what the last convolution gives, "" if it is that itself."""
    seen: list[torch.Tensor] = []
    handle = model.last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    out = model.eval()(torch.randn(1, IN_CHANNELS, 32, 32, generator=torch.Generator().manual_seed(0)))
    handle.remove()
    if torch.equal(out, seen[0]):
        return ""
    return "TanH" if torch.allclose(out, torch.tanh(seen[0])) else "other"


def architecture_table() -> pd.DataFrame:
    """Tab. B (supplement, A.3): row, part, and C_in, C_out, f_act of the paper and of ours.

    C_in is text, "256+256" where a skip connection is concatenated, as the paper writes it.
    """
    ours = read_blocks(UNet())
    rows = []
    for k in range(max(len(ours), len(TABLE_B))):
        row: dict[str, object] = {"row": k + 1}
        for name, blocks in (("paper", TABLE_B), ("ours", ours)):
            block = blocks[k] if k < len(blocks) else Block("", (), 0, "")
            row |= {f"part_{name}": block.part, f"c_in_{name}": "+".join(map(str, block.c_in))}
            row |= {f"c_out_{name}": block.c_out, f"f_act_{name}": block.activation}
        rows.append(row)
    return pd.DataFrame(rows)


def detail_table() -> pd.DataFrame:
    """What the text of A.3 says besides Tab. B: detail, paper, ours (read off the network)."""
    model = UNet()
    blocks = [*model.encoder, model.middle, *model.decoder]
    convolutions = [m for block in blocks for m in block.modules() if isinstance(m, nn.Conv2d)]
    deconvolutions = [m for m in model.up.modules() if isinstance(m, nn.ConvTranspose2d)]
    norms = [m for block in blocks for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    per_block = {sum(isinstance(m, nn.Conv2d) for m in block.modules()) for block in blocks}

    def kinds(values: set[tuple[int, ...]]) -> str:
        return ", ".join("x".join(map(str, value)) for value in sorted(values))

    facts = [
        ("convolutions per block", "2", ", ".join(map(str, sorted(per_block)))),
        ("kernel of the blocks' convolutions", "3x3", kinds({tuple(m.kernel_size) for m in convolutions})),
        ("their stride", "1x1", kinds({tuple(m.stride) for m in convolutions})),
        ("their padding", "1x1", kinds({tuple(m.padding) for m in convolutions})),  # type: ignore[arg-type]
        ("batch-norm after each", "yes", "yes" if len(norms) == len(convolutions) else "no"),
        ("kernel of the deconvolutions", "2x2", kinds({tuple(m.kernel_size) for m in deconvolutions})),
        ("their stride", "2x2", kinds({tuple(m.stride) for m in deconvolutions})),
        ("kernel of the last convolution", "3x3 (the official code: 1x1)", kinds({tuple(model.last.kernel_size)})),
    ]
    return pd.DataFrame(facts, columns=["detail", "paper", "ours"])


def size_table() -> pd.DataFrame:
    """Trainable values of each architecture of A.4: prior, parameters."""
    return pd.DataFrame([{"prior": name, "parameters": parameter_count(build_prior(name))} for name in PRIORS])
