"""All figures under one name: each takes arrays or frames and returns a figure that a notebook shows.

None touches matplotlib's global state; ``savefig`` saves them as vectors or pixels.
"""

from difcore.figures.charts import (
    accuracy_boxes,
    accuracy_comparison,
    change_by_epoch,
    grouped_bars,
    limit_curves,
    loss_curve,
    mark_histogram,
    pair_histogram,
    radial_spectrum,
    score_histograms,
    size_curves,
    training_agreement,
)
from difcore.figures.family_tree import family_tree
from difcore.figures.heatmaps import MatrixPanel, matrix_heatmap, matrix_panels
from difcore.figures.panels import (
    denoiser_example,
    evidence_panels,
    fingerprint_closeup,
    fingerprint_panels,
    gray_panels,
    image_grid,
)
from difcore.figures.spectra import fingerprint_image, fourier_magnitude

__all__ = [
    "MatrixPanel", "accuracy_boxes", "accuracy_comparison", "change_by_epoch", "denoiser_example", "evidence_panels",
    "family_tree", "fingerprint_closeup", "fingerprint_image", "fingerprint_panels", "fourier_magnitude", "gray_panels",
    "grouped_bars", "image_grid", "limit_curves", "loss_curve", "mark_histogram", "matrix_heatmap", "matrix_panels",
    "pair_histogram", "radial_spectrum", "score_histograms", "size_curves", "training_agreement",
]  # fmt: skip
