"""One explorer, choices and a function that draws, and each notebook's widget as a few lines over it.

Figures are put into the outputs as PNG data, so a run without a browser draws them once and goes on, and the saved
notebook keeps what was shown. Controls are standard ones: Tab moves between them, arrow keys move a slider, Space opens
a list in which arrow keys and Enter choose (while a list is closed, JupyterLab takes the arrow keys for itself).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from difcore import figures, paper
from difcore.figures.spectra import CHANNELS, local_correlation
from difcore.figures.style import NotebookFigure, png

if TYPE_CHECKING:  # the audit loads networks
    from difcore.audit.findings import Audit

Means = Mapping[str, tuple[float, float]]
Patterns = Mapping[str, ArrayLike]
Stack = np.ndarray  # uint8 (N, H, W, 3)


def explorer(draw: Callable[..., tuple[Any, ...]], controls: Sequence[Any], caption: str) -> ipywidgets.VBox:
    """A box of controls, a sentence, figures and a caption.

    ``draw`` maps the controls' values to (sentence, figure or None, ...), now and whenever one changes. A sentence may
    also be something that shows itself as HTML, a figure the bytes of a PNG.
    """
    outputs: list[ipywidgets.Output] = []
    verdict = ipywidgets.HTML()

    def redraw(_: Any = None) -> None:
        sentence, *shown = draw(*(control.value for control in controls))
        rich = getattr(sentence, "_repr_html_", None)
        verdict.value = rich() if rich else escape(sentence).replace("\n", "<br>")
        outputs.extend(ipywidgets.Output() for _ in shown[len(outputs) :])
        for output, figure in zip(outputs, shown, strict=True):
            shot = figure if isinstance(figure, bytes | None) else png(figure, effort=1)
            data = shot and {"image/png": base64.b64encode(shot).decode(), "text/plain": str(sentence)}
            output.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},) if data else ()

    for control in controls:
        control.observe(redraw, names="value")
    redraw()
    row = ipywidgets.Box(list(controls), layout=ipywidgets.Layout(flex_flow="row wrap", display="flex"))
    note = ipywidgets.HTML(f"<p style='max-width: 60em; line-height: 1.4'>{caption}</p>")
    return ipywidgets.VBox([row, verdict, *outputs, note])


def wide(kind: Callable[..., Any], description: str, room: str, **settings: Any) -> Any:
    """A control whose description is never cut off."""
    layout = ipywidgets.Layout(width="max-content", min_width=room)
    return kind(description=description, style={"description_width": "initial"}, layout=layout, **settings)


def slider(description: str, low: float, high: float, value: float, step: float = 1) -> Any:
    """A slider, of whole numbers where its step is one."""
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    settings = {"min": low, "max": high, "step": step, "value": value, "continuous_update": False}
    return wide(kind, description, "28em", **settings)


def choice(description: str, names: Sequence[Any], value: Any = None) -> ipywidgets.Dropdown:
    """A list of names, shown as the paper spells them, in its order."""
    ordered = paper.paper_order(list(dict.fromkeys(names)))
    if not ordered:
        raise ValueError(f"nothing to choose from for {description.lower()!r}")
    options = [(plain(name), name) for name in ordered]
    value = value if value in ordered else ordered[0]
    return wide(ipywidgets.Dropdown, description, "18em", options=options, value=value)


def plain(name: Any) -> str:
    """``name`` as the paper spells it, without formulas, which a list cannot show."""
    shown = paper.label(name)
    return str(name) if "$" in shown else shown


def fingerprint_explorer(patterns: Patterns, power: float = 4.0) -> ipywidgets.VBox:
    """Look at one of the patterns (3, H, W): which one, which channel, spectrum power (at first ``power``), zoom."""
    name = choice("Fingerprint", list(patterns))
    side = min(np.shape(patterns[name.value])[-2:])

    def draw(name: str, channel: str, power: float, crop: int) -> tuple[Any, ...]:
        figure = figures.fingerprint_closeup(patterns[name], name, power, channel, crop if crop < side else None)
        return f"{plain(name)}, {channel}, power {power:g}, {crop} px", figure

    powers, crops = slider("Spectrum power", 0.5, 8, power, 0.5), slider("Crop (px)", min(16, side), side, side, 8)
    return explorer(
        draw,
        [name, choice("Channel", CHANNELS), powers, crops],
        "Left: the fingerprint, stretched from its 1st to its 99th percentile; a smaller crop zooms into its centre. "
        "Right: the spectrum of the whole fingerprint, zero frequency in the middle. Regular dots are up-sampling "
        "grids; a low power shows the noise floor as well.",
    )


def cell_histogram(
    scores: pd.DataFrame, means: Means | None, fingerprint: str, generator: str
) -> tuple[str, NotebookFigure | None]:
    """A sentence about one (fingerprint, generator) and its histogram; no figure where there are no scores."""
    rows = scores[(scores["fingerprint"] == fingerprint) & (scores["generator"] == generator)]
    real, fake = (rows.loc[rows["label"] == label, "score"].to_numpy(float) for label in ("real", "fake"))
    names = f"{plain(fingerprint)}'s fingerprint on {plain(generator)} images"
    if not len(real) or not len(fake):
        return f"No scores of {names}.", None
    low, high = (means or {}).get(fingerprint, (float(real.mean()), float(fake.mean())))
    right = (abs(real - low) <= abs(real - high)).sum() + (abs(fake - high) < abs(fake - low)).sum()
    text = f"{names}: {right} of {len(rows)} images decided rightly."
    return text, figures.score_histograms(real, fake, low, high, names)


def score_explorer(scores: pd.DataFrame, means: Means | None = None) -> ipywidgets.VBox:
    """Histograms of the correlations of one generator's images with one fingerprint.

    ``scores`` has a row per image and fingerprint: ``fingerprint``, ``generator``, ``label`` ("real" or "fake"),
    ``score``; ``means`` are the centres (mu_real, mu_fake) to draw, without them those of the scores shown.
    """
    fingerprint = choice("Fingerprint", scores["fingerprint"])
    return explorer(
        lambda *names: cell_histogram(scores, means, *names),
        [fingerprint, choice("Images of", scores["generator"], fingerprint.value)],
        "One tick per image. An image is called generated when its correlation is nearer to the orange centre; "
        "the dashed line is the midpoint.",
    )


def matrix_explorer(
    matrix: pd.DataFrame,
    patterns: Patterns,
    scores: pd.DataFrame,
    means: Means | None = None,
    images: Mapping[str, tuple[Stack, Stack]] | None = None,
    **look: Any,
) -> ipywidgets.VBox:
    """Choose a cell; see it framed, both fingerprints, both histograms (i on j and j on i), images of both models.

    Rows are fingerprints (``patterns``), columns test sets; ``scores`` and ``means`` as in ``score_explorer``,
    ``images`` are (reals, fakes), ``look`` is ``MatrixPanel``'s.
    """
    rows, columns = list(matrix.index), list(matrix.columns)
    digits = look.get("fmt", ".2f")

    def draw(i: str, j: str) -> tuple[Any, ...]:
        text = f"{plain(i)} on {plain(j)}: {matrix.loc[i, j]:{digits}}"
        if i in columns and j in rows:
            text += f"; back: {matrix.loc[j, i]:{digits}}"
        heatmap = figures.matrix_heatmap(matrix, highlight=(rows.index(i), columns.index(j)), **look)
        both = {name: patterns[name] for name in (i, j) if name in patterns}
        there, back = cell_histogram(scores, means, i, j), cell_histogram(scores, means, j, i) if i != j else ("", None)
        pictures = None
        if images:
            shown = ((i, "fake", images[i][1]), (j, "fake", images[j][1]), (j, "real", images[j][0]))
            titles = [f"{paper.label(name)}, {kind}" for name, kind, stack in shown for _ in stack]
            pictures = figures.image_grid([x for *_, stack in shown for x in stack], titles, len(images[i][1]))
        pair = figures.fingerprint_closeup(both) if both else None
        return f"{text}. {there[0]} {back[0]}", heatmap, pair, there[1], back[1], pictures

    return explorer(
        draw,
        [choice("Fingerprint of", rows, rows[0]), choice("Images of", columns, columns[min(1, len(columns) - 1)])],
        "The framed cell is the chosen one. Below: both fingerprints, the scores behind the cell and behind the one "
        "across the diagonal, and where there are any, images of the row's model and of the column's.",
    )


def evidence_explorer(
    images: Mapping[str, np.ndarray], residuals: Patterns, fingerprints: Patterns, means: Means | None = None
) -> ipywidgets.VBox:
    """What speaks for a generator in one image: image, residual, fingerprint, rho and where it comes from.

    Images are uint8 (H, W, 3), residuals, of the same names, and fingerprints (3, H, W); ``means`` are each
    fingerprint's (mu_real, mu_fake).
    """

    def draw(image: str, name: str, block: int) -> tuple[Any, ...]:
        rho = float(local_correlation(residuals[image], fingerprints[name], 1).mean())
        text = f"ρ({image}, {plain(name)}) = {rho:+.4f}"
        if means and name in means:
            real, fake = means[name]
            nearer = "generated" if abs(rho - fake) < abs(rho - real) else "real"
            text += f": nearer to the {nearer} centre ({real:+.4f} real, {fake:+.4f} generated)"
        return text, figures.evidence_panels(images[image], residuals[image], fingerprints[name], name, block)

    return explorer(
        draw,
        [
            choice("Image", list(images)),
            choice("Fingerprint", list(fingerprints)),
            choice("Square (px)", (8, 16, 32), 16),
        ],
        "The map splits ρ over the image: its mean is ρ. Orange squares speak for the generator, blue against.",
    )


def frame_explorer(
    table: pd.DataFrame,
    draw: Callable[[pd.DataFrame, str], NotebookFigure],
    columns: Sequence[str] = (),
    values: Sequence[str] = ("accuracy", "auc"),
    caption: str = "",
) -> ipywidgets.VBox:
    """Choose the quantity and, for each of ``columns``, one of its entries or all; ``draw`` maps rows and quantity.

    Columns with one entry get no control; in "encoding" there is no "all". A ValueError of ``draw`` is shown.
    """
    found = {name: list(table[name].dropna().astype(str).unique()) for name in columns}
    found = {name: entries for name, entries in found.items() if len(entries) > 1}

    def redraw(*values: str) -> tuple[Any, ...]:
        *chosen, quantity = values
        rows = table
        for name, value in zip(found, chosen, strict=True):
            rows = rows[(rows[name].astype(str) == value) | (value == "all")]
        try:
            return f"{len(rows)} of {len(table)} rows", draw(rows, quantity)
        except ValueError as error:
            return str(error), None

    offered = {name: entries if name == "encoding" else ["all", *entries] for name, entries in found.items()}
    choices = [choice(name.capitalize(), entries, "all") for name, entries in offered.items()]
    return explorer(redraw, [*choices, choice("Quantity", values)], caption)


def confound_explorer(audits: Mapping[str, Audit]) -> ipywidgets.VBox:
    """Choose an audit, by what was planted, and a figure; read what was found."""
    kinds = {"pairs of residuals": figures.pair_histogram, "bits of the mark": figures.mark_histogram}

    def draw(planted: str, kind: str) -> tuple[Any, ...]:
        found = "\n".join(finding.sentence for finding in audits[planted].confounded())
        return found or "No confound found.", kinds[kind](audits[planted], planted)

    return explorer(
        draw,
        [choice("Planted", list(audits)), choice("Figure", list(kinds))],
        "A pattern shared beyond a fingerprint's strength moves the generated images' pairs to the right.",
    )


def amplified(image: np.ndarray, source: np.ndarray, factor: float) -> np.ndarray:
    """Mid-grey plus ``factor`` times the difference of two uint8 images of one shape, clipped to uint8."""
    return np.clip(128 + factor * (image.astype(float) - source), 0, 255).round().astype(np.uint8)


def generator_explorer(images: Mapping[str, Stack], sources: Mapping[str, Stack]) -> ipywidgets.VBox:
    """Look at one generator's images, beside what those of some were made of and what was changed, amplified."""

    def draw(name: str, number: int, factor: int) -> tuple[Any, ...]:
        fake = images[name][number]
        if name not in sources:
            text = f"{plain(name)}: made of a random latent, there is no source."
            return text, figures.image_grid([fake], ["made"], columns=3)
        source = sources[name][number]
        quality = 10 * np.log10(255**2 / max(float(np.square(fake.astype(float) - source).mean()), 1e-12))
        titles = ["scene", "made", f"difference × {factor}"]
        shown = figures.image_grid([source, fake, amplified(fake, source, factor)], titles, columns=3)
        return f"{plain(name)}: {quality:.1f} dB from its scene.", shown

    last = min(len(stack) for stack in images.values()) - 1
    return explorer(
        draw,
        [choice("Generator", list(images)), slider("Image", 0, last, 0), slider("Difference ×", 1, 32, 8)],
        "A decoder's fakes are scenes that went through its latent; grey in the difference is no change.",
    )


def epoch_explorer(images: Mapping[str, Mapping[int, Stack]], columns: int = 8) -> ipywidgets.VBox:
    """Move through the epochs of each run; the same latents throughout, or what changed since the epoch before."""
    changed = "change × 4 since the one before"
    longest = max(len(epochs) for epochs in images.values())
    place = slider("Checkpoint", 1, longest, longest)

    def draw(run: str, checkpoint: int, show: str) -> tuple[Any, ...]:
        epochs = sorted(images[run])
        place.max = len(epochs)
        k = min(checkpoint, len(epochs)) - 1
        before, now = (images[run][epochs[n]] for n in (max(0, k - 1), k))
        text = f"{plain(run)} after epoch {epochs[k]}."
        if show == changed:
            error = float(np.sqrt(np.square(now.astype(float) - before).mean())) / 255
            text += f" Root mean square change since epoch {epochs[max(0, k - 1)]}: {error:.3f} of the full range."
            now = amplified(now, before, 4)
        return text, figures.image_grid(list(now), columns=columns)

    return explorer(
        draw,
        [choice("Training", list(images)), place, choice("Show", ["images", changed])],
        "Each place in the grid is one latent, the same at every epoch and in every training.",
    )
