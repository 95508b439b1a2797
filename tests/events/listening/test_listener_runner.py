"""A running listener: in order, in parallel, and its end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from helpers import MS, wait_until_async
from helpers.listeners import Context, fail, feeder, give, listener, run
from lightbus.core.streams import Stream
from lightbus.events.listening import delivery as delivery_module
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.listener import OnError
from lightbus.message import EventMessage


def test_a_listener_stops_after_max_deliveries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With STOP_LISTENER an event is retried, then a dead letter; no more is handled, and the worker continues."""
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 1 * MS)

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1)
        give(runner, 2)
        await wait_until_async(lambda: context.stopped)
        source = feeder(runner).source
        assert source.dead_letters == [(1, 5, "ValueError: no luck")]
        assert (runner.stopped_by, context.stopped) == ("ValueError: no luck", [runner])
        await runner.stop(None)
        assert (runner.handled, runner.queue.backlog, context.fatal) == (1, 1, [])
        for number in range(1, 5):
            assert f"delivery {number} of 5. It is tried again in {2 ** (number - 1) / 1000:g} s" in caplog.text
        assert "delivery 5 of 5. It was the last one" in caplog.text

    run(fail, test, OnError.STOP_LISTENER)


def test_parallel_failures_stop_a_listener_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several events in progress, the first final failure stops it; the others are left to the group."""
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 1 * MS)

    async def test(_: ListenerRunner, context: Context) -> None:
        runner = context.runner(replace(listener(fail, OnError.STOP_LISTENER), concurrency=4))
        for partition in range(4):
            feeder(runner).give(partition=partition)
        await wait_until_async(lambda: context.stopped)
        await runner.stop(None)
        source = feeder(runner).source
        assert context.stopped == [runner]
        assert source.dead_letters
        assert len(source.dead_letters) + source.retried == 4

    run(fail, test)


def test_an_internal_error_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    """If a listener's task ends by an error, it leaves its group, instead of pretending to listen."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        def broken(stream: Stream) -> None:
            raise KeyError("our own")

        feeder(runner).source.ack = broken  # type: ignore[method-assign]
        give(runner, 1)
        await wait_until_async(lambda: context.stopped)
        assert "The listener greeter cannot continue: internal error, please report it" in caplog.text
        assert runner.stopped_by == "KeyError: 'our own'"

    run(lambda message: None, test)


def test_stopping_finishes_the_event_in_progress() -> None:
    """A running handler is finished, and no queued event is begun."""
    gate, seen = asyncio.Event(), list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        await gate.wait()
        seen.append("done")

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in (1, 2, 3):
            give(runner, number)
        await wait_until_async(lambda: seen)
        stopping = asyncio.ensure_future(runner.stop(5.0))
        await asyncio.sleep(0)
        gate.set()
        await stopping
        assert seen == ["id-1", "done"]

    run(function, test)


def test_stopping_is_bounded() -> None:
    """A handler that does not end is cancelled."""
    seen: list[str] = []

    async def function(message: EventMessage) -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner)
        await wait_until_async(lambda: seen)
        await runner.stop(1 * MS)
        assert seen == ["begun", "cancelled"]
        assert context.fatal == []

    run(function, test, OnError.SHUTDOWN)


def test_stopping_does_not_wait_for_a_retry() -> None:
    """A pause before the next delivery ends with the listener."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner)
        await wait_until_async(lambda: runner.queue.counts["retried"])
        await asyncio.wait_for(runner.stop(30.0), delivery_module.FIRST_PAUSE / 2)
        assert runner.queue.counts["failed"] == 1

    run(fail, test, OnError.RETRY)


def test_stopping_an_idle_listener() -> None:
    """If no event is being handled, it stops at once."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        await wait_until_async(lambda: context.caught_up_count)

    run(fail, test)
