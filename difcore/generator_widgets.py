"""Control over what the demo generators make: choose one, choose an image, amplify what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import ipywidgets
import numpy as np

from difcore import plots
from difcore.widgets import choice, explorer, plain, show, wide


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
        show(output, plots.image_grid(shown, titles, columns=3), text)
        verdict.value = escape(text)

    caption = "A decoder's fakes are scenes that went through its latent; grey in the difference is no change."
    return explorer([name, number, factor], redraw, [output, verdict], caption)
