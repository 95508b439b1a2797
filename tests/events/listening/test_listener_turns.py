"""The turns of a listener's tasks: in order, and in parallel."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, give, listener, run
from lightbus.events.listening import invocation as invocation_module
from lightbus.events.listening.listener_runner import ListenerRunner


def test_events_are_handled_in_order() -> None:
    """One at a time, however long each takes; the rest of the loop runs between them."""
    seen: list[int] = []

    async def function(number: int) -> None:
        if number % 7 == 0:
            await asyncio.sleep(0)
        seen.append(number)

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(200):
            give(runner, number=number)
        assert runner.queue.backlog == 200
        turns = 0
        while runner.handled < 200:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 200 // invocation_module.TURN
        assert seen == list(range(200))
        assert runner.queue.backlog == 0

    run(function, test)


def test_a_function_that_suspends_without_await() -> None:
    """An `async for` suspends, too: each event is handled to its end."""
    seen: list[int] = []

    class Rows:
        def __init__(self, last: int) -> None:
            self.rows = iter([last])

        def __aiter__(self) -> Rows:
            return self

        async def __anext__(self) -> int:
            await asyncio.sleep(0)
            for row in self.rows:
                return row
            raise StopAsyncIteration

    async def function(number: int) -> None:
        async for row in Rows(number):
            seen.append(row)

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(5):
            give(runner, number=number)
        await wait_until_async(lambda: runner.handled == 5)
        assert seen == list(range(5))

    run(function, test)


@pytest.mark.parametrize("partitions", [1, 10])
def test_events_that_take_long_let_others_have_their_turn(partitions: int) -> None:
    """
    A function that waits for nothing, and computes, holds up the loop for one event and not for sixty.

    Wherever they wait: many partitions may have one each.
    """
    turns: list[int] = []
    count = 0

    async def function(number: int) -> None:
        turns.append(count)
        time.sleep(invocation_module.LONG)

    async def test(runner: ListenerRunner, context: Context) -> None:
        nonlocal count
        for number in range(10):
            give(runner, number=number, partition=number % partitions)
        while runner.handled < 10:
            await asyncio.sleep(0)
            count += 1
        assert len(set(turns)) == 10
        assert runner.queue.backlog == 0

    run(function, test)


def test_the_source_is_told_when_the_listener_has_caught_up() -> None:
    """Each time no work is left, the source of events is notified, and the listener does not count as slow."""

    async def function(number: int) -> None: ...

    async def test(runner: ListenerRunner, context: Context) -> None:
        await wait_until_async(lambda: context.caught_up_count == 1)
        runner.queue.is_slow = True
        give(runner, number=1)
        give(runner, number=2)
        await wait_until_async(lambda: context.caught_up_count == 2)
        assert not runner.queue.is_slow

    run(function, test)


def test_partitions_in_parallel() -> None:
    """With `concurrency` several partitions are handled at once, and never two events of one."""
    at_once: set[tuple[int, int]] = set()
    most = 0

    async def function(which: int, number: int) -> None:
        nonlocal most
        assert which not in {each for each, _ in at_once}
        at_once.add((which, number))
        most = max(most, len(at_once))
        await asyncio.sleep(0.001)
        at_once.remove((which, number))

    async def main() -> None:
        several = replace(listener(function), concurrency=3)
        runner = Context().runner(several)
        for number in range(10):
            for which in range(5):
                give(runner, which=which, number=number, partition=which)
        await wait_until_async(lambda: runner.handled == 50)
        assert most == 3
        assert runner.queue.counts["failed"] == 0
        await runner.stop(1.0)

    asyncio.run(main())
