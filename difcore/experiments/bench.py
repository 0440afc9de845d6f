"""What the cells of a detection table share: generators, sizes, plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from difcore.detectors.trained import ClassifierPlan
from difcore.experiments.pools import (
    FAMILIES,
    Sets,
    Source,
    demo_names,
    demo_sources,
    folder_sources,
    repeats,
    without_copies,
)
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.presets import preset
from difcore.paper import DISPLAY
from difcore.records.artefacts import NeedsData, versions
from difcore.records.cells import Dependence
from difcore.residuals.denoisers import Denoiser, load_denoiser
from difcore.runtime import Runtime

RECIPE_TUNED = (
    "the decoders' recipe was chosen by what DIF and Marra18 make of two of them, their children's by the tree"
)


@dataclass(frozen=True)
class Bench:
    """Generators, and how detectors are fitted to them and tested.

    Attributes
    ----------
    sources : mapping of name to Source
    absent : mapping of name to why a generator that was asked for is not there
    real_data : bool
        Images from a folder: then a control with one last encoding goes with every cell.
    label : str
        Where the images come from, for records and figures.
    crop : int
        Side of the centre crops, px.
    plan, training
        Of DIF and of the classifiers.
    denoiser : str
        Residual filter, as ``load_denoiser`` takes it.
    runtime : Runtime
        What all of it is computed on.
    qualities : tuple of int or None
        JPEG qualities of the last encoding of both classes; None leaves the images as they are.
    max_test : int or None
        At most so many test images of each class.
    tuned : str
        What was chosen by results on these very generators, for their claims.
    mode : str
        Of ``difcore.fingerprints.presets``, see ``in_mode``.
    """

    sources: Mapping[str, Source]
    absent: Mapping[str, str] = field(default_factory=dict)
    real_data: bool = False
    label: str = "demo data"
    crop: int = 256
    plan: DifPlan = DifPlan()
    training: ClassifierPlan = ClassifierPlan()
    denoiser: str = "photos"
    runtime: Runtime = Runtime()
    qualities: tuple[int | None, ...] = (None,)
    max_test: int | None = None
    progress: bool = False
    tuned: str = ""
    mode: str = "ours"

    def in_mode(self, mode: str) -> Bench:
        """The bench with the margin and the F_DnCNN of a mode: "paper" or "ours" (``difcore.fingerprints.presets``).

        Raises
        ------
        ValueError
            If there is no such mode.
        """
        chosen = preset(mode)
        plan = replace(self.plan, margin=chosen.margin, fits=chosen.fits)
        return replace(self, plan=plan, denoiser=chosen.filter(self.denoiser), mode=mode)

    def filter(self, name: str = "") -> Denoiser:
        """A residual filter; the bench's own, if none is named."""
        return load_denoiser(name or self.denoiser, self.runtime.device, self.runtime.bfloat16)

    def weights(self) -> dict[str, str]:
        """The residual filter's name and hash, for the record."""
        used = self.filter()
        return {used.name: used.hash}

    def record(self, parameters: Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> dict[str, Any]:
        """What ``Artefact.save`` keeps of a table: parameters with the grid in words, weights, data, runtime.

        ``axes``: the grid's, "generators: a, b; methods: DIF, Marra18; n train: 16, 32; ...".
        """
        shown = {"generators": self.sources, **axes}
        parts = [f"{name.replace('_', ' ')}: {', '.join(map(str, values))}" for name, values in shown.items()]
        test = f"at most {self.max_test}" if self.max_test else "all"
        bias = self.filter().metadata.get("bias", "border profile of the mean residual")
        parameters = {**(parameters or {}), "mode": self.mode, "margin": self.plan.margin, "F_DnCNN": bias}
        grid = "; ".join([*parts, f"{self.crop} px, {self.plan.steps} DIF steps, test images: {test}"])
        kept = {"parameters": {**parameters, "grid": grid}, "weights": self.weights(), "data": self.label}
        return {**kept, "runtime": self.runtime}

    def depends(
        self,
        names: Iterable[str],
        *,
        encoding: str = "native",
        filter_hash: str = "",
        plan: bool = False,
        training: bool = False,
        division: str = "",
    ) -> Dependence:
        """All that numbers measured on images of ``names`` depend on, besides the values of their cell.

        Everything is in it but what the caller says is not used: the filter (no hash), the plans.
        """
        return Dependence(
            images=tuple(self.sources[name].digest for name in dict.fromkeys(names)),
            crop=self.crop,
            encoding=encoding,
            division=division,
            filter=filter_hash,
            plan=repr(self.plan) if plan else "",
            training=repr(self.training) if training else "",
            computed_on=self.runtime.numbers(),
            libraries=tuple(versions().items()),
        )

    def load(self, data: str) -> Sets:
        """Images of "generator|encoding"; "a>b|encoding" trains on a's and tests on b's.

        Where all of b's reals are a's training images, the test reals are a's: its test images, or else what a draw of
        its training images leaves.
        """
        names, _, encoding = data.partition("|")
        quality = next(q for q in self.qualities if encoding_label(q) == encoding)
        first, _, other = names.partition(">")
        sets = self.sources[first].load(quality)
        if not other:
            return sets
        tests = self.sources[other].load(quality)
        real, fake = tests.test_real or tests.real, tests.test_fake or tests.fake
        test_real = sets.test_real if repeats(real, sets.real) else real
        return without_copies(replace(sets, test_real=test_real, test_fake=fake))  # they may share some of their reals


def encoding_label(quality: int | None) -> str:
    """How tables call a last encoding."""
    return "native" if quality is None else f"JPEG q{quality}"


def open_bench(
    data_root: Path | str | None = None,
    profile: str = "demo",
    family: str = "ltim",
    generators: Sequence[str] = (),
    size: int = 128,
    pool: int = 128,
    test: int = 64,
    steps: int = 480,
    denoiser: str = "photos",
    runtime: Runtime = Runtime(),
    classifier: Mapping[str, Any] | None = None,
    control_quality: int = 95,
    progress: bool = False,
) -> Bench:
    """The generators of a folder where there is one, else the demo's.

    Parameters
    ----------
    data_root : path, optional
        <root>/<generator>/{0_real,1_fake}, see ``difcore.experiments.pools``. Outside the profile "paper" one that
        holds no generator (the authors' release alone, say) is taken for none.
    profile : str
        "paper" needs ``data_root``: demo images are not the paper's.
    family : {"ltim", "gan", "variants"}
        Whose table it is: the paper's text-to-image models, its GANs, or fine-tuned models with their sources.
        Generators that the paper does not know count as text-to-image models.
    generators : sequence of str
        Names; empty: all of the family.
    size : int
        Side of demo images, and of the centre crops of a folder's.
    pool, test : int
        Demo images of each class to draw training images from, and to test on. A folder's are all tested on, or at
        most ``test`` if that is not 0.
    runtime : Runtime
        As ``difcore.runtime.resolve`` gives it.
    classifier : mapping
        Fields of ``ClassifierPlan``.
    control_quality : int
        JPEG quality of the format-matched control of real data; 0: none.

    Raises
    ------
    NeedsData
        In the profile "paper" without a folder, or with one that holds no generator of the family.
    FolderError
        If ``data_root`` is no folder.
    """
    plan = DifPlan(steps=steps, bfloat16=runtime.bfloat16)
    training = ClassifierPlan(**{"bfloat16": runtime.bfloat16, **(classifier or {})})
    shared: dict[str, Any] = {"crop": size, "plan": plan, "training": training, "denoiser": denoiser}
    shared |= {"runtime": runtime, "progress": progress}
    if data_root:
        names = tuple(generators) or FAMILIES[family]
        found, absent = folder_sources(data_root, names, size, others=not generators and family == "ltim")
        if found:
            control = (None, control_quality) if control_quality else (None,)
            label = f"images of {', '.join(found)}"
            return Bench(found, absent, True, label, qualities=control, max_test=test or None, **shared)
        if profile == "paper":
            raise NeedsData(
                f"needs a generator of {', '.join(names)} in the data folder, as <generator>/{{0_real,1_fake}}"
            )
    elif profile == "paper":
        raise NeedsData("needs `--data-root DIR` with <generator>/{0_real,1_fake}")
    names = tuple(name for name in generators if name not in DISPLAY) or demo_names(family)
    found, absent = demo_sources(names, size, pool, test)
    if not found:
        raise NeedsData(f"needs the weights of a demo generator: {'; '.join(absent.values())}")
    return Bench(found, absent, tuned="" if family == "gan" else RECIPE_TUNED, **shared)


def seeds_from(seed: int, draws: int) -> list[int]:
    """``draws`` seeds from ``seed`` on."""
    return list(range(seed, seed + draws))
