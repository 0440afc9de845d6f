"""What a ProGAN's training looks like: images by epoch, the change from one checkpoint to the next, a slider.

Control over what the demo generators make: choose one, choose an image, amplify what it changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import ipywidgets
import numpy as np
import pandas as pd

from difcore import figures
from difcore.figures.style import GREY, MARKERS, PALETTE, NotebookFigure, new_figure, styled
from difcore.widgets.controls import choice, explorer, plain, show, wide


def amplified(image: np.ndarray, source: np.ndarray, factor: float) -> np.ndarray:
    """Mid-grey plus ``factor`` times the difference of two uint8 images of one shape, clipped to uint8."""
    return np.clip(128 + factor * (image.astype(float) - source), 0, 255).round().astype(np.uint8)


def generator_explorer(images: Mapping[str, np.ndarray], sources: Mapping[str, np.ndarray]) -> ipywidgets.VBox:
    """Look at the images of one generator, beside what they were made of and what was changed.

    Parameters
    ----------
    images : mapping of name to ndarray uint8 (N, H, W, 3)
    sources : mapping of some of the names to the images that theirs were made of
    """
    name = choice("Generator", list(images))
    last = min(len(x) for x in images.values()) - 1
    number = wide(ipywidgets.IntSlider, "Image", min=0, max=last, value=0, continuous_update=False)
    factor = wide(ipywidgets.IntSlider, "Difference ×", min=1, max=32, value=8, continuous_update=False)
    output, verdict = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        fake = images[name.value][number.value]
        shown, titles, text = [fake], ["made"], f"{plain(name.value)}: made of a random latent, there is no source."
        if name.value in sources:
            source = sources[name.value][number.value]
            error = float(np.square(fake.astype(float) - source).mean())
            shown = [source, fake, amplified(fake, source, factor.value)]
            titles = ["scene", "made", f"difference × {factor.value}"]
            text = f"{plain(name.value)}: {10 * np.log10(255**2 / max(error, 1e-12)):.1f} dB from its scene."
        show(output, figures.image_grid(shown, titles, columns=3), text)
        verdict.value = escape(text)

    caption = "A decoder's fakes are scenes that went through its latent; grey in the difference is no change."
    return explorer([name, number, factor], redraw, [output, verdict], caption)


@styled
def change_by_epoch(changes: pd.DataFrame, title: str = "") -> NotebookFigure:
    """The output's change from each checkpoint to the next, one line for each run; dotted, that between latents.

    Parameters
    ----------
    changes : DataFrame
        Columns run, epoch, since, change, spread; see ``difcore.experiments.train_progan.adjacent_changes``.

    Raises
    ------
    ValueError
        If there is no row.
    """
    if not len(changes):
        raise ValueError("a change needs two checkpoints of a run")
    figure = new_figure(4.8, 2.7)
    axes = figure.subplots()
    for k, (run, rows) in enumerate(changes.groupby("run", sort=False)):
        colour, marker = PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]
        axes.plot(rows.epoch, rows.change, marker=marker, color=colour, label=plain(str(run)))
        axes.plot(rows.epoch, rows.spread, ":", color=colour, linewidth=1)
    axes.plot([], [], ":", color=GREY, label="between latents")
    last = changes[changes.run == changes.run.iloc[0]]
    axes.set_xticks(list(last.epoch), [f"{since}→{epoch}" for since, epoch in zip(last.since, last.epoch, strict=True)])
    axes.set(xlabel="epochs", ylabel="change, images in [0, 1]", title=title)
    axes.set_ylim(bottom=0)
    axes.grid()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def epoch_explorer(images: Mapping[str, Mapping[int, np.ndarray]], columns: int = 8) -> ipywidgets.VBox:
    """Move through the epochs of a training; the same latents throughout, or what changed since the epoch before.

    Parameters
    ----------
    images : mapping of run to mapping of epoch to ndarray uint8 (N, H, W, 3)
    """
    run = choice("Training", list(images))
    longest = max(len(epochs) for epochs in images.values())
    place = wide(ipywidgets.IntSlider, "Checkpoint", min=1, max=longest, value=longest, continuous_update=False)
    shown = wide(ipywidgets.Dropdown, "Show", options=["images", "change × 4 since the one before"])
    output, verdict = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        epochs = sorted(images[run.value])
        place.max = len(epochs)
        k = place.value - 1
        now = images[run.value][epochs[k]]
        before = images[run.value][epochs[max(0, k - 1)]]
        text = f"{plain(run.value)} after epoch {epochs[k]}."
        if shown.value != "images":
            error = float(np.sqrt(np.square(now.astype(float) - before).mean())) / 255
            text += f" Root mean square change since epoch {epochs[max(0, k - 1)]}: {error:.3f} of the full range."
            now = amplified(now, before, 4)
        show(output, figures.image_grid(list(now), columns=columns), text)
        verdict.value = escape(text)

    caption = "Each place in the grid is one latent, the same at every epoch and in every training."
    return explorer([run, place, shown], redraw, [output, verdict], caption)
