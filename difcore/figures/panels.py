"""Figures made of images: fingerprints and their spectra, what a filter takes away, what speaks for a generator."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.ndimage import maximum_filter

from difcore import paper
from difcore.figures.spectra import as_pattern, fingerprint_image, fourier_magnitude, local_correlation
from difcore.figures.style import GREY, NotebookFigure, new_figure, signed_map, styled

PANEL = 1.42  # inches: at 200 dpi a 256 px pattern keeps every pixel


def show_image(axes: Axes, image: np.ndarray, title: str = "", below: str = "") -> None:
    """An image in [0, 1] or uint8 without ticks, with an optional line above and below."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    axes.set(xticks=[], yticks=[], title=title, frame_on=False)
    axes.set_xlabel(below, color=GREY, fontsize=7)


def show_spectrum(axes: Axes, pattern: ArrayLike, power: float, channel: str = "RGB") -> None:
    """The spectrum of a pattern; the peaks of a large one are drawn 3 px wide, or print would lose them."""
    magnitude = fourier_magnitude(pattern, power, channel)
    if min(magnitude.shape) >= 128:  # px: from here on a pixel of a panel is too small to be seen
        magnitude = maximum_filter(magnitude, 3)
    low, top = np.quantile(magnitude, [0.01, 0.9995])  # one extreme bin must not darken all others
    axes.imshow(magnitude, cmap="magma", vmin=low, vmax=max(top, 1e-12))
    axes.set(xticks=[], yticks=[], frame_on=False)


def images_above_spectra(
    lines: Sequence[Sequence[tuple[str, ArrayLike, str]]], power: float, label: str
) -> NotebookFigure:
    """Lines of (title, pattern, note): each pattern's image with its note above its spectrum."""
    width = max(map(len, lines))
    figure = new_figure(PANEL * max(width, 2) + 0.35, (2 * PANEL + 0.4) * len(lines))
    grid = figure.add_gridspec(2 * len(lines), width)
    for row, line in enumerate(lines):
        for k, (title, pattern, note) in enumerate(line):
            top, bottom = (figure.add_subplot(grid[2 * row + half, k]) for half in (0, 1))
            show_image(top, fingerprint_image(pattern), title, note)
            show_spectrum(bottom, pattern, power)
            if k == 0:
                top.set_ylabel(label)
                bottom.set_ylabel(f"Fourier, power {power:g}")
    return figure


@styled
def fingerprint_panels(patterns: Mapping[str, ArrayLike], power: float = 4.0) -> NotebookFigure:
    """The paper's fingerprints, Tab. B's untrained networks: patterns (3, H, W) in image space above Fourier space.

    More than seven wrap: text-to-image models, then GANs; what is neither ends the first line that has room for it.
    """
    names = paper.paper_order(list(patterns))
    lines = [names]
    if len(names) > 7:
        rest = [n for n in names if n not in paper.GENERATORS]
        groups = ([n for n in names if n in family] for family in (paper.LTIM, paper.GAN))
        lines = [line for line in groups if line]
        roomy = next((line for line in lines if len(line) + len(rest) <= 7), None)
        if roomy is not None:
            roomy += rest
        else:
            lines += [rest[k : k + 7] for k in range(0, len(rest), 7)]
    shown = [[(paper.label(name), patterns[name], "") for name in line] for line in lines]
    return images_above_spectra(shown, power, "image")


@styled
def gray_panels(outputs: Mapping[int, ArrayLike], power: float = 4.0) -> NotebookFigure:
    """The gray-image experiment: by step, a network's output (3, H, W) and its spectrum, contrast stretched, stated."""
    line = []
    for step, output in sorted(outputs.items()):
        low, high = np.percentile(as_pattern(output), [1, 99])
        note = f"contrast ×{1 / (high - low):.2g}" if high > low else "constant"
        line.append((f"step {step}", output, note))
    return images_above_spectra([line], power, "output")


@styled
def fingerprint_closeup(
    patterns: ArrayLike | Mapping[str, ArrayLike],
    name: str = "",
    power: float = 4.0,
    channel: str = "RGB",
    crop: int | None = None,
) -> NotebookFigure:
    """One fingerprint (3, H, W), or a mapping of two, large: image space (its central ``crop`` px) beside Fourier."""
    named = patterns if isinstance(patterns, Mapping) else {name: patterns}
    side = 3.55 / len(named)
    figure = new_figure(2 * side * len(named) + 0.3, side + 0.4)
    grid = figure.subplots(1, 2 * len(named))
    for (left, right), (text, pattern) in zip(grid.reshape(-1, 2), named.items(), strict=True):
        show_image(left, fingerprint_image(pattern, channel, crop), paper.label(text))
        show_spectrum(right, pattern, power, channel)
        right.set_title(f"Fourier, power {power:g}")
    return figure


@styled
def image_grid(
    images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8, title: str = ""
) -> NotebookFigure:
    """Fig. E's and Fig. G's images, (H, W, 3) uint8, in reading order, each at its own size in pixels."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.15 * max(columns, 2), (1.35 if titles else 1.15) * rows, title)
    for k, (image, text) in enumerate(zip(images, titles or [""] * len(images), strict=True)):
        axes = figure.add_subplot(rows, columns, k + 1)
        show_image(axes, np.asarray(image))
        axes.set_title(text, fontsize=6.5)
    return figure


@styled
def denoiser_example(clean: ArrayLike, noisy: ArrayLike, residual: ArrayLike, title: str = "") -> NotebookFigure:
    """The residual filter f_D at work: clean, noisy and denoised image (3, H, W) in [0, 1], and what was taken away."""
    x, y, r = as_pattern(clean), as_pattern(noisy), as_pattern(residual)
    shown = []
    for name, image in (("clean", x), ("noisy", y), ("denoised", y - r)):
        error = float(np.mean((np.clip(image, 0, 1) - x) ** 2))
        note = f"{-10 * np.log10(error):.1f} dB" if error > 0 else "reference"
        shown.append((name, np.clip(image, 0, 1).transpose(1, 2, 0), note))
    levels = 255 * r.mean(0)
    names = "residual", "grey levels of 255"
    return images_and_map(shown, levels, float(np.quantile(np.abs(levels), 0.995)), names, title)


@styled
def evidence_panels(
    image: np.ndarray, residual: ArrayLike, pattern: ArrayLike, name: str = "fingerprint", block: int = 16
) -> NotebookFigure:
    """Image (H, W, 3) uint8, residual and fingerprint (3, H, W), and a map of squares of ``block`` px, its mean ρ."""
    rho = local_correlation(residual, pattern, 1).mean()
    local = local_correlation(residual, pattern, block)
    shown = [("image", np.asarray(image), "")]
    shown += [(n, fingerprint_image(p), "") for n, p in (("residual", residual), (paper.label(name), pattern))]
    names = f"ρ = {rho:+.4f}", f"local ρ, {block} px squares"
    return images_and_map(shown, local, float(np.abs(local).max()), names, "")


def images_and_map(
    shown: Sequence[tuple[str, np.ndarray, str]], values: np.ndarray, limit: float, names: tuple[str, str], title: str
) -> NotebookFigure:
    """Three (title, image, note), and a map of signed values up to ± ``limit`` with its title and unit."""
    figure = new_figure(7.4, 2.65, title)
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 0.06))
    for k, (name, image, note) in enumerate(shown):
        show_image(figure.add_subplot(grid[0, k]), image, name, note)
    axes = figure.add_subplot(grid[0, 3], title=names[0], xticks=[], yticks=[], frame_on=False)
    drawn = axes.imshow(values, cmap=signed_map(), vmin=-(limit or 1.0), vmax=limit or 1.0)
    bar = figure.colorbar(drawn, cax=figure.add_subplot(grid[1, 3]), orientation="horizontal")
    bar.set_label(names[1], fontsize=7)
    bar.ax.tick_params(labelsize=6.5)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure
