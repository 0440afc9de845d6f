"""3x3 convolutions by ncnn, where it is installed: its Winograd kernels take fewer products than a direct convolution.

F(m x m, 3 x 3) computes m x m outputs with (m + 2)^2 products in place of 9 m^2 (Lavin and Gray, 2016). torch's
convolutions on a CPU are direct; a Winograd of matrix products in torch gains nothing (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

TORCH = "torch"  # the engine that is always there
MAGIC = "7767517"  # of ncnn's text format


@cache
def installed() -> str:
    """Name and version of the engine, as "ncnn-1.0.20261020"; empty where it cannot be imported."""
    try:
        return f"ncnn-{import_module('ncnn').__version__}"
    except (ImportError, OSError, AttributeError):
        return ""


class Chain:
    """3x3 convolutions one after the other, with ReLU between them, in float32 on the CPU: (B, C, H, W) to the same.

    ``layers``: weight and bias of each; ``paddings``: 0 or 1 px of each. On torch's number of threads: an image each,
    or all on the only one. Several threads may call it. It is built at its first call, in each process anew.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor | None]], paddings: Sequence[int]) -> None:
        self.layers, self.paddings = layers, paddings
        self.nets: dict[int, Any] = {}  # by the number of threads that one is prepared for

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"nets": {}}  # a network of ncnn does not travel

    def build(self, threads: int) -> Any:
        """A network of ncnn: one line and the numbers of each layer."""
        last, lines, numbers = len(self.layers) - 1, [], b""
        for k, ((weight, bias), padding) in enumerate(zip(self.layers, self.paddings, strict=True)):
            lines.append(
                f"Convolution c{k} 1 1 b{k} b{k + 1} 0={len(weight)} 1=3 4={padding} 5={int(bias is not None)} "
                f"6={weight.numel()} 9={int(k < last)}"
            )
            numbers += bytes(4) + weight.contiguous().numpy().tobytes()  # four zeros: what follows is float32
            numbers += b"" if bias is None else bias.numpy().tobytes()
        count = len(lines) + 1
        net = import_module("ncnn").Net()
        for low in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{low}", False)
        net.opt.num_threads = threads
        with TemporaryDirectory() as folder:
            text, data = Path(folder, "net.param"), Path(folder, "net.bin")
            text.write_text("\n".join([MAGIC, f"{count} {count}", "Input in 0 1 b0", *lines, ""]), encoding="ascii")
            data.write_bytes(numbers)
            if net.load_param(str(text)) or net.load_model(str(data)):
                raise RuntimeError("ncnn does not read the network that it is given")
        return net

    def __call__(self, x: Tensor) -> Tensor:
        threads = torch.get_num_threads()
        at_once = min(threads, len(x))
        each = threads // at_once
        if each not in self.nets:
            self.nets[each] = self.build(each)
        one, images = partial(self.one, self.nets[each]), x.contiguous().numpy()
        if at_once == 1:
            return torch.from_numpy(np.stack([one(image) for image in images]))
        with ThreadPoolExecutor(at_once) as pool:
            return torch.from_numpy(np.stack(list(pool.map(one, images))))

    def one(self, net: Any, image: np.ndarray) -> np.ndarray:
        """The network's answer to one image (C, H, W)."""
        with net.create_extractor() as run:
            given = import_module("ncnn").Mat(image)  # a view
            run.input("b0", given)
            failed, found = run.extract(f"b{len(self.layers)}")
            if failed:
                raise RuntimeError(f"ncnn failed ({failed})")
            return np.array(found)
