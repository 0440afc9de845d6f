"""The authors' release: download from a server on this machine, damage, interruption, mirror, and finding it again."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from difcore.files import NeedsData
from difcore.images import sources
from difcore.images.sources import FetchError, Source, fetch, fetch_release, locate, release_in, release_registry

CONTENT = {"checks/sd14/chk_0.pt": b"weights" * 500, "data/sd14/0_real/a.png": b"real", "dncnn/clean_real.npy": b"bias"}
FILES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}

SOURCES = [Source(name, "authors/code", "abc", name, digest) for name, digest in FILES.items()]
SITE = "authors/code/raw/abc/"

Server = tuple[str, "type[Handler]", Path]


def write_copy(root: Path) -> Path:
    for name, content in CONTENT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, keeps a list of the paths asked for, and drops the connection half way where told to."""

    asked: list[str]
    broken: set[str]

    def do_GET(self) -> None:
        name = self.path.removeprefix(f"/{SITE}")
        self.asked.append(name)
        if name in self.broken:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT[name])))
            self.end_headers()
            self.wfile.write(CONTENT[name][:2])
            return
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """(base address, handler class, served folder) of a server on 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = write_copy(tmp_path / "server" / SITE)
    handler = type("Recording", (Handler,), {"asked": [], "broken": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "server"))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", handler, root
        httpd.shutdown()
        thread.join(timeout=10)


def missing(target: Path) -> list[str]:
    return [source.file for source in SOURCES if not source.is_in(target)]


def test_an_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    base_url, handler, _ = server
    second = list(FILES)[1]
    handler.broken.add(second)
    with pytest.raises(FetchError, match="no connection to .*--mirror DIR") as error:
        fetch(SOURCES, tmp_path / "target", None, False, base_url, retries=0)
    assert "\n" not in str(error.value) and second in missing(tmp_path / "target")
    handler.broken.clear()
    handler.asked.clear()
    lacking = missing(tmp_path / "target")
    target = fetch(SOURCES, tmp_path / "target", None, False, base_url, retries=0)
    assert sorted(handler.asked) == sorted(lacking) and missing(target) == []


def test_a_broken_transfer_is_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_url, handler, _ = server
    handler.broken.add("dncnn/clean_real.npy")
    monkeypatch.setattr("time.sleep", lambda seconds: handler.broken.clear())  # pooch waits between tries
    fetch(SOURCES, tmp_path / "target", None, False, base_url, retries=1)
    assert handler.asked.count("dncnn/clean_real.npy") == 2 and missing(tmp_path / "target") == []


@pytest.mark.parametrize("inside", ["", "dif_official"])
def test_mirror(tmp_path: Path, inside: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "release_registry", lambda: FILES)
    write_copy(tmp_path / "mirror" / inside)
    assert fetch_release(tmp_path / "mirror", progress=False) == cache / "release" / sources.FETCHED
    assert missing(cache / "release" / sources.FETCHED) == []


def test_a_mirror_is_checked_too(tmp_path: Path) -> None:
    mirror = write_copy(tmp_path / "mirror")
    (mirror / "dncnn/clean_real.npy").write_bytes(b"rot")
    with pytest.raises(FetchError, match="clean_real.npy is another file, its SHA-256 differs"):
        fetch(SOURCES, tmp_path / "target", mirror, False)
    assert not (tmp_path / "target/dncnn/clean_real.npy").exists()
    (mirror / "dncnn/clean_real.npy").unlink()
    with pytest.raises(FetchError, match=r"1 files missing, such as dncnn/clean_real\.npy"):
        fetch(SOURCES, tmp_path / "target", mirror, False)


def test_the_registry_names_the_whole_release() -> None:
    files = release_registry()
    assert len(files) == 147
    assert all(len(digest) == 64 for digest in files.values())
    assert len([name for name in files if name.endswith("chk_0.pt")]) == 13
    assert len([name for name in files if name.endswith(".png")]) == 120
    assert "dncnn/clean_real.npy" in files


def test_locate_takes_the_first_that_is_complete(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "release_registry", lambda: FILES)
    monkeypatch.setattr(sources, "PROJECT_DIR", tmp_path / "project")
    monkeypatch.delenv("DIFCORE_DATA", raising=False)
    with pytest.raises(NeedsData, match="^needs `difcore fetch`$"):
        locate()
    shared = write_copy(tmp_path / "shared" / "data" / "dif_official")
    assert locate() == shared
    fetched = write_copy(cache / "release" / sources.FETCHED)
    assert locate() == fetched
    named = write_copy(tmp_path / "named" / "dif_official")
    monkeypatch.setenv("DIFCORE_DATA", str(tmp_path / "named"))
    assert locate() == named
    monkeypatch.setenv("DIFCORE_DATA", str(named))
    assert locate() == named
    other = write_copy(tmp_path / "other")
    assert locate(other) == other
    (named / "dncnn/clean_real.npy").unlink()
    assert release_in(named) is None
    assert locate() == fetched


def test_the_shared_copy_is_the_registry(shared_data: Path) -> None:
    files = [Source(name, "", "", name, digest) for name, digest in release_registry().items()]
    assert all(source.is_in(shared_data / "dif_official") for source in files)
