"""Figures that follow one image through the filter: what it takes away, and what there speaks for a generator."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from difcore import paper
from difcore.panels import show_image
from difcore.spectra import as_pattern, fingerprint_image, local_correlation
from difcore.style import NotebookFigure, new_figure, signed_map, styled


@styled
def denoiser_example(clean: ArrayLike, noisy: ArrayLike, residual: ArrayLike, title: str = "") -> NotebookFigure:
    """Clean image, noisy image, denoised image and the residual that was taken away.

    Parameters
    ----------
    clean, noisy : array (3, H, W) in [0, 1]
    residual : array (3, H, W)
        The filter's estimate of the noise, in the units of the images; its channels' mean is shown.
    """
    x, y, r = as_pattern(clean), as_pattern(noisy), as_pattern(residual)
    figure, axes, bar_axes = three_images_and_map(title)
    for ax, image, name in zip(axes, (x, y, y - r), ("clean", "noisy", "denoised"), strict=False):
        error = float(np.mean((np.clip(image, 0, 1) - x) ** 2))
        quality = f"{-10 * np.log10(error):.1f} dB" if error > 0 else "reference"
        show_image(ax, np.clip(image, 0, 1).transpose(1, 2, 0), name, quality)
    levels = 255 * r.mean(0)
    show_signed(
        figure, axes[3], bar_axes, levels, "residual", "grey levels of 255", float(np.quantile(np.abs(levels), 0.995))
    )
    return figure


def three_images_and_map(title: str) -> tuple[NotebookFigure, np.ndarray, Axes]:
    """A figure with four equal squares in a line and room for a colour bar below the last."""
    figure = new_figure(7.4, 2.9 if title else 2.65)
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 0.06))
    if title:
        figure.suptitle(title)
    squares = np.array([figure.add_subplot(grid[0, k]) for k in range(4)])
    return figure, squares, figure.add_subplot(grid[1, 3])


def show_signed(
    figure: NotebookFigure, axes: Axes, bar_axes: Axes, values: np.ndarray, title: str, unit: str, limit: float
) -> None:
    """A signed map with its colour bar, zero in the middle."""
    limit = limit or 1.0
    drawn = axes.imshow(values, cmap=signed_map(), vmin=-limit, vmax=limit)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, cax=bar_axes, orientation="horizontal")
    bar.set_label(unit, fontsize=7)
    bar_axes.tick_params(labelsize=6.5)
    bar.outline.set_visible(False)  # type: ignore[operator]


@styled
def evidence_panels(
    image: np.ndarray, residual: ArrayLike, pattern: ArrayLike, name: str = "fingerprint", block: int = 16
) -> NotebookFigure:
    """One image, its residual, a fingerprint, and where in the image their correlation comes from.

    Parameters
    ----------
    image : ndarray uint8 (H, W, 3)
    residual, pattern : array (3, H, W)
    name : str
        Whose fingerprint it is.
    block : int
        Side in px of the squares over which the local correlation is averaged; the map's mean is rho.
    """
    rho_map = local_correlation(residual, pattern, block)
    figure, axes, bar_axes = three_images_and_map("")
    show_image(axes[0], np.asarray(image), "image")
    show_image(axes[1], fingerprint_image(residual), "residual")
    show_image(axes[2], fingerprint_image(pattern), paper.label(name))
    rho = float(local_correlation(residual, pattern, 1).mean())
    limit = float(np.abs(rho_map).max())
    show_signed(figure, axes[3], bar_axes, rho_map, f"ρ = {rho:+.4f}", f"local ρ, {block} px squares", limit)
    return figure
