"""The command line on small images made here: what it prints, where, and how it ends."""

import dataclasses
import inspect
import json
import shutil
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from typer.testing import CliRunner

import difcore
from difcore.batch.run import Selection, parse_grid
from difcore.cli import commands
from difcore.cli.app import app
from difcore.cli.inputs import make_plan, training_count
from difcore.cli.output import answer
from difcore.files import PROJECT_DIR, derived_seed, sha256_file
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.dif import DifPlan
from difcore.fingerprints.verdicts import contents
from difcore.images import sources
from difcore.images.crops import read_crop, sha256_pixels
from difcore.machine.cache import cache_folder
from difcore.residuals.denoisers import LIMIT, SHIPPED, DnCNN, load_denoiser, save_denoiser

CROP = 32
COMMANDS = (
    "fit",
    "evaluate",
    "detect",
    "cross-detect",
    "audit",
    "fetch",
    "import-official",
    "run",
    "doctor",
    "selftest",
)


@dataclasses.dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def call(*arguments: object) -> Result:
    """Run the command line in this process; an exception that it does not handle fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Result(result.exit_code, result.stdout, result.stderr)


def assert_bad_input(result: Result, message: str = "") -> None:
    assert result.code == 2, result
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("difcore: ")
    assert "Traceback" not in result.err
    assert message in result.err


def write_images(folder: Path, seed: int, count: int = 8, pattern_seed: int | None = None, side: int = CROP) -> Path:
    """Noise images; those of a "generator" carry one pattern, strong enough for any residual filter."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    pattern = 0.0
    if pattern_seed is not None:
        pattern = np.random.default_rng(pattern_seed).normal(0, 12, (side, side, 3))
    for k in range(count):
        pixels = 128 + rng.normal(0, 20, (side, side, 3)) + pattern
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


@dataclasses.dataclass(frozen=True)
class World:
    """Two generators' folders in the paper's layout, a denoiser, and a fingerprint of the first generator."""

    root: Path
    denoiser: Path
    fingerprint: Path

    def images(self, generator: str, side: str) -> Path:
        return self.root / generator / side

    def pair(self, generator: str = "a") -> tuple[Path, Path]:
        return self.images(generator, "0_real"), self.images(generator, "1_fake")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine make these tiny networks a hundred times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("world")
    for k, name in enumerate(("a", "b")):
        write_images(home / "root" / name / "0_real", 10 + k)
        write_images(home / "root" / name / "1_fake", 20 + k, pattern_seed=k)
    torch.manual_seed(0)
    model = DnCNN(depth=3, features=4)
    torch.nn.init.normal_(model.last.weight, 0, 0.3)
    denoiser = save_denoiser(home / "tiny.safetensors", model, torch.zeros(3, CROP, CROP), {"data": "none"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE", str(home / "cache"))
        fingerprint = home / "a.safetensors"
        options = ("--method", "marra18", "--crop", CROP, "--denoiser", denoiser, "--train", 5, "--out", fingerprint)
        fitted = call("fit", home / "root" / "a" / "0_real", home / "root" / "a" / "1_fake", *options)
    assert fitted.code == 0, fitted.err
    return World(home / "root", denoiser, fingerprint)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DIFCORE_CACHE", str(folder))
    monkeypatch.delenv("DIFCORE_DATA", raising=False)
    yield folder


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    for arguments in (["--help"], []):
        result = call(*arguments)
        assert (result.code, result.err) == (0, "")
        for command in COMMANDS:
            assert command in result.out
    for command in COMMANDS:
        shown = call(command, "--help")
        assert shown.code == 0
        assert "--json" in shown.out
    heavy = ("torch", "numpy", "pandas", "rich.table")
    code = f"import sys, difcore.cli.app; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_version() -> None:
    assert call("--version") == Result(0, f"difcore {difcore.__version__}\n", "")


def test_defaults_shown_for_a_fit_are_those_of_the_plan() -> None:
    options = typing.get_type_hints(commands.fit, include_extras=True)
    parameters = inspect.signature(commands.fit).parameters
    shown = {"False": "no-boost", "None": "off"}
    for field in dataclasses.fields(DifPlan):
        if field.name == "bfloat16":  # of the runtime, by --precision
            continue
        if parameters[field.name].default is None:
            (option,) = options[field.name].__metadata__
            assert option.show_default == shown.get(str(field.default), str(field.default)), field.name
        else:
            assert parameters[field.name].default == field.default
    assert make_plan("dif", {"steps": None}, seed=0) == DifPlan()


def test_fit_marra18_measures_what_it_did_not_train_on(world: World, tmp_path: Path) -> None:
    real, fake = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in world.pair())
    (real / "x.png").write_bytes(b"no image")
    Image.new("RGB", (CROP - 1, CROP)).save(fake / "small.png")
    out = tmp_path / "new" / "gen.safetensors"
    options = ("--method", "marra18", "--train", 5, "--crop", CROP, "--denoiser", world.denoiser, "--seed", 3)
    result = call("fit", real, fake, "--out", out, *options, "--json")
    document = result.json
    assert (document["n_real"], document["n_fake"]) == (3, 3)
    assert document["null"]["held-out reals"]["n"] == 3
    assert any("3 held-out reals only" in text for text in document["warnings"])
    assert (document["n_train_real"], document["n_train_fake"]) == (5, 5)
    assert document["auc"] == document["accuracy"] == 1.0
    assert document["interval"][0] < 1.0 == document["interval"][1]
    assert document["auc_interval"][0] < 1.0
    assert (document["seed"], document["name"], document["crop"]) == (3, "gen", CROP)
    assert [Path(entry["path"]).name for entry in document["skipped"]] == ["x.png", "small.png"]
    assert document["skipped"][1]["reason"].startswith("too small")
    fingerprint = Detector.load(out)
    assert fingerprint.metadata["denoiser_sha256"] == document["denoiser_sha256"]
    assert fingerprint.mu_fake == document["mu_fake"] > document["mu_real"]

    told = call("fit", real, fake, "--out", out, *options)
    assert told.code == 0
    for words in ("100.0 %", "AUC", "3 real, 3 fake", "skipped 2 of 18 images", "small.png: too small", "marra18"):
        assert words in told.out


def test_fit_dif_takes_every_parameter(world: World, tmp_path: Path) -> None:
    plan = {"steps": 3, "batch": 4, "learning_rate": 1e-3, "margin": 1e-6, "input_noise": 0.1, "ema": 0.5, "alpha": 0.5}
    plan |= {"patience": 50, "prior": "unet"}
    given = [text for key, value in plan.items() for text in (f"--{key.replace('_', '-')}", value)]
    options = ("--boost", "--seed", 7, "--crop", CROP, "--denoiser", world.denoiser, "--name", "G", "--jpeg", 90)
    out = tmp_path / "f.safetensors"
    document = call("fit", *world.pair(), "--out", out, *given, *options, "--json").json
    drawn = {7, derived_seed(7, 1), derived_seed(7, 2)}  # three steps need not set out
    assert document["plan"] == plan | {"boost": True, "bfloat16": False, "fits": 3, "seed": document["plan"]["seed"]}
    assert document["plan"]["seed"] in drawn
    assert (document["steps"], document["name"], document["jpeg"]) == (3, "G", 90)
    assert (document["n_real"], document["n_fake"]) == (2, 2)  # a quarter is held out
    assert Detector.load(out).metadata["jpeg"] == 90
    assert document["limit"] == LIMIT
    everything = ("fit", *world.pair(), "--out", out, *given, *options, "--no-hold-out")
    document = call(*everything, "--json").json
    nothing = ("accuracy", "interval", "auc", "auc_interval", "null")
    assert [document[key] for key in nothing] == [None] * 5
    assert (document["n_real"], document["n_fake"], document["n_train_real"]) == (0, 0, 8)
    told = call(*everything)
    assert "none" in told.out and "has no null" in told.err


@pytest.mark.filterwarnings("default:F_DnCNN")
def test_fit_in_the_papers_mode_and_back(world: World, tmp_path: Path) -> None:
    """Margin, limit and F_DnCNN are the paper's; who uses the fingerprint takes the filter that it was fitted with."""
    out, filter_ = tmp_path / "f.safetensors", ("--denoiser", world.denoiser)
    fitted = call(
        "fit", *world.pair(), "--out", out, *filter_, "--mode", "paper", "--steps", 2, "--crop", CROP, "--json"
    )
    document = fitted.json
    assert (document["plan"]["margin"], document["plan"]["fits"]) == (0.01, 1)
    assert (document["limit"], document["mode"]) == (None, "paper")
    assert document["denoiser"] == f"{world.denoiser.stem}:mean" and document["F_DnCNN"].startswith("border profile")
    assert f"difcore: warning: F_DnCNN of {world.denoiser}:mean is not the paper's: border profile" in fitted.err
    assert Detector.load(out).metadata["F_DnCNN"] == document["F_DnCNN"]
    own = call("fit", *world.pair(), "--out", out, *filter_, "--mode", "paper", "--margin", 0.2, "--steps", 2, "--crop",
               CROP, "--json")  # fmt: skip
    assert own.json["plan"]["margin"] == 0.2
    met = call("evaluate", out, "--real", world.pair("b")[0], "--fake", world.pair()[1], "--denoiser",
               f"{world.denoiser}:mean", "--json")  # fmt: skip
    assert met.json["denoiser_sha256"] == own.json["denoiser_sha256"] and met.json["limit"] is None
    wrong = call("fit", *world.pair(), "--out", out, *filter_, "--mode", "mine")
    assert wrong.code != 0 and "'paper' or 'ours', not 'mine'" in wrong.err


def test_the_mode_s_training_count_is_taken_where_there_are_as_many() -> None:
    few, many = [[Path("x")] * n for n in (512, 513)], [[Path("x")] * n for n in (513, 900)]
    assert [training_count("paper", None, x) for x in (few, many)] == [None, 512]
    assert training_count("paper", 64, many) == 64 and training_count("ours", None, many) is None


def test_a_fingerprint_of_plain_residuals_is_met_by_plain_ones(world: World, tmp_path: Path) -> None:
    out, options = tmp_path / "f.safetensors", ("--denoiser", world.denoiser, "--json")
    fitted = call("fit", *world.pair(), "--out", out, "--method", "marra18", "--crop", CROP, "--no-limit", *options)
    real, fake = world.pair("b")[0], world.pair()[1]
    measured = call("evaluate", out, "--real", real, "--fake", fake, *options)
    found = call("detect", out, fake, *options)
    hashes = {r.json["denoiser_sha256"] for r in (fitted, measured, found)}
    assert hashes == {load_denoiser(world.denoiser, limit=None).hash}
    assert {r.json["limit"] for r in (fitted, measured, found)} == {None} and not any(
        "denoiser" in text for text in measured.json["warnings"]
    )


def test_evaluate(world: World, tmp_path: Path) -> None:
    real, fake = world.pair()
    reals = write_images(tmp_path / "reals", 7, 40)
    images = ("--real", real, "--fake", fake, "--denoiser", world.denoiser)
    command = ("evaluate", untaught(world, tmp_path), *images, "--reals", reals)
    result = call(*command, "--crop", CROP, "--json")
    document = result.json
    assert result.err == ""
    assert document["auc"] == 1.0
    assert document["accuracy"] == pytest.approx(1, abs=0.2)
    assert (document["n_real"], document["n_fake"], document["seed"]) == (8, 8, 0)
    assert (document["skipped"], document["warnings"], document["in_training_set"]) == ([], [], 0)
    assert document["in_null"] == 0
    assert document["rho_fake"] > document["rho_real"]
    assert (document["called_real"], document["called_fake"], document["false_alarm"]) == (0, 8, 0.01)
    assert document["null"]["given reals"]["n"] == 40
    part = call(*command, "--test", 3, "--seed", 1, "--jpeg", 80, "--json").json
    assert (part["n_real"], part["n_fake"], part["seed"], part["jpeg"]) == (3, 3, 1, 80)
    assert part["rho_fake"] != document["rho_fake"]
    told = call(*command)
    for words in (" %  (95 % interval", "AUC", "8 real, 8 fake", "denoiser tiny", "0 of 8 real, 8 of 8 fake"):
        assert words in told.out


def untaught(world: World, folder: Path) -> Path:
    """The first generator's fingerprint without what it knows of reals and of its training images."""
    nothing: dict[str, Any] = {"null": None, "null_images": frozenset(), "trained": frozenset()}
    return dataclasses.replace(Detector.load(world.fingerprint), **nothing).save(folder / "a.safetensors")


def test_evaluate_counts_neither_the_training_images_nor_those_of_the_null(world: World, tmp_path: Path) -> None:
    real, fake = world.pair()
    command = ("evaluate", world.fingerprint, "--real", real, "--fake", fake, "--denoiser", world.denoiser)
    assert_bad_input(call(*command), "all 8 real images are in the training set or the null of a: give others")
    mixed = Path(shutil.copytree(real, tmp_path / "real"))
    for path in write_images(tmp_path / "more", 77, 6).iterdir():
        shutil.copy(path, mixed / f"new{path.name}")
    command = ("evaluate", world.fingerprint, "--real", mixed, *command[4:])
    result = call(*command, "--json")
    assert (result.json["n_real"], result.json["n_fake"]) == (6, 3)
    assert (result.json["in_training_set"], result.json["in_null"]) == (10, 3)
    assert (
        "10 images are in the training set" in result.err and "3 images are among the reals of the null" in result.err
    )
    told = call(*command)
    assert "6 real, 3 fake" in told.out and "skipped 13 of 22 images: 10 in training set" in told.out
    given = call(*command, "--reals", tmp_path / "more", "--json").json  # these are the null now, the held-out are not
    assert (given["n_real"], given["in_null"], given["null"]["given reals"]["n"]) == (3, 6, 6)


def test_a_fingerprint_of_another_generator_finds_nothing(world: World) -> None:
    real, fake = world.pair("b")
    command = ("evaluate", world.fingerprint, "--real", real, "--fake", fake, "--denoiser", world.denoiser, "--json")
    assert call(*command).json["accuracy"] < 0.8


def test_evaluate_warns_of_another_denoiser_and_takes_the_fitted_one_by_default(world: World, tmp_path: Path) -> None:
    real, fake = world.pair()
    images = ("--real", world.pair("b")[0], "--fake", fake)
    result = call("evaluate", world.fingerprint, *images, "--denoiser", "highpass", "--json")
    assert "another denoiser (tiny) than the one used here (highpass)" in result.err
    out = tmp_path / "h.safetensors"
    options = ("--method", "marra18", "--crop", CROP, "--denoiser", "highpass", "--jpeg", 95)
    assert call("fit", real, fake, "--out", out, *options).code == 0
    default = call("evaluate", out, *images, "--jpeg", 95, "--json")
    assert default.json["denoiser"] == "highpass" and "denoiser" not in default.err
    assert "re-encoded as JPEG of quality 95" in call("evaluate", out, *images, "--json").err


def test_differing_formats_are_warned_of_beside_the_answer(world: World, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    for path in world.images("a", "0_real").iterdir():
        Image.open(path).save(real / f"{path.stem}.jpg", quality=90)
    images = ("--real", real, "--fake", world.images("a", "1_fake"), "--denoiser", world.denoiser)
    result = call("evaluate", world.fingerprint, *images, "--json")
    assert any("encoding differs" in text for text in result.json["warnings"])
    lines = result.err.splitlines()
    assert all(line.startswith("difcore: warning: ") for line in lines)
    assert "a detector could cheat on this; use --jpeg 95 for a format-matched control" in lines[-1]
    matched = call("evaluate", world.fingerprint, *images, "--jpeg", 95)
    assert "encoding differs" in matched.err
    assert "--jpeg 95" not in matched.err and "--matched" not in matched.err  # which only a fit has


def test_a_fit_says_that_its_classes_are_confounded_and_takes_what_is_alike(world: World, tmp_path: Path) -> None:
    real, fake = world.pair()
    mixed, out = Path(shutil.copytree(real, tmp_path / "mixed")), tmp_path / "f.safetensors"
    for k, path in enumerate(sorted(real.iterdir())):
        Image.open(path).resize((CROP + 8, CROP + 9)).save(mixed / f"large{k}.jpg")
    options = ("--out", out, "--method", "marra18", "--crop", CROP, "--denoiser", world.denoiser, "--train", 5)
    found = call("fit", mixed, fake, *options, "--json").json
    assert (found["verdict"], found["confounds"]) == ("confounded", ["encoding"])
    assert (
        "confounded: the classes differ in encoding; what was measured may be that"
        in call("fit", mixed, fake, *options).out
    )
    found = call("fit", mixed, fake, *options, "--matched", "--json").json
    assert (found["verdict"], found["confounds"]) == ("alike", [])
    assert not any("differs" in text for text in found["warnings"])
    assert found["n_train_real"] + found["n_real"] == 8


def test_folders_inside_are_named_or_read(world: World, tmp_path: Path) -> None:
    fake = world.images("a", "1_fake")
    shutil.copytree(world.images("b", "0_real"), tmp_path / "real")
    write_images(tmp_path / "real" / "more", 78)
    command = ("evaluate", world.fingerprint, "--real", tmp_path / "real", "--fake", fake, "--json", "--denoiser")
    flat, deep = call(*command, world.denoiser).json, call(*command, world.denoiser, "--recursive").json
    assert deep["n_real"] - flat["n_real"] == 8 and deep["skipped"] == flat["skipped"][1:]
    assert flat["skipped"][0]["reason"] == "folder not read: --recursive reads the folders inside a folder"


def test_reals_that_are_all_training_images_make_no_null_and_the_warning_says_so(world: World, tmp_path: Path) -> None:
    reals = world.images("a", "0_real")
    trained = frozenset(contents(sha256_pixels(read_crop(path, CROP)) for path in reals.iterdir()))
    known = dataclasses.replace(Detector.load(world.fingerprint), trained=trained)
    path = known.save(tmp_path / "a.safetensors")
    fake = world.images("a", "1_fake") / "0.png"
    result = call("detect", path, fake, "--reals", reals, "--denoiser", world.denoiser, "--json")
    cause = "of the 8 usable reals given, 8 are in its training set"
    assert f"{path} has no null, so no rate of false alarms can be stated: {cause}; give others" in result.err
    (match,) = result.json["images"][0]["matches"]
    assert (match["verdict"], match["reason"]) == ("undecided", f"no null: {cause}")


def test_detect_ranks_fingerprints_given_among_images(world: World, tmp_path: Path) -> None:
    path = untaught(world, tmp_path)
    fingerprint = Detector.load(path)
    other = torch.randn(fingerprint.pattern.shape, generator=torch.Generator().manual_seed(1))
    unrelated = dataclasses.replace(fingerprint, pattern=other)  # of the same name
    unrelated.save(tmp_path / "z.safetensors")
    fake, real = world.images("a", "1_fake") / "0.png", world.images("a", "0_real")
    bad, black = tmp_path / "bad.png", tmp_path / "black.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (CROP, CROP)).save(black)
    reals = write_images(tmp_path / "reals", 7, 60)
    command = ("detect", fake, tmp_path / "z.safetensors", real, path, bad, fake, black, "--reals", reals)
    result = call(*command, "--denoiser", world.denoiser, "--crop", CROP, "--json")
    document = result.json
    assert [entry["name"] for entry in document["fingerprints"]] == ["z", "a"]
    assert [entry["null"]["given reals"]["n"] for entry in document["fingerprints"]] == [60, 60]
    images = document["images"]
    assert [entry["image"] for entry in images[:2]] == [str(fake), str(real / "0.png")]
    assert len(images) == 10 and (document["false_alarm"], document["correction"]) == (0.01, "holm")
    assert (images[0]["best"], images[0]["verdict"]) == ("a", "generated")
    assert [entry["verdict"] for entry in images[1:]] == ["no match"] * 8 + ["not applicable"]
    assert [match["fingerprint"] for match in images[0]["matches"]] == ["a", "z"]
    keys = {"fingerprint", "rho", "z", "p", "p_holm", "log10_lr", "nearest_centre", "verdict", "reason"}
    assert set(images[0]["matches"][0]) == keys and images[-1]["best"] is None
    assert {match["reason"] for match in images[-1]["matches"]} == {"constant image"}
    assert all(0 < match["p"] <= match["p_holm"] <= 1 for entry in images[:-1] for match in entry["matches"])
    assert [entry["path"] for entry in document["skipped"]] == [str(bad)]
    told = call(*command, "--denoiser", world.denoiser)
    for words in ("nearest centre", "Holm", "not applicable: constant image", "skipped 1 of 11 images"):
        assert words in told.out
    strict = call(*command, "--denoiser", world.denoiser, "--false-alarm", 1e-4, "--json")
    assert strict.json["images"][0]["verdict"] == "undecided" and "cannot vouch" in strict.err


def test_detect_without_a_null_says_so(world: World, tmp_path: Path) -> None:
    path = untaught(world, tmp_path)
    command = ("detect", path, world.images("a", "1_fake"), "--denoiser", world.denoiser)
    result = call(*command, "--json")
    assert {entry["verdict"] for entry in result.json["images"]} == {"undecided"} and "has no null" in result.err
    assert {entry["matches"][0]["nearest_centre"] for entry in result.json["images"]} == {"generated"}
    assert result.json["images"][0]["matches"][0]["p"] is None and "–" in call(*command).out
    known = call("detect", world.fingerprint, world.images("a", "1_fake"), "--denoiser", world.denoiser, "--json").json
    assert sum(entry["matches"][0]["reason"] == "in training set" for entry in known["images"]) == 5


def test_cross_detect(world: World) -> None:
    options = ("--crop", CROP, "--denoiser", world.denoiser, "--seed", 2)
    document = call("cross-detect", world.root, "--method", "marra18", *options, "--json").json
    assert document["generators"] == ["a", "b"]
    results = {(row["train"], row["test"]): row for row in document["results"]}
    assert set(results) == {(x, y) for x in "ab" for y in "ab"}
    for (train, test), row in results.items():
        assert set(row) >= {"accuracy", "interval", "auc", "auc_interval", "n_real", "n_fake", "seed"}
        assert (row["n_real"], row["n_fake"], row["seed"]) == (4, 4, 2)
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert (row["auc"] == 1) == (train == test)
    assert document["skipped"] == []
    told = call("cross-detect", world.root, "--steps", 3, *options)
    assert (told.code, told.err) == (0, "")
    for words in ("Balanced accuracy", "AUC", "train \\ test", "4 + 4"):
        assert words in told.out
    assert_bad_input(call("cross-detect", world.root, "--train", 8, *options), "none left to test on of a (real)")
    assert_bad_input(call("cross-detect", world.root, "--train", 9, *options), "only 8 are usable")
    assert_bad_input(call("cross-detect", world.root / "a", *options), "is itself a generator's folder")


def write_checkpoint(path: Path, **changes: Any) -> Path:
    saved = {"Fingerprint": torch.randn(1, 3, CROP, CROP), "Train Real": [-0.1] * 30, "Train Fake": [0.2] * 30}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved | changes, path)
    return path


def test_import_official(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "sd" / "chk_0.pt")
    out = tmp_path / "sd.safetensors"
    document = call("import-official", checkpoint, "--out", out, "--json").json
    assert (document["name"], document["crop"], document["steps"]) == ("sd", CROP, 30)
    assert document["mu_real"] == pytest.approx(-0.1)
    assert Detector.load(out).mu_fake == pytest.approx(0.2)
    assert "mine" in call("import-official", checkpoint, "--out", out, "--name", "mine").out
    assert Detector.load(out).name == "mine"
    out = tmp_path / "none.safetensors"
    for k, junk in enumerate((b"", b"junk", b"root:x:0:0", b"PK\x03\x04", bytes(range(256)), b"\x80\x02]q\x00.")):
        (tmp_path / f"{k}.pt").write_bytes(junk)
        assert_bad_input(
            call("import-official", tmp_path / f"{k}.pt", "--out", out, "--json"), f"{k}.pt cannot be read"
        )
    broken = write_checkpoint(tmp_path / "x.pt", **{"Train Real": []})
    assert_bad_input(call("import-official", broken, "--out", out), "not lists of numbers")
    assert_bad_input(call("import-official", tmp_path / "gone.pt", "--out", out), "no checkpoint at")
    assert not out.exists()


def test_fetch_from_a_mirror_and_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, target = tmp_path / "mirror", cache_folder("release") / sources.FETCHED
    mirror.mkdir()
    (mirror / "file.bin").write_bytes(b"content")
    monkeypatch.setattr(sources, "release_registry", lambda: {"file.bin": sha256_file(mirror / "file.bin")})

    def unreachable(*args: object, **options: object) -> None:
        raise requests.exceptions.ConnectionError("unreachable\nhost")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    assert_bad_input(call("fetch", "--json"), "--mirror DIR")
    assert_bad_input(call("fetch", "--mirror", tmp_path / "gone"), "is no copy of the release")
    document = call("fetch", "--mirror", mirror, "--json").json
    assert (document["folder"], document["n_files"]) == (str(target), 1)
    assert (target / "file.bin").read_bytes() == b"content"
    assert call("fetch").code == 0  # all there: nothing is asked of the network


def test_run_hands_its_options_to_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    waits: list[bool] = []
    (tmp_path / "outputs" / "paper").mkdir(parents=True)
    (tmp_path / "outputs" / "paper" / "summary.json").write_text('{"counts": {"ok": 1}}', encoding="utf-8")
    (tmp_path / "outputs" / "demo").symlink_to("paper")

    def run_batch(what: Selection, jobs: int, force: bool, wait: bool) -> int:
        seen.append((what.profile, what.only, jobs, what.data_root, force, what.grid, what.full))
        waits.append(wait)
        print("a table for people")
        return int("fails" in what.only)

    monkeypatch.setattr("difcore.batch.run.run_batch", run_batch)
    monkeypatch.setattr("difcore.files.PROJECT_DIR", tmp_path)
    result = call("run")
    assert (result.code, result.out) == (0, "a table for people\n")
    assert seen.pop() == ("demo", [], 2, None, False, {}, False)
    options = ("--profile", "paper", "--jobs", 3, "--data-root", tmp_path, "--force", "--grid", "steps=3,1e-3,x")
    assert call("run", "--only", "20", "21", "22", *options, "--only", "fails").code == 1
    names, grid = ["20", "fails", "21", "22"], {"steps": [3, 0.001, "x"]}
    assert seen.pop() == ("paper", names, 3, tmp_path, True, grid, False)
    assert call("run", "--grid", "full", "--grid", "steps=3", "--only", "17").code == 0
    assert seen.pop() == ("demo", ["17"], 2, None, False, {"steps": [3]}, True)
    result = call("run", "--json")
    assert result.json == {"command": "run", "exit_code": 0, "counts": {"ok": 1}}
    assert result.err == "a table for people\n"
    assert call("run", "--wait").code == 0 and waits == [False] * 4 + [True]
    (tmp_path / "mydata").mkdir()
    monkeypatch.chdir(tmp_path)  # relative: to where the user stands
    assert call("run", "--data-root", "mydata", "--grid", "real_dir=mydata,../x").code == 0
    assert seen[-1][3] == tmp_path / "mydata"
    assert seen[-1][5] == {"real_dir": [str(tmp_path / "mydata"), str(tmp_path.parent / "x")]}
    failed = call("run", "--only", "fails", "--json")
    assert failed.code == json.loads(failed.out)["exit_code"] == 1


def test_run_refuses_what_is_not_there(tmp_path: Path) -> None:
    for arguments in (["--only", "no_such"], ["--profile", "no_such"], ["--jobs", 0], ["--grid", "no_such"]):
        assert_bad_input(call("run", *arguments))
        assert_bad_input(call("run", *arguments, "--json"))
    assert_bad_input(call("run", "--data-root", tmp_path / "gone"), "expected the data folder")
    assert parse_grid([]) == {}


BAD_FITS: dict[str, tuple[list[str], str]] = {
    "missing folder": (["{gone}", "{fake}"], "does not exist; expected a folder of images"),
    "empty folder": (["{real}", "{empty}"], "holds no images"),
    "a file for a folder": (["{real}", "{file}"], "is not a folder"),
    "all too small": (["{real}", "{fake}", "--crop", "64"], "none of 8 images could be used (too small"),
    "one folder twice": (["{real}", "{real}"], "8 images are in both"),
    "too few images": (["{real}", "{fake}", "--train", "9"], "asked for 9 training images, only 8 are usable"),
    "a single image": (["{single}", "{fake}"], "at least 2 real"),
    "unknown denoiser": (["{real}", "{fake}", "--denoiser", "nope"], "unknown denoiser 'nope'"),
    "a fingerprint as denoiser": (["{real}", "{fake}", "--denoiser", "{fingerprint}"], "is not a difcore denoiser"),
    "junk as denoiser": (["{real}", "{fake}", "--denoiser", "{junk}"], "is not a difcore denoiser"),
    "unknown method": (["{real}", "{fake}", "--method", "nope"], "choose from dif, marra18"),
    "unknown prior": (["{real}", "{fake}", "--prior", "nope"], "unknown prior"),
    "unknown device": (["{real}", "{fake}", "--device", "nope"], "unknown device"),
    "no such device": (["{real}", "{fake}", "--device", "cuda:99"], "there is no device 'cuda:99' here"),
    "idle option": (
        ["{real}", "{fake}", "--method", "marra18", "--learning-rate", "1"],
        "--learning-rate means nothing",
    ),
    "alpha without boost": (["{real}", "{fake}", "--alpha", "0.5"], "needs boost"),
    "out of range": (["{real}", "{fake}", "--ema", "1"], "out of range"),
    "bad quality": (["{real}", "{fake}", "--jpeg", "101"], "--jpeg"),
    "no number": (["{real}", "{fake}", "--steps", "many"], "--steps"),
    "missing argument": (["{real}"], "FAKE_DIR"),
    "unknown option": (["{real}", "{fake}", "--nope"], "--nope"),
    "a suffix that detect would not know": (["{real}", "{fake}", "--out", "{gone}.pt"], "ends in .safetensors"),
    "a folder to write to": (["{real}", "{fake}", "--out", "{folder}"], "is a folder"),
    "a file for the parent": (["{real}", "{fake}", "--out", "{file}/x.safetensors"], "is not a folder"),
}


@pytest.fixture
def places(world: World, tmp_path: Path) -> dict[str, Path]:
    real, fake = world.pair()
    found = {name: tmp_path / name for name in ("gone", "empty", "file", "single")}
    found |= {"real": real, "fake": fake, "fingerprint": world.fingerprint, "denoiser": world.denoiser}
    found |= {"junk": tmp_path / "junk.safetensors", "folder": tmp_path / "folder.safetensors"}
    for name in ("empty", "single", "folder"):
        found[name].mkdir()
    shutil.copy(real / "0.png", found["single"])
    for name in ("file", "junk"):
        found[name].write_bytes(b"junk")
    wide = Detector(torch.randn(3, 2 * CROP, 2 * CROP), 0.0, 0.1)
    found["wide"] = wide.save(tmp_path / "wide.safetensors")
    return found


@pytest.mark.parametrize("case", BAD_FITS)
def test_bad_input_to_fit(case: str, places: dict[str, Path], tmp_path: Path) -> None:
    template, message = BAD_FITS[case]
    arguments = [text.format(**places) for text in template]
    defaults = {"--crop": CROP, "--denoiser": places["denoiser"], "--out": tmp_path / "never.safetensors"}
    defaults |= {} if "marra18" in arguments else {"--steps": 3}
    given = [text for key, value in defaults.items() if key not in arguments for text in (key, str(value))]
    assert_bad_input(call("fit", *arguments, *given, "--json"), message)
    assert not (tmp_path / "never.safetensors").exists()


BAD_USES: dict[str, tuple[list[str], str]] = {
    "no fingerprint file": (["evaluate", "{gone}", "--real", "{real}", "--fake", "{fake}"], "no fingerprint at"),
    "corrupt": (["evaluate", "{junk}", "--real", "{real}", "--fake", "{fake}"], "is not a difcore fingerprint"),
    "a denoiser": (["evaluate", "{denoiser}", "--real", "{real}", "--fake", "{fake}"], "is not a difcore fingerprint"),
    "folder": (["evaluate", "{fingerprint}", "--real", "{gone}", "--fake", "{fake}"], "does not exist"),
    "one side": (["evaluate", "{fingerprint}", "--real", "{real}"], "--fake"),
    "other crop": (["evaluate", "{fingerprint}", "--real", "{real}", "--fake", "{fake}", "--crop", "64"], "--crop 64"),
    "test": (["evaluate", "{fingerprint}", "--real", "{real}", "--fake", "{fake}", "--test", "9"], "holds only 8"),
    "detect nothing": (["detect", "{fingerprint}"], "no image or folder of images given"),
    "detect by nothing": (["detect", "{real}"], "no fingerprint (*.safetensors) given"),
    "detect with corrupt": (["detect", "{junk}", "{real}"], "is not a difcore fingerprint"),
    "detect a missing image": (["detect", "{fingerprint}", "{gone}"], "does not exist"),
    "detect an empty folder": (["detect", "{fingerprint}", "{empty}"], "holds no images"),
    "detect no image": (["detect", "{fingerprint}", "{file}"], "none of 1 images could be used (not an image"),
    "detect by a checkpoint": (["detect", "{real}", "chk_0.pt"], "difcore import-official"),
    "detect, other crop": (["detect", "{fingerprint}", "{real}", "--crop", "64"], "was fitted at a crop of 32 px"),
    "detect, two crops": (["detect", "{fingerprint}", "{wide}", "{real}"], "different sizes"),
    "cross-detect nowhere": (["cross-detect", "{gone}"], "does not exist"),
    "cross-detect nothing": (["cross-detect", "{empty}"], "holds no generator"),
    "no such command": (["destroy"], "No such command 'destroy'"),
    "no such option": (["--nope"], "--nope"),
}


@pytest.mark.parametrize("case", BAD_USES)
def test_bad_input_to_the_others(case: str, places: dict[str, Path]) -> None:
    template, message = BAD_USES[case]
    arguments = [text.format(**places) for text in template]
    if arguments[0] in ("evaluate", "detect", "cross-detect"):
        arguments += ["--denoiser", str(places["denoiser"]), "--json"]
    assert_bad_input(call(*arguments), message)


def test_missing_weights_of_a_shipped_denoiser(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SHIPPED, "photos", tmp_path / "gone.safetensors")
    real, fake = world.pair()
    assert_bad_input(call("fit", real, fake, "--out", tmp_path / "f.safetensors"), "weights of denoiser 'photos'")


def test_an_interrupt_is_quiet_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("difcore.fingerprints.fitting.fitted", interrupted)
    out = tmp_path / "f.safetensors"
    result = call("fit", *world.pair(), "--out", out, "--crop", CROP, "--denoiser", world.denoiser)
    assert (result.code, result.out, result.err.strip()) == (130, "", "")
    assert not out.exists()


def test_other_errors_are_not_hidden(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("difcore.fingerprints.fitting.fitted", broken)
    with pytest.raises(ZeroDivisionError):
        call("fit", *world.pair(), "--out", tmp_path / "f.safetensors", "--denoiser", world.denoiser)


def test_what_is_not_finite_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"a": float("nan"), "b": [np.float32("inf"), np.float64(0.5)], "warnings": ["two\nlines"]}, True)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": None, "b": [None, 0.5], "warnings": ["two\nlines"]}
    assert captured.err == "difcore: warning: two\\nlines\n"


def test_as_a_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-m", "difcore.cli", "detect", str(world.fingerprint), "--json", "--denoiser"]
    command += [str(world.denoiser), str(world.images("a", "1_fake")), "\udcff.png"]
    answer = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    assert_bad_input(Result(answer.returncode, answer.stdout, answer.stderr), "does not exist")
    answer = subprocess.run(command[:-1], cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    document = Result(answer.returncode, answer.stdout, answer.stderr).json
    assert len(answer.stderr.splitlines()) == 1 and "3 held-out reals only" in answer.stderr
    assert all(entry["matches"][0]["nearest_centre"] == "generated" for entry in document["images"])
