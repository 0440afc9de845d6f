"""Tab. B read off the living network, row by row beside the paper's, and what the text of A.3 says besides."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from difcore.experiments.claiming import judge
from difcore.fingerprints.priors import IN_CHANNELS, PRIORS, UNet, build_prior, parameter_count
from difcore.paper import TABLE_B, Block
from difcore.records.claims import Claim

COLUMNS = ("part", "c_in", "c_out", "f_act")


def read_blocks(model: UNet) -> list[Block]:
    """The rows of Tab. B as the modules of a U-Net have them."""
    decoder = []
    for raise_, stage in zip(model.up, model.decoder, strict=True):
        (deconvolution,) = [m for m in raise_.modules() if isinstance(m, nn.ConvTranspose2d)]
        decoder.append(block_of("decoder", stage, deconvolution.out_channels))
    last = Block("decoder", (model.last.in_channels,), model.last.out_channels, last_activation(model))
    return [*(block_of("encoder", stage) for stage in model.encoder), *decoder, last]


def block_of(part: str, stage: nn.Module, below: int = 0) -> Block:
    """One block: its first convolution's input (``below`` of it from the block below, the rest from the skip)."""
    convolutions = [m for m in stage.modules() if isinstance(m, nn.Conv2d)]
    kinds = {"Leaky-ReLU" for m in stage.modules() if isinstance(m, nn.LeakyReLU)}
    c_in = convolutions[0].in_channels
    channels = (below, c_in - below) if 0 < below < c_in else (c_in,)
    return Block(part, channels, convolutions[-1].out_channels, "".join(kinds))


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


def block_table() -> pd.DataFrame:
    """Tab. B: row, and part, C_in, C_out, f_act of the paper and of ours; C_in is "256+256" where a skip comes in."""
    rows = []
    for k, pair in enumerate(zip(TABLE_B, read_blocks(UNet()), strict=True), 1):
        row: dict[str, object] = {"row": k}
        for name, block in zip(("paper", "ours"), pair, strict=True):
            values = (block.part, "+".join(map(str, block.c_in)), block.c_out, block.activation)
            row |= {f"{column}_{name}": value for column, value in zip(COLUMNS, values, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def block_claims(table: pd.DataFrame) -> list[Claim]:
    """One claim a row of ``block_table``."""
    claims = []
    for row in table.to_dict("records"):
        paper, ours = ([row[f"{column}_{name}"] for column in COLUMNS] for name in ("paper", "ours"))
        told, seen = ("{} {} → {}, {}".format(*values) for values in (paper, ours))
        claims.append(judge(f"Tab. B, row {row['row']}", told, seen, paper == ours, "the network differs"))
    return claims


def detail_table() -> pd.DataFrame:
    """What the text of A.3 says besides Tab. B: detail, paper, ours (read off the network)."""
    model = UNet()
    blocks = [*model.encoder, model.middle, *model.decoder]
    convolutions = [m for block in blocks for m in block.modules() if isinstance(m, nn.Conv2d)]
    raising = [m for m in model.up.modules() if isinstance(m, nn.ConvTranspose2d)]
    norms = [m for block in blocks for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    per_block = {sum(isinstance(m, nn.Conv2d) for m in block.modules()) for block in blocks}

    def kinds(modules: Iterable[nn.Module], name: str) -> str:
        return ", ".join("x".join(map(str, value)) for value in sorted({tuple(getattr(m, name)) for m in modules}))

    facts = [
        ("convolutions per block", "2", ", ".join(map(str, sorted(per_block)))),
        ("kernel of the blocks' convolutions", "3x3", kinds(convolutions, "kernel_size")),
        ("their stride", "1x1", kinds(convolutions, "stride")),
        ("their padding", "1x1", kinds(convolutions, "padding")),
        ("batch-norm after each", "yes", "yes" if len(norms) == len(convolutions) else "no"),
        ("kernel of the deconvolutions", "2x2", kinds(raising, "kernel_size")),
        ("their stride", "2x2", kinds(raising, "stride")),
        ("kernel of the last convolution", "3x3 (the official code: 1x1)", kinds([model.last], "kernel_size")),
    ]
    return pd.DataFrame(facts, columns=["detail", "paper", "ours"])


def size_table() -> pd.DataFrame:
    """Trainable values of each architecture of A.4: prior, parameters."""
    return pd.DataFrame([{"prior": name, "parameters": parameter_count(build_prior(name))} for name in PRIORS])


def untrained(size: int, seed: int) -> dict[str, np.ndarray]:
    """What each architecture makes of noise before any training, (3, size, size) by name."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        noise = torch.rand(1, IN_CHANNELS, size, size) * 0.1
        return {name: build_prior(name).train()(noise)[0].numpy() for name in PRIORS}
