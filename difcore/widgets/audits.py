"""Controls over the audit: what was planted, and a figure of it."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets

from difcore.audit.findings import Audit
from difcore.figures.confounds import mark_histogram, pair_histogram
from difcore.widgets.controls import explorer, show, wide


def confound_explorer(audits: Mapping[str, Audit]) -> ipywidgets.VBox:
    """Choose an audit, by what was planted, and a figure; read what was found."""
    planted = wide(ipywidgets.Dropdown, "Planted", options=list(audits))
    kind = wide(ipywidgets.Dropdown, "Figure", options=["pairs of residuals", "bits of the mark"])
    output, text = ipywidgets.Output(), ipywidgets.HTML()

    def redraw() -> None:
        audit = audits[planted.value]
        figure = (pair_histogram if kind.value == "pairs of residuals" else mark_histogram)(audit, planted.value)
        show(output, figure, f"{planted.value}: {kind.value}")
        text.value = "<br>".join(finding.sentence for finding in audit.confounded()) or "No confound found."

    caption = "A pattern shared beyond a fingerprint's strength moves the generated images' pairs to the right."
    return explorer([planted, kind], redraw, [output, text], caption)
