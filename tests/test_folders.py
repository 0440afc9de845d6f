"""Folders of images, in which all is used or named, and the layouts of trees of generators."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from image_files import encoded, noise
from PIL import Image
from tiny import counting_denoiser

from difcore.audit.formats import audit_folder
from difcore.cli.inputs import draw_images, sort_arguments
from difcore.images.crops import skip_report
from difcore.images.folders import FolderError, find_generators, is_image, list_images
from difcore.residuals.sets import residuals_of


def tree(root: Path, *folders: str) -> Path:
    """Folders under ``root`` with one image each."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "a.png").write_bytes(encoded(noise(16, 16), "PNG"))
    return root


JXL = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def bag(folder: Path) -> dict[str, str]:
    """A folder of 26 entries of every kind, and what has to come of each: "" if it is used."""
    pixels, few = noise(20, 24), Image.fromarray(noise(20, 24)).quantize(16)
    heif = "not supported: HEIC needs the extra: pip install difcore[heif]"
    unknown = "not an image: not PNG, "
    made: dict[str, tuple[bytes, str]] = {
        "a.png": (encoded(pixels, "PNG"), ""),
        "b.PNG~": (encoded(pixels, "PNG"), ""),
        "c.jfif": (encoded(pixels, "JPEG"), ""),
        "d.jpe": (encoded(pixels, "JPEG"), ""),
        "e": (encoded(pixels, "JPEG"), ""),
        "f.avif": (encoded(pixels, "AVIF"), ""),
        "g.heic": (HEIC, heif),
        "h.jxl": (JXL, "not supported: JPEG XL is not read"),
        "i.gif": (encoded(few, "GIF"), ""),
        "j.dib": (encoded(pixels, "DIB"), ""),
        "k.apng": (encoded(pixels, "PNG", save_all=True, append_images=[few.convert("RGB")]), ""),
        "l.jp2": (encoded(pixels, "JPEG2000"), ""),
        "m.TIFF": (encoded(pixels, "TIFF"), ""),
        "n.bmp": (encoded(pixels, "BMP"), ""),
        "o.webp": (encoded(pixels, "WEBP"), ""),
        "p.jpg": (encoded(pixels, "PNG"), ""),  # a suffix that lies
        "q.ppm": (encoded(pixels, "PPM"), ""),
        "r.txt": (b"a photograph of a cat", unknown),
        "s.png": (b"<html>not found</html>", unknown),
        "t.png": (b"", "not an image: 0 bytes"),
        "u.png": (encoded(pixels, "PNG")[:200], "damaged or truncated PNG"),
        "v.mp4": (b"\0\0\0\x20ftypisom" + bytes(40), "not supported: video is not read"),
        "w.psd": (b"8BPS\0\1", "not supported: Photoshop's own format is not read"),
        "x.png": (encoded(noise(12, 30), "PNG"), "too small: 30x12 px for a crop of 16 px"),
    }
    folder.mkdir()
    for name, (content, _) in made.items():
        (folder / name).write_bytes(content)
    (folder / "y").mkdir()
    (folder / "y" / "inner.png").write_bytes(encoded(noise(20, 24, seed=1), "PNG"))
    (folder / "z.png").symlink_to(folder / "gone.png")
    for name in (".DS_Store", "Thumbs.db", "._a.png", "desktop.ini"):
        (folder / name).touch()
    told = {name: reason for name, (_, reason) in made.items()}
    return told | {"y": "folder not read: --recursive", "z.png": "no file: broken link"}


def test_all_in_a_folder_is_used_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, one_thread: None
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    expected = bag(tmp_path / "bag")
    assert len(expected) == 26
    found = residuals_of(tmp_path / "bag", counting_denoiser()[0], 16)
    used, skipped = {Path(name).name for name in found.names}, {s.path.name: s.reason for s in found.skipped}
    assert used == {name for name, reason in expected.items() if not reason}
    assert {name: expected[name] for name in skipped} == {name: expected[name] for name in expected if expected[name]}
    assert all(reason.startswith(expected[name]) for name, reason in skipped.items()), skipped
    assert len(used) + len(skipped) == 26
    report = skip_report(found.skipped, 26)
    assert report.startswith(f"skipped {len(skipped)} of 26 images: 4 not supported, 3 not an image, ")
    files, _ = audit_folder(tmp_path / "bag")
    assert len(files) == len(used) + 2  # the small one and the damaged one have headers
    assert files["encoding"].nunique() == 10 and files["suffix_lies"].sum() == 1
    assert files["coarse"].value_counts().drop("").to_dict() == {"palette": 1}


def test_folders_inside_are_read_on_request(tmp_path: Path) -> None:
    bag(tmp_path / "bag")
    (tmp_path / "bag" / "y" / "back").symlink_to(tmp_path / "bag")  # a way round in circles
    (tmp_path / "bag" / "y" / ".hidden").mkdir()
    flat, deep = list_images(tmp_path / "bag"), list_images(tmp_path / "bag", recursive=True)
    assert tmp_path / "bag" / "y" in flat and len(flat) == 26
    assert set(deep) - set(flat) == {tmp_path / "bag" / "y" / name for name in ("back", "inner.png")}
    assert set(flat) - set(deep) == {tmp_path / "bag" / "y"}
    (tmp_path / "outer").mkdir()
    (tmp_path / "bag").rename(tmp_path / "outer" / "bag")
    with pytest.raises(FolderError, match="1 of them folders: --recursive reads them"):
        list_images(tmp_path / "outer")
    assert len(list_images(tmp_path / "outer", recursive=True)) == 27


def test_captions_beside_images_are_not_drawn_but_named(tmp_path: Path) -> None:
    for k in range(20):
        (tmp_path / f"{k:02d}.png").write_bytes(encoded(noise(20, 24, seed=k), "PNG"))
        (tmp_path / f"{k:02d}.txt").write_text("a photograph of a cat")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x.png").write_bytes(encoded(noise(20, 24), "PNG"))
    paths = list_images(tmp_path)
    drawn = draw_images(paths, 5, seed=3)
    assert sum(map(is_image, drawn)) == 5 and len(drawn) == 5 + 20 + 1
    assert draw_images(paths, 5, seed=3) == drawn != draw_images(paths, 5, seed=4)
    with pytest.raises(ValueError, match="asked for 21 images, .* holds only 20"):
        draw_images(paths, 21, seed=3)
    fingerprint = tmp_path / "f.safetensors"
    assert sort_arguments([fingerprint, tmp_path]) == ([fingerprint], paths)
    assert tmp_path / "inner" / "x.png" in sort_arguments([fingerprint, tmp_path], recursive=True)[1]


def test_folder_errors_say_which_and_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "file.png").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").touch()
    cases = {"gone": "does not exist", "file.png": "is not a folder", "empty": "(0 other", "text": "(1 other"}
    for name, told in cases.items():
        with pytest.raises(FolderError) as caught:
            list_images(tmp_path / name)
        message = str(caught.value)
        assert (
            str(tmp_path / name) in message and told in message and "expected a folder of images (png, jpg" in message
        )


def test_paper_layout(tmp_path: Path) -> None:
    tree(tmp_path, "sd14/0_real", "sd14/1_fake", "glide/0_real", "glide/1_fake", "logs")
    found = find_generators(tmp_path)
    assert [(g.name, len(g.real), len(g.fake)) for g in found] == [("glide", 1, 1), ("sd14", 1, 1)]
    assert found[1].real_images() == [tmp_path / "sd14" / "0_real" / "a.png"]
    assert found[1].fake_images() == [tmp_path / "sd14" / "1_fake" / "a.png"]


def test_per_class_layout_and_both_mixed(tmp_path: Path) -> None:
    tree(tmp_path, *(f"progan/{c}/{s}" for c in ("cat", "bus") for s in ("0_real", "1_fake")), "mj/0_real", "mj/1_fake")
    mj, progan = find_generators(tmp_path)
    assert (mj.name, mj.real) == ("mj", (tmp_path / "mj" / "0_real",))
    assert (progan.name, progan.fake) == ("progan", tuple(tmp_path / "progan" / c / "1_fake" for c in ("bus", "cat")))
    assert len(progan.real_images()) == len(progan.fake_images()) == 2


@pytest.mark.parametrize("pair", ["mj", "progan/cat"])
def test_one_sided_generator(tmp_path: Path, pair: str) -> None:
    tree(tmp_path, "ok/0_real", "ok/1_fake", f"{pair}/0_real")
    with pytest.raises(FolderError, match="1_fake does not exist; expected images of both classes") as caught:
        find_generators(tmp_path)
    assert str(tmp_path / pair / "1_fake") in str(caught.value)
    (tmp_path / pair / "1_fake").mkdir()
    with pytest.raises(FolderError, match="1_fake holds no images"):
        find_generators(tmp_path)


def test_no_generator_at_all(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FolderError, match="expected <root>/<generator>/{0_real,1_fake}"):
            find_generators(folder)
    tree(tmp_path, "mj/0_real", "mj/1_fake")
    with pytest.raises(FolderError, match="give the folder above it"):
        find_generators(tmp_path / "mj")


def test_genimage(tmp_path: Path) -> None:
    sides = [f"{split}/{side}" for split in ("train", "val") for side in ("ai", "nature")]
    tree(
        tmp_path,
        *(f"{name}/{side}" for name in ("Midjourney/imagenet_midjourney", "ADM/imagenet_adm") for side in sides),
    )
    adm, midjourney = find_generators(tmp_path)
    assert (adm.name, midjourney.name) == ("ADM", "Midjourney")
    inner = tmp_path / "ADM" / "imagenet_adm"
    assert (adm.real, adm.fake) == ((inner / "train" / "nature",), (inner / "train" / "ai",))
    assert (adm.test_real, adm.test_fake) == ((inner / "val" / "nature",), (inner / "val" / "ai",))
    assert len(adm.real_images()) == len(adm.fake_images()) == 2
    (only,) = find_generators(tmp_path / "ADM")  # from a level below
    assert only.name == "imagenet_adm"


@pytest.mark.parametrize("pair", [("0_REAL", "1_FAKE"), ("Real", "Fake"), ("nature", "AI"), ("real", "1_fake")])
def test_the_classes_names_in_any_case(tmp_path: Path, pair: tuple[str, str]) -> None:
    tree(tmp_path, *(f"{name}/{side}" for name in ("a", "b") for side in pair))
    assert [(g.name, g.real, g.fake) for g in find_generators(tmp_path)] == [
        (name, (tmp_path / name / pair[0],), (tmp_path / name / pair[1],)) for name in ("a", "b")
    ]


def test_splits_are_no_generators(tmp_path: Path) -> None:
    """CNNDetection's folders: <root>/test/<generator>/(<class>/){0_real,1_fake}."""
    tree(tmp_path, *(f"test/{name}/{side}" for name in ("biggan", "progan/cat") for side in ("0_real", "1_fake")))
    assert [(g.name, g.test_real) for g in find_generators(tmp_path)] == [("biggan", ()), ("progan", ())]
    assert [g.name for g in find_generators(tmp_path / "test")] == ["biggan", "progan"]
    tree(tmp_path, "train/biggan/0_real", "train/biggan/1_fake", "biggan/test/0_real")
    biggan, _ = find_generators(tmp_path)
    assert biggan.real == (tmp_path / "train" / "biggan" / "0_real",)
    assert biggan.test_real == (tmp_path / "biggan" / "test" / "0_real", tmp_path / "test" / "biggan" / "0_real")
    assert biggan.test_fake == (tmp_path / "test" / "biggan" / "1_fake",)  # the other test level has no fakes
    tree(tmp_path / "x", "train/ai", "train/nature")
    with pytest.raises(FolderError, match="is itself a generator's folder"):
        find_generators(tmp_path / "x")


def test_a_level_too_many_is_told(tmp_path: Path) -> None:
    tree(tmp_path, *(f"sets/{name}/{side}" for name in ("mj", "sd14") for side in ("0_real", "1_fake")))
    with pytest.raises(FolderError) as caught:
        find_generators(tmp_path)
    assert f"(mj, sd14, ...) are generators, give {tmp_path / 'sets'}; expected <root>/<generator>/" in str(
        caught.value
    )
    assert [g.name for g in find_generators(tmp_path / "sets")] == ["mj", "sd14"]
    tree(tmp_path / "deep", "a/sets/mj/0_real", "a/sets/mj/1_fake")
    with pytest.raises(FolderError, match=f"lies a level too deep: give {tmp_path / 'deep' / 'a'} or below"):
        find_generators(tmp_path / "deep")
