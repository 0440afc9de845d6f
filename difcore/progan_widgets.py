"""What a ProGAN's training looks like: images by epoch, the change from one checkpoint to the next, a slider."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import ipywidgets
import numpy as np
import pandas as pd

from difcore import plots
from difcore.generator_widgets import amplified
from difcore.style import GREY, MARKERS, PALETTE, NotebookFigure, new_figure, styled
from difcore.widgets import choice, explorer, plain, show, wide


@styled
def change_by_epoch(changes: pd.DataFrame, title: str = "") -> NotebookFigure:
    """The output's change from each checkpoint to the next, one line for each run; dotted, that between latents.

    Parameters
    ----------
    changes : DataFrame
        Columns run, epoch, since, change, spread; see ``difcore.experiments.progan.adjacent_changes``.

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
        show(output, plots.image_grid(list(now), columns=columns), text)
        verdict.value = escape(text)

    caption = "Each place in the grid is one latent, the same at every epoch and in every training."
    return explorer([run, place, shown], redraw, [output, verdict], caption)
