"""Handlers that cancel the task in which they run."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import Context, feeder, give, listener, run
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.listener import OnError
from lightbus.message import EventMessage


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_listener_that_cancels_its_task(waits: bool, hooked: bool) -> None:
    """Neither the listener nor later events are affected, whether the cancellation takes effect at once or later."""
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
    """For example by a forgotten timer of a handler: the listener continues, in whatever state it is at that moment."""
    monkeypatch.setattr("lightbus.events.listening.delivery.FIRST_PAUSE", 0.02)
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
    """The end of a loop cancels all tasks; a waiting listener is cancelled, and delays nothing."""
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


@pytest.mark.parametrize("form", ["async", "sometimes waits", "returns a coroutine", "def"])
@pytest.mark.parametrize("hook", [None, "def", "async"])
@pytest.mark.parametrize("by", ["a timer", "the later event"])
def test_a_late_cancellation(form: str, hook: str | None, by: str) -> None:
    """Cancelling the task of an event that has ended cancels no other event, whatever that one waits for."""
    tasks: list[asyncio.Task[Any]] = []
    ended: list[asyncio.Task[Any]] = []
    seen: list[int] = []
    waiting, proceed = asyncio.Event(), asyncio.Event()

    def cancel(tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()

    def note_task() -> None:
        if by == "the later event":
            cancel(ended)
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    async def waits(n: int) -> None:
        note_task()
        await asyncio.sleep(0)
        if n:
            waiting.set()
            await proceed.wait()
        seen.append(n)

    async def sometimes(n: int) -> None:
        if n == 0:
            note_task()
            seen.append(n)
        else:
            await waits(n)

    async def returns(n: int) -> Any:
        if n == 0:
            note_task()
            seen.append(n)
            return None
        return waits(n)

    def plain(n: int) -> Any:
        return waits(n)

    async def async_hook() -> None:
        note_task()
        await asyncio.sleep(0)

    async def test(runner: ListenerRunner, context: Context) -> None:
        if hook is not None:
            context.hooks.add("before_event_execution", async_hook if hook == "async" else lambda: None)
        give(runner, n=0)
        await wait_until_async(lambda: runner.handled == 1)
        ended.extend(tasks)
        give(runner, n=1)
        await wait_until_async(waiting.is_set)
        if by == "a timer":
            cancel(ended)
            await asyncio.sleep(0)
        proceed.set()
        await wait_until_async(lambda: runner.handled == 2)
        assert (seen, runner.queue.counts["failed"]) == ([0, 1], 0)

    forms: dict[str, Any] = {
        "async": waits, "sometimes waits": sometimes, "returns a coroutine": returns, "def": plain
    }  # fmt: skip
    run(forms[form], test)


@pytest.mark.parametrize("form", ["async", "returns a coroutine", "def"])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_listener_that_is_stopped_while_it_waits(form: str, hooked: bool) -> None:
    """Its handler is cancelled, wherever it waits, and its end is awaited."""
    seen: list[str] = []
    began = asyncio.Event()

    async def waits() -> None:
        try:
            began.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            seen.append("ended")

    async def returns() -> Any:
        return waits()

    async def main() -> None:
        context = Context()
        if hooked:
            context.hooks.add("before_event_execution", lambda: None)
        forms: dict[str, Any] = {"async": waits, "returns a coroutine": returns, "def": lambda: waits()}
        runner = context.runner(listener(forms[form]))
        give(runner)
        await wait_until_async(began.is_set)
        assert not await runner.stop(0.0)
        await wait_until_async(lambda: seen)

    asyncio.run(main())
    assert seen == ["ended"]
