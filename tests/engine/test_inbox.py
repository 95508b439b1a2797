"""The undecoded messages of a worker: bounded in bytes, in order, and in turns between the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from helpers import wait_until_async
from lightbus.engine.inbox import IN_ALL, LARGE, OVERHEAD, Inbox
from lightbus.wire import envelope
from lightbus.wire.envelope import Cancel, Request

ME = "a" * 16


def request(call_id: int, size: int = LARGE) -> bytes:
    """Return a call with an argument of so many bytes."""
    return envelope.encode(Request(ME, "work", "echo", 5.0, ME, [], None, 0, {"value": b"x" * size}), call_id)


class Bench:
    """An inbox, and what happens to its messages."""

    def __init__(self, largest: int = LARGE) -> None:
        self.handled: list[tuple[bytes, int]] = []
        self.refused: list[tuple[bytes, int]] = []
        self.inbox = Inbox(self._handle, self._refuse, largest)

    def _handle(self, routing_id: bytes, frame: bytes, waited: float) -> None:
        assert waited >= 0
        self.handled.append((routing_id, envelope.call_id_of(frame)))

    def _refuse(self, routing_id: bytes, frame: bytes) -> None:
        self.refused.append((routing_id, envelope.call_id_of(frame)))

    async def hears(self, count: int) -> None:
        """Wait until this many messages were handled, and no message waits any more."""
        await wait_until_async(lambda: len(self.handled) == count and not self.inbox.size)


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario on a loop."""

    async def main() -> None:
        bench = Bench()
        await scenario(bench)
        bench.inbox.close()

    asyncio.run(main())


def test_messages_of_one_connection_stay_in_order() -> None:
    """A small message waits behind the large one of its connection, but not behind those of others."""

    async def test(bench: Bench) -> None:
        assert bench.inbox.takes(b"a", request(1))
        assert bench.inbox.takes(b"a", request(2, 1))
        assert not bench.inbox.takes(b"b", request(3, 1))
        await bench.hears(2)
        assert bench.handled == [(b"a", 1), (b"a", 2)]
        assert not bench.inbox.takes(b"a", request(4, 1))

    run(test)


def test_connections_take_turns() -> None:
    """Other connections wait for only one message of a connection that sends many."""

    async def test(bench: Bench) -> None:
        for number in range(20):
            assert bench.inbox.takes(b"a", request(number, 256 * 1024))
        assert bench.inbox.takes(b"b", request(100, 256 * 1024))
        await bench.hears(21)
        assert bench.handled.index((b"b", 100)) == 1
        assert [number for who, number in bench.handled if who == b"a"] == list(range(20))

    run(test)


def test_the_loop_runs_between_large_messages() -> None:
    """After each large message, the loop handles everything else."""

    async def test(bench: Bench) -> None:
        for number in range(5):
            bench.inbox.takes(b"a", request(number, 256 * 1024))
        seen = []
        while bench.inbox.size:
            await asyncio.sleep(0)
            seen.append(len(bench.handled))
        assert seen == [1, 2, 3, 4, 5]

    run(test)


def test_a_connection_is_bounded() -> None:
    """Above its half, the newest message is refused; other connections have room."""

    async def test(bench: Bench) -> None:
        frame = request(1, 1024 * 1024)
        room = IN_ALL // 2 // (len(frame) + OVERHEAD)
        for _ in range(room + 3):
            assert bench.inbox.takes(b"a", frame)
        assert bench.refused == [(b"a", 1)] * 3
        assert bench.inbox.takes(b"b", request(2))
        assert bench.inbox.size <= IN_ALL
        await bench.hears(room + 1)

    run(test)


def test_all_connections_together_are_bounded() -> None:
    """The connection with the most waiting bytes is refused, not the new one."""

    async def test(bench: Bench) -> None:
        frame = request(1, 1024 * 1024)
        each = IN_ALL // 2 // (len(frame) + OVERHEAD)
        for who in (b"a", b"b", b"c"):
            for _ in range(each if who < b"c" else 4):
                bench.inbox.takes(who, frame)
        assert bench.inbox.size <= IN_ALL
        assert bench.refused
        assert b"c" not in {who for who, _ in bench.refused}
        await bench.hears(2 * each + 4 - len(bench.refused))

    run(test)


def test_small_messages_behind_a_large_one_are_counted_too() -> None:
    """Each takes more memory than its bytes."""

    async def test(bench: Bench) -> None:
        bench.inbox.takes(b"a", request(1))
        for _ in range(IN_ALL // 2 // OVERHEAD):
            bench.inbox.takes(b"a", b"")
        assert bench.refused
        assert bench.inbox.size <= IN_ALL // 2

    run(test)


def test_a_queued_call_that_is_cancelled() -> None:
    """It is never decoded; later messages are."""

    async def test(bench: Bench) -> None:
        for number in (1, 2, 3):
            bench.inbox.takes(b"a", request(number))
        bench.inbox.takes(b"a", envelope.encode(Cancel(), 2))
        await bench.hears(3)
        assert bench.handled == [(b"a", 1), (b"a", 3), (b"a", 2)]  # the last one is the CANCEL itself

    run(test)


def test_frames_too_short_for_a_header_are_queued_like_others() -> None:
    """No byte of a frame is read before its length is checked."""

    async def test(bench: Bench) -> None:
        bench.inbox.takes(b"a", request(1))
        for frame in (b"", envelope.encode(Cancel(), 1)[:1], request(2)[:1], envelope.encode(Cancel(), 7)):
            assert bench.inbox.takes(b"a", frame)
        await bench.hears(5)

    run(test)


def test_cancelling_costs_the_same_for_any_queue_length() -> None:
    """With a hundred thousand queued calls, each cancelled: none of them is searched for in the queue."""

    async def test(bench: Bench) -> None:
        count = IN_ALL // 2 // (len(request(1, 1)) + OVERHEAD) // 4
        bench.inbox.takes(b"a", request(0))
        for number in range(1, count):
            bench.inbox.takes(b"a", request(number, 1))
        for number in range(1, count):
            bench.inbox.takes(b"a", envelope.encode(Cancel(), number))
        assert not bench.refused
        await bench.hears(count)  # the first call, and what gives the others up
        assert bench.handled[0] == (b"a", 0)

    run(test)


def test_one_message_may_have_the_largest_size() -> None:
    """If the message limit is above the limit of all queued bytes, it is used instead."""

    async def main() -> None:
        bench = Bench(2 * IN_ALL)
        assert bench.inbox.takes(b"a", request(1, IN_ALL + 1))
        await bench.hears(1)
        assert not bench.refused

    asyncio.run(main())
