"""A listener with batches: when a batch is full, and what happens if one fails."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from helpers import MS, wait_until_async
from helpers.listeners import Context, Source, feeder, give, listener
from lightbus.core.ordering import Order, Watermark
from lightbus.core.streams import Stream
from lightbus.events.listening import delivery as delivery_module
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.listener import BatchFailed, OnError
from lightbus.message import EventMessage
from lightbus.wire import envelope
from lightbus.wire.envelope import Record

LONG = 30.0
"""Seconds that no test comes to."""

Batches = list[list[str]]


class Handles:
    """A function that records its events, and fails as the test says."""

    def __init__(self, fails: Callable[[list[EventMessage]], None] = lambda messages: None) -> None:
        self.batches: Batches = []
        self.deliveries: list[list[int]] = []
        self._fails = fails

    def __call__(self, messages: list[EventMessage]) -> None:
        self.batches.append([message.id for message in messages])
        self.deliveries.append([message.deliveries for message in messages])
        self._fails(messages)

    async def wait(self, messages: list[EventMessage]) -> None:
        """Do the same on the loop."""
        await asyncio.sleep(0)
        self(messages)


@pytest.fixture(params=["def", "async def"])
def form(request: pytest.FixtureRequest) -> str:
    """Return the form in which a listener is written."""
    return str(request.param)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 1 * MS)


def run(
    handles: Handles,
    test: Callable[[ListenerRunner, Context], Awaitable[None]],
    form: str = "def",
    /,
    **options: Any,
) -> None:
    """Run a test with a running listener that takes batches."""

    async def main() -> None:
        context = Context()
        function = handles if form == "def" else handles.wait
        made = replace(listener(function), **{"batch": 4, "batch_wait": 0.0, **options})
        runner = context.runner(made)
        await test(runner, context)
        await runner.stop(5.0)

    asyncio.run(main())


class Confirms(Source):
    """A source of streams that confirms handled events on demand."""

    def __init__(self, queue: ListenerQueue) -> None:
        super().__init__()
        self._queue = queue
        self._told: list[Stream] = []

    def ack(self, stream: Stream) -> None:
        self._told.append(stream)

    def confirm(self) -> None:
        told, self._told = self._told, []
        for stream in told:
            if (told := stream.next_ack()) is not None:
                stream.ack_confirmed(told)
                self._queue.requeue(stream)


def fail(messages: list[EventMessage]) -> None:
    raise ValueError("no luck")


def test_waiting_events_are_delivered_together(form: str) -> None:
    """Up to the size of a batch, in order, and acknowledged together."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 11):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 10)
        assert handles.batches == [[f"id-{n}" for n in part] for part in ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10))]
        assert feeder(runner).source.acked == [4, 8, 10]
        assert (runner.queue.backlog, dict(runner.queue.counts)) == (0, {})

    run(handles, test, form)


def test_partitions_share_a_batch(form: str) -> None:
    """A batch may contain events of all partitions."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number, partition=number)
        await wait_until_async(lambda: runner.handled == 4)
        assert handles.batches == [["id-1", "id-2", "id-3", "id-4"]]

    run(handles, test, form)


def test_a_full_batch_is_delivered_at_once() -> None:
    """Whatever `batch_wait` is; until then no event is in progress."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 4):
            give(runner, number)
        await wait_until_async(lambda: runner.queue.waits)
        assert (handles.batches, runner.queue.backlog) == ([], 3)
        give(runner, 4)
        await wait_until_async(lambda: runner.handled == 4)
        assert handles.batches == [["id-1", "id-2", "id-3", "id-4"]]
        give(runner, 5)

    run(handles, test, batch_wait=LONG)
    assert len(handles.batches) == 1  # what waited when it stopped is not begun


def test_a_batch_that_does_not_fill_up() -> None:
    """It is delivered after `batch_wait`, with the events so far."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1)
        await wait_until_async(lambda: runner.queue.waits)
        give(runner, 2)
        await wait_until_async(lambda: runner.handled == 2)
        assert handles.batches == [["id-1", "id-2"]]

    run(handles, test, batch_wait=50 * MS)


def test_a_partition_is_revoked_while_a_batch_waits() -> None:
    """Its waiting events are left to the new owner."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, 1)
        give(runner, 2, partition=1)
        await wait_until_async(lambda: runner.queue.waits)
        runner.queue.forget(feeder(runner).stream(0))
        for number in (3, 4, 5):
            give(runner, number, partition=1)
        await wait_until_async(lambda: runner.handled == 4)
        assert handles.batches == [["id-2", "id-3", "id-4", "id-5"]]

    run(handles, test, batch_wait=LONG)


def test_some_of_a_batch_fail(form: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others are handled, and not delivered again; the failed ones are, one by one, and in order."""

    def fails(messages: list[EventMessage]) -> None:
        if messages[0].deliveries < 3 and (failed := [each for each in messages if each.id in ("id-2", "id-4")]):
            raise BatchFailed(failed) from ValueError("locked")

    handles = Handles(fails)

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number)
        give(runner, 5)
        await wait_until_async(lambda: runner.handled == 5)
        assert handles.batches == [
            ["id-1", "id-2", "id-3", "id-4"], ["id-2"], ["id-2"], ["id-4"], ["id-4"], ["id-5"],
        ]  # fmt: skip
        assert handles.deliveries == [[1] * 4, [2], [3], [2], [3], [1]]
        source = feeder(runner).source
        assert source.acked[0] == 1
        assert source.acked[-1] == 5
        assert source.started == [(2, 2), (2, 3), (4, 2), (4, 3)]
        assert (runner.queue.counts["failed"], runner.queue.counts["redelivered"]) == (4, 4)
        assert "greeter failed on 2 of 4 events of a batch" in caplog.text
        assert "ValueError: locked" in caplog.text

    run(handles, test, form, on_error=OnError.RETRY)


def test_all_of_a_batch_fail(form: str) -> None:
    """After any other exception all have failed; each is retried alone; only the bad one becomes a dead letter."""

    def fails(messages: list[EventMessage]) -> None:
        if any(each.id == "id-2" for each in messages):
            raise ValueError("no luck")

    handles = Handles(fails)

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number, partition=number % 2)
        await wait_until_async(lambda: runner.handled == 4)
        assert len(handles.batches[0]) == 4
        assert all(len(batch) == 1 for batch in handles.batches[1:])
        assert [batch for batch in handles.batches if batch == ["id-2"]] == [["id-2"]] * 4
        assert feeder(runner).source.dead_letters == [(2, 5, "ValueError: no luck")]
        assert runner.queue.counts["dead_lettered"] == 1

    run(handles, test, form, on_error=OnError.RETRY)


@pytest.mark.parametrize("as_mapping", [True, False])
def test_the_error_of_each_event_is_kept(as_mapping: bool) -> None:
    """The error that is named for it, or else the cause of the exception."""

    def fails(messages: list[EventMessage]) -> None:
        if as_mapping:
            raise BatchFailed({messages[0].id: KeyError("first"), messages[-1]: None}) from ValueError("common")
        raise BatchFailed([messages[0], messages[-1]])

    handles = Handles(fails)

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 4)
        reasons = ["KeyError: 'first'", "ValueError: common"]
        if not as_mapping:
            reasons = ["BatchFailed: 2 events failed: id-1, id-4"] * 2
        assert feeder(runner).source.dead_letters == [(1, 1, reasons[0]), (4, 1, reasons[1])]

    run(handles, test, on_error=OnError.RETRY, max_deliveries=1)


def test_unknown_failed_events(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that names other events as failed is wrong: none counts as handled."""

    def fails(messages: list[EventMessage]) -> None:
        raise BatchFailed(["id-7"])

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 4)
        assert [row[0] for row in feeder(runner).source.dead_letters] == [1, 2, 3, 4]
        assert "failed events that were not in its batch: ['id-7']" in caplog.text

    run(Handles(fails), test, on_error=OnError.RETRY, max_deliveries=1)


def test_no_failed_events() -> None:
    """A BatchFailed that names no event means that all are handled."""

    def fails(messages: list[EventMessage]) -> None:
        raise BatchFailed([])

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 4)
        assert dict(runner.queue.counts) == {}

    run(Handles(fails), test)


def test_failures_are_logged_and_acknowledged() -> None:
    """With ACKNOWLEDGE_AND_LOG a failed batch counts as handled."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 6):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 5)
        assert (dict(runner.queue.counts), feeder(runner).source.acked[-1]) == ({"failed": 5}, 5)

    handles = Handles(fail)
    run(handles, test, on_error=OnError.ACKNOWLEDGE_AND_LOG)
    assert [len(batch) for batch in handles.batches] == [4, 1]


def test_a_batch_stops_the_worker() -> None:
    """With SHUTDOWN the worker is told once, and the failed events are delivered to the group again."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number, partition=number % 2)
        await wait_until_async(lambda: context.fatal)
        source = feeder(runner).source
        await wait_until_async(lambda: source.retried == 2)
        assert [(name, str(error)) for name, error in context.fatal] == [("greeter", "no luck")]
        assert (sorted(source.started), source.acked, runner.handled) == ([(1, 1), (2, 1)], [], 0)

    run(Handles(fail), test, on_error=OnError.SHUTDOWN)


def test_a_batch_stops_the_listener() -> None:
    """With STOP_LISTENER the first event that failed in all deliveries stops it; the others are left to the group."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 4):
            give(runner, number)
        await wait_until_async(lambda: context.stopped)
        await runner.stop(None)
        source = feeder(runner).source
        assert source.dead_letters == [(1, 5, "ValueError: no luck")]
        assert (runner.stopped_by, runner.handled, source.acked) == ("ValueError: no luck", 1, [1])

    run(Handles(fail), test, on_error=OnError.STOP_LISTENER)


def test_possibly_delivered_events_come_alone() -> None:
    """Each start is recorded, so that the right event is blamed; then there are batches again."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        feeder(runner).stream(possibly_delivered=2)
        for number in range(1, 7):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 6)
        assert handles.batches == [["id-1"], ["id-2"], ["id-3", "id-4", "id-5", "id-6"]]
        assert handles.deliveries == [[2], [2], [1] * 4]
        assert feeder(runner).source.started == [(1, 2), (2, 2)]

    run(handles, test, batch_wait=LONG)


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_journals_of_ended_publishers(form: str, seed: int, *, is_merged: bool) -> None:
    """Whichever events of several journals come alone, and whenever they are confirmed: all are handled."""
    chance = random.Random(seed)
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        source = Confirms(runner.queue)
        streams: list[Stream] = []
        for journal in range(3):
            order: Order[Stream] | None = Order() if is_merged else None
            for partition in range(3):
                key = (str(journal), "seen", partition)
                begun = chance.choice([0, 20, 1000])
                mark = Watermark(math.inf)
                streams.append(Stream(key, source, cursor=0, possibly_delivered=begun, order=order, watermark=mark))
        rows = [(chance.choice(streams), sequence) for sequence in range(1, 1001)]
        for stream, sequence in rows:
            record = envelope.encode_record(Record(f"{sequence}", 1, 0.5, {}))
            stream.live([[sequence, stream.position, record]])
            runner.queue.ready(stream, 1, len(record))
            if chance.random() < 0.2:
                await asyncio.sleep(0)
            if chance.random() < 0.1:
                source.confirm()
        await wait_until_async(lambda: source.confirm() or runner.handled == 1000)
        assert (runner.queue.backlog, runner.queue.backlog_bytes) == (0, 0)

    run(handles, test, form, batch=100)
    assert sorted(int(id) for batch in handles.batches for id in batch) == [*range(1, 1001)]


def test_invalid_events_are_left_out(form: str, caplog: pytest.LogCaptureFixture) -> None:
    """Undecodable events are skipped, and those that do not fit their API become dead letters; others are handled."""
    handles = Handles()

    async def test(runner: ListenerRunner, context: Context) -> None:
        stream = feeder(runner).stream()
        give(runner, 1)
        give(runner, 2, invalid=True)
        assert stream.live([[3, 2, b"\xc1"]]) == 1
        runner.queue.ready(stream, 1, 1)
        feeder(runner)._sequence = 3
        give(runner, 4)
        await wait_until_async(lambda: runner.handled == 4)
        assert handles.batches == [["id-1", "id-4"]]
        assert [row[0] for row in feeder(runner).source.dead_letters] == [2]
        assert dict(runner.queue.counts) == {"invalid": 2, "dead_lettered": 1}
        assert feeder(runner).source.acked[-1] == 4

    run(handles, test, form)


def test_partitions_are_revoked_during_a_retry() -> None:
    """The handled and the unhandled events behind the retried one are left to the group."""

    def fails(messages: list[EventMessage]) -> None:
        raise BatchFailed([each for each in messages if each.id == "id-2"])

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(1, 5):
            give(runner, number)
        await wait_until_async(lambda: runner.queue.counts["retried"])
        stream: Stream = feeder(runner).stream()
        runner.queue.forget(stream)
        assert (stream.handled, stream.in_progress, feeder(runner).source.retried) == (1, 0, 1)

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(delivery_module, "FIRST_PAUSE", LONG)
        run(Handles(fails), test, on_error=OnError.RETRY)


def test_batches_in_parallel() -> None:
    """With `concurrency` there are several batches at once, of different partitions."""
    gate = asyncio.Event()
    at_once: list[set[int]] = []

    class Waits(Handles):
        async def wait(self, messages: list[EventMessage]) -> None:
            at_once.append({message.kwargs["which"] for message in messages})
            await gate.wait()

    async def test(runner: ListenerRunner, context: Context) -> None:
        for number in range(8):
            for which in (1, 2):
                give(runner, number, which=which, partition=which)
        await wait_until_async(lambda: len(at_once) == 2)
        assert at_once == [{1}, {2}]
        gate.set()
        await wait_until_async(lambda: runner.handled == 16)

    run(Waits(), test, "async def", concurrency=3)


def test_hooks_run_for_each_event(form: str) -> None:
    """Around hooks of each event, hooks before, the listener, and hooks after run in one context."""
    told: list[str] = []
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")

    def before(event_message: EventMessage) -> None:
        told.append(f"before {event_message.id}")
        where.set("inside")

    def around(event_message: EventMessage) -> Iterator[None]:
        told.append(f"into {event_message.id}")
        yield
        told.append(f"out of {event_message.id}")

    def note(messages: list[EventMessage]) -> None:
        told.append(where.get())

    async def test(runner: ListenerRunner, context: Context) -> None:
        context.hooks.add("around_event_execution", contextlib.contextmanager(around))
        context.hooks.add("before_event_execution", before)
        context.hooks.add("after_event_execution", lambda event_message: told.append(f"after {event_message.id}"))
        for number in (1, 2):
            give(runner, number)
        await wait_until_async(lambda: runner.handled == 2)
        inside = ["before id-1", "before id-2", "inside", "after id-1", "after id-2"]
        assert told == ["into id-1", "into id-2", *inside, "out of id-2", "out of id-1"]

    run(Handles(note), test, form)
