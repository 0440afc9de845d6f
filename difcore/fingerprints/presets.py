"""Two settings of everything that detects: the paper's own, and ours, which departs from it in five points."""

from __future__ import annotations

from dataclasses import dataclass

from difcore.fingerprints.dif import DifPlan
from difcore.paper import MARGIN, TRAIN_IMAGES_OF_CLASS
from difcore.residuals.bias import SUFFIX
from difcore.residuals.denoisers import LIMIT, weightless


@dataclass(frozen=True)
class Preset:
    """What a mode sets: m of DIF's loss; whether F_DnCNN is the plain mean residual, not its profile; the limit of
    residuals; the most fits where one does not set out; N_S where the data have as many (None: as asked for)."""

    margin: float
    mean: bool
    limit: float | None
    fits: int
    n_train: int | None

    def filter(self, name: str) -> str:
        """A residual filter's name in this mode; one without weights has no bias."""
        return f"{name}{SUFFIX}" if self.mean and not weightless(name) and not name.endswith(SUFFIX) else name

    def held(self, limit: float | None) -> float | None:
        """The limit in this mode of residuals that would have ``limit``."""
        return limit if self.limit else None


MODES = {
    "paper": Preset(MARGIN, True, None, 1, TRAIN_IMAGES_OF_CLASS),
    "ours": Preset(DifPlan.margin, False, LIMIT, DifPlan.fits, None),
}


def preset(mode: str) -> Preset:
    """A mode's settings; ValueError if there is no such mode."""
    if mode not in MODES:
        raise ValueError(f"the mode is {' or '.join(map(repr, MODES))}, not {mode!r}")
    return MODES[mode]
