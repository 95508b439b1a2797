"""The queue of a listener: bounded, in order, and emptied when its streams go to others."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, Feeder, feeder, give, listener, run
from lightbus.events.listening import listener_queue as module
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.listener import OnError
from lightbus.message import EventMessage


def test_dropped_events_of_a_row_are_not_handled() -> None:
    """Events that were decoded ahead, and then dropped or skipped during a handler, are not delivered."""
    seen: list[int] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        async def function(n: int) -> None:
            await asyncio.sleep(0)  # else nothing could happen meanwhile
            seen.append(n)
            if n == 2:
                at_work.queue.skip(stream, 4)
            elif n == 6:
                at_work.queue.forget(stream)

        at_work = context.runner(listener(function))
        stream = feeder(at_work).stream()
        for n in range(1, 10):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: 6 in seen)
        await asyncio.sleep(0)
        assert (seen, at_work.queue.backlog, stream.handled) == ([1, 2, 5, 6], 0, 6)
        assert feeder(at_work).source.acked[-1] == 6
        await at_work.stop(1.0)

    run(lambda: None, test)


def test_handled_events_are_reported_at_once() -> None:
    """To their source, which is also told of the end of a turn: revoked partitions are released then."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        async def function(n: int) -> None:
            await asyncio.sleep(0)
            if n == 8:
                at_work.queue.forget(stream)

        at_work = context.runner(listener(function))
        stream, source = feeder(at_work).stream(), feeder(at_work).source
        for n in range(1, 6):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: source.turns == 1)
        assert source.acked == [1, 2, 3, 4, 5]
        for n in range(6, 10):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: source.turns == 2)
        assert (source.acked, at_work.handled) == ([1, 2, 3, 4, 5, 6, 7, 8], 8)
        await at_work.stop(1.0)

    run(lambda: None, test)


@pytest.mark.parametrize("form", ["def", "async def"])
def test_more_events_are_fetched_while_events_are_handled(form: str) -> None:
    """Not only at the end of a turn, if a stream has more events than are queued."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        stream, source = feeder(runner).stream(), feeder(runner).source
        stream.note_head(100)
        for number in range(1, 4):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 3)
        assert source.fetched > 0

    def plain(message: EventMessage) -> None: ...

    async def waiting(message: EventMessage) -> None:
        await asyncio.sleep(0)

    run(plain if form == "def" else waiting, test)


def test_dropped_events_are_logged_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    """Events of best effort without room are counted, and the first and every thousandth is logged."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for count in (1, 998, 1, 1, 2500):
            runner.queue.drop(count)
        assert runner.queue.counts["dropped"] == 3501
        assert [record.args[2] for record in caplog.records if isinstance(record.args, tuple)] == [1, 1000, 3501]

    run(lambda message: None, test)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener with many waiting bytes is full; streams that wait for room fetch again once there is some."""
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    gate = asyncio.Event()

    async def function(what: str) -> None:
        await gate.wait()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for _ in range(4):
            give(runner, what="x" * 50)
        assert runner.queue.is_full
        runner.queue.fetch_once_room(feeder(runner).stream())
        gate.set()
        await wait_until_async(lambda: runner.handled == 4)
        assert (runner.queue.backlog, runner.queue.backlog_bytes, feeder(runner).source.fetched) == (0, 0, 1)

    run(function, test)


def test_one_event_of_a_key_at_a_time() -> None:
    """A stream that replaces another waits until the other's event in progress is finished."""
    gate, seen = asyncio.Event(), list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        await gate.wait()

    async def main() -> None:
        runner = Context().runner(replace(listener(function), concurrency=2))
        give(runner, 1)
        await wait_until_async(lambda: seen)
        old = feeder(runner).stream()
        runner.queue.forget(old)
        other = Feeder(runner)
        other.give(2)
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["id-1"]
        gate.set()
        await wait_until_async(lambda: seen == ["id-1", "id-2"])
        await runner.stop(1.0)

    asyncio.run(main())


def test_a_stream_that_is_revoked_during_a_retry() -> None:
    """The next source of its events does not wait for the retry."""
    seen = list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        if message.id == "id-1":
            raise ValueError("no luck")

    async def main() -> None:
        runner = Context().runner(listener(function, OnError.RETRY))
        give(runner, 1)
        await wait_until_async(lambda: runner.queue.counts["retried"])
        other = Feeder(runner)
        other.give(2)
        await wait_until_async(lambda: other.stream().key in runner.queue._blocked)
        runner.queue.forget(feeder(runner).stream())
        await wait_until_async(lambda: seen == ["id-1", "id-2"])
        await runner.stop(1.0)

    asyncio.run(main())
