"""File names that no terminal should see as they are: shown escaped once, written, and read back the same."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import grid, noise_images, with_pattern
from typer.testing import CliRunner

from difcore.cli.app import app
from difcore.files import atomic_json, atomic_safetensors, atomic_text, read_safetensors, shown
from difcore.fingerprints.detector import Detector
from difcore.records import artefact
from difcore.records.artefacts import read_record
from difcore.records.tables import show_table

NAMES = [
    b"new\nline",
    b"esc\x1b[31mred",
    b"100%s %d %(x)s",
    b"not\xffutf8",
    b"[red]x[bold]",
    "дом é".encode(),
    b"a\r\tb",
]
pytestmark = [
    pytest.mark.usefixtures("one_thread", "cache"),
    pytest.mark.skipif(sys.platform != "linux", reason="this system does not take such file names"),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name-1.png", "plain name-1.png"),
        ("new\nline\x1b[31m\x07", r"new\nline\x1b[31m\x07"),
        (os.fsdecode(b"not\xffutf8"), r"not\udcffutf8"),
        ("100%s [red] \\n é 画像 \N{GRINNING FACE}", "100%s [red] \\n é 画像 \N{GRINNING FACE}"),
        ("left\u202eright\u2028", r"left\u202eright\u2028"),
        (Path("a") / "b", "a/b"),
    ],
)
def test_shown(name: object, expected: str) -> None:
    assert shown(name) == expected


@given(st.binary(max_size=30))
def test_what_is_shown_can_be_printed_on_one_line_and_is_not_escaped_twice(name: bytes) -> None:
    text = shown(os.fsdecode(name))
    assert len(text.splitlines()) <= 1 and shown(text) == text
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text)
    text.encode("utf-8")


@given(st.lists(st.binary(max_size=20).map(os.fsdecode), max_size=4))
def test_json_and_fingerprints_give_names_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = atomic_json(folder / "names.json", {"names": names})
    assert json.loads(path.read_text(encoding="utf-8")) == {"names": names}
    path = atomic_safetensors(folder / "names.safetensors", {"x": torch.arange(3)}, {"names": names, "n": 1})
    tensors, metadata = read_safetensors(path)
    assert metadata == {"names": names, "n": 1} and tensors["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_fingerprint_of_any_name_is_read_back(tmp_path: Path, name: bytes) -> None:
    text = os.fsdecode(name)
    kept = Detector(torch.ones(3, 8, 8) * torch.arange(8), 0.0, 0.1, name=text, metadata={"data": [text]})
    found = Detector.load(kept.save(tmp_path / text / f"{text}.safetensors"))
    assert (found.name, found.metadata, found.mu_fake) == (text, {"data": [text]}, 0.1)
    assert torch.equal(found.pattern, kept.pattern)


def test_tables_show_names_escaped_and_can_be_written(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in NAMES]
    page = show_table(pd.DataFrame({"image": names, "rho": 0.1})).to_html()
    assert r"not\udcffutf8" in page and "\x1b" not in page
    atomic_text(tmp_path / "page.html", page)
    table = pd.DataFrame({"image": [*names, None], "rho": [0.5] * 8, "n": [3] * 8})
    out = artefact("names", {"output_dir": tmp_path / "out", "folder": names[3]}).save(8, {"names": table})
    assert read_record(out)["parameters"] == {"folder": names[3]}
    read = pd.read_csv(tmp_path / "out" / "names.csv")
    assert read["image"].tolist()[:-1] == [shown(name) for name in names] and read["image"].isna().sum() == 1
    assert read["rho"].tolist() == [0.5] * 8 and read["n"].tolist() == [3] * 8 and table["image"][0] == names[0]


def test_the_command_line_with_such_names(tmp_path: Path) -> None:
    odd = os.fsdecode(b"dir\xff\n\x1b[31m[red]%s")
    for k, side in enumerate(("real", "fake", "new real", "new fake")):
        folder = tmp_path / odd / side
        folder.mkdir(parents=True)
        images = noise_images(14, 32, k)
        for i, image in enumerate(with_pattern(images, grid(), 12.0) if "fake" in side else images):
            Image.fromarray(image).save(folder / (os.fsdecode(NAMES[i % len(NAMES)]) + f"{i}.png"))
        (folder / os.fsdecode(b"bad\n\xff[red].png")).write_bytes(b"no image")
    real, fake, out = (tmp_path / odd / name for name in ("real", "fake", os.fsdecode(b"f\xff\n.safetensors")))
    options = ["--denoiser", "highpass"]

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), *options])
        assert result.exit_code == 0, result.stderr
        assert "\x1b" not in result.stdout + result.stderr
        for line in result.stderr.splitlines():
            assert line.startswith("difcore: warning: ")
        return result.stdout

    told = call("fit", real, fake, "--out", out, "--method", "marra18", "--crop", 32)
    assert r"dir\udcff\n\x1b[31m[red]%s/real/bad\n\udcff[red].png: not an image" in told
    assert Detector.load(out).name == out.stem
    assert r"\udcff" in call(
        "evaluate", out, "--real", tmp_path / odd / "new real", "--fake", tmp_path / odd / "new fake"
    )
    table = call("detect", out, fake)
    assert "[bold]" in table and "%(x)s" in table
    document = json.loads(call("detect", out, fake, "--json"))
    assert {Path(entry["image"]) for entry in document["images"]} == {p for p in fake.iterdir() if "bad" not in p.name}
    assert [Path(entry["path"]).name for entry in document["skipped"]] == [os.fsdecode(b"bad\n\xff[red].png")]
    gone = CliRunner().invoke(app, ["detect", str(out), str(tmp_path / odd / "gone\n"), *options])
    assert gone.exit_code == 2 and len(gone.stderr.splitlines()) == 1 and r"%s/gone\n does not exist" in gone.stderr
    assert np.isfinite(Detector.load(out).mu_fake)
