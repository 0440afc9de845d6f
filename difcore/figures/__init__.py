"""All figures under one name.

Every function takes arrays or frames and returns a figure that a notebook shows and ``savefig`` saves; none touches
matplotlib's global state.
"""

from difcore.figures.charts import accuracy_boxes, grouped_bars, size_curves
from difcore.figures.curves import loss_curve, radial_spectrum, roc_curve_plot, training_agreement
from difcore.figures.heatmaps import matrix_heatmap
from difcore.figures.panels import (
    denoiser_example,
    evidence_panels,
    fingerprint_closeup,
    fingerprint_panels,
    gray_panels,
    image_grid,
    pattern_pair,
)
from difcore.figures.scores import accuracy_comparison, score_histograms
from difcore.figures.spectra import fingerprint_image, fourier_magnitude
from difcore.figures.style import style

__all__ = [
    "accuracy_boxes", "accuracy_comparison", "denoiser_example", "evidence_panels", "fingerprint_closeup",
    "fingerprint_image", "fingerprint_panels", "fourier_magnitude", "gray_panels", "grouped_bars", "image_grid",
    "loss_curve", "matrix_heatmap", "pattern_pair", "radial_spectrum", "roc_curve_plot", "score_histograms",
    "size_curves", "style", "training_agreement",
]  # fmt: skip
