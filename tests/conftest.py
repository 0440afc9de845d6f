"""Fixtures shared by the tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from difcore.files import PROJECT_DIR

settings.register_profile("busy", deadline=None)  # a loaded machine is slow, not wrong
settings.load_profile("busy")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with photos/, sd1/, dif_official/ and the other image sets; skips the test where there is none."""
    folder = Path(os.environ.get("DIFCORE_DATA") or PROJECT_DIR.parent / "shared" / "data")
    if not (folder / "photos").is_dir():
        pytest.skip("needs the shared image sets: neither DIFCORE_DATA nor ../shared/data holds photos/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache, nor read from it; processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("DIFCORE_CACHE_LIMIT", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def session_interrupt() -> Iterator[None]:
    """SIGINT interrupts, also where the tests run in the background of a script, which has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def session_runtime() -> Iterator[None]:
    """What is left to the machine is the same on any: the CPU, float32, torch. Tests of the choice take it away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFCORE_DEVICE", "cpu")
        patch.setenv("DIFCORE_PRECISION", "float32")
        patch.setenv("DIFCORE_ENGINE", "torch")
        yield


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty residual cache of this test's own."""
    monkeypatch.setenv("DIFCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: small tensors are faster so, and sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def every_warning() -> Iterator[None]:
    """torch repeats warnings that it gives once per process otherwise, so that a test meets them in any order."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes bytes to a file and returns its path."""

    def write(content: bytes, name: str = "x.png") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write
