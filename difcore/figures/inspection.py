"""What one fingerprint says of one image, all of it in one view; and two fingerprints beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import ArrayLike

from difcore import paper
from difcore.figures.spectra import (
    as_pattern,
    fingerprint_image,
    fourier_magnitude,
    lag_correlation,
    local_correlation,
    radial_power,
    rho_by_frequency,
    spectral_peaks,
)
from difcore.figures.style import CHANCE, FAKE, GREY, REAL, NotebookFigure, signed_map, styled
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.verdicts import FALSE_ALARM

COLOURS = ("magma", "viridis", "cividis", "gray")  # each readable in grey and by the colour-blind
NAMES = ("image", "residual", "fingerprint")
LINES, MARK = (GREY, REAL, FAKE), "#56B4E9"  # of image, residual and fingerprint; of the cursor and of peaks


@dataclass(frozen=True)
class Look:
    """How an inspector's panes are shown.

    ``gain``: contrast of residual and fingerprint; ``power``: of the spectra; ``zoom``: how much of the panes in image
    space is seen around the cursor, pixel (``row``, ``column``) of the crop, which is marked in all of them; ``block``:
    px of the local correlation's squares. ``colours``: of spectra, and of panes that show one channel.
    """

    channel: str = "RGB"
    gain: float = 1.0
    colours: str = "magma"
    power: float = 4.0
    zoom: int = 1
    row: int = 0
    column: int = 0
    block: int = 16


Box = tuple[float, float, float, float]  # left, bottom, width, height as fractions of the figure


def board(height: float) -> NotebookFigure:
    """An empty figure, 10.2 inches wide, whose parts lie where they are put: a layout engine takes 0.3 s."""
    figure = NotebookFigure(figsize=(10.2, height), dpi=100)
    figure.set_layout_engine("none")
    return figure


def pane(figure: Figure, box: Box, values: np.ndarray, title: str, colours: str | Colormap = "gray",
         limits: tuple[float, float] = (0, 1)) -> None:  # fmt: skip
    """An image, nothing smoothed, and its title above it: without axes, each of which would cost 20 ms."""
    place = TransformedBbox(Bbox.from_bounds(*box), figure.transFigure)
    shown = BboxImage(place, cmap=colours, norm=Normalize(*limits), interpolation="nearest", origin="upper")
    shown.set_data(values)
    figure.add_artist(shown)
    figure.text(box[0] + box[2] / 2, box[1] + box[3] + 0.008, title, ha="center", fontsize=8.5)


def mark(figure: Figure, box: Box, at: tuple[float, float], symbol: str, size: float) -> None:
    """A symbol in a pane, ``at`` (right, down) as fractions of it; none if that is outside."""
    if min(at) >= 0 and max(at) <= 1:
        x, y = box[0] + at[0] * box[2], box[1] + (1 - at[1]) * box[3]
        look: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": MARK, "markeredgewidth": 1.1}
        figure.add_artist(Line2D([x], [y], marker=symbol, markersize=size, **look, transform=figure.transFigure))


def spectrum_pane(figure: Figure, box: Box, pattern: ArrayLike, look: Look, title: str) -> None:
    """A spectrum, frequencies from -.5 to .5 cycles per px, its peaks ringed, the highest with their period in px."""
    magnitude = fourier_magnitude(pattern, look.power, look.channel)
    pane(figure, box, magnitude, title, look.colours, (magnitude.min(), max(np.quantile(magnitude, 0.9995), 1e-12)))
    written: list[tuple[float, float]] = []
    for peak in spectral_peaks(pattern, look.channel).itertuples():
        at = (0.5 + peak.fx, min(0.5 + peak.fy, 0.99))
        mark(figure, box, at, "o", 7)
        if all(abs(at[0] - x) > 0.25 or abs(at[1] - y) > 0.06 for x, y in written):
            written.append(at)
            left = at[0] < 0.7
            x, y = box[0] + (at[0] + (0.035 if left else -0.035)) * box[2], box[1] + (1 - at[1] + 0.005) * box[3]
            back = {"boxstyle": "round,pad=0.1", "facecolor": "black", "alpha": 0.6, "linewidth": 0}
            text = f"{peak.period:.3g} px"
            figure.text(x, y, text, color="w", fontsize=6.5, ha="left" if left else "right", va="center", bbox=back)


def stretched(pattern: ArrayLike, look: Look) -> np.ndarray:
    """A pattern for looking at, its contrast times ``gain``."""
    return np.clip((fingerprint_image(pattern, look.channel) - 0.5) * look.gain + 0.5, 0, 1)


def number_line(axes: Axes, detector: Detector, rho: float, rate: float = FALSE_ALARM) -> None:
    """rho among the centres, the reals of the null, and the limit at a rate of false alarms."""
    null, marks = detector.null, [(detector.mu_real, REAL, "real centre"), (detector.mu_fake, FAKE, "generated centre")]
    reals = np.concatenate([kind.rho for kind in null.kinds.values()]) if null else np.empty(0)
    limit = null.limit(rate) if null else None
    axes.plot(reals, np.full(len(reals), 0.25), "|", color=REAL, markersize=9, alpha=0.6, markeredgewidth=0.8)
    for value, colour, _ in marks:
        axes.axvline(value, 0, 0.62, color=colour)
    axes.axvline(detector.threshold, 0, 0.62, color=GREY, linestyle="--")
    if limit is not None:
        axes.axvline(limit, 0, 0.62, color="black", linestyle=":")
    axes.plot([rho], [0.25], "D", color="black", markersize=6, zorder=3)
    spread = [*reals, rho, detector.mu_real, detector.mu_fake, *([limit] if limit is not None else [])]
    room = 0.06 * max(float(np.ptp(spread)), 1e-6)
    axes.set(ylim=(0, 1), yticks=[], xlim=(min(spread) - room, max(spread) + room))
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("correlation ρ", labelpad=1)
    axes.set_title(f"ρ = {rho:+.4f}" + (f", z = {null.z(rho):+.1f}, p = {null.p(rho):.2g}" if null else ""), pad=3)
    told = [("◆ this image", "black"), ("| real centre", REAL), ("| generated centre", FAKE), ("¦ midway", GREY)]
    told += [("' null's reals", REAL)] if null else []
    told += [(f"⋮ limit at {rate:.0%}", "black")] if limit is not None else []
    for k, (text, colour) in enumerate(told):
        axes.text(
            0.01 + (k % 3) * 0.34, 0.88 - 0.17 * (k // 3), text, color=colour, fontsize=7, transform=axes.transAxes
        )


@styled
def inspection(
    image: np.ndarray, residual: ArrayLike, detector: Detector, look: Look = Look(), title: str = ""
) -> NotebookFigure:
    """One image, its residual and one fingerprint in image space above Fourier space, and where rho comes from.

    Parameters
    ----------
    image : ndarray (H, W, 3) uint8
        The crop that the fingerprint is compared with.
    residual : array (3, H, W)
    """
    pattern, one, side = detector.pattern.numpy(), look.channel != "RGB", len(image)
    local = local_correlation(residual, pattern, look.block)
    figure, picture = board(5.6), image.transpose(2, 0, 1) / 255
    figure.text(0.012, 0.968, title, fontsize=9.5, fontweight="bold")
    colours, seen = look.colours if one else "gray", max(side // look.zoom, 1)
    top, left = (min(max(at - seen // 2, 0), side - seen) for at in (look.row, look.column))
    limit = float(np.abs(local).max()) or 1.0
    local = local.repeat(look.block, 0).repeat(look.block, 1)
    panes: list[tuple[np.ndarray, str, str | Colormap, tuple[float, float]]] = [
        (as_pattern(picture, look.channel)[0] if one else image / 255, "image", "gray", (0, 1)),
        (stretched(residual, look), "residual", colours, (0, 1)),
        (stretched(pattern, look), f"fingerprint {paper.label(detector.name)}", colours, (0, 1)),
        (local, f"local ρ, {look.block} px squares, ±{limit:.2g}", signed_map(), (-limit, limit)),
    ]
    cursor = ((look.column + 0.5 - left) / seen, (look.row + 0.5 - top) / seen)
    for k, (values, name, colour, limits) in enumerate(panes):
        box = (0.012 + 0.247 * k, 0.49, 0.235, 0.235 * 10.2 / 5.6)
        pane(figure, box, values[top : top + seen, left : left + seen], name, colour, limits)
        mark(figure, box, cursor, "+", 11)
    for k, (given, name) in enumerate(zip((picture, residual, pattern), NAMES, strict=True)):
        box = (0.012 + 0.247 * k, 0.01, 0.235, 0.235 * 10.2 / 5.6)
        spectrum_pane(figure, box, given, look, f"spectrum of the {name}")
    keys = [("+", "cursor, the same pixel in all panes"), ("○", "line of the spectrum, its period")]
    for k, (symbol, text) in enumerate(keys):
        figure.text(0.76, 0.36 - 0.05 * k, f"{symbol}  {text}", fontsize=8, color="#1769AA")
    for k, text in enumerate(("orange: speaks for the generator", "blue: speaks against it")):
        figure.text(0.76, 0.24 - 0.05 * k, text, fontsize=8, color=(FAKE, REAL)[k])
    return figure


@styled
def inspection_charts(image: np.ndarray, residual: ArrayLike, detector: Detector) -> NotebookFigure:
    """Of the same: radial profiles; rho among centres, null and limit; rho by the lattice that carries it."""
    pattern = detector.pattern.numpy()
    figure = board(2.1)
    profile, bars = (figure.add_axes((x, 0.2, width, 0.66)) for x, width in ((0.04, 0.2), (0.74, 0.25)))
    for k, values in enumerate((image.transpose(2, 0, 1) / 255, residual, pattern)):
        frequency, power = radial_power(values, min(64, len(image) // 2))
        profile.plot(
            frequency, 10 * np.log10(np.maximum(power / power.max(), 1e-12)), color=LINES[k], marker="", lw=1.1
        )
        text: dict[str, Any] = {"color": LINES[k], "fontsize": 7, "ha": "right", "transform": profile.transAxes}
        profile.text(0.98, 0.91 - 0.1 * k, NAMES[k], **text)
    low, high = profile.get_ylim()
    profile.set(ylim=(low, high + 0.35 * (high - low)), title="radial profile, dB")
    profile.set_xlabel("cycles per px", labelpad=1)
    rho = float(detector.rho(np.asarray(residual)[None])[0])
    number_line(figure.add_axes((0.265, 0.2, 0.42, 0.66)), detector, rho)
    parts = rho_by_frequency(residual, pattern)
    bars.bar(list(parts), list(parts.values()), color=[FAKE if v > 0 else REAL for v in parts.values()])
    bars.axhline(0, **CHANCE)
    for k, value in enumerate(parts.values()):
        bars.annotate(f"{value:+.4f}", (k, max(value, 0)), (0, 2), textcoords="offset points", ha="center", fontsize=6)
    bars.margins(y=0.18)
    bars.set_title("ρ by lattice; the parts add up")
    return figure


@styled
def comparison(
    patterns: Sequence[ArrayLike], names: Sequence[str], look: Look = Look(), reach: int = 24
) -> NotebookFigure:
    """Two patterns (3, H, W) and their difference, each of unit variance, above their spectra; rho by shift.

    ``reach``: shifts in px that are drawn.
    """
    a, b = ((x - x.mean()) / (x.std() or 1.0) for x in map(as_pattern, patterns))
    lags = lag_correlation(a, b)
    figure = board(5.5)
    for k, (values, name) in enumerate(zip((a, b, a - b), (*map(paper.label, names), "difference"), strict=True)):
        above, below = ((0.012 + 0.247 * k, y, 0.235, 0.235 * 10.2 / 5.5) for y in (0.525, 0.04))
        pane(figure, above, stretched(values, look), name, "gray" if look.channel == "RGB" else look.colours)
        spectrum_pane(figure, below, values, look, "spectrum, periods")
    height, width = lags.shape
    reach = min(reach, height // 2 - 1, width // 2 - 1)
    near = lags[height // 2 - reach : height // 2 + reach + 1, width // 2 - reach : width // 2 + reach + 1]
    limit, axes = float(np.abs(near).max()) or 1.0, figure.add_axes((0.79, 0.555, 0.19, 0.19 * 10.2 / 5.5))
    extent = (-reach - 0.5, reach + 0.5, -reach - 0.5, reach + 0.5)
    axes.imshow(near, cmap=signed_map(), vmin=-limit, vmax=limit, extent=extent, origin="lower")
    axes.set(title=f"ρ by shift in px, ±{limit:.2f}")
    axes.grid(visible=False)
    line = figure.add_axes((0.79, 0.09, 0.19, 0.36))
    line.hist(np.delete(lags.ravel(), height // 2 * width + width // 2), 60, color=REAL)
    line.axvline(lags[height // 2, width // 2], color=FAKE)
    line.set_yscale("log")
    line.set_title(f"all {lags.size - 1} other shifts; none: {lags[height // 2, width // 2]:+.3f}", pad=3)
    line.set_xlabel("ρ", labelpad=1)
    return figure
