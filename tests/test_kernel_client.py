"""The client's channels: an answer whose signal was taken by a send in between is found all the same."""

import asyncio
import time
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
import zmq
import zmq.asyncio
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.session import Session

from difcore.batch import kernels
from difcore.batch.kernels import PatientChannel, PatientClient, kernel_settings


async def answer(channel_class: type[AsyncZMQSocketChannel], address: str, send: bool) -> dict[str, Any]:
    """What a channel waiting without a limit gets, within 3 s, of a reply that is there before the loop looks.

    With ``send`` the client sends something between the reply's arrival and the loop's next look, as nbclient does for
    an Output widget.
    """
    session = Session(key=b"")
    with zmq.Context() as kernel, zmq.asyncio.Context() as client:
        router, dealer = kernel.socket(zmq.ROUTER), client.socket(zmq.DEALER)
        router.bind(address)
        dealer.connect(address)
        channel = channel_class(dealer, session)
        channel.send(session.msg("execute_request"))
        identity = router.recv_multipart()[0]
        waiting = asyncio.ensure_future(channel.get_msg(timeout=None))
        try:
            await asyncio.sleep(0.2)
            session.send(router, "execute_reply", ident=identity)
            time.sleep(0.2)  # noqa: ASYNC251 - the loop must not look meanwhile
            if send:
                channel.send(session.msg("comm_msg"))
            return await asyncio.wait_for(waiting, 3)
        finally:
            router.close(0)
            dealer.close(0)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/s"


def test_an_answer_is_found_whatever_was_sent_meanwhile(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LOOK_AGAIN", 0.5)
    for send in (False, True):
        got = asyncio.run(answer(PatientChannel, f"{address}{send}", send))
        assert got["header"]["msg_type"] == "execute_reply"


def test_the_plain_channel_misses_it(address: str) -> None:
    """The reason for ours; when this fails, jupyter_client is mended and ours can go."""
    assert asyncio.run(answer(AsyncZMQSocketChannel, address, False))["header"]["msg_type"] == "execute_reply"
    with pytest.raises(TimeoutError):
        asyncio.run(answer(AsyncZMQSocketChannel, f"{address}2", True))


def test_a_limit_is_kept(address: str) -> None:
    async def wait() -> float:
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.connect(address)
            begun = time.perf_counter()
            with pytest.raises(Empty):
                await PatientChannel(dealer, Session(key=b"")).get_msg(timeout=0.2)
            dealer.linger = 0
            return time.perf_counter() - begun

    assert 0.15 < asyncio.run(wait()) < 0.9


def test_notebooks_are_run_with_it() -> None:
    with kernel_settings() as config:
        client = AsyncKernelManager(config=config).client()
    assert isinstance(client, PatientClient) and isinstance(client, AsyncKernelClient)
    names = ("shell_channel_class", "iopub_channel_class", "control_channel_class")
    assert all(getattr(client, name) is PatientChannel for name in names)
