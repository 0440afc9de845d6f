"""Files written whole or not at all, content hashes, and images as tensors."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from difcore.files import atomic_json, atomic_safetensors, atomic_text, atomic_write, sha256_bytes, sha256_file
from difcore.machine.devices import as_tensor, channels_last, to_batch


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = atomic_text(tmp_path / "new" / "a.txt", "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_write_replaces_the_old_file_and_is_readable_by_others(tmp_path: Path) -> None:
    path = atomic_text(tmp_path / "a.txt", "old")
    assert atomic_text(path, "nεw") == path
    assert path.read_bytes() == "nεw".encode()
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_json_and_safetensors_come_back(tmp_path: Path) -> None:
    document = {"a": [1, 2.5, None], "b": "ü"}
    assert json.loads(atomic_json(tmp_path / "a.json", document).read_text(encoding="utf-8")) == document
    transposed = torch.arange(6.0).reshape(2, 3).T  # not contiguous in memory
    path = atomic_safetensors(tmp_path / "a.safetensors", {"x": transposed}, {"list": [1, 2], "text": "ü"})
    with safe_open(path, "pt") as stream:
        assert torch.equal(stream.get_tensor("x"), transposed)
        assert {k: json.loads(v) for k, v in stream.metadata().items()} == {"list": [1, 2], "text": "ü"}


def test_equal_content_gives_equal_safetensors_bytes(tmp_path: Path) -> None:
    metadata = {key: f"value of {key}" for key in "zyxwvutsrqponmlkjihgfedcba"}
    tensors = {"b": torch.arange(3.0), "a": torch.zeros(2, 5, dtype=torch.float16)}
    files = [atomic_safetensors(tmp_path / f"{k}.safetensors", tensors, metadata) for k in range(4)]
    assert len({sha256_file(file) for file in files}) == 1
    backwards = dict(reversed(metadata.items()))
    assert sha256_file(atomic_safetensors(tmp_path / "c.safetensors", tensors, backwards)) == sha256_file(files[0])
    with safe_open(files[0], "pt") as stream:
        assert torch.equal(stream.get_tensor("b"), tensors["b"])
        assert torch.equal(stream.get_tensor("a"), tensors["a"])
        assert {k: json.loads(v) for k, v in stream.metadata().items()} == metadata


def test_hashes_are_sha256(tmp_path: Path) -> None:
    # FIPS 180-2, example B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_bytes(b"abc") == sha256_bytes(b"a", memoryview(b"bc")) == sha256_file(tmp_path / "abc") == known
    array = np.arange(100, dtype=np.uint8)
    assert sha256_bytes(array.data) == hashlib.sha256(array.tobytes()).hexdigest()


def test_a_batch_holds_each_pixel_in_its_place(every_warning: None) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    images[0, 0, 0] = 0, 51, 255
    images.flags.writeable = False  # as Pillow's arrays are
    batch = to_batch(images)
    assert batch.shape == (2, 3, 5, 7) and batch.dtype == torch.float32
    assert batch[0, :, 0, 0].tolist() == [0, pytest.approx(0.2), 1]
    np.testing.assert_allclose(batch.permute(0, 2, 3, 1) * 255, images, atol=1e-4)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_batch(images[1]), batch[1:])
    assert torch.equal(to_batch(images[:, ::-1]), batch.flip(2))


def test_a_read_only_array_is_copied_and_another_is_not(every_warning: None) -> None:
    array = np.zeros(3, np.float32)
    as_tensor(array)[0] = 1
    assert array[0] == 1
    array.flags.writeable = False
    as_tensor(array)[1] = 1
    assert array[1] == 0
    tensor = torch.zeros(2)
    assert as_tensor(tensor) is tensor


def test_channels_last_moves_weights_not_values() -> None:
    module = torch.nn.Conv2d(3, 4, 3)
    before = module.weight.detach().clone()
    moved = channels_last(module)
    assert torch.equal(moved.weight, before) and moved.weight.is_contiguous(memory_format=torch.channels_last)
