"""A control over any figure drawn from a table: choose rows and the quantity, see the figure again.

Controls over the figures of ``difcore.figures.scores``: change a value, see the figure again.

Each function returns a box that already shows its first figure. Figures are put into the output as PNG data, so
a run without a browser draws them once and goes on, and the saved notebook keeps what was shown. Controls are
standard ones: Tab moves between them, arrow keys move a slider, Space opens a list in which arrow keys and Enter
choose (while a list is closed, JupyterLab takes the arrow keys for itself).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from difcore import figures, paper
from difcore.figures.spectra import CHANNELS, as_pattern, local_correlation
from difcore.figures.style import NotebookFigure, png

Means = Mapping[str, tuple[float, float]]


def show(output: ipywidgets.Output, figure: NotebookFigure | None, text: str = "") -> None:
    """Replace what ``output`` shows by a figure, or clear it."""
    if figure is None:
        output.outputs = ()
        return
    data = {"image/png": base64.b64encode(png(figure)).decode(), "text/plain": text or "figure"}
    output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)


def wide(control: type[ipywidgets.Widget], description: str, **settings: Any) -> Any:
    """A control whose description is never cut off."""
    room = "28em" if issubclass(control, ipywidgets.FloatSlider | ipywidgets.IntSlider) else "18em"
    layout = ipywidgets.Layout(width="max-content", min_width=room)
    return control(description=description, style={"description_width": "initial"}, layout=layout, **settings)


def choice(description: str, names: Sequence[str], value: str | None = None) -> ipywidgets.Dropdown:
    """A list of names, shown as the paper spells them, in its order."""
    ordered = paper.paper_order(list(dict.fromkeys(map(str, names))))
    if not ordered:
        raise ValueError(f"nothing to choose from for {description.lower()!r}")
    options = [(plain(name), name) for name in ordered]
    return wide(ipywidgets.Dropdown, description, options=options, value=value if value in ordered else ordered[0])


def plain(name: str) -> str:
    """``name`` as the paper spells it, without formulas, which a list cannot show."""
    shown = paper.label(name)
    return name if "$" in shown else shown


def explorer(
    controls: Sequence[Any], redraw: Callable[[], None], parts: Sequence[Any], caption: str
) -> ipywidgets.VBox:
    """A box of controls, parts and caption; ``redraw`` runs now and whenever a control changes."""
    for control in controls:
        control.observe(lambda _change: redraw(), names="value")
    redraw()
    row = ipywidgets.Box(list(controls), layout=ipywidgets.Layout(flex_flow="row wrap", display="flex"))
    note = ipywidgets.HTML(f"<p style='max-width: 60em; line-height: 1.4'>{caption}</p>")
    return ipywidgets.VBox([row, *parts, note])


def fingerprint_explorer(patterns: Mapping[str, ArrayLike], power: float = 4.0) -> ipywidgets.VBox:
    """Look at one fingerprint at a time: which one, which channel, spectrum power, zoom.

    Parameters
    ----------
    patterns : mapping of name to array (3, H, W)
    power : float
        Of the spectrum, at the start; between 0.5 and 8.
    """
    name = choice("Fingerprint", list(patterns))
    side = min(as_pattern(patterns[name.value]).shape[1:])
    channel = wide(ipywidgets.Dropdown, "Channel", options=CHANNELS)
    exponent = wide(
        ipywidgets.FloatSlider, "Spectrum power", min=0.5, max=8, step=0.5, value=power, continuous_update=False
    )
    small = min(16, side)
    crop = wide(ipywidgets.IntSlider, "Crop (px)", min=small, max=side, step=8, value=side, continuous_update=False)
    output = ipywidgets.Output()

    def redraw() -> None:
        zoom = crop.value if crop.value < side else None
        figure = figures.fingerprint_closeup(patterns[name.value], name.value, exponent.value, channel.value, zoom)
        show(output, figure, f"{plain(name.value)}, {channel.value}, power {exponent.value:g}, {crop.value} px")

    caption = (
        "Left: the fingerprint, stretched from its 1st to its 99th percentile; a smaller crop zooms into its centre. "
        "Right: the spectrum of the whole fingerprint, zero frequency in the middle. Regular dots are up-sampling "
        "grids; a low power shows the noise floor as well."
    )
    return explorer([name, channel, exponent, crop], redraw, [output], caption)


def score_explorer(scores: pd.DataFrame, means: Means | None = None) -> ipywidgets.VBox:
    """Histograms of the correlations of one generator's images with one fingerprint.

    Parameters
    ----------
    scores : DataFrame
        One row per image and fingerprint: ``fingerprint``, ``generator``, ``label`` ("real" or "fake"), ``score``.
    means : mapping of fingerprint to (mu_real, mu_fake), or None
        The centres to draw; without them those of the scores shown.
    """
    fingerprint = choice("Fingerprint", list(scores["fingerprint"]))
    generator = choice("Images of", list(scores["generator"]), fingerprint.value)
    output, verdict = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        figure, text = cell_histogram(scores, means, fingerprint.value, generator.value)
        show(output, figure, text)
        verdict.value = escape(text)

    caption = (
        "One tick per image. An image is called generated when its correlation is nearer to the orange centre; "
        "the dashed line is the midpoint."
    )
    return explorer([fingerprint, generator], redraw, [output, verdict], caption)


def cell_histogram(
    scores: pd.DataFrame, means: Means | None, fingerprint: str, generator: str
) -> tuple[NotebookFigure | None, str]:
    """The histogram of one (fingerprint, generator) and a sentence about it; no figure where there are no scores."""
    rows = scores[(scores["fingerprint"] == fingerprint) & (scores["generator"] == generator)]
    real = rows.loc[rows["label"] == "real", "score"].to_numpy(float)
    fake = rows.loc[rows["label"] == "fake", "score"].to_numpy(float)
    names = f"{plain(fingerprint)}'s fingerprint on {plain(generator)} images"
    if not len(real) or not len(fake):
        return None, f"No scores of {names}."
    mu_real, mu_fake = (means or {}).get(fingerprint, (float(real.mean()), float(fake.mean())))
    right = (np.abs(real - mu_real) <= np.abs(real - mu_fake)).sum() + (
        np.abs(fake - mu_fake) < np.abs(fake - mu_real)
    ).sum()
    text = f"{names}: {right} of {len(rows)} images decided rightly."
    return figures.score_histograms(real, fake, mu_real, mu_fake, names), text


def matrix_explorer(
    matrix: pd.DataFrame,
    patterns: Mapping[str, ArrayLike] | None = None,
    scores: pd.DataFrame | None = None,
    means: Means | None = None,
    **heatmap: Any,
) -> ipywidgets.VBox:
    """Choose a cell of a matrix; see it framed, the two fingerprints behind it, and the scores it was counted from.

    Parameters
    ----------
    matrix : DataFrame
        Rows are fingerprints, columns test sets or fingerprints.
    patterns : mapping of name to array (3, H, W), or None
        Shown for a row and a column that both have one.
    scores, means
        As in ``score_explorer``.
    **heatmap
        Passed on to ``matrix_heatmap`` (unit, vmin, vmax, diverging, ...).
    """
    rows, columns = list(map(str, matrix.index)), list(map(str, matrix.columns))
    row, column = choice("Row", rows, rows[0]), choice("Column", columns, columns[0])
    chart, pair, histogram = ipywidgets.Output(), ipywidgets.Output(), ipywidgets.Output()
    verdict = ipywidgets.HTML()

    def redraw() -> None:
        cell = rows.index(row.value), columns.index(column.value)
        text = f"{plain(row.value)} and {plain(column.value)}: {matrix.iloc[cell]:.3f}"
        show(chart, figures.matrix_heatmap(matrix, highlight=cell, **heatmap), text)
        known = patterns or {}
        both = row.value in known and column.value in known
        names = (row.value, column.value)
        show(pair, figures.pattern_pair(known[row.value], known[column.value], names) if both else None)
        figure, sentence = (None, "") if scores is None else cell_histogram(scores, means, row.value, column.value)
        show(histogram, figure)
        verdict.value = escape(f"{text}. {sentence}")

    caption = "The framed cell is the chosen one. Below it: the fingerprints of its row and column, and its scores."
    return explorer([row, column], redraw, [verdict, chart, pair, histogram], caption)


def evidence_explorer(
    images: Mapping[str, np.ndarray],
    residuals: Mapping[str, ArrayLike],
    fingerprints: Mapping[str, ArrayLike],
    means: Means | None = None,
) -> ipywidgets.VBox:
    """What speaks for a generator in one image: image, residual, fingerprint, rho and where it comes from.

    Parameters
    ----------
    images : mapping of name to ndarray uint8 (H, W, 3)
    residuals : mapping of the same names to array (3, H, W)
    fingerprints : mapping of name to array (3, H, W)
    means : mapping of fingerprint to (mu_real, mu_fake), or None
        For the verdict beside rho.

    Raises
    ------
    ValueError
        If an image has no residual.
    """
    without = [name for name in images if name not in residuals]
    if without:
        raise ValueError(f"no residual for {len(without)} images, first: {without[0]}")
    image, fingerprint = choice("Image", list(images)), choice("Fingerprint", list(fingerprints))
    block = wide(ipywidgets.Dropdown, "Square (px)", options=(8, 16, 32), value=16)
    output, verdict = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        residual, pattern = residuals[image.value], fingerprints[fingerprint.value]
        rho = float(local_correlation(residual, pattern, 1).mean())
        text = f"ρ({image.value}, {plain(fingerprint.value)}) = {rho:+.4f}"
        if means and fingerprint.value in means:
            mu_real, mu_fake = means[fingerprint.value]
            nearer = "generated" if abs(rho - mu_fake) < abs(rho - mu_real) else "real"
            text += f": nearer to the {nearer} centre ({mu_real:+.4f} real, {mu_fake:+.4f} generated)"
        figure = figures.evidence_panels(images[image.value], residual, pattern, fingerprint.value, block.value)
        show(output, figure, text)
        verdict.value = escape(text)

    caption = "The map splits ρ over the image: its mean is ρ. Orange squares speak for the generator, blue against."
    return explorer([image, fingerprint, block], redraw, [output, verdict], caption)


ALL = "all"


def frame_explorer(
    table: pd.DataFrame,
    draw: Callable[[pd.DataFrame, str], NotebookFigure],
    columns: Sequence[str] = (),
    values: Sequence[str] = ("accuracy", "auc"),
    caption: str = "",
) -> ipywidgets.VBox:
    """Choose the quantity and, for each of ``columns``, one of its entries or all; ``draw`` makes the figure.

    Parameters
    ----------
    table : DataFrame
        Tidy. Columns with one entry get no control; in "encoding" there is no "all".
    draw : callable
        Maps the chosen rows and the quantity's name to a figure. A ValueError of it is shown in place of one.
    """
    controls = {
        name: choice(name.capitalize(), entries(table, name)) for name in columns if len(entries(table, name)) > 1
    }
    quantity = choice("Quantity", values)
    output, note = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        rows = table
        for name, control in controls.items():
            if control.value != ALL:
                rows = rows[rows[name].astype(str) == control.value]
        try:
            show(output, draw(rows, quantity.value), quantity.value)
            note.value = escape(f"{len(rows)} of {len(table)} rows")
        except ValueError as error:
            show(output, None)
            note.value = escape(str(error))

    return explorer([*controls.values(), quantity], redraw, [output, note], caption)


def entries(table: pd.DataFrame, column: str) -> list[str]:
    """What a control over a column offers: "all" and its entries, for "encoding" the entries alone."""
    found = list(dict.fromkeys(table[column].dropna().astype(str)))
    return found if column == "encoding" or len(found) < 2 else [ALL, *found]
