"""The inspector, detection by drop and the comparison, over ``explorer``: all of it by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np

from difcore.figures.inspection import COLOURS, Look, comparison
from difcore.figures.spectra import CHANNELS, lag_correlation
from difcore.figures.style import png
from difcore.images.decoding import ImageError
from difcore.widgets.controls import choice, explorer, slider

SHOWN = 6  # images whose evidence is drawn


def within(look: Look, crop: int) -> Look:
    """The same with its cursor inside the crop."""
    return replace(look, row=min(look.row, crop - 1), column=min(look.column, crop - 1))


def inspector(room: Any, folder: Path | str = ".") -> ipywidgets.VBox:
    """Every fingerprint with every image; a cursor and a zoom that all panes share; the view as files and as code.

    ``room``: an ``experiments.showroom.Room``, or what has its detectors, images, ``seen``, ``view`` and ``charts``.
    "Save" writes inspector.png, .svg and inspector_charts.png, .svg into ``folder``.
    """
    charts = cache(lambda fingerprint, image: png(room.charts(fingerprint, image), effort=1))
    side = max(detector.crop for detector in room.detectors.values())

    def draw(fingerprint: str, image: str, *values: Any) -> tuple[Any, ...]:
        looked = within(Look(*values), room.detectors[fingerprint].crop)
        try:
            pixels, residual = room.seen(fingerprint, image)
        except ImageError as error:
            return f"{image}: {error}", None, None
        at = (looked.row, looked.column)
        levels = ", ".join(map(str, pixels[at]))
        parts = [np.asarray(x)[:, *at] for x in (residual, room.detectors[fingerprint].pattern)]
        told = [" ".join(f"{value:+.4f}" for value in part) for part in parts]
        text = f"Row {at[0]}, column {at[1]}: image {levels}; residual {told[0]}; fingerprint {told[1]}\n"
        text += f"room.view({fingerprint!r}, {image!r}, {looked!r})"
        return text, room.view(fingerprint, image, looked), charts(fingerprint, image)

    controls = [
        choice("Fingerprint", list(room.detectors)),
        choice("Image", list(room.images)),
        choice("Channel", CHANNELS),
        slider("Gain", 0.25, 4, 1, 0.25),
        choice("Colours", COLOURS),
        slider("Spectrum power", 0.5, 8, 4, 0.5),
        choice("Zoom", (1, 2, 4, 8)),
        slider("Cursor, row", 0, side - 1, side // 2),
        slider("Cursor, column", 0, side - 1, side // 2),
    ]
    button, said = ipywidgets.Button(description="Save PNG and SVG"), ipywidgets.HTML()

    def save(_: Any) -> None:
        fingerprint, image, *values = (control.value for control in controls)
        view = room.view(fingerprint, image, within(Look(*values), room.detectors[fingerprint].crop))
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, figure in (("inspector", view), ("inspector_charts", room.charts(fingerprint, image))):
            for kind in ("png", "svg"):
                figure.savefig(Path(folder) / f"{name}.{kind}", dpi=200)
        said.value = "Saved: inspector.png, inspector.svg, inspector_charts.png, inspector_charts.svg"

    button.on_click(save)
    box = explorer(
        draw,
        controls,
        "Image, residual and fingerprint in image space above Fourier space; the map splits ρ over the image. Regular "
        "dots of a spectrum are up-sampling's lattices. Below: ρ among reals of the null, both centres and the limit, "
        "and by lattice. The line of code repeats the view.",
    )
    return ipywidgets.VBox([box, ipywidgets.HBox([button, said])])


def drop_box(
    answer: Callable[[Sequence[tuple[str, bytes]], float], tuple[Any, Sequence[Any]]],
    example: Sequence[tuple[str, bytes]] = (),
) -> ipywidgets.VBox:
    """Choose images; see what is known of them; until then ``example``.

    ``answer`` maps files (name, content) and a rate of false alarms to something that shows itself as HTML and to
    figures, of which ``SHOWN`` are drawn.
    """
    upload = ipywidgets.FileUpload(description="Choose images", multiple=True)
    upload.layout.width = "max-content"

    def draw(files: Sequence[Mapping[str, Any]], rate: float) -> tuple[Any, ...]:
        empty = [None] * SHOWN
        if not files and not example:
            return "No images yet: the button opens a list of files; several may be chosen.", *empty
        shown, found = answer([(file["name"], bytes(file["content"])) for file in files] or example, rate)
        return shown, *[*found, *empty][:SHOWN]

    return explorer(
        draw,
        [upload, choice("False alarms", (0.05, 0.01, 0.001), 0.01)],
        "Nothing leaves this machine, nothing is kept. No match does not mean real: only these generators are known. "
        "What a file says of itself stands beside the verdict and never decides it.",
    )


def comparer(patterns: Mapping[str, np.ndarray]) -> ipywidgets.VBox:
    """Two fingerprints of one size: each, their difference, both spectra, ρ at every shift."""
    names = list(patterns)

    def draw(a: str, b: str, channel: str, power: float, reach: int) -> tuple[Any, ...]:
        if patterns[a].shape != patterns[b].shape:
            return f"{a} and {b} are of different sizes: they cannot be compared.", None
        lags = lag_correlation(patterns[a], patterns[b])
        text = f"ρ = {lags[lags.shape[0] // 2, lags.shape[1] // 2]:+.4f}; the largest of all shifts {lags.max():+.4f}"
        return text, comparison((patterns[a], patterns[b]), (a, b), Look(channel, power=power), reach)

    return explorer(
        draw,
        [
            choice("First", names, names[0]),
            choice("Second", names, names[min(1, len(names) - 1)]),
            choice("Channel", CHANNELS),
            slider("Spectrum power", 0.5, 8, 4, 0.5),
            slider("Shifts (px)", 8, 64, 24, 8),
        ],
        "Each pattern at unit variance. Equal lattices agree again at every multiple of their period.",
    )
