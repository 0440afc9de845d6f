"""The invisible mark: read where it is, not read where it is not, written as the library writes it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import textures

from difcore.audit.watermark import (
    MESSAGES,
    alignment_errors,
    find_place,
    luma_chroma,
    read_carriers,
    read_marks,
    rgb,
    vote,
    write_mark,
)
from difcore.images.crops import decode
from difcore.images.folders import list_images

V1 = MESSAGES["StableDiffusionV1"]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return textures(8, 256)


def test_the_messages_are_what_the_scripts_write() -> None:
    assert np.packbits(V1).tobytes() == b"StableDiffusionV1"
    assert "".join(map(str, MESSAGES["StableDiffusionXL"])) == "101100111110110010010000011110111011000110011110"


@pytest.mark.parametrize("message", list(MESSAGES))
def test_a_mark_is_read_and_its_absence_too(pictures: list[np.ndarray], message: str) -> None:
    marked = [write_mark(image, MESSAGES[message]) for image in pictures]
    found = read_marks([read_carriers(image)[0] for image in marked], message)
    assert np.median(found.errors) < 0.15
    assert found.marked.sum() >= 6
    bare = read_marks([read_carriers(image)[0] for image in pictures], message)
    assert 0.3 < np.median(bare.errors) < 0.7
    assert not bare.marked.any()
    other = next(name for name in MESSAGES if name != message)
    assert not read_marks([read_carriers(image)[0] for image in marked], other).marked.any()


def test_a_mark_is_found_in_crops_of_unknown_place(pictures: list[np.ndarray]) -> None:
    crops = [write_mark(image, V1)[24:216, 40:248] for image in pictures]
    assert find_place([read_carriers(image)[0] for image in crops], V1) == (32, (3 * 32 + 5) % 136)
    found = read_marks([read_carriers(image)[0] for image in crops])
    assert np.median(found.errors) < 0.2
    assert found.marked.sum() >= 4


def test_few_files_are_read_as_they_are(pictures: list[np.ndarray]) -> None:
    marked = [write_mark(image, V1) for image in pictures[:2]]
    sizes = [marked[0], write_mark(pictures[2][:128], V1), np.zeros((4, 4, 3), np.uint8)]
    found = read_marks([read_carriers(image)[0] for image in sizes])
    assert found.errors[0] < 0.2
    assert found.marked[0]
    assert np.isnan(found.errors[2])
    assert not found.marked[2]


def test_carriers_tell_a_mark_of_any_message(pictures: list[np.ndarray]) -> None:
    unknown = np.random.default_rng(0).integers(0, 2, 77).astype(np.int8)
    assert np.median([read_carriers(write_mark(image, unknown))[1] for image in pictures]) > 0.5
    assert np.median([read_carriers(image)[1] for image in pictures]) < 0.2


@given(seed=st.integers(0, 2**16), height=st.integers(16, 70), width=st.integers(16, 70), length=st.integers(1, 40))
@settings(max_examples=25)
def test_every_bit_comes_back_where_no_colour_is_clipped(seed: int, height: int, width: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(110, 140), np.uint8) + rng.integers(
        0, 4, (height, width, 3), np.uint8
    )
    message = rng.integers(0, 2, length).astype(np.int8)
    bits = read_carriers(write_mark(image, message))[0]
    assert bits.shape == (height // 8, width // 8)
    assert np.array_equal(bits.ravel(), np.resize(message, bits.size))
    assert vote(bits, message, bits.shape[1], 0)[0] == 0


def test_an_image_of_one_colour_says_nothing() -> None:
    bits = read_carriers(np.full((64, 64, 3), 77, np.uint8))[0]
    for message in MESSAGES.values():
        errors = alignment_errors(bits, message)
        assert errors.shape == (len(message), len(message))
        assert np.array_equal(errors, np.full_like(errors, 0.5))


def test_colours_come_back() -> None:
    image = np.random.default_rng(1).integers(90, 170, (32, 32, 3), np.uint8)
    assert np.abs(rgb(luma_chroma(image)).astype(int) - image).max() <= 3


@pytest.mark.slow
def test_the_library_that_writes_it_agrees_bit_for_bit(pictures: list[np.ndarray]) -> None:
    """The oracle, where it is installed: pip install invisible-watermark opencv-python-headless PyWavelets."""
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless, the oracle's")
    oracle = pytest.importorskip("imwatermark", reason="needs invisible-watermark, the oracle")
    for image in [*pictures, np.random.default_rng(2).integers(0, 256, (267, 301, 3), np.uint8)]:
        bgr = np.ascontiguousarray(image[..., ::-1])
        assert np.array_equal(np.moveaxis(luma_chroma(image), 0, -1), cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV))
        encoder = oracle.WatermarkEncoder()
        encoder.set_watermark("bytes", b"StableDiffusionV1")
        theirs = encoder.encode(bgr, "dwtDct")[..., ::-1]
        assert np.array_equal(write_mark(image, V1), theirs)
        for shown in (image, theirs):
            read = oracle.WatermarkDecoder("bits", 136).decode(np.ascontiguousarray(shown[..., ::-1]), "dwtDct")
            error, seen = vote(read_carriers(shown)[0], V1, image.shape[1] // 8, 0)
            assert seen == 136
            assert error == np.mean(read != V1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"), [("sd1", 0.05, 0.15), ("sd14", 0.45, 0.55), ("photos/test", 0.45, 0.55)]
)
def test_real_sets(shared_data: Path, name: str, low: float, high: float) -> None:
    images = [decode(path) for path in list_images(shared_data / name)[:40]]
    found = read_marks([read_carriers(image)[0] for image in images])
    assert low < np.median(found.errors) < high
    assert found.marked.mean() > 0.7 if name == "sd1" else not found.marked.any()
