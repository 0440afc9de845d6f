"""The authors' release: download from a server on this machine, damage, interruption, mirror, and finding it again."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from difcore.images import release
from difcore.images.release import FetchError, fetch, locate, registry, release_in, verify
from difcore.records.artefacts import NeedsData

CONTENT = {"checks/sd14/chk_0.pt": b"weights" * 500, "data/sd14/0_real/a.png": b"real", "dncnn/clean_real.npy": b"bias"}
FILES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}

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
        name = self.path.lstrip("/")
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
    root = write_copy(tmp_path / "server")
    handler = type("Recording", (Handler,), {"asked": [], "broken": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", handler, root
        httpd.shutdown()
        thread.join(timeout=10)


def get(base_url: str, target: Path, retries: int = 0) -> Path:
    return fetch(progress=False, folder=target, files=FILES, base_url=base_url, retries=retries)


def test_download_then_nothing_left_to_do(server: Server, tmp_path: Path) -> None:
    base_url, handler, _ = server
    target = get(base_url, tmp_path / "target")
    assert verify(target, FILES) == {}
    assert sorted(handler.asked) == sorted(FILES)
    get(base_url, target)
    assert len(handler.asked) == len(FILES)


def test_a_damaged_local_file_alone_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    base_url, handler, _ = server
    target = get(base_url, tmp_path / "target")
    handler.asked.clear()
    (target / "dncnn/clean_real.npy").write_bytes(b"rot")
    assert verify(target, FILES) == {"dncnn/clean_real.npy": "wrong"}
    get(base_url, target)
    assert handler.asked == ["dncnn/clean_real.npy"]
    assert verify(target, FILES) == {}


def test_a_wrong_file_on_the_server_is_refused(server: Server, tmp_path: Path) -> None:
    base_url, _, root = server
    (root / "data/sd14/0_real/a.png").write_bytes(b"other")
    with pytest.raises(FetchError, match=r"a\.png: its SHA-256 differs") as error:
        get(base_url, tmp_path / "target")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "target/data/sd14/0_real/a.png").exists()


def test_an_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    base_url, handler, _ = server
    second = list(FILES)[1]
    handler.broken.add(second)
    with pytest.raises(FetchError, match="no connection"):
        get(base_url, tmp_path / "target")
    assert verify(tmp_path / "target", FILES) == dict.fromkeys(list(FILES)[1:], "missing")
    handler.broken.clear()
    handler.asked.clear()
    get(base_url, tmp_path / "target")
    assert handler.asked == list(FILES)[1:]
    assert verify(tmp_path / "target", FILES) == {}


def test_a_broken_transfer_is_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_url, handler, _ = server
    handler.broken.add("dncnn/clean_real.npy")
    monkeypatch.setattr("time.sleep", lambda seconds: handler.broken.clear())  # pooch waits between tries
    get(base_url, tmp_path / "target", retries=1)
    assert handler.asked.count("dncnn/clean_real.npy") == 2


def test_a_file_the_server_lacks(server: Server, tmp_path: Path) -> None:
    base_url, _, root = server
    (root / "dncnn/clean_real.npy").unlink()
    with pytest.raises(FetchError, match=r"dncnn/clean_real\.npy could not be had: 404"):
        get(base_url, tmp_path / "target")


def test_without_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(FetchError, match="no connection to .*--mirror DIR") as error:
        get(f"http://127.0.0.1:{port}/", tmp_path / "target")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inside", ["", "dif_official"])
def test_mirror(tmp_path: Path, inside: str) -> None:
    write_copy(tmp_path / "mirror" / inside)
    target = fetch(tmp_path / "mirror", progress=False, folder=tmp_path / "target", files=FILES)
    assert verify(target, FILES) == {}


def test_a_mirror_is_checked_too(tmp_path: Path) -> None:
    mirror = write_copy(tmp_path / "mirror")
    (mirror / "dncnn/clean_real.npy").write_bytes(b"rot")
    with pytest.raises(FetchError, match="SHA-256 differs"):
        fetch(mirror, progress=False, folder=tmp_path / "target", files=FILES)
    assert not (tmp_path / "target/dncnn/clean_real.npy").exists()
    (mirror / "dncnn/clean_real.npy").unlink()
    with pytest.raises(FetchError, match=r"1 files missing, such as dncnn/clean_real\.npy"):
        fetch(mirror, progress=False, folder=tmp_path / "target", files=FILES)


def test_the_registry_names_the_whole_release() -> None:
    files = registry()
    assert len(files) == 147
    assert all(len(digest) == 64 for digest in files.values())
    assert len([name for name in files if name.endswith("chk_0.pt")]) == 13
    assert len([name for name in files if name.endswith(".png")]) == 120
    assert "dncnn/clean_real.npy" in files


def test_locate_takes_the_first_that_is_complete(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "registry", lambda: FILES)
    monkeypatch.setattr(release, "PROJECT_DIR", tmp_path / "project")
    monkeypatch.delenv("DIFCORE_DATA", raising=False)
    with pytest.raises(NeedsData, match="^needs `difcore fetch`$"):
        locate()
    shared = write_copy(tmp_path / "shared" / "data" / "dif_official")
    assert locate() == shared
    fetched = write_copy(cache / "release" / release.FETCHED)
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
    assert verify(shared_data / "dif_official") == {}
