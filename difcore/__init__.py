"""difcore: Deep Image Fingerprint, re-implemented to be read, re-run and measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difcore import lineage
    from difcore.fingerprints.correlation import cross_detection, ncc
    from difcore.fingerprints.detector import Bank, Detector
    from difcore.residuals.denoisers import load_denoiser
    from difcore.residuals.sets import residuals_of

__all__ = ["Bank", "Detector", "cross_detection", "lineage", "load_denoiser", "ncc", "residuals_of"]
__version__ = "0.1.0"
HOMES = {
    "Bank": "fingerprints.detector", "Detector": "fingerprints.detector", "cross_detection": "fingerprints.correlation",
    "load_denoiser": "residuals.denoisers", "ncc": "fingerprints.correlation", "residuals_of": "residuals.sets",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public names, loaded when they are asked for: torch takes seconds."""
    if name in HOMES:
        return getattr(import_module(f"difcore.{HOMES[name]}"), name)
    if name == "lineage":
        return import_module("difcore.lineage")
    raise AttributeError(f"module 'difcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
