"""Figures that follow one image through the filter: what it takes away, and what there speaks for a generator.

Figures made of images: fingerprints, gray-image outputs, grids of photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy import ndimage

from difcore import paper
from difcore.figures.spectra import (
    as_pattern,
    centre_zoom,
    fingerprint_image,
    fourier_magnitude,
    local_correlation,
    select_channel,
)
from difcore.figures.style import GREY, SPECTRUM, NotebookFigure, new_figure, signed_map, styled

MAX_COLUMNS = 7
PANEL = 1.42  # inches: at 200 dpi a 256 px pattern keeps every pixel
LARGE = 128  # px: from this size on a pixel of a panel is too small to be seen


def show_image(axes: Axes, image: np.ndarray, title: str = "", below: str = "") -> None:
    """An image in [0, 1] or uint8 without ticks, with an optional line above and below."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    if below:
        axes.set_xlabel(below, color=GREY, fontsize=7)


def show_spectrum(axes: Axes, pattern: ArrayLike, power: float, channel: str = "RGB") -> None:
    """The spectrum of a pattern; the peaks of a large one are drawn 3 px wide, or print would lose them."""
    magnitude = fourier_magnitude(pattern, power, channel)
    if min(magnitude.shape) >= LARGE:
        magnitude = ndimage.maximum_filter(magnitude, 3)
    top = max(float(np.quantile(magnitude, 0.9995)), 1e-12)  # one extreme bin must not darken all others
    axes.imshow(magnitude, cmap=SPECTRUM, vmin=float(np.quantile(magnitude, 0.01)), vmax=top)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def panel_blocks(names: Sequence[str], columns: int) -> list[list[str]]:
    """Lines of panels: one if all names fit, else the paper's two families and the rest apart, wrapped at ``columns``.

    What is in neither family ends the first line that has room for all of it.
    """
    if len(names) <= columns:
        return [list(names)]
    rest = [n for n in names if n not in paper.GENERATORS]
    groups = [[n for n in names if n in family] for family in (paper.LTIM, paper.GAN)]
    lines = [group[k : k + columns] for group in groups for k in range(0, len(group), columns)]
    for line in lines:
        if len(line) + len(rest) <= columns:
            return [[*line, *rest] if other is line else other for other in lines]
    return lines + [rest[k : k + columns] for k in range(0, len(rest), columns)]


@styled
def fingerprint_panels(
    patterns: Mapping[str, ArrayLike],
    power: float = 4.0,
    channel: str = "RGB",
    crop: int | None = None,
    title: str = "",
    columns: int = MAX_COLUMNS,
) -> NotebookFigure:
    """Fingerprints in image space above their spectra, one column each, generators in the paper's order.

    Parameters
    ----------
    patterns : mapping of name to array (3, H, W)
    power : float
        Of ``fourier_magnitude``; the spectrum always is that of the whole pattern.
    channel : {"RGB", "R", "G", "B", "mean"}
    crop : int or None
        Show only the central ``crop`` px in image space.
    columns : int
        With more fingerprints than this, text-to-image models and GANs go on lines of their own.

    Raises
    ------
    ValueError
        If there is no pattern.
    """
    if not patterns:
        raise ValueError("no fingerprint to draw")
    blocks = panel_blocks(paper.paper_order(list(patterns)), columns)
    width = max(map(len, blocks))
    figure = new_figure(PANEL * max(width, 2) + 0.35, (2 * PANEL + 0.3) * len(blocks) + (0.25 if title else 0))
    grid = figure.add_gridspec(2 * len(blocks), width)
    for b, block in enumerate(blocks):
        for k, name in enumerate(block):
            top, bottom = (figure.add_subplot(grid[2 * b + row, k]) for row in (0, 1))
            show_image(top, fingerprint_image(centre_zoom(patterns[name], crop), channel), paper.label(name))
            show_spectrum(bottom, patterns[name], power, channel)
            if k == 0:
                top.set_ylabel("image" if crop is None else f"image, centre {crop} px")
                bottom.set_ylabel(f"Fourier, power {power:g}")
    if title:
        figure.suptitle(title)
    return figure


@styled
def gray_panels(outputs: Mapping[int, ArrayLike], power: float = 4.0, title: str = "") -> NotebookFigure:
    """The gray-image experiment: the network's output and its spectrum by step, contrast stretched and stated.

    Parameters
    ----------
    outputs : mapping of step to array (3, H, W)
        Outputs of a network trained to give 0.5 everywhere.
    """
    if not outputs:
        raise ValueError("no output to draw")
    steps = sorted(outputs)
    figure = new_figure(PANEL * max(len(steps), 2) + 0.35, 2 * PANEL + 0.5 + (0.25 if title else 0))
    axes = figure.subplots(2, len(steps), squeeze=False)
    for column, step in zip(axes.T, steps, strict=True):
        low, high = np.percentile(as_pattern(outputs[step]), [1, 99])
        note = f"contrast ×{1 / (high - low):.2g}" if high > low else "constant"
        show_image(column[0], fingerprint_image(outputs[step]), f"step {step}", note)
        show_spectrum(column[1], outputs[step], power)
    axes[0, 0].set_ylabel("output")
    axes[1, 0].set_ylabel(f"Fourier, power {power:g}")
    if title:
        figure.suptitle(title)
    return figure


@styled
def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str] | None = None, columns: int = 8, title: str = ""
) -> NotebookFigure:
    """Images (H, W, 3) uint8 in reading order, each at its own size in pixels.

    Raises
    ------
    ValueError
        If there is no image, or not one title per image.
    """
    if not len(images):
        raise ValueError("no image to draw")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} images but {len(titles)} titles")
    columns = min(columns, len(images))
    rows = ceil(len(images) / columns)
    figure = new_figure(1.15 * max(columns, 2), (1.35 if titles else 1.15) * rows + (0.25 if title else 0))
    for k, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, k + 1)
        show_image(axes, np.asarray(image))
        if titles is not None:
            axes.set_title(titles[k], fontsize=6.5)
    if title:
        figure.suptitle(title)
    return figure


@styled
def pattern_pair(first: ArrayLike, second: ArrayLike, names: tuple[str, str], power: float = 4.0) -> NotebookFigure:
    """Two patterns side by side, image and spectrum each: what two rows or columns of a matrix stand for."""
    figure = new_figure(4 * PANEL + 0.3, PANEL + 0.34)
    axes = figure.subplots(1, 4)
    for k, (pattern, name) in enumerate(zip((first, second), names, strict=True)):
        show_image(axes[2 * k], fingerprint_image(select_channel(pattern)), paper.label(name))
        show_spectrum(axes[2 * k + 1], pattern, power)
    return figure


@styled
def fingerprint_closeup(
    pattern: ArrayLike, name: str = "", power: float = 4.0, channel: str = "RGB", crop: int | None = None
) -> NotebookFigure:
    """One fingerprint, large: image space (its central ``crop`` px) beside the spectrum of all of it."""
    figure = new_figure(7.4, 4.0)
    left, right = figure.subplots(1, 2)
    show_image(left, fingerprint_image(centre_zoom(pattern, crop), channel), paper.label(name))
    show_spectrum(right, pattern, power, channel)
    right.set_title(f"Fourier, power {power:g}")
    return figure


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
