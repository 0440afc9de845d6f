"""Fingerprints: sign, files, and the authors' checkpoints, whole and broken."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from difcore.fingerprints.correlation import nearest_centre
from difcore.fingerprints.detector import Detector
from difcore.fingerprints.null import null_of
from difcore.paper import GENERATORS


def pattern(size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(3, size, size, generator=torch.Generator().manual_seed(seed))


def checkpoint(**changes: Any) -> dict[str, Any]:
    """A made-up chk_0.pt: 100 steps of noise, then 20 that the centres are taken from."""
    real, fake = [9.0] * 100 + [k / 100 for k in range(20)], [-9.0] * 100 + [1 + k / 100 for k in range(20)]
    return {"Fingerprint": pattern()[None], "Train Real": real, "Train Fake": fake, **changes}


def test_a_fake_correlates_positively_whatever_the_sign_of_the_fit() -> None:
    up, down = Detector(pattern(), -0.01, 0.02), Detector(-pattern(), 0.01, -0.02)
    assert torch.equal(up.pattern, pattern()) and torch.equal(down.pattern, pattern())
    assert (up.mu_real, up.mu_fake) == (down.mu_real, down.mu_fake) == (-0.01, 0.02)
    assert up.threshold == down.threshold == pytest.approx(0.005)
    assert up.crop == 8


def test_turning_a_fingerprint_around_turns_no_decision_around() -> None:
    residuals = torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    up, down = Detector(pattern(), -0.01, 0.02), Detector(-pattern(), 0.01, -0.02)
    decisions = [d.rho(residuals) > d.threshold for d in (up, down)]
    assert torch.equal(*decisions) and 0 < int(decisions[0].sum()) < 50
    flat = residuals.flatten(1).numpy()
    expected = [np.corrcoef(pattern().flatten().numpy(), r)[0, 1] for r in flat]
    np.testing.assert_allclose(up.rho(residuals), expected, atol=1e-6)
    # the decision is the threshold's: halfway between the centres
    assert torch.equal(decisions[0], nearest_centre(up.rho(residuals), up.mu_real, up.mu_fake))


def test_other_centres_keep_the_pattern() -> None:
    moved = replace(Detector(pattern(), -0.1, 0.2, "marra18", "x", {"a": 1}), mu_real=0.0, mu_fake=0.5)
    assert torch.equal(moved.pattern, pattern())
    assert (moved.mu_real, moved.mu_fake, moved.method, moved.name, moved.metadata) == (
        0,
        0.5,
        "marra18",
        "x",
        {"a": 1},
    )
    turned = replace(moved, mu_real=0.5, mu_fake=0.0)
    assert torch.equal(turned.pattern, -pattern()) and (turned.mu_real, turned.mu_fake) == (-0.5, 0.0)


@pytest.mark.parametrize("shape", [(8, 8), (1, 3, 8, 8), (4, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, H, W\)"):
        Detector(torch.zeros(shape), 0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    broken = pattern()
    broken[1, 2, 3] = bad
    for arguments in ((broken, 0.0, 1.0), (pattern(), bad, 1.0), (pattern(), 0.0, bad)):
        with pytest.raises(ValueError, match="not finite"):
            Detector(*arguments)


def test_residuals_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot correlate"):
        Detector(pattern(), 0, 1).rho(torch.zeros(2, 3, 9, 9))


def test_a_file_gives_back_every_bit(tmp_path: Path) -> None:
    plan = {"steps": 480, "alpha": 1.0, "patience": None, "prior": "unet"}
    saved = Detector(pattern() / 3, -1 / 3, 0.1 + 0.2, "marra18", "SD 1.4 · ü", {"plan": plan, "n_real": 128})
    path = saved.save(tmp_path / "new" / "f.safetensors")
    loaded = Detector.load(path)
    assert torch.equal(loaded.pattern, saved.pattern) and loaded.pattern.dtype == torch.float32
    assert (loaded.mu_real, loaded.mu_fake) == (-1 / 3, 0.1 + 0.2)
    assert (loaded.method, loaded.name, loaded.metadata) == ("marra18", "SD 1.4 · ü", saved.metadata)
    assert [p.name for p in path.parent.iterdir()] == ["f.safetensors"]  # nothing temporary left


def test_a_file_gives_back_the_null_and_the_hashes(tmp_path: Path) -> None:
    rho = np.random.default_rng(0).normal(0, 0.01, 30)
    null, trained = null_of({"held-out reals": rho, "other": rho[:5] / 3}), frozenset(["0" * 16, "0123456789abcdef"])
    saved = Detector(pattern(), -0.1, 0.2, null=null, trained=trained, null_images=frozenset(["f" * 16]))
    loaded = Detector.load(saved.save(tmp_path / "f.safetensors"))
    assert (loaded.null, loaded.trained, loaded.null_images) == (null, trained, frozenset(["f" * 16]))
    older = Detector.load(Detector(pattern(), -0.1, 0.2).save(tmp_path / "f.safetensors"))
    assert older.null is None and older.trained == older.null_images == frozenset()


def test_the_null_turns_with_the_sign() -> None:
    null = null_of({"reals": [0.1, 0.2, 0.4]})
    turned = Detector(-pattern(), 0.01, -0.02, null=null).null
    assert turned is not None and turned.kinds["reals"].rho == (-0.4, -0.2, -0.1)
    assert Detector(pattern(), -0.01, 0.02, null=null).null is null


def test_centres_of_any_number_type_survive_a_file(tmp_path: Path) -> None:
    saved = Detector(pattern(), np.float32(-0.5), torch.tensor(0.25), "dif")  # type: ignore[arg-type]
    loaded = Detector.load(saved.save(tmp_path / "f.safetensors"))
    assert (loaded.mu_real, loaded.mu_fake, loaded.threshold) == (-0.5, 0.25, -0.125)


def as_safetensors(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> None:
    save_file(tensors, path, {key: json.dumps(value) for key, value in metadata.items()})


GOOD = {"kind": "fingerprint", "mu_real": 0.0, "mu_fake": 1.0, "method": "dif", "name": "", "metadata": {}}
NOT_FINGERPRINTS: dict[str, Callable[[Path], object]] = {
    "random bytes": lambda p: p.write_bytes(np.random.default_rng(0).bytes(4096)),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("not a fingerprint"),
    "torch": lambda p: torch.save({"pattern": pattern()}, p),
    "no metadata": lambda p: save_file({"pattern": pattern()}, p),
    "foreign metadata": lambda p: save_file({"pattern": pattern()}, p, {"format": "pt"}),
    "another kind": lambda p: as_safetensors(p, {"pattern": pattern()}, **{**GOOD, "kind": "decoder"}),
    "no pattern": lambda p: as_safetensors(p, {"bias": pattern()}, **GOOD),
    "no centre": lambda p: as_safetensors(
        p, {"pattern": pattern()}, **{k: v for k, v in GOOD.items() if k[:4] != "mu_r"}
    ),
    "centre of text": lambda p: as_safetensors(p, {"pattern": pattern()}, **{**GOOD, "mu_real": "zero"}),
    "centres of text": lambda p: as_safetensors(p, {"pattern": pattern()}, **{**GOOD, "mu_real": "0", "mu_fake": "1"}),
    "extra fact": lambda p: as_safetensors(p, {"pattern": pattern()}, **GOOD, colour="red"),
    "a null of one": lambda p: as_safetensors(p, {"pattern": pattern(), "null x": torch.zeros(1)}, **GOOD),
    "flat pattern": lambda p: as_safetensors(p, {"pattern": pattern()[0]}, **GOOD),
    "not finite": lambda p: as_safetensors(p, {"pattern": pattern() / 0}, **GOOD),
    "cut short": lambda p: p.write_bytes(saved_bytes(p)[:-100]),
}


def saved_bytes(path: Path) -> bytes:
    return Detector(pattern(), 0, 1).save(path).read_bytes()


@pytest.mark.parametrize("write", NOT_FINGERPRINTS.values(), ids=NOT_FINGERPRINTS.keys())
def test_other_files_are_refused_by_name(tmp_path: Path, write: Callable[[Path], object]) -> None:
    path = tmp_path / "f.safetensors"
    write(path)
    with pytest.raises(ValueError, match="not a difcore fingerprint") as caught:
        Detector.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    for read in (Detector.load, Detector.from_official):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere.pt")


def test_a_checkpoint_handed_to_load_is_pointed_to_the_import(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "chk_0.pt")
    with pytest.raises(ValueError, match="import-official"):
        Detector.load(tmp_path / "chk_0.pt")


def test_import_takes_the_centres_from_the_last_twenty_steps(tmp_path: Path) -> None:
    path = tmp_path / "sd14" / "chk_0.pt"
    path.parent.mkdir()
    torch.save(checkpoint(), path)
    found = Detector.from_official(path)
    # (0 + 1 + ... + 19) / 20 / 100 = 0.095
    assert (found.mu_real, found.mu_fake) == (pytest.approx(0.095), pytest.approx(1.095))
    assert torch.equal(found.pattern, pattern())
    assert (found.name, found.method, found.metadata["steps"]) == ("sd14", "dif", 120)
    assert Detector.from_official(path, "other").name == "other"


def test_import_turns_a_negative_fingerprint_around(tmp_path: Path) -> None:
    torch.save(checkpoint(**{"Train Real": [0.25] * 30, "Train Fake": [-0.5] * 30}), tmp_path / "chk_0.pt")
    found = Detector.from_official(tmp_path / "chk_0.pt")
    assert (found.mu_real, found.mu_fake) == (-0.25, 0.5)
    assert torch.equal(found.pattern, -pattern())


def test_a_short_training_is_averaged_whole(tmp_path: Path) -> None:
    torch.save(checkpoint(**{"Train Real": [0.0, 0.5], "Train Fake": [1.0, 2.0]}), tmp_path / "chk_0.pt")
    found = Detector.from_official(tmp_path / "chk_0.pt")
    assert (found.mu_real, found.mu_fake) == (0.25, 1.5)


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in checkpoint().items() if k != key}


WRONG: dict[str, tuple[Any, str]] = {
    "no fingerprint": (without("Fingerprint"), "no 'Fingerprint' in it"),
    "no reals": (without("Train Real"), "no 'Train Real' in it"),
    "no fakes": (without("Train Fake"), "no 'Train Fake' in it"),
    "a list": ([1, 2, 3], "not a published fingerprint"),
    "a tensor": (torch.zeros(1, 3, 8, 8), "not a published fingerprint"),
    "no batch axis": (checkpoint(Fingerprint=pattern()), r"shape \(1, 3, H, W\)"),
    "one channel": (checkpoint(Fingerprint=torch.zeros(1, 1, 8, 8)), r"shape \(1, 3, H, W\)"),
    "a list for a fingerprint": (checkpoint(Fingerprint=[1.0]), r"shape \(1, 3, H, W\)"),
    "not finite": (checkpoint(Fingerprint=pattern()[None] / 0), "not finite"),
    "strings": (checkpoint(**{"Train Real": ["0.1"] * 30}), "not lists of numbers"),
    "a number": (checkpoint(**{"Train Real": 0.5}), "not lists of numbers"),
    "a string": (checkpoint(**{"Train Fake": "0.5"}), "not lists of numbers"),
    "a dict": (checkpoint(**{"Train Fake": {1: 2}}), "not lists of numbers"),
    "no steps": (checkpoint(**{"Train Real": []}), "not lists of numbers"),
    "nothing learned": (checkpoint(**{"Train Real": [math.nan] * 30}), "not finite"),
}


@pytest.mark.parametrize(("content", "reason"), WRONG.values(), ids=WRONG.keys())
def test_import_refuses_other_checkpoints(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "chk_0.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=reason) as caught:
        Detector.from_official(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(200), b"not a checkpoint", np.random.default_rng(1).bytes(5000)]
)
def test_import_refuses_other_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "chk_0.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a plain checkpoint") as caught:
        Detector.from_official(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_import_refuses_half_a_download(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "whole.pt")
    (tmp_path / "chk_0.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot be read as a plain checkpoint"):
        Detector.from_official(tmp_path / "chk_0.pt")


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return _write, (str(self.marker), "executed")


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_import_executes_nothing(tmp_path: Path, writer: str) -> None:
    path, marker = tmp_path / "chk_0.pt", tmp_path / "executed"
    content = checkpoint(Bomb=Bomb(marker))
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="cannot be read as a plain checkpoint"):
        Detector.from_official(path)
    assert not marker.exists()
    if writer == "torch":  # the file is what it pretends to be: a loader that trusts it does execute it
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.read_text() == "executed"


def test_the_published_fingerprints(shared_data: Path, tmp_path: Path) -> None:
    for name in GENERATORS:
        found = Detector.from_official(shared_data / "dif_official" / "checks" / name / "chk_0.pt")
        assert found.name == name and found.pattern.shape == (3, 256, 256)
        assert -0.1 < found.mu_real < found.mu_fake < 0.1
        assert 320 <= found.metadata["steps"] <= 1600
        again = Detector.load(found.save(tmp_path / f"{name}.safetensors"))
        assert torch.equal(again.pattern, found.pattern) and again.metadata == found.metadata
    assert len(GENERATORS) == 13
