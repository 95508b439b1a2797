"""The base of loop sockets: all frames are read, and other tasks get their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq

from helpers import wait_until_async
from lightbus.adapters.zmq.loop_socket import FAIR_SHARE, LoopSocket
from lightbus.exceptions import TransportError


class Pair(LoopSocket):
    """One end of a connection, which records the frames that it reads."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.read: list[bytes] = []
        self.turns = 0
        self.on_read: Callable[[], None] = lambda: None
        super().__init__(context.socket(zmq.PAIR))

    def send(self, frame: bytes) -> bool:
        """Send now."""
        return self._send(frame)

    def _receive(self) -> None:
        self.read.append(self._socket.recv(zmq.NOBLOCK))
        self.on_read()

    def _writable(self) -> None:
        self.turns += 1


def pair(test: Callable[[Pair, Pair, str], Coroutine[Any, Any, None]], directory: Path) -> None:
    """Run a test with two sockets, one of them bound."""

    async def main() -> None:
        context: zmq.Context[Any] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 64)
        one, two = Pair(context), Pair(context)
        endpoint = one.bind(f"ipc://{directory}/pair")
        try:
            await test(one, two, endpoint)
        finally:
            one.close()
            two.close()
            context.term()

    asyncio.run(main())


def test_frames_arrive_in_order(tmp_path: Path) -> None:
    """From a connecting socket to a bound one, and back."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        two.connect(endpoint)
        for number in range(3):
            await wait_until_async(lambda number=number: two.send(b"%d" % number))
        await wait_until_async(lambda: len(one.read) == 3)
        assert one.send(b"back")
        await wait_until_async(lambda: two.read)
        assert (one.read, two.read) == ([b"0", b"1", b"2"], [b"back"])

    pair(test, tmp_path)


def test_all_frames_are_read_despite_the_edge_trigger(tmp_path: Path) -> None:
    """Also those that arrive while others are read or sent, which may clear the descriptor's report."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        two.connect(endpoint)
        count = 5 * FAIR_SHARE
        sent = 0
        while sent < count:
            if not two.send(b"x"):
                await asyncio.sleep(0)
                continue
            sent += 1
            if sent % 7 == 0:
                one.send(b"y")
            if sent % 100 == 0:
                await asyncio.sleep(0)
        await wait_until_async(lambda: len(one.read) == count)

    pair(test, tmp_path)


def test_other_tasks_get_a_turn(tmp_path: Path) -> None:
    """However many frames wait: after a fair share the loop continues."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        seen: list[int] = []
        two.connect(endpoint)
        one._paused = True
        for _ in range(3 * FAIR_SHARE):
            await wait_until_async(lambda: two.send(b"x"))
        await wait_until_async(lambda: not one.is_empty())
        one._paused = False
        one._schedule_read()
        while len(one.read) < 3 * FAIR_SHARE:
            await asyncio.sleep(0)
            seen.append(len(one.read))
        steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
        assert max(steps) <= FAIR_SHARE + 1

    pair(test, tmp_path)


def test_socket_closed_by_its_callback(tmp_path: Path) -> None:
    """Nothing is read after that, and nothing is raised."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        two.connect(endpoint)
        one.on_read = one.close
        for _ in range(3):
            await wait_until_async(lambda: two.send(b"x"))
        await wait_until_async(lambda: one.closed)
        for _ in range(5):
            await asyncio.sleep(0)
        assert one.read == [b"x"]
        assert one.is_empty()

    pair(test, tmp_path)


def test_reader_may_end_its_turn(tmp_path: Path) -> None:
    """The rest is read in the next turn."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        def enough() -> None:
            one._is_enough = True

        two.connect(endpoint)
        one.on_read = enough
        for _ in range(5):
            await wait_until_async(lambda: two.send(b"x"))
        await wait_until_async(lambda: len(one.read) == 5)

    pair(test, tmp_path)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("ipc:///none/at/all", "May this user make files there?"),
        ("tcp://192.0.2.1:0", "Is another process using it"),
    ],
)
def test_unusable_endpoint_is_named(tmp_path: Path, endpoint: str, words: str) -> None:
    """The error names it, with what to check."""

    async def test(one: Pair, two: Pair, _: str) -> None:
        with pytest.raises(TransportError) as raised:
            two.bind(endpoint)
        assert endpoint in str(raised.value)
        assert words in str(raised.value)

    pair(test, tmp_path)


def test_invalid_address_closes_the_socket(tmp_path: Path) -> None:
    """A socket that cannot connect at all is closed."""

    async def test(one: Pair, two: Pair, _: str) -> None:
        with pytest.raises(TransportError, match="Is the address right"):
            two.connect("nonsense")
        assert two.closed

    pair(test, tmp_path)


def test_chosen_port_is_returned_and_released(tmp_path: Path) -> None:
    """`bind` returns the endpoint; after `unbind` nothing can connect to it."""

    async def test(one: Pair, two: Pair, _: str) -> None:
        endpoint = two.bind("tcp://127.0.0.1:*")
        assert not endpoint.endswith("*")
        two.unbind(endpoint)

    pair(test, tmp_path)


def test_socket_can_be_closed_twice(tmp_path: Path) -> None:
    """By any of its methods."""

    async def test(one: Pair, two: Pair, endpoint: str) -> None:
        two.connect(endpoint)
        two.flush_and_close(100)
        two.flush_and_close(100)
        two.close()
        two.abandon()
        assert two.closed

    pair(test, tmp_path)
