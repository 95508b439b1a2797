"""The base of sockets in memory: reading received frames on the socket's own loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from helpers import wait_until_async
from lightbus.adapters.memory.loop_socket import FAIR_SHARE, MemoryLoopSocket
from lightbus.adapters.memory.network import MemoryNetwork, MemoryPipe

caller = contextvars.ContextVar("caller", default="nobody")


class Socket(MemoryLoopSocket):
    """A socket that records what it reads."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__(network, 1000)
        self.read: list[Any] = []
        self.threads: set[int] = set()
        self.callers: set[str] = set()
        self.turns = 0

    def _receive(self, connection: Any, item: Any) -> None:
        self.read.append(item)
        self.threads.add(threading.get_ident())
        self.callers.add(caller.get())

    def _writable(self) -> None:
        self.turns += 1

    def give(self, *items: Any) -> None:
        """Let a frame arrive."""
        with self._network.lock:
            self.arrived.extend((None, None, item) for item in items)
            self.wake()


def test_frames_are_read_in_order() -> None:
    """In a later turn of the loop, and never within the sender's call."""

    async def main() -> None:
        socket = Socket(MemoryNetwork())
        socket.give(1, 2)
        socket.give(3)
        assert socket.read == []
        await wait_until_async(lambda: len(socket.read) == 3)
        assert (socket.read, socket.turns) == ([1, 2, 3], 1)
        socket.close()

    asyncio.run(main())


def test_a_socket_is_read_on_its_own_loop() -> None:
    """Whatever thread wakes it, and in the context in which it was made."""

    async def main() -> None:
        socket = Socket(MemoryNetwork())
        caller.set("somebody")
        socket.give("here")
        await asyncio.to_thread(socket.give, "from a thread")
        await wait_until_async(lambda: len(socket.read) == 2)
        assert socket.threads == {threading.get_ident()}
        assert socket.callers == {"nobody"}
        socket.close()

    asyncio.run(main())


def test_other_tasks_get_a_turn() -> None:
    """However much there is to read, one socket does not block the loop."""

    async def main() -> None:
        socket = Socket(MemoryNetwork())
        socket.give(*range(2 * FAIR_SHARE + 1))
        seen = []
        while len(socket.read) < 2 * FAIR_SHARE + 1:
            await asyncio.sleep(0)
            seen.append(len(socket.read))
        assert [count for count in seen if count] == [FAIR_SHARE, 2 * FAIR_SHARE, 2 * FAIR_SHARE + 1]
        socket.close()

    asyncio.run(main())


def test_a_closed_socket_reads_nothing() -> None:
    """Received frames are dropped, its connections end, and waking it does no harm."""

    async def main() -> None:
        network = MemoryNetwork()
        socket, other = Socket(network), Socket(network)
        connection = MemoryPipe(socket, other, b"1")
        socket.connected(connection)
        socket.give(1)
        socket.close()
        socket.wake()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (socket.read, connection.is_open, len(socket.arrived)) == ([], False, 0)
        other.close()

    asyncio.run(main())


def test_socket_with_a_closed_loop() -> None:
    """Others may still send to it: nothing is raised, and it can be abandoned."""
    made: list[Socket] = []

    async def main() -> None:
        made.append(Socket(MemoryNetwork()))

    asyncio.run(main())
    [socket] = made
    socket.give(1)
    socket.abandon()
    assert socket.closed


def test_flush_and_close_need_not_wait() -> None:
    """Sent frames have arrived."""

    async def main() -> None:
        socket = Socket(MemoryNetwork())
        socket.flush_and_close(10_000)
        assert socket.closed

    asyncio.run(main())
