"""Checkpoints of the trainings: read back only by a run of the same plan; and the losses that they keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_checkpoint(path: Path, plan: Any, device: str = "cpu") -> dict[str, Any] | None:
    """The checkpoint at ``path``, its tensors on ``device``; None if there is none.

    Parameters
    ----------
    plan : dataclass
        Of the run that wants to resume; the checkpoint holds its own under "plan".

    Raises
    ------
    ValueError
        If it belongs to another plan.
    """
    if not path.exists():
        return None
    saved: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if saved["plan"] != asdict(plan):
        raise ValueError(f"{path} belongs to another plan: {saved['plan']}; use another folder or remove it")
    return saved


class Losses:
    """The losses of a training's steps, left on its device until they are read, so that no step waits for the last.

    Parameters
    ----------
    known : iterable
        Of the steps before the checkpoint.
    """

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self._read: list[Any] = list(known)
        self._pending: list[Tensor] = []

    def append(self, loss: Tensor) -> None:
        """Note the loss of a step: a scalar, or several of them (K,)."""
        self._pending.append(loss.detach())

    def read(self) -> list[Any]:
        """All of them, a float each, or a tuple of floats where several were noted."""
        if self._pending:
            values = torch.stack(self._pending).tolist()
            self._read += [tuple(value) if isinstance(value, list) else value for value in values]
            self._pending.clear()
        return self._read
