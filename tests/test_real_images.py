"""Images of real generators: download from a server on this machine, damage, interruption, mirrors, the data root."""

import csv
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import textures
from typer.testing import CliRunner

from difcore.cli.app import app
from difcore.images import sources as image_sources
from difcore.images.crops import centre_crop, decode, sha256_pixels
from difcore.images.folders import FolderError, find_generators
from difcore.images.sources import FetchError, Source, fetch, lay_out, real_registry

COMMIT = "0" * 40
Site = tuple[str, list[str], Path]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Source, ...]]:
    """(a folder laid out as the site, sources of a small registry)."""
    root, sources = tmp_path_factory.mktemp("site"), []
    for k, image in enumerate(textures(5, 48)):
        name, place, crop = f"alpha/{k:03d}.webp", f"some images/a #{k} (1).png", 32
        if k > 2:
            name, place, crop = f"photos/{('train', 'test')[k - 3]}/{k}.jpg", f"{k}.jpg", None
        path = root / "someone/pictures" / "raw" / COMMIT / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        pixels = "" if crop is None else sha256_pixels(centre_crop(image, crop))
        sources.append(Source(name, "someone/pictures", COMMIT, place, digest, crop, pixels))
    return root, tuple(sources)


@pytest.fixture
def site(published: tuple[Path, tuple[Source, ...]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """(base address, paths asked for, served folder) of a server on 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(published[0]))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", asked, published[0]
        httpd.shutdown()
        thread.join(timeout=10)


def get(site: str, target: Path, sources: tuple[Source, ...]) -> Path:
    return fetch(sources, target, None, False, site, retries=0)


def missing(folder: Path, sources: tuple[Source, ...]) -> list[str]:
    return [source.file for source in sources if not source.is_in(folder)]


def test_download_crop_and_nothing_left_to_do(
    site: Site, published: tuple[Path, tuple[Source, ...]], tmp_path: Path
) -> None:
    address, asked, root = site
    sources = published[1]
    target = get(address, tmp_path / "target", sources)
    assert missing(target, sources) == []
    assert len(asked) == 5
    original = decode(root / "someone/pictures/raw" / COMMIT / sources[1].path)
    assert np.array_equal(decode(target / "alpha/001.webp"), centre_crop(original, 32))
    assert sorted(path.name for path in target.iterdir()) == ["alpha", "photos"]  # no scratch folder
    get(address, target, sources)
    assert len(asked) == 5


def test_it_resumes_with_what_is_missing_or_wrong(
    site: Site, published: tuple[Path, tuple[Source, ...]], tmp_path: Path
) -> None:
    address, asked, _ = site
    sources = published[1]
    target = get(address, tmp_path / "target", sources)
    asked.clear()
    (target / "alpha/000.webp").unlink()
    Image.fromarray(textures(1, 32, seed=9)[0]).save(target / "alpha/002.webp", lossless=True)
    (target / "photos/test/4.jpg").write_bytes(b"rot")
    get(address, target, sources)
    assert len(asked) == 3
    assert missing(target, sources) == []


def test_another_image_is_refused_and_named(
    site: Site, published: tuple[Path, tuple[Source, ...]], tmp_path: Path
) -> None:
    sources = (published[1][0], replace(published[1][1], sha256="f" * 64))
    with pytest.raises(FetchError, match=r"a%20%231%20%281%29\.png: its SHA-256 differs") as error:
        get(site[0], tmp_path / "target", sources)
    assert "\n" not in str(error.value)
    assert missing(tmp_path / "target", published[1][:2]) == ["alpha/001.webp"]


def test_other_pixels_are_refused(site: Site, published: tuple[Path, tuple[Source, ...]], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"alpha/000\.webp: .* decoded to other pixels"):
        get(site[0], tmp_path / "target", (replace(published[1][0], pixels="0" * 64),))
    assert not (tmp_path / "target/alpha").exists()


def test_what_the_site_lacks(site: Site, published: tuple[Path, tuple[Source, ...]], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"gone\.png could not be had: 404"):
        get(site[0], tmp_path / "target", (replace(published[1][0], path="gone.png"),))


@pytest.mark.parametrize("form", ["commit", "repository", "fetched"])
def test_a_mirror(published: tuple[Path, tuple[Source, ...]], tmp_path: Path, form: str) -> None:
    root, sources = published
    raw = root / "someone/pictures/raw" / COMMIT
    mirror = tmp_path / "mirror"
    for source in sources:
        place = {"commit": f"someone/pictures/{COMMIT}/{source.path}", "repository": f"someone/pictures/{source.path}"}
        path = mirror / place.get(form, source.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "fetched" and source.crop:
            Image.fromarray(centre_crop(decode(raw / source.path), source.crop)).save(path, lossless=True)
        else:
            path.write_bytes((raw / source.path).read_bytes())
    target = fetch(sources, tmp_path / "target", mirror, False)
    assert missing(target, sources) == []
    (mirror / place.get(form, source.file)).write_bytes(b"other")
    with pytest.raises(FetchError, match="photos/test/4.jpg is another file, its SHA-256 differs"):
        fetch(sources, tmp_path / "again", mirror, False)


def test_the_registry_is_whole() -> None:
    sources = real_registry()
    assert len({source.file for source in sources}) == len(sources) == 1480
    assert all(len(source.sha256) == 64 and len(source.commit) == 40 for source in sources)
    assert all(len(source.pixels) == (64 if source.crop else 0) for source in sources)
    counts: dict[str, int] = {}
    for source in sources:
        counts[source.file.rpartition("/")[0]] = counts.get(source.file.rpartition("/")[0], 0) + 1
    assert counts == {
        "dalle_mini": 160, "glid3xl": 100, "ldm": 200, "pix2pix/0_real": 60, "pix2pix/1_fake": 60, "sd14": 150,
        "sd21": 150, "photos/train": 360, "photos/test": 240,
    }  # fmt: skip


@pytest.fixture
def small(
    published: tuple[Path, tuple[Source, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """(mirror, target) where the registry is the small one."""
    monkeypatch.setattr(image_sources, "real_registry", lambda: published[1])
    mirror = tmp_path / "mirror" / "someone"
    mirror.mkdir(parents=True)
    (mirror / "pictures").symlink_to(published[0] / "someone/pictures/raw")
    return mirror.parent, tmp_path / "target"


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["fetch", *map(str, words)])


def test_the_command_lays_out_a_data_root(small: tuple[Path, Path]) -> None:
    mirror, target = small
    shown = run("--real", "--mirror", mirror, "--folder", target, "--json")
    document = json.loads(shown.stdout)
    assert document["images"] == {"alpha/1_fake": 3, "alpha/0_real": 1, "alpha/test/0_real": 1}
    assert "no licence" in document["licence"]
    assert "no licence" in shown.stderr
    (found,) = find_generators(Path(document["root"]))
    assert (found.name, len(found.fake_images())) == ("alpha", 3)
    assert {path.name for path in found.real_images()} == {"3.jpg", "4.jpg"}


def test_reals_of_ones_own(small: tuple[Path, Path], tmp_path: Path) -> None:
    mirror, target = small
    mine = tmp_path / "mine"
    mine.mkdir()
    for k, image in enumerate(textures(2, 32)):
        Image.fromarray(image).save(mine / f"{k}.png")
    run("--real", "--mirror", mirror, "--folder", target)
    users = [target / "root" / name for name in ("more", "alpha/notes")]
    for link in users:
        link.symlink_to(mine)
    (mine / "notes.txt").write_text("no image", encoding="utf-8")
    before = sorted((target / "root").rglob("*"))
    with pytest.raises(FolderError):
        lay_out(target, tmp_path / "nothing")
    assert sorted((target / "root").rglob("*")) == before  # what fails changes nothing
    shown = run("--real", "--mirror", mirror, "--folder", target, "--reals", mine, "--json")
    assert json.loads(shown.stdout)["images"] == {"alpha/1_fake": 3, "alpha/0_real": 2}
    assert sorted(path.name for path in (target / "root/alpha/0_real").iterdir()) == ["0.png", "1.png"]
    assert f"{mine / 'notes.txt'} is no image" in shown.stderr and all(link.is_symlink() for link in users)
    (mine / "link.png").symlink_to(mine / "0.png")
    (target / "root/alpha/test/0_real").rmdir()
    (target / "root/alpha/test/0_real").symlink_to(mine)
    with pytest.raises(FolderError, match="test/0_real is, or lies in, a link"):
        lay_out(target, mine)
    assert (mine / "link.png").is_symlink()
    wrong = run("--reals", mine)
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)


def test_without_network_one_line_says_what_to_do(small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as closed:
        port = closed.server_port
    nowhere = partial(fetch, site=f"http://127.0.0.1:{port}/", retries=0)
    monkeypatch.setattr(image_sources, "fetch", nowhere)
    shown = run("--real", "--folder", small[1])
    assert shown.exit_code == 2
    assert shown.stderr.splitlines()[-1].startswith("difcore: no connection to http://127.0.0.1")
    assert "--mirror DIR" in shown.stderr


def test_the_registry_is_that_of_the_shared_sets(shared_data: Path) -> None:
    with (shared_data / "sources.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    known = {source.file: source for source in real_registry() if source.crop}
    assert known.keys() == rows.keys()
    for name, source in known.items():
        row = rows[name]
        assert (source.repository, source.commit, source.path) == (row["repository"], row["commit"], row["path"])
        assert source.sha256 == row["sha256_of_original"]
    assert all(source.is_in(shared_data) for source in real_registry()[::40])
