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

__all__ = [
    "confound_explorer", "epoch_explorer", "evidence_explorer", "fingerprint_explorer", "frame_explorer",
    "generator_explorer", "matrix_explorer", "score_explorer",
]  # fmt: skip
