"""A cell of a grid, all that its numbers depend on, and the key under which they are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import difcore
from difcore.artefacts import plain
from difcore.files import sha256_bytes


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Attributes
    ----------
    values : mapping of str to JSON values
        What distinguishes it: columns of its row.
    data : str
        Name of the data that it needs; cells of one name share what ``load`` gives for it.
    depends : Dependence, optional
        What its numbers depend on besides; None: nothing.
    """

    values: Mapping[str, Any]
    data: str = ""
    depends: Dependence | None = None


@dataclass(frozen=True)
class Dependence:
    """All that the numbers of a cell depend on besides its values and its code.

    No field has a default, so that who makes a cell says of each what it is, or "" that it is not used.

    Attributes
    ----------
    images : tuple of str
        Digests of the image sets.
    crop : int
        Side of the images, px.
    encoding : str
        Their last encoding.
    division : str
        How they are divided into train and test: all N_S of the grid, largest test set.
    filter : str
        SHA-256 of the residual filter: weights, bias, precision, limit.
    plan, training : str
        Of the fit of a fingerprint, of a classifier.
    computed_on : tuple of str
        Kind of device, precision. How many threads there were is not in it: that orders sums and no more.
    libraries : tuple of (name, version)
        What decodes images and computes.
    """

    images: tuple[str, ...]
    crop: int
    encoding: str
    division: str
    filter: str
    plan: str
    training: str
    computed_on: tuple[str, ...]
    libraries: tuple[tuple[str, str], ...]


def cell_key(cell: Cell, code: str) -> str:
    """SHA-256 of the cell's values, of what it depends on, of difcore's version and of the ``code`` that computes it.

    The data's name is left out: what counts is in ``depends``.
    """
    depends = asdict(cell.depends) if cell.depends else None
    facts = [plain(dict(cell.values)), plain(depends), difcore.__version__, code]
    return sha256_bytes(json.dumps(facts, sort_keys=True).encode())
