"""Notebook kernels whose answers always arrive."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type
from traitlets.config import Config

LOOK_AGAIN = 1.0  # seconds
SOCKET_PATH = 103  # bytes that a Unix socket's path may have: 107 on Linux, 103 on macOS


class PatientChannel(AsyncZMQSocketChannel):
    """A channel that looks again every second while it waits without a limit.

    ZeroMQ signals a message once. A cell that shows an ``Output`` widget makes nbclient send on the shell channel while
    it waits there for the cell's reply; if the reply has come in meanwhile, that send takes its signal, the waiting
    coroutine is never woken, and the notebook hangs with its answer in the queue.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        """The next message; ``queue.Empty`` after ``timeout`` seconds, never if that is None."""
        while timeout is None:
            try:
                return await super().get_msg(LOOK_AGAIN)
            except Empty:
                continue
        return await super().get_msg(timeout)


class PatientClient(AsyncKernelClient):
    """jupyter_client's asynchronous client with patient channels."""

    shell_channel_class = Type(PatientChannel)  # type: ignore[assignment]
    iopub_channel_class = Type(PatientChannel)  # type: ignore[assignment]
    control_channel_class = Type(PatientChannel)  # type: ignore[assignment]


def socket_folder() -> Path | None:
    """A folder whose sockets have paths that are short enough: a batch system's temporary one may lie deep; or None."""
    for place in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        longest = Path(place, "difcore-" + 8 * "x", "kernel-ipc-5")
        if place and len(os.fsencode(longest)) <= SOCKET_PATH and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    return None


@contextmanager
def kernel_settings() -> Iterator[Config]:
    """Settings of a kernel: a patient client, and, where there are, files for ports.

    A kernel chooses free ports before it binds them: two that start at once may choose the same.
    """
    manager = {"client_class": f"{__name__}.PatientClient"}
    place = socket_folder() if os.name == "posix" else None
    if place is None:
        yield Config({"KernelManager": manager})
        return
    with tempfile.TemporaryDirectory(prefix="difcore-", dir=place) as folder:
        yield Config({"KernelManager": manager | {"transport": "ipc", "ip": str(Path(folder) / "kernel")}})
