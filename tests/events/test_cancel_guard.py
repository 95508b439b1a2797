"""Handlers that cancel the task that they run in."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, feeder, give, listener, run
from lightbus.events.listener_runner import ListenerRunner
from lightbus.listener import OnError
from lightbus.message import EventMessage


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_listener_that_cancels_its_task(waits: bool, hooked: bool) -> None:
    """It ends neither the listener nor what is handled next, whether the cancelling comes out at once or later."""
    seen: list[int] = []

    async def function(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(1)

    async def test(runner: ListenerRunner, context: Context) -> None:
        if hooked:
            context.hooks.add("before_event_execution", lambda: None)
        for n in range(3):
            give(runner, n=n)
        await wait_until_async(lambda: runner.handled == 3)
        assert runner.queue.counts["failed"] == waits
        give(runner, n=3)
        await wait_until_async(lambda: runner.handled == 4)

    run(function, test)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("fails", [False, True])
def test_a_listener_whose_task_is_cancelled_later(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a timer that a handler forgot, say: it is not deaf from then on, in whatever it is at that moment."""
    monkeypatch.setattr("lightbus.events.delivery.FIRST_PAUSE", 0.02)
    tasks: list[asyncio.Task[Any]] = []
    seen: list[int] = []

    async def function(message: EventMessage, n: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if fails and message.deliveries == 1:
            raise ValueError
        seen.append(n)

    async def test(runner: ListenerRunner, context: Context) -> None:
        source = feeder(runner).source
        start, dead_letter = source.record_delivery, source.dead_letter

        async def slowly(what: Any, *args: Any) -> Any:
            tasks[-1].cancel()
            await asyncio.sleep(0)
            return await what(*args)

        monkeypatch.setattr(source, "record_delivery", functools.partial(slowly, start))
        monkeypatch.setattr(source, "dead_letter", functools.partial(slowly, dead_letter))
        for n in range(3):
            give(runner, n=n)
            await wait_until_async(lambda n=n: runner.handled == n + 1)  # type: ignore[misc]
            await asyncio.sleep(0)
            tasks[-1].cancel()  # it waits for the next one
            await asyncio.sleep(0)
        give(runner, surplus=0)
        await wait_until_async(lambda: runner.handled == 4)
        assert runner.queue.counts["dead_lettered"] == 1
        assert runner.stopped_by is None

    run(function, test, OnError.RETRY)
    assert seen == [0, 1, 2]


def test_a_listener_ends_with_its_loop() -> None:
    """A loop that ends cancels everything; a listener that waits then is cancelled, and holds nothing up."""
    began: list[str] = []

    async def function(message: EventMessage, n: int) -> None:
        began.append("waits")
        await asyncio.sleep(10)

    async def main() -> None:
        runner = Context().runner(listener(function))
        give(runner, n=0)
        await wait_until_async(lambda: began)

    asyncio.run(main())
    assert began == ["waits"]
