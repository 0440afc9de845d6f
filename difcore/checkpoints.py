"""Checkpoints of the trainings: read back only by a run of the same plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch


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
