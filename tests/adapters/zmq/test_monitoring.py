"""The states of a socket's connection, as libzmq reports them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers import wait_until_async
from lightbus.adapters.zmq.monitoring import Monitor
from lightbus.ports.transport import LinkState

REACHED, CONNECTED, DISCONNECTED = LinkState.REACHED, LinkState.CONNECTED, LinkState.DISCONNECTED
REFUSED, FAILED, DENIED = LinkState.REFUSED, LinkState.HANDSHAKE_FAILED, LinkState.DENIED


class Bench:
    """A socket that is watched, and one to connect to."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.endpoint = f"ipc://{directory}/server"
        self.server = self.context.socket(zmq.ROUTER)
        self.client = self.context.socket(zmq.DEALER)
        self.states: list[LinkState] = []
        self.monitor = Monitor(self.client, self.states.append)

    def close(self) -> None:
        """Close everything."""
        self.monitor.stop()
        self.client.close(linger=0)
        self.server.close(linger=0)
        self.context.term()


def watching(test: Callable[[Bench], Coroutine[Any, Any, None]], directory: Path) -> None:
    """Run a test with a socket that is watched."""

    async def main() -> None:
        bench = Bench(directory)
        try:
            await test(bench)
        finally:
            bench.close()

    asyncio.run(main())


def test_link_states_are_reported(tmp_path: Path) -> None:
    """First REACHED, then CONNECTED after the handshake; finally its end."""

    async def test(bench: Bench) -> None:
        bench.server.bind(bench.endpoint)
        bench.client.connect(bench.endpoint)
        await wait_until_async(lambda: CONNECTED in bench.states)
        assert bench.states == [REACHED, CONNECTED]
        bench.server.close(linger=0)
        await wait_until_async(lambda: DISCONNECTED in bench.states)

    watching(test, tmp_path)


def test_closed_port_is_reported_as_refused(tmp_path: Path) -> None:
    """As REFUSED."""

    async def test(bench: Bench) -> None:
        bench.client.connect(bench.endpoint)
        await wait_until_async(lambda: bench.states)
        assert bench.states[0] is REFUSED

    watching(test, tmp_path)


def test_nothing_is_reported_after_stop(tmp_path: Path) -> None:
    """Stopping twice does no harm."""

    async def test(bench: Bench) -> None:
        bench.monitor.stop()
        bench.monitor.stop()
        bench.server.bind(bench.endpoint)
        bench.client.connect(bench.endpoint)
        bench.client.send(b"x")
        while not bench.server.poll(0):
            await asyncio.sleep(0)
        assert bench.states == []

    watching(test, tmp_path)


def test_monitor_stopped_by_its_callback(tmp_path: Path) -> None:
    """Its remaining reports are dropped."""

    async def test(bench: Bench) -> None:
        bench.monitor._on_state = lambda state: (bench.states.append(state), bench.monitor.stop())[0]
        bench.server.bind(bench.endpoint)
        bench.client.connect(bench.endpoint)
        await wait_until_async(lambda: bench.states)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(bench.states) == 1

    watching(test, tmp_path)


def test_monitor_of_a_closed_loop(tmp_path: Path) -> None:
    """It is abandoned."""
    made: list[Bench] = []

    async def main() -> None:
        made.append(Bench(tmp_path))

    asyncio.run(main())
    [bench] = made
    bench.monitor.stop(abandoned=True)
    bench.close()


@pytest.mark.parametrize(
    ("state", "value", "shook_hands", "with_key", "without_key"),
    [
        (DENIED, 0, False, DENIED, FAILED),
        (FAILED, errno.EPIPE, False, DENIED, FAILED),
        (FAILED, errno.ECONNRESET, False, DENIED, FAILED),
        (FAILED, errno.ETIMEDOUT, False, FAILED, FAILED),
        (DISCONNECTED, 0, False, DENIED, DISCONNECTED),
        (DISCONNECTED, 0, True, DISCONNECTED, DISCONNECTED),
        (REFUSED, 0, False, REFUSED, REFUSED),
        (REACHED, 0, False, REACHED, REACHED),
    ],
)
def test_broken_off_handshake(
    tmp_path: Path, state: LinkState, value: int, shook_hands: bool, with_key: LinkState, without_key: LinkState
) -> None:
    """A peer with another key cannot report that: it disconnects. Without a key this means something else."""

    async def test(bench: Bench) -> None:
        if shook_hands:
            assert bench.monitor._reported_as(CONNECTED, 0) is CONNECTED
        assert bench.monitor._reported_as(state, value) is with_key
        bench.monitor.may_want_key = False
        assert bench.monitor._reported_as(state, value) is without_key

    watching(test, tmp_path)
