"""Controls over figures: change a value, see the figure again. Nothing hangs or is lost without a browser."""

from difcore.widgets.controls import (
    confound_explorer,
    epoch_explorer,
    evidence_explorer,
    fingerprint_explorer,
    frame_explorer,
    generator_explorer,
    matrix_explorer,
    score_explorer,
)
from difcore.widgets.workbench import comparer, drop_box, inspector

__all__ = [
    "comparer", "confound_explorer", "drop_box", "epoch_explorer", "evidence_explorer", "fingerprint_explorer",
    "frame_explorer", "generator_explorer", "inspector", "matrix_explorer", "score_explorer",
]  # fmt: skip
