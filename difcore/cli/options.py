"""Options and arguments that several commands of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

AsJson = Annotated[bool, Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Out = Annotated[Path, Option("--out", "-o", help="Fingerprint file to write, *.safetensors.")]
RealDir = Annotated[Path, Argument(metavar="REAL_DIR", help="Folder of real images.")]
FakeDir = Annotated[Path, Argument(metavar="FAKE_DIR", help="Folder of the generator's images.")]
Root = Annotated[Path, Argument(metavar="ROOT", help="Folder of <generator>/{0_real,1_fake}, or with classes between.")]
Real = Annotated[Path, Option(help="Folder of real images.")]
Fake = Annotated[Path, Option(help="Folder of the generator's images.")]
Device = Annotated[str, Option(help="auto (a GPU where there is one), cpu, cuda, cuda:N or mps.")]
Precision = Annotated[
    str, Option(help="auto (bfloat16 where a probe finds it faster), float32 or bfloat16; of filter and networks.")
]
Recursive = Annotated[bool, Option("--recursive", help="Read the folders inside the folders of images, too.")]
Seed = Annotated[int, Option(min=0, help="Of everything drawn at random.")]
Crop = Annotated[int, Option(min=16, max=16384, help="Side of the centre crop of native pixels, px.")]
Jpeg = Annotated[
    int | None, Option(min=1, max=100, help="Re-encode all images as JPEG of this quality: format-matched control.")
]
Matched = Annotated[
    bool, Option("--matched", help="Take only images of either class that are alike in size and encoding.")
]
Method = Annotated[
    str, Option(help="dif; marra18, the mean residual of the fakes; marra18-zm, with mean-free rows and columns.")
]
Train = Annotated[int | None, Option(min=2, show_default="three quarters", help="Images of each class to train on.")]
HoldOut = Annotated[
    bool, Option("--hold-out/--no-hold-out", help="no: without --train, train on all; nothing is measured, no null.")
]
TrainHalf = Annotated[int | None, Option(min=2, show_default="half", help="Images of each class to train on.")]
Test = Annotated[int | None, Option(min=1, show_default="all", help="Images of each class, drawn with --seed.")]

Mode = Annotated[
    str,
    Option(help="ours; or paper: margin .01, F_DnCNN the plain mean, no limit, 512 training images of each class."),
]

_NAMES = "Residual filter: photos, photos-long, scenes, highpass, or the file of one."
FitDenoiser = Annotated[str, Option("--denoiser", help=_NAMES)]
FitLimit = Annotated[
    bool, Option("--limit/--no-limit", help="Hold residuals within 0.4 of their root mean square; no: as in the paper.")
]
FalseAlarm = Annotated[
    float, Option(min=1e-6, max=0.5, help="How often a real image may be called generated, all fingerprints together.")
]
Reals = Annotated[
    Path | None, Option(help="Folder of real images like those in question: the null, in place of the stored one.")
]

# Of commands that use fingerprints: None stands for what a fingerprint was fitted with.
_FITTED = "as fitted"
KnownCrop = Annotated[int | None, Option(min=1, show_default=_FITTED, help="Refuse fingerprints of another crop, px.")]
KnownDenoiser = Annotated[str | None, Option("--denoiser", show_default=_FITTED, help=_NAMES)]
KnownPrecision = Annotated[
    str, Option("--precision", help="Of the filter: auto (as fitted; bfloat16 where it is quick), float32 or bfloat16.")
]

# DifPlan's parameters: None stands for its default. A test compares what is shown here with it.
Steps = Annotated[int | None, Option(min=1, show_default="480", help="DIF: at most this many.")]
Batch = Annotated[int | None, Option(min=2, show_default="64", help="DIF: residuals per step.")]
LearningRate = Annotated[float | None, Option(min=1e-9, max=10, show_default="0.0005", help="DIF: AdamW's.")]
Margin = Annotated[float | None, Option(min=1e-9, max=2, show_default="0.03", help="DIF: gap asked of real and fake.")]
InputNoise = Annotated[float | None, Option(min=0, max=1e3, show_default="0.03", help="DIF: fresh noise on the input.")]
Ema = Annotated[float | None, Option(min=0, max=1, show_default="0.99", help="DIF: decay of the outputs' average.")]
Boost = Annotated[bool | None, Option(show_default="no-boost", help="DIF: add the loss of the mean residuals.")]
Alpha = Annotated[float | None, Option(min=0, max=1, show_default="1.0", help="DIF with --boost: smallest scale.")]
Patience = Annotated[
    int | None, Option(min=1, show_default="off", help="DIF: stop after so many steps without better separation.")
]
Fits = Annotated[int | None, Option(min=1, show_default="3", help="DIF: fits at most, where one does not set out.")]
Prior = Annotated[str | None, Option(show_default="unet", help="DIF: architecture.")]
