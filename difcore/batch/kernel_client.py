"""A notebook client that cannot miss a kernel's answer. jupyter_client loads it by its name, see difcore.notebooks."""

from __future__ import annotations

from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type

LOOK_AGAIN = 1.0  # seconds


class PatientChannel(AsyncZMQSocketChannel):
    """A channel that looks again every second while it waits without a limit.

    ZeroMQ signals a message once. A cell that shows an ``Output`` widget makes nbclient send on the shell channel while
    it waits there for the cell's reply; if the reply has come in meanwhile, that send takes its signal, the waiting
    coroutine is never woken, and the notebook hangs with its answer in the queue.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        """The next message; ``queue.Empty`` after ``timeout`` seconds, never if that is None."""
        if timeout is not None:
            return await super().get_msg(timeout)
        while True:
            try:
                return await super().get_msg(LOOK_AGAIN)
            except Empty:
                continue


class PatientClient(AsyncKernelClient):
    """jupyter_client's asynchronous client with patient channels."""

    shell_channel_class = Type(PatientChannel)  # type: ignore[assignment]
    iopub_channel_class = Type(PatientChannel)  # type: ignore[assignment]
    control_channel_class = Type(PatientChannel)  # type: ignore[assignment]
