"""A listener that gets undecoded events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from helpers import wait_until_async
from helpers.listeners import Context, feeder, give, listener
from lightbus.events.listening.invocation import TURN
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.events.listening.raw_events import RawEvents


def run(function: Callable[[RawEvents], None], test: Callable[[ListenerRunner, Context], Awaitable[None]]) -> None:
    """Run a test with such a running listener."""

    async def main() -> None:
        context = Context()
        runner = context.runner(replace(listener(function), takes_raw=True))
        await test(runner, context)
        await runner.stop(1.0)

    asyncio.run(main())


def test_events_come_together_and_in_order() -> None:
    """All waiting ones of a topic, none of them decoded: an invalid event is passed unchanged."""
    given: list[RawEvents] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(TURN + 5):
            give(runner, number=number)
        stream = feeder(runner).stream()
        assert stream.live([[TURN + 6, stream.position, b"no event"]]) == 1
        runner.queue.ready(stream, 1, len(b"no event"))
        await wait_until_async(lambda: runner.handled == TURN + 6)
        assert runner.queue.backlog == runner.queue.backlog_bytes == 0
        assert feeder(runner).source.acked[-1] == TURN + 6
        await wait_until_async(lambda: context.caught_up_count == 1)

    run(given.append, test)
    assert len(given) == 2
    assert {(each.api, each.event, each.journal, each.publisher) for each in given} == {("auth", "seen", "j", "p" * 16)}
    messages = [message for each in given for message in each.messages()]
    assert [each.kwargs["number"] for each in messages] == [*range(TURN + 5)]


def test_possibly_delivered_events() -> None:
    """They are passed as well, and a stream that a publisher marks so does not block the loop."""
    given: list[RawEvents] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        feeder(runner).stream(possibly_delivered=2)
        for number in range(3):
            give(runner, number=number)
        await wait_until_async(lambda: runner.handled == 3)
        assert feeder(runner).source.started == []

    run(given.append, test)
    assert [len(each.rows) for each in given] == [1, 1, 1]


def test_the_rest_of_the_loop_runs() -> None:
    """However many events wait."""
    turns: list[int] = []
    count = 0

    async def test(runner: ListenerRunner, context: Context) -> None:
        nonlocal count
        for number in range(600):
            give(runner, number=number, partition=number % 5)
        while runner.handled < 600:
            await asyncio.sleep(0)
            count += 1

    run(lambda events: turns.append(count), test)
    assert len(set(turns)) > 600 // (3 * TURN)  # what several topics have is as much as one of them
