"""What the commands ask for; options that belong together are fields of a group, ``grouped`` spreads them for typer."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

AsJson = Annotated[bool, Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Out = Annotated[Path, Option("--out", "-o", help="Fingerprint file to write, *.safetensors.")]
RealDir = Annotated[Path, Argument(metavar="REAL_DIR", help="Folder of real images.")]
FakeDir = Annotated[Path, Argument(metavar="FAKE_DIR", help="Folder of the generator's images.")]
Recursive = Annotated[bool, Option("--recursive", help="Read the folders inside the folders of images, too.")]
Seed = Annotated[int, Option(min=0, help="Of everything drawn at random.")]
Jpeg = Annotated[
    int | None, Option(min=1, max=100, help="Re-encode all images as JPEG of this quality: format-matched control.")
]
Device = Annotated[str, Option(help="auto (a GPU where there is one), cpu, cuda, cuda:N or mps.")]
Precision = Annotated[
    str, Option(help="auto (bfloat16 where a probe finds it faster), float32 or bfloat16; of filter and networks.")
]
FILTERS = "Residual filter: photos, photos-long, scenes, highpass[:SIGMA], wavelet, tv, nlm, or the file of one."
GRID = "full: whole grids (params/grids/full.yml); else run once per value of a notebook's parameter."


def option(default: Any, text: str, *flags: str, **settings: Any) -> Any:
    """A field of a group: its default, its help, and what ``typer.Option`` takes."""
    return field(default=default, metadata={"option": Option(*flags, help=text, **settings)})


@dataclass(frozen=True)
class Own:
    """Of ``fit`` alone."""

    name: str = option("", "The generator's name.", show_default="the file's")
    train: int | None = option(None, "Images of each class to train on.", min=2, show_default="three quarters")
    hold_out: bool = option(True, "no: without --train, train on all; nothing is measured, no null.")
    matched: bool = option(False, "Take only images of either class that are alike in size and encoding.", "--matched")
    mode: str = option("ours", "ours; or paper: margin .01, F_DnCNN the plain mean, no limit, 512 images to train on.")


@dataclass(frozen=True)
class Fitting:
    """Of commands that fit."""

    method: str = option("dif", "dif; marra18, the mean residual of the fakes; marra18-zm, rows and columns mean-free.")
    crop: int = option(256, "Side of the centre crop of native pixels, px.", min=16, max=16384)
    jpeg: Jpeg = None
    denoiser: str = option("photos", FILTERS)
    recursive: Recursive = False
    seed: Seed = 0
    device: Device = "auto"
    precision: Precision = "auto"
    limit: bool = option(True, "Hold residuals within 0.4 of their root mean square; no: as in the paper.")


@dataclass(frozen=True)
class Plan:
    """DifPlan's. None stands for its default; a test compares what is shown here with it."""

    steps: int | None = option(None, "DIF: at most this many.", min=1, show_default="480")
    batch: int | None = option(None, "DIF: residuals per step.", min=2, show_default="64")
    learning_rate: float | None = option(None, "DIF: AdamW's.", min=1e-9, max=10, show_default="0.0005")
    margin: float | None = option(None, "DIF: gap asked of real and fake.", min=1e-9, max=2, show_default="0.03")
    input_noise: float | None = option(None, "DIF: fresh noise on the input.", min=0, max=1e3, show_default="0.03")
    ema: float | None = option(None, "DIF: decay of the outputs' average.", min=0, max=1, show_default="0.99")
    boost: bool | None = option(None, "DIF: add the loss of the mean residuals.", show_default="no-boost")
    alpha: float | None = option(None, "DIF with --boost: smallest scale.", min=0, max=1, show_default="1.0")
    patience: int | None = option(None, "DIF: steps without better separation to stop at.", min=1, show_default="off")
    fits: int | None = option(None, "DIF: fits at most, where one does not set out.", min=1, show_default="3")
    prior: str | None = option(None, "DIF: architecture.", show_default="unet")


@dataclass(frozen=True)
class Using:
    """Of commands that use fingerprints."""

    crop: int | None = option(None, "Refuse fingerprints of another crop, px.", min=1, show_default="as fitted")
    jpeg: Jpeg = None
    denoiser: str | None = option(None, FILTERS, show_default="as fitted")
    recursive: Recursive = False
    device: Device = "auto"
    precision: str = option("auto", "Of the filter: auto (as fitted; bfloat16 where it is quick), float32 or bfloat16.")
    false_alarm: float = option(0.01, "Share of real images called generated, by all fingerprints.", min=1e-6, max=0.5)
    reals: Path | None = option(None, "Folder of reals like the images in question: the null, in place of the stored.")


@dataclass(frozen=True)
class Batch:
    """Of ``run`` alone."""

    profile: str = option("demo", "demo (offline, small), paper, or another file of params/.")
    only: list[str] | None = option(None, "Notebooks by number, name or topic; several may follow.")
    jobs: int = option(2, "Notebooks at a time, the cores shared out.", min=1)
    data_root: Path | None = option(None, "Data folder, in place of DIFCORE_DATA.")
    force: bool = option(False, "Run unchanged notebooks too.", "--force")
    device: Device = "auto"
    precision: Precision = "auto"
    grid: list[str] | None = option(None, GRID, metavar="full|NAME=V,V,...")
    wait: bool = option(False, "Wait while another run writes to the same outputs; else that is an error.", "--wait")
    publish: bool = option(False, "Write docs/: the gallery, a page per notebook, from these outputs.", "--publish")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: with a parameter for each field of a group in place of the group."""
    groups: dict[str, Any] = {}
    flat: list[inspect.Parameter] = []
    for name, given in inspect.signature(command, eval_str=True).parameters.items():
        if not is_dataclass(given.annotation):
            flat.append(given.replace(kind=given.KEYWORD_ONLY))
            continue
        groups[name] = given.annotation
        for f in fields(given.annotation):
            kind = Annotated[f.type, f.metadata["option"]] if f.metadata else f.type
            flat.append(inspect.Parameter(f.name, given.KEYWORD_ONLY, default=f.default, annotation=kind))

    @wraps(command)
    def spread(**values: Any) -> None:
        made = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**made, **values)

    spread.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    spread.__annotations__ = {p.name: p.annotation for p in flat}
    return spread
