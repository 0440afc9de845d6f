"""What a notebook leaves behind: tables, figures, claims beside the paper's, and the record of how they were made."""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import features

import difcore
from difcore.files import PROJECT_DIR, atomic_json, atomic_text, atomic_write, shown
from difcore.files import NeedsData as NeedsData
from difcore.machine.devices import processor_name
from difcore.records.claims import TUNED as TUNED
from difcore.records.claims import VERDICTS as VERDICTS
from difcore.records.claims import CellsFailed, failure_of, qualified
from difcore.records.claims import Claim as Claim
from difcore.records.claims import claims_table as claims_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from difcore.runtime import Runtime

PNG_DPI = 200
LIBRARIES = ("torch", "numpy", "scipy", "pillow", "pillow-heif", "tifffile")
DECODERS = (
    "jpg",
    "libjpeg_turbo",
    "jpg_2000",
    "webp",
    "avif",
    "libtiff",
    "zlib",
    "zlib_ng",
)  # Pillow's
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on: python, libraries, those that decode images, difcore."""
    found = {"python": platform.python_version(), "difcore": difcore.__version__}
    for package in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found | {codec: number for codec in DECODERS if (number := features.version(codec))}


def git_commit(folder: Path = PROJECT_DIR) -> str:
    """Hash of the commit checked out in ``folder``, with "-dirty" if tracked files differ; "unknown" without git.

    ``folder`` has to be the root of a repository, so that a copy inside someone else's repository is not mistaken.
    """
    if not (folder / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy unwrapped, paths as text, tuples as lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        value = value.tolist()
        return plain(value) if isinstance(value, list) else plain_scalar(value)
    return plain_scalar(value)


def plain_scalar(value: Any) -> Any:
    """One JSON scalar; anything unknown becomes its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def read_record(output_dir: Path | str) -> dict[str, Any]:
    """The run.json of ``output_dir``, or an empty mapping where there is none."""
    path = Path(output_dir) / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def artefact_files(record: Mapping[str, Any]) -> list[str]:
    """Names of the files that the run recorded in ``record`` wrote."""
    if not record:
        return []
    tables = [f"{key}.csv" for key in record["tables"]]
    figures = [f"{key}.{suffix}" for key in record["figures"] for suffix in ("png", "pdf")]
    return [*tables, *figures, "claims.json", "run.json"]


def clear_artefacts(output_dir: Path | str) -> None:
    """Remove what an earlier save_artefact left in ``output_dir``; other files (checkpoints, caches) stay."""
    for name in artefact_files(read_record(output_dir)):
        with suppress(FileNotFoundError):
            (Path(output_dir) / name).unlink()


def _save_figure(figure: Figure, stem: Path) -> None:
    """``stem``.png and ``stem``.pdf, without dates or program names: equal figures give equal bytes."""
    from matplotlib import rc_context

    layout: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05}
    with rc_context({"pdf.fonttype": 42}):  # text stays text: selectable, searchable
        metadata: dict[str, None] = {"Creator": None, "Producer": None, "CreationDate": None}
        atomic_write(stem.with_suffix(".pdf"), lambda p: figure.savefig(p, metadata=metadata, **layout))
        atomic_write(
            stem.with_suffix(".png"), lambda p: figure.savefig(p, dpi=PNG_DPI, metadata={"Software": None}, **layout)
        )


def _save_table(table: pd.DataFrame, path: Path) -> None:
    """``table`` as CSV, names ``shown``; an index that carries names (a matrix) is kept, a mere row count is not."""
    counted = isinstance(table.index, pd.RangeIndex) and table.index.name is None
    written = table.copy()
    for column in [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]:
        written[column] = [shown(value) if isinstance(value, str) else value for value in table[column]]
    atomic_text(path, written.to_csv(index=not counted, lineterminator="\n"))


def save_artefact(
    output_dir: Path | str,
    name: str,
    *,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    claims: Sequence[Claim],
    parameters: Mapping[str, Any],
    seed: int | None,
    n: int | str,
    seconds: float,
    weights: Mapping[str, str],
    data: str = "",
    runtime: Runtime | None = None,
) -> Path:
    """Write one artefact's tables, figures, claims and record into ``output_dir``, each file whole or not at all.

    Claims beside a table with cells that failed are recorded as not comparable.

    Parameters
    ----------
    output_dir : path
        Made if absent. What an earlier call left here is removed first.
    name : str
        The notebook's name, e.g. "03_published_detection".
    tables, figures : mapping of key to DataFrame, key to matplotlib Figure
        Written as <key>.csv; as <key>.png (200 dpi) and <key>.pdf. Keys: lower case, digits, ``_``, ``-``.
        Figures stay open.
    claims : sequence of Claim
    parameters : mapping
        The values the notebook ran with.
    seed, n : int or None, int or text
        Seed of the run; number of images or samples behind the numbers ("10 + 10 per generator").
    seconds : float
        Time of the computation in s.
    weights : mapping
        Name of each weights file used to its SHA-256.
    runtime : Runtime, optional
        What it was computed on; None: networks were only looked at, on the CPU in float32.
    data : str
        Where the images come from, shown as the artefact's label in the report; default: the profile's.

    Returns
    -------
    Path
        ``output_dir``.

    Raises
    ------
    ValueError
        For a key that is no plain file name.
    CellsFailed
        If cells of a table failed; all was written before.
    """
    for key in (*tables, *figures):
        if not _KEY.fullmatch(key):
            raise ValueError(f"key {key!r}: only lower case, digits, '_' and '-', starting with a letter or digit")
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    clear_artefacts(folder)
    for key, table in tables.items():
        _save_table(table, folder / f"{key}.csv")
    for key, figure in figures.items():
        _save_figure(figure, folder / key)
    failed = failure_of(tables.values())
    atomic_json(folder / "claims.json", [plain(claim.record()) for claim in qualified(claims, failed)])
    record = {
        "name": name,
        "parameters": parameters,
        "seed": seed,
        "n": n,
        "seconds": round(seconds, 3),
        "data": data,
        "weights": weights,
        "versions": versions(),
        "runtime": runtime.facts() if runtime else {"processor": processor_name()},
        "commit": git_commit(),
        "tables": list(tables),
        "figures": list(figures),
    }
    atomic_json(folder / "run.json", plain(record))
    if failed:
        raise CellsFailed(failed)
    return folder
