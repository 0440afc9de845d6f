"""What a notebook leaves behind: tables, figures, claims beside the paper's, and the record of how they were made."""

from __future__ import annotations

import ast
import inspect
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import features

import difcore
from difcore.files import PROJECT_DIR, atomic_json, atomic_text, atomic_write, read_json, shown
from difcore.records.claims import CellsFailed, Claim, claims_table, corrected, failure_of, qualified
from difcore.records.tables import show_table

if TYPE_CHECKING:  # imported where they are used: the batch, which reads records, does without torch
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    from difcore.residuals.denoisers import Denoiser
    from difcore.runtime import Runtime

PNG_DPI = 200
LIBRARIES = ("torch", "numpy", "scipy", "pillow", "pillow-heif", "tifffile")
DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif", "libtiff", "zlib", "zlib_ng")  # Pillow's
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


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
    Files in outputs/ do not count: they are results, so that a run's first record does not make its second one dirty.
    """
    if not (folder / ".git").exists():
        return "unknown"

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)outputs")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def check_clean(folder: Path | str, project: Path = PROJECT_DIR) -> None:
    """Refuse to write to outputs/reference, which others quote, from anything but a clean commit."""
    reference = (project / "outputs" / "reference").resolve()
    if not Path(folder).resolve().is_relative_to(reference):
        return
    commit = git_commit(project)
    if commit == "unknown" or commit.endswith("-dirty"):
        reason = "there is no commit" if commit == "unknown" else "tracked files differ from the commit"
        raise ValueError(f"{os.path.relpath(folder)} holds records of one clean commit, but {reason}; commit first")


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy unwrapped, paths as text, tuples as lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # numpy scalars and arrays, torch tensors
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def read_record(output_dir: Path | str) -> dict[str, Any]:
    """The run.json of ``output_dir``, or an empty mapping where there is none."""
    return read_json(Path(output_dir) / "run.json")


def artefact_files(record: Mapping[str, Any]) -> list[str]:
    """Names of the files that the run recorded in ``record`` wrote."""
    if not record:
        return []
    figures = [f"{key}.{suffix}" for key in record["figures"] for suffix in ("png", "pdf")]
    return [*(f"{key}.csv" for key in record["tables"]), *figures, "claims.json", "run.json"]


def clear_artefacts(output_dir: Path | str) -> None:
    """Remove what an earlier ``Artefact.save`` left in ``output_dir``; other files (checkpoints, caches) stay."""
    for name in artefact_files(read_record(output_dir)):
        (Path(output_dir) / name).unlink(missing_ok=True)


def save_figure(figure: Figure, stem: Path) -> None:
    """``stem``.png and ``stem``.pdf, without dates or program names: equal figures give equal bytes."""
    from matplotlib import rc_context

    layout: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05}
    bare: dict[str, Any] = {"metadata": {"Creator": None, "Producer": None, "CreationDate": None}}
    with rc_context({"pdf.fonttype": 42}):  # text stays text: selectable, searchable
        atomic_write(stem.with_suffix(".pdf"), lambda p: figure.savefig(p, **bare, **layout))
        layout |= {"dpi": PNG_DPI, "metadata": {"Software": None}}
        atomic_write(stem.with_suffix(".png"), lambda p: figure.savefig(p, **layout))


def save_table(table: pd.DataFrame, path: Path) -> None:
    """``table`` as CSV, names ``shown``; an index that carries names (a matrix) is kept, a mere row count is not."""
    counted = isinstance(table.index, pd.RangeIndex) and table.index.name is None
    written = table.copy()
    for column in [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]:
        written[column] = [shown(value) if isinstance(value, str) else value for value in table[column]]
    atomic_text(path, written.to_csv(index=not counted, lineterminator="\n"))


class Artefact:
    """One notebook's record, which takes down by itself how its numbers were made; ``artefact`` opens it.

    Around what computes (its seconds count)::

        with artefact("12_tab_C_architectures") as a:
            bench = open_bench("ltim", a.call(Setup, progress=True))
            table = run_grid(bench, "Tab. C", [n_train], range(seed, seed + draws))
        a.table("architectures", over_seeds(table))

    in later cells ``a.claims(...)``, ``a.figure("key", figure)``, and at the end ``a.save("N_S = 128", ...)``.

    Attributes
    ----------
    name : str
        The notebook's.
    parameters : dict
        What the notebook's parameters are, as the computation began.
    weights : dict
        Name of each residual filter that was asked for here to its hash; more may be added.
    seconds : float
        Spent within ``with``; that may be entered again.
    """

    def __init__(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.name, self.parameters = name, dict(parameters)
        self.weights: dict[str, str] = {}
        self.seconds = 0.0
        self._tables: dict[str, pd.DataFrame] = {}
        self._figures: dict[str, Figure] = {}
        self._claims: list[Claim] = []
        self._used: dict[str, Any] = {}
        self._started = 0.0

    def __enter__(self) -> Artefact:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._started

    @cached_property
    def runtime(self) -> Runtime:
        """What the parameters ``device``, ``precision``, ``n_jobs`` ask for; without these the CPU, float32, 1 cell."""
        from difcore.runtime import resolve

        given = self.parameters
        return resolve(given.get("device", "cpu"), given.get("precision", "float32"), workers=given.get("n_jobs", 1))

    @cached_property
    def denoiser(self) -> Denoiser:
        """The residual filter of the parameters ``denoiser``, ``limit`` and ``mode``; the record says what they gave.

        ``limit`` 0, or none of that name: residuals are not limited. ``mode``: of ``difcore.fingerprints.presets``.
        """
        from difcore.fingerprints.presets import preset

        chosen = preset(self.parameters.get("mode", "ours"))
        name = chosen.filter(self.parameters["denoiser"])
        found = self.filter(name, chosen.held(self.parameters.get("limit") or None))
        self._used |= {"denoiser": name, "F_DnCNN": found.metadata.get("bias", "border profile of the mean residual")}
        if "limit" in self.parameters:
            self._used["limit"] = found.limit or 0
        return found

    def filter(self, name: str, limit: float | None = None) -> Denoiser:
        """Another residual filter, in this runtime; its hash goes into the record."""
        found = self.runtime.denoiser(name, limit)
        taken = self.weights.get(found.name, found.hash) != found.hash
        self.weights[f"{found.name}, limit {limit or 'none'}" if taken else found.name] = found.hash
        return found

    def call(self, function: Callable[..., Any], *positional: Any, **named: Any) -> Any:
        """``function`` with the notebook's parameters of the names it takes, and ``runtime`` if it takes that.

        What is given here comes first. A dataclass is filled alike.
        """
        bound = inspect.signature(function).bind_partial(*positional, **named).arguments
        taken = [key for key in inspect.signature(function).parameters if key not in bound]
        given = {key: self.parameters[key] for key in taken if key in self.parameters}
        if "runtime" in taken:
            given["runtime"] = self.runtime
        return function(*positional, **given, **named)

    def table(self, key: str, table: pd.DataFrame) -> Styler:
        """Keep a table as <key>.csv; what a notebook shows of it."""
        self._tables[key] = table
        return show_table(table)

    def figure(self, key: str, figure: Figure) -> Figure:
        """Keep a figure as <key>.png and <key>.pdf; the figure."""
        self._figures[key] = figure
        return figure

    def claims(self, claims: Sequence[Claim], tuned: str = "") -> Styler:
        """Keep the notebook's claims, ``corrected`` together; the paper beside ours, as a notebook shows it."""
        self._claims = corrected(claims, tuned)
        return show_table(claims_table(self._claims))

    def save(
        self,
        n: int | str,
        tables: Mapping[str, pd.DataFrame] | None = None,
        parameters: Mapping[str, Any] | None = None,
        weights: Mapping[str, str] | None = None,
        data: str = "",
        runtime: Runtime | None = None,
    ) -> Path:
        """Write tables, figures, claims and record into the notebook's ``output_dir``, each file whole or not at all.

        What an earlier call left there is removed first. Claims beside a table with cells that failed are recorded as
        not comparable. Figures stay open.

        Parameters
        ----------
        n : int or text
            Number of images or samples behind the numbers ("10 + 10 per generator").
        tables, parameters, weights : mapping, optional
            Beside what was kept already: tables that are not shown, what a parameter stood for, hashes of files.
        data : str
            Where the images come from, shown as the artefact's label in the report; default: the profile's.
        runtime : Runtime, optional
            Default: the one here, if it was asked for.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ValueError
            For a key that is no plain file name, or in outputs/reference with uncommitted changes.
        CellsFailed
            If cells of a table failed; all was written before.
        """
        every, shown_ = {**self._tables, **(tables or {})}, self._figures
        for key in (*every, *shown_):
            if not KEY.fullmatch(key):
                raise ValueError(f"key {key!r}: only lower case, digits, '_' and '-', starting with a letter or digit")
        from difcore.machine.devices import processor_name

        folder = Path(self.parameters["output_dir"])
        check_clean(folder)
        folder.mkdir(parents=True, exist_ok=True)
        clear_artefacts(folder)
        for key, table in every.items():
            save_table(table, folder / f"{key}.csv")
        for key, figure in shown_.items():
            save_figure(figure, folder / key)
        failed = failure_of(every.values())
        atomic_json(folder / "claims.json", [plain(claim.record()) for claim in qualified(self._claims, failed)])
        used = {**self.parameters, **self._used}
        kept = {key: nameless(value) for key, value in used.items() if key != "output_dir"}
        runtime = runtime or self.__dict__.get("runtime")
        record = {
            "name": self.name,
            "parameters": {**kept, **(parameters or {})},
            "seed": self.parameters.get("seed"),
            "n": n,
            "seconds": round(self.seconds, 3),
            "data": data,
            "weights": {**self.weights, **(weights or {})},
            "versions": versions(),
            "runtime": runtime.facts() if runtime else {"processor": processor_name()},
            "commit": git_commit(),
            "tables": list(every),
            "figures": list(shown_),
        }
        atomic_json(folder / "run.json", plain(record))
        if failed:
            raise CellsFailed(failed)
        return folder


def artefact(name: str, parameters: Mapping[str, Any] | None = None) -> Artefact:
    """The record of the notebook ``name``, with the notebook's parameters as they are now; see ``Artefact``.

    Parameters
    ----------
    parameters : mapping, optional
        In place of the notebook's, for scripts; ``output_dir`` is where the record goes.
    """
    return Artefact(name, notebook_parameters() if parameters is None else parameters)


def notebook_parameters() -> dict[str, Any]:
    """What this notebook's cells declared with a type so far (``size: int = 64``), at today's values; else nothing.

    papermill, or whoever sits at the notebook, assigns other values later, without a type.
    """
    from IPython import get_ipython

    if (shell := get_ipython()) is None:
        return {}
    nodes = []
    for source in shell.user_ns["In"]:
        with suppress(SyntaxError):
            nodes += ast.parse(source).body
    names = [node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {name: shell.user_ns[name] for name in names if name in shell.user_ns}


def nameless(value: Any) -> Any:
    """A parameter without the folders of this machine: of an absolute path its last name. A record may be published."""
    if isinstance(value, list):
        return [nameless(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value
