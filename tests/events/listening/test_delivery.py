"""Events that fail, or do not fit."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace
from typing import Any

import pytest

from helpers import MS, wait_until_async
from helpers.failing import ODD
from helpers.listeners import Context, fail, feeder, give, listener, run, undecided
from lightbus.events.listening import delivery as module
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.exceptions import JournalError
from lightbus.listener import OnError
from lightbus.message import EventMessage


def test_an_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With ACKNOWLEDGE_AND_LOG the next event is handled, and the failed one counts as handled."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in (1, 2):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 2)
        assert dict(runner.queue.counts) == {"failed": 2}
        assert runner.queue.failed_by == {"seen": 2}
        assert "The listener greeter failed on <EventMessage auth.seen() id=id-1>" in caplog.text
        assert "no luck" in caplog.text
        assert (context.fatal, feeder(runner).source.acked[-1]) == ([], 2)

    run(fail, test)


def test_a_full_disk_is_logged_in_one_line_per_event(caplog: pytest.LogCaptureFixture) -> None:
    """It says what to do, without a traceback."""

    def write(message: EventMessage) -> None:
        raise JournalError("The disk is full: make room.")

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in (1, 2):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 2)
        assert caplog.text.count("The disk is full: make room.") == 2
        assert "Traceback" not in caplog.text

    run(write, test)


def test_shutdown_on_an_error() -> None:
    """With SHUTDOWN the worker is told, no further event is handled, and the delivery is recorded."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in (1, 2):
            give(runner, number)
        await wait_until_async(lambda: context.fatal)
        source = feeder(runner).source
        assert [(name, str(error)) for name, error in context.fatal] == [("greeter", "no luck")]
        assert (source.started, source.acked, source.retried) == ([(1, 1)], [], 1)
        assert runner.handled == 0

    run(fail, test, OnError.SHUTDOWN)


def test_a_retry_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RETRY the event is redelivered, and marked as such; only its own partition waits for it."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 20 * MS)
    seen: list[tuple[str, int, bool]] = []

    async def function(message: EventMessage) -> None:
        seen.append((message.id, message.deliveries, message.redelivered))
        if message.id == "id-1" and message.deliveries < 3:
            raise ValueError("not yet")

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1)
        give(runner, 2)
        give(runner, 3, partition=1)
        await wait_until_async(lambda: runner.handled == 3)
        assert seen == [
            ("id-1", 1, False), ("id-3", 1, False), ("id-1", 2, True), ("id-1", 3, True), ("id-2", 1, False)
        ]  # fmt: skip
        assert dict(runner.queue.counts) == {"failed": 2, "retried": 2, "redelivered": 2}
        assert feeder(runner).source.started == [(1, 2), (1, 3)]

    run(function, test, OnError.RETRY)


@pytest.mark.parametrize("policy", [OnError.SHUTDOWN, OnError.STOP_LISTENER, OnError.RETRY])
@pytest.mark.parametrize("decorated", [False, True])
def test_an_event_that_lacks_an_argument(policy: OnError, decorated: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is a dead letter at once under any policy, with the name of the argument; the next event is handled."""
    seen: list[str] = []

    async def function(message: EventMessage, username: str, email: str) -> None:
        seen.append(email)

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await function(*args, **kwargs)

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1, username="sally")
        give(runner, 2, username="harry", email="h@x")
        await wait_until_async(lambda: runner.handled == 2)
        [(sequence, deliveries, error)] = feeder(runner).source.dead_letters
        assert (sequence, deliveries) == (1, 1)
        assert error.startswith("InvalidEventArguments: greeter needs the argument 'email', which the event does not")
        assert (seen, context.fatal, context.stopped) == (["h@x"], [], [])
        assert dict(runner.queue.counts) == {"invalid": 1, "dead_lettered": 1}
        assert "is not delivered to the listener greeter: greeter needs the argument 'email'" in caplog.text

    run(wrapper if decorated else function, test, policy)


@pytest.mark.parametrize("policy", [OnError.RETRY, OnError.SHUTDOWN])
def test_event_becomes_a_dead_letter_after_max_deliveries(monkeypatch: pytest.MonkeyPatch, policy: OnError) -> None:
    """With its error, after five deliveries; it does not block others for ever."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 1 * MS)

    async def test(runner: ListenerRunner, context: Context) -> None:
        if policy is OnError.SHUTDOWN:  # four workers were stopped by it before this one
            feeder(runner).stream(possibly_delivered=1)
            feeder(runner).source.deliveries[1] = 4
        give(runner, 1)
        await wait_until_async(lambda: runner.handled == 1)
        source = feeder(runner).source
        assert source.dead_letters == [(1, 5, "ValueError: no luck")]
        assert source.deliveries == {1: 5}
        assert runner.queue.counts["dead_lettered"] == 1
        assert len(context.fatal) == (policy is OnError.SHUTDOWN)

    run(fail, test, policy)


def test_an_event_that_ended_its_process_becomes_a_dead_letter() -> None:
    """If every delivery ended the process, the event is not delivered again."""
    seen: list[Any] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        feeder(runner).stream(possibly_delivered=1)
        feeder(runner).source.deliveries[1] = 5
        give(runner, 1)
        give(runner, 2)
        await wait_until_async(lambda: runner.handled == 2)
        assert [message.id for message in seen] == ["id-2"]
        assert [row[:2] for row in feeder(runner).source.dead_letters] == [(1, 5)]

    run(lambda message: seen.append(message), test)


def test_possibly_delivered_events_are_recorded_first() -> None:
    """An event that another member may have begun is redelivered, and each start is recorded before it."""
    seen: list[Any] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        feeder(runner).stream(possibly_delivered=2)
        for number in (1, 2, 3):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 3)
        assert [(message.id, message.deliveries) for message in seen] == [("id-1", 2), ("id-2", 2), ("id-3", 1)]
        assert feeder(runner).source.started == [(1, 2), (2, 2)]

    run(lambda message: seen.append(message), test)


class Unspeakable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("kind", [Unspeakable, type("Odd", (BaseException,), {"__str__": Unspeakable.__str__})])
def test_an_error_whose_text_raises(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    """It is a failure like any other; the listener continues."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 1 * MS)

    def raises(message: EventMessage) -> None:
        raise kind

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1)
        give(runner, 2)
        await wait_until_async(lambda: runner.handled == 2)
        letters = feeder(runner).source.dead_letters
        assert [row[:2] for row in letters] == [(1, 5), (2, 5)]
        assert all("raised RuntimeError>" in error for _, _, error in letters)
        assert context.fatal == []

    run(raises, test, OnError.RETRY)


def test_redelivered_events_are_delivered_alone() -> None:
    """Whatever the concurrency, only one event that may have ended a process is recorded as begun at a time."""
    in_progress: list[str] = []
    most: list[int] = []

    async def handle(message: EventMessage) -> None:
        in_progress.append(message.id)
        most.append(len(in_progress))
        await asyncio.sleep(0)
        in_progress.remove(message.id)

    async def main() -> None:
        runner = Context().runner(replace(listener(handle), concurrency=4))
        for number in range(1, 9):
            feeder(runner).stream(number, possibly_delivered=8)
            feeder(runner).give(number, partition=number)
        await wait_until_async(lambda: runner.handled == 8)
        assert (len(feeder(runner).source.started), max(most)) == (8, 1)
        for number in range(11, 19):
            feeder(runner).give(number, partition=number)
        await wait_until_async(lambda: runner.handled == 16)
        assert max(most) > 1
        await runner.stop(5.0)

    asyncio.run(main())


def test_a_possible_delivery_does_not_count() -> None:
    """With `max_deliveries=1` a possibly delivered event is delivered, too; only a recorded start counts."""
    seen: list[EventMessage] = []

    async def main() -> None:
        runner = Context().runner(replace(listener(lambda message: seen.append(message)), max_deliveries=1))
        feeder(runner).stream(possibly_delivered=2)
        feeder(runner).source.deliveries[2] = 1
        give(runner, 1)
        give(runner, 2)
        await wait_until_async(lambda: runner.handled == 2)
        assert [(message.id, message.redelivered) for message in seen] == [("id-1", True)]
        assert [row[:2] for row in feeder(runner).source.dead_letters] == [(2, 1)]
        await runner.stop(5.0)

    asyncio.run(main())


def test_an_event_of_a_revoked_partition_is_not_begun() -> None:
    """If the publisher says that another member has the partition, the handler is not called."""
    seen: list[Any] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        feeder(runner).stream(possibly_delivered=1)
        feeder(runner).source.is_ours = False
        give(runner, 1)
        await wait_until_async(lambda: feeder(runner).source.retried)
        assert (seen, runner.handled) == ([], 0)

    run(lambda message: seen.append(message), test)


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("error", [asyncio.CancelledError("mine"), SystemExit(3)])
def test_exceptions_that_would_end_a_task_are_ordinary_errors(where: str, error: BaseException) -> None:
    """A handler's CancelledError or SystemExit ends neither the listener nor the loop."""

    def in_thread(message: EventMessage) -> None:
        raise error

    async def on_loop(message: EventMessage) -> None:
        raise error

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner)
        await wait_until_async(lambda: context.fatal)
        assert [str(fatal) for _, fatal in context.fatal] == [f"greeter raised {type(error).__name__}: {error}"]

    run(on_loop if where == "loop" else in_thread, test, OnError.SHUTDOWN)


def test_invalid_arguments_do_not_reach_the_handler() -> None:
    """An event that does not fit its declaration becomes a dead letter, without a failure of the handler."""
    seen: list[Any] = []

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, invalid=1)
        await wait_until_async(lambda: runner.handled)
        assert (seen, dict(runner.queue.counts), context.fatal) == ([], {"invalid": 1, "dead_lettered": 1}, [])
        assert feeder(runner).source.dead_letters == [(1, 1, "ValidationError: it is invalid")]

    run(lambda message: seen.append(message), test)


@pytest.mark.parametrize("form", ["async def", "def", "hidden"])
@pytest.mark.parametrize("kind", ODD)
def test_a_listener_continues_after_any_exception(form: str, kind: str) -> None:
    """Each odd exception is an error of its event, under the policy; the next event is handled."""
    seen: list[int] = []

    async def fail(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            raise ODD[kind]()

    def fail_in_thread(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            raise ODD[kind]()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for n in range(2):
            give(runner, n=n)
        await wait_until_async(lambda: runner.handled == 2)
        assert runner.queue.counts["failed"] == 1

    run({"async def": fail, "def": fail_in_thread, "hidden": undecided(fail)}[form], test)
    assert seen == [0, 1]


def test_the_traceback_contains_only_the_listener(caplog: pytest.LogCaptureFixture) -> None:
    """The log shows no frames of the library."""

    async def function(message: EventMessage, n: int) -> None:
        raise ValueError("oh")

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, n=0)
        await wait_until_async(lambda: runner.handled)

    run(function, test)
    assert "ValueError: oh" in caplog.text
    assert "/lightbus/events/" not in caplog.text
