"""A listener and its work: which function is called for an event, with what, and what happens when it raises."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ..core.ordering import Order
from ..core.streams import Entry, Stream
from ..exceptions import LightbusException, PayloadTooLarge, ProtocolError, safely
from ..listener import Listener, OnError
from ..message import EventMessage, event_message
from ..service.execution import Execution, begin, check_ran, in_thread, runs_on_loop
from ..service.failures import as_exception, report, show
from ..service.handlers import Handler
from ..service.hooks import HookRegistry
from ..typing import Kwargs
from ..wire import envelope
from ..wire.envelope import Record
from ..wire.sizes import size_left_out
from .publisher import native_id

__all__ = ["Listening", "StreamOwner", "Surroundings"]

logger = logging.getLogger("lightbus.consuming")

T = TypeVar("T")

MAX_QUEUED = 10_000
"""Events of best effort that wait for one slow listener before further ones are dropped, counted and reported."""

MAX_BYTES = 32 * 1024 * 1024
"""Bytes of the events that wait for one listener; further ones wait in the journal."""

AHEAD = 256 * 1024
"""Bytes of the events that wait of a stream, up to which they are decoded together."""

TURN = 64
"""Events of one stream that are handled before another has its turn, and the rest of the loop."""

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0

LONGEST_SLEEP = 365 * 24 * 3600.0


class Surroundings(Protocol):
    """What a listener at work needs of the consumer it belongs to."""

    hooks: HookRegistry
    client: Any
    executor: Executor | None
    on_fatal: Callable[[Listener, Exception], None]
    max_message_size: int
    """Bytes that a message to this process may have."""

    def stop_listener(self, listening: Listening) -> None:
        """Have a listener that has failed leave its group."""

    def casts(self, api: str) -> bool:
        """Return whether handlers are given the types that they are annotated with."""

    def check_of(self, api: str, event: str) -> Callable[[Kwargs], Kwargs] | None:
        """Return what completes and checks the arguments of an event, and raises; None where nothing is to be done."""

    def caught_up(self) -> None:
        """Take in that a listener has nothing left to do."""


class StreamOwner(Protocol):
    """Where a stream comes from: the listener's claim at one publisher."""

    publisher: str

    async def start(self, stream: Stream, entry: Entry, at_least: int) -> int:
        """Have it recorded that an event is about to be handled; return the how manieth time that is, 0: not here."""

    async def bury(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        """Have an event set aside; return whether it was."""

    def handled(self, stream: Stream) -> None:
        """Take in that one more event was handled."""

    def let_go(self, stream: Stream) -> None:
        """Take in that the event at hand was not handled, and is somebody else's matter now."""

    def look(self, stream: Stream) -> None:
        """Ask for more, where there is more and little waits."""


@dataclass(slots=True)
class _Again:
    """An event that failed and is tried again."""

    entry: Entry
    deliveries: int
    backoff: float


@dataclass(slots=True, kw_only=True)
class _Turn:
    """
    What the events that are handled in a row have in common.

    Attributes:
        api, event, journal, publisher: what they are, and where they come from.
        check: completes and checks their arguments, if anything is to be done.
        function: what is called.
        is_plain: whether nothing else is to be done than to await it.
        ahead: events that were decoded ahead of their turn, by their sequences.
        decodes_ahead: whether that is tried: not again where one of them was no event.
        count: how many they were until now.

    """

    api: str
    event: str
    journal: str
    publisher: str
    check: Callable[[Kwargs], Kwargs] | None
    function: Callable[..., Any]
    is_plain: bool
    ahead: dict[int, Record] = field(default_factory=dict)
    decodes_ahead: bool = True
    count: int = 0


class Listening:
    """A listener at work: one event of a stream at a time, in order. Only touched from the node's loop."""

    def __init__(self, surroundings: Surroundings, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[str] = Counter()
        """failed, retried, redelivered, buried, dropped, invalid."""
        self.handled_by: Counter[str] = Counter()
        """How many were handled, by event."""
        self.stopped_by: str | None = None
        """What it failed with, where it has stopped for that."""
        self.is_slow = False
        """Whether it did not keep up lately, and is no longer waited for."""
        self.backlog = 0
        """How many events wait."""
        self.backlog_bytes = 0
        self.positions: dict[Any, int] = {}
        """Without a group: up to where topics were handled that are not followed at the moment, by their keys."""
        self._surroundings = surroundings
        self._hooks = surroundings.hooks
        self._handler = Handler(
            listener.function, name=listener.name, api_name=listener.api, casts=surroundings.casts(listener.api)
        )
        self.waits = False
        """Whether nothing of what waits may be handed out now: it is to be read what comes in front of it."""
        self._runnable: deque[Stream | Order] = deque()
        self._turns: dict[Stream, _Turn] = {}
        """Of streams that wait for others to be handled between their own events."""
        self._again: dict[Stream, _Again] = {}
        self._at_hand: dict[Any, Stream] = {}
        """Per key the stream whose event is being handled: never two of one key, even if a claim was renewed."""
        self._blocked: dict[Any, Stream] = {}
        """Per key the stream that waits for the one at hand."""
        self._starving: list[Stream] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._is_async = runs_on_loop(listener.function)
        loop = self._loop = asyncio.get_running_loop()
        self._one_at_a_time = asyncio.Lock()
        """Held while an event is given again: should this process end meanwhile, no other is taken for the reason."""
        self._sentinel = loop.create_task(asyncio.sleep(LONGEST_SLEEP))
        """Is cancelled by us, or with everything else when the loop ends, but by no handler."""
        self._tasks = [loop.create_task(self._work()) for _ in range(listener.concurrency)]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    # What waits

    @property
    def handled(self) -> int:
        """How many events were handled."""
        return self.handled_by.total()

    @property
    def is_full(self) -> bool:
        """Whether what comes is to wait in the journal."""
        return self.backlog_bytes >= MAX_BYTES

    def ready(self, stream: Stream, count: int, size: int) -> None:
        """Take in that a stream has so many events more, of so many bytes."""
        self.backlog += count
        self.backlog_bytes += size
        self.go_on(stream)

    def go_on(self, stream: Stream) -> None:
        """Give a stream its turn, if an event of it may be handed out; or another one that waited for it."""
        if stream.order is not None:
            stream.order.note(stream)
            self.queue(stream.order)
        elif not stream.queued and stream.can_go_on and not self._stopping:
            stream.queued = True
            self._runnable.append(stream)
            if not self._wake.is_set():
                self._wake.set()

    def queue(self, order: Order) -> None:
        """Give its turn to the next one of the streams of a journal."""
        if not order.queued and not self._stopping:
            order.queued = True
            self._runnable.append(order)
            if not self._wake.is_set():
                self._wake.set()

    def starve(self, stream: Stream) -> None:
        """Note a stream that may have more once there is room."""
        self._starving.append(stream)

    def forget(self, stream: Stream) -> None:
        """Drop what waits of a stream: it is in the journal, and somebody else's matter now."""
        self._drop_waiting(stream)
        stream.drop()
        self._turns.pop(stream, None)
        order, stream.order = stream.order, None
        if order is not None:
            order.forget(stream)
            self.queue(order)  # others may have waited for it
        if self._again.pop(stream, None) is not None:
            self._at_hand.pop(stream.key, None)
            stream.put_back()
            stream.owner.let_go(stream)

    def skip(self, stream: Stream, sequence: int) -> None:
        """Drop what waits of a stream up to a sequence: it was handled elsewhere."""
        before = stream.size
        count = stream.skip(sequence)
        self._took(count, before - stream.size)

    def drop(self, count: int) -> None:
        """Take in that there was no room for events of best effort."""
        self.counts["dropped"] += count
        dropped = self.counts["dropped"]
        if dropped - count < 1 or dropped // 1000 > (dropped - count) // 1000:
            logger.warning("The listener %s is too slow: %d events wait, %d were dropped",
                           self.listener, self.backlog, dropped)  # fmt: skip

    async def stop(self, seconds: float | None) -> bool:
        """Finish the events being handled, at most so long if at all, and stop; return whether all were finished."""
        self._stopping = True
        self._wake.set()
        for timer in self._timers:
            timer.cancel()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        self._sentinel.cancel()
        for stream in list(self._again):
            self.forget(stream)
        return not late

    def _drop_waiting(self, stream: Stream) -> None:
        self._took(len(stream.ready), stream.size)

    def _took(self, count: int, size: int) -> None:
        self.backlog -= count
        self.backlog_bytes -= size
        if self._starving and self.backlog_bytes < MAX_BYTES // 2:
            starving, self._starving = self._starving, []
            for stream in starving:
                stream.owner.look(stream)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """See to it that a worker does not go on as if it listened when its listener's task failed."""
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if self._is_ending else RuntimeError("its task was cancelled")
        if error is not None and not self._stopping:
            logger.critical("The listener %s cannot go on: this is a fault of ours", self.listener.name, exc_info=error)
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Handle nothing more, and leave the group, so that others are given what waits."""
        if self.stopped_by is not None:
            return
        self._stopping = True
        self.stopped_by = f"{type(error).__name__}: {safely(str, error)}"
        self._surroundings.stop_listener(self)

    # The work

    async def _work(self) -> None:
        runnable, wake = self._runnable, self._wake
        handled = 0
        while not self._stopping:
            if not runnable:
                wake.clear()
                self.waits = self.listener.concurrency == 1
                if not self.backlog:
                    self.is_slow = False
                    self._surroundings.caught_up()
                await self._pause(wake.wait())
                self.waits = False
                continue
            handled += await self._next_turn(runnable.popleft())
            if handled >= TURN:
                handled = 0
                await self._pause(asyncio.sleep(0))

    async def _pause(self, awaitable: Awaitable[Any]) -> None:
        """Await something, up to when a handler cancels this task, which it ran in once: that is no end of ours."""
        try:
            await awaitable
        except asyncio.CancelledError:
            if self._is_ending:
                raise
            await self._shake_off_cancelling()

    async def _steadily(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine of ours, whenever a handler cancels this task."""
        task = self._loop.create_task(coroutine)
        while not task.done():
            await self._pause(asyncio.wait([task]))
        return task.result()

    async def _next_turn(self, whose: Stream | Order) -> int:
        """Handle events of a stream, or of the one of a journal whose turn it is; return how many."""
        if isinstance(whose, Stream):
            # One in order that comes here by itself is to be given its event again, and no more than that.
            return await self._turn(whose, math.inf if whose.order is None else 0)
        whose.queued = False
        found = whose.next()
        if found is None:
            return 0
        count = await self._turn(*found)
        self.queue(whose)
        return count

    async def _turn(self, stream: Stream, before: float) -> int:
        """Handle events of a stream, those before a sequence; return how many."""
        stream.queued = False
        if self._at_hand.get(stream.key, stream) is not stream:
            self._blocked[stream.key] = stream
            return 0
        self._at_hand[stream.key] = stream
        count, going_on = 0, True
        turn = self._turns.pop(stream, None) or self._new_turn(stream)
        cancelling = _current_task().cancelling
        if (again := self._again.pop(stream, None)) is not None:
            count = 1
            going_on = await self._redeliver(stream, again.entry, again.deliveries + 1, again.backoff, turn)
        while going_on and count < TURN and not self._stopping and (entry := stream.take(before)) is not None:
            count += 1
            self.backlog -= 1
            self.backlog_bytes -= len(entry[2])
            if entry[0] <= stream.doubtful and stream.is_doubtful(entry):
                # It may be the one that its last consumer was lost over: its start is on record before it happens.
                going_on = await self._redeliver(stream, entry, 2, FIRST_BACKOFF, turn)
            elif not turn.is_plain:
                going_on = await self._handle(stream, entry, 1, FIRST_BACKOFF, turn)
            else:  # as nearly always: _handle, written out
                try:
                    message = self._message(stream, entry, 1, turn)
                    args, kwargs = self._arguments(message, turn)
                except LightbusException:
                    going_on = await self._handle(stream, entry, 1, FIRST_BACKOFF, turn)
                    continue
                context = Context()
                try:
                    rest = begin(context, context.run(turn.function, *args, **kwargs))
                    if rest is not None:
                        check_ran(turn.function, await rest)
                except BaseException as error:
                    going_on = await self._raised(stream, entry, message, error, FIRST_BACKOFF)
                else:
                    self._done(stream, entry)
                    if cancelling():
                        await self._shake_off_cancelling()
        self._took(0, 0)
        if count and stream.is_noted and not stream.busy and stream.head <= stream.position:  # else `_done` said it
            stream.owner.handled(stream)
        turn.count += count
        if stream.order is not None and stream.ready and turn.count < TURN:
            self._turns[stream] = turn
        if going_on or not stream.busy:
            self._at_hand.pop(stream.key, None)
            self.go_on(stream)
            if (blocked := self._blocked.pop(stream.key, None)) is not None:
                self.go_on(blocked)
        return count

    def _new_turn(self, stream: Stream) -> _Turn:
        journal, event, _ = stream.key
        event = event.partition(" ")[0]  # of one that is given again
        return _Turn(
            api=self.listener.api,
            event=event,
            journal=journal,
            publisher=stream.owner.publisher,
            check=self._surroundings.check_of(self.listener.api, event),
            function=self.listener.function,
            is_plain=self._is_async and not self._is_hooked,
        )

    def _done(self, stream: Stream, entry: Entry) -> bool:
        stream.done(entry)
        self.handled_by[stream.key[1]] += 1
        if not stream.is_noted or stream.head > stream.position:  # else the end of this turn is early enough
            stream.owner.handled(stream)
        return True

    def _put_back(self, stream: Stream) -> bool:
        self._drop_waiting(stream)
        stream.put_back()
        stream.owner.let_go(stream)
        return False

    async def _redeliver(self, stream: Stream, entry: Entry, at_least: int, backoff: float, turn: _Turn) -> bool:
        await self._steadily(self._one_at_a_time.acquire())
        try:
            return await self._give_again(stream, entry, at_least, backoff, turn)
        finally:
            self._one_at_a_time.release()

    async def _give_again(self, stream: Stream, entry: Entry, at_least: int, backoff: float, turn: _Turn) -> bool:
        start = stream.owner.start(stream, entry, min(at_least, self.listener.max_deliveries))
        deliveries = await self._steadily(start)
        if deliveries == 0:
            return self._put_back(stream)
        if deliveries > self.listener.max_deliveries:
            return await self._bury(stream, entry, deliveries - 1, "Each delivery ended the process, or the handler.")
        self.counts["redelivered"] += 1
        return await self._handle(stream, entry, max(deliveries, at_least), backoff, turn)

    async def _bury(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        if not await self._steadily(stream.owner.bury(stream, entry, deliveries, error)):
            return self._put_back(stream)
        self.counts["buried"] += 1
        return self._done(stream, entry)

    async def _handle(self, stream: Stream, entry: Entry, deliveries: int, backoff: float, turn: _Turn) -> bool:
        try:
            message = self._message(stream, entry, deliveries, turn)
        except PayloadTooLarge as error:
            # Set aside, for when this process takes more: it is told from there to try again.
            self._note_invalid(stream, entry, error)
            return await self._bury(stream, entry, deliveries, f"{type(error).__name__}: {error}")
        except LightbusException as error:
            self._note_invalid(stream, entry, error)
            return self._done(stream, entry)
        try:
            args, kwargs = self._arguments(message, turn)
        except LightbusException as error:
            return await self._misfit(stream, entry, deliveries, error)
        try:
            await self._execute(message, args, kwargs)
        except BaseException as error:
            return await self._raised(stream, entry, message, error, backoff)
        return self._done(stream, entry)

    async def _raised(
        self, stream: Stream, entry: Entry, message: EventMessage, error: BaseException, backoff: float
    ) -> bool:
        if _current_task().cancelling():
            if self._is_ending:
                raise error
            await self._shake_off_cancelling()
        if (misfit := self._handler.misfit(error, message.kwargs)) is not None:
            return await self._misfit(stream, entry, message.deliveries, misfit)
        return await self._failed(stream, entry, message, as_exception(self.listener.name, error), backoff)

    @property
    def _is_ending(self) -> bool:
        """Whether our tasks are cancelled by ourselves, or by the end of the loop."""
        return self._stopping or self._sentinel.done() or self._sentinel.cancelling() > 0

    async def _shake_off_cancelling(self) -> None:
        """Go on although a handler has cancelled the task that it ran in: what it did is its own matter."""
        task = _current_task()
        if self._is_ending:
            return  # the cancelling takes effect where we wait next
        while task.uncancel():
            pass
        with contextlib.suppress(asyncio.CancelledError):  # which may come only now
            await asyncio.sleep(0)

    async def _misfit(self, stream: Stream, entry: Entry, deliveries: int, error: LightbusException) -> bool:
        """
        Set an event aside that does not fit.

        Whoever is wrong, sender or listener, trying again does not help: `on_error` is not asked, nothing a peer sends
        stops us, and the event is kept for when one of them was mended.
        """
        self._note_invalid(stream, entry, error)
        return await self._bury(stream, entry, deliveries, f"{type(error).__name__}: {error}")

    def _note_invalid(self, stream: Stream, entry: Entry, error: LightbusException) -> None:
        self.counts["invalid"] += 1
        logger.error("%s is not given to the listener %s: %s", _where(stream, entry), self.listener.name, error)

    async def _failed(
        self, stream: Stream, entry: Entry, message: EventMessage, error: Exception, backoff: float
    ) -> bool:
        policy, deliveries, most = self.listener.on_error, message.deliveries, self.listener.max_deliveries
        retries = policy in (OnError.RETRY, OnError.STOP_LISTENER) and not self._stopping
        self.counts["failed"] += 1
        if policy is OnError.ACKNOWLEDGE_AND_LOG:
            self._log_failure(message, error, "It counts as handled.")
            return self._done(stream, entry)
        if deliveries >= most:
            kept = "set aside (lightbus dead list)" if self.listener.group else "dropped, as there is no group"
            self._log_failure(message, error, f"It was the last one: the event is {kept}.")
            going_on = await self._bury(stream, entry, deliveries, show(error))
        elif retries:
            self._log_failure(message, error, f"It is tried again in {backoff:g} s, and its partition waits for it.")
            self._try_again_later(stream, _Again(entry, deliveries, min(2 * backoff, LONGEST_BACKOFF)), backoff)
            return False
        else:
            self._log_failure(message, error, "It is given to the group again.")
            if deliveries == 1:  # the others are on record
                await self._steadily(stream.owner.start(stream, entry, 1))
            going_on = self._put_back(stream)
        if policy is OnError.SHUTDOWN:
            self._surroundings.on_fatal(self.listener, error)
            self._stopping = True
        elif policy is OnError.STOP_LISTENER and deliveries >= most:
            self._give_up(error)
        return going_on

    def _log_failure(self, message: EventMessage, error: Exception, what_next: str) -> None:
        report(
            logger, logging.ERROR, error, "The listener %s failed on %s, delivery %d of %d. %s",
            self.listener.name, safely(repr, message), message.deliveries, self.listener.max_deliveries, what_next,
        )  # fmt: skip

    def _try_again_later(self, stream: Stream, again: _Again, seconds: float) -> None:
        self.counts["retried"] += 1
        self._again[stream] = again

        def resume() -> None:
            self._timers.discard(timer)
            if stream in self._again and not self._stopping:
                stream.queued = True
                self._runnable.append(stream)
                self._wake.set()

        timer = asyncio.get_running_loop().call_later(seconds, resume)
        self._timers.add(timer)

    def _message(self, stream: Stream, entry: Entry, deliveries: int, turn: _Turn) -> EventMessage:
        """Return the message of an event. To each listener its own: a handler may change what it is given."""
        sequence = entry[0]
        record = turn.ahead.pop(sequence, None)
        if record is None:
            try:
                record = _decode(entry, stream, turn)
            except ProtocolError:
                self._refuse_left_out(entry)
                raise
        id, version, published_at, kwargs = record
        where = (turn.journal, sequence)
        return event_message(turn.api, turn.event, kwargs, version, id, where, deliveries, published_at, turn.publisher)

    def _refuse_left_out(self, entry: Entry) -> None:
        size = size_left_out(entry.record)
        if size is not None:
            raise PayloadTooLarge(
                f"It takes {size} bytes, and a message to this process may have {self._surroundings.max_message_size}. "
                "Raise network.max_message_size here, and have it tried again: lightbus dead retry."
            ) from None

    def _arguments(self, message: EventMessage, turn: _Turn) -> tuple[tuple[EventMessage, ...], Kwargs]:
        """Return what the handler is called with. Raises LightbusException where that does not fit it."""
        if turn.check is not None:
            message.kwargs = turn.check(message.kwargs)
        return self._handler.arguments(message)

    @property
    def _is_hooked(self) -> bool:
        return self._hooks.has("before_event_execution") or self._hooks.has("after_event_execution")

    async def _execute(self, message: EventMessage, args: tuple[EventMessage, ...], kwargs: Kwargs) -> None:
        executor, function = self._surroundings.executor, self.listener.function
        execution = Execution(self._loop, executor)
        if not self._is_async and self._is_hooked:
            # All in one thread: what a `def` hook does to its thread is there for the handler.
            given = execution, message, args, kwargs
            await in_thread(self._loop, executor, self._execute_blocking, *given)
        elif not self._is_hooked:
            check_ran(function, await execution.call(function, args, kwargs, on_loop=self._is_async))
        else:
            details = self._details(message)
            await self._hooks.run("before_event_execution", execution.call, **details)
            await execution.call(function, args, kwargs, on_loop=True)
            await self._hooks.run("after_event_execution", execution.call, **details)
        if _current_task().cancelling():
            await self._shake_off_cancelling()

    def _execute_blocking(
        self, execution: Execution, message: EventMessage, args: tuple[EventMessage, ...], kwargs: Kwargs
    ) -> None:
        details = self._details(message)
        self._hooks.run_blocking("before_event_execution", execution.call_blocking, **details)
        check_ran(self.listener.function, execution.call_blocking(self.listener.function, args, kwargs))
        self._hooks.run_blocking("after_event_execution", execution.call_blocking, **details)

    def _details(self, message: EventMessage) -> dict[str, Any]:
        """Return what hooks are told."""
        client, name = self._surroundings.client, self.listener.name
        return {"client": client, "event_message": message, "listener_name": name}


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _decode(entry: Entry, stream: Stream, turn: _Turn) -> Record:
    """
    Return an event, and note ahead what waits behind it: as much as one turn may come to and memory does not mind.

    Raises ProtocolError where it is none.
    """
    turn.ahead.clear()  # what waited was dropped meanwhile, and is another matter now
    if turn.decodes_ahead and stream.ready and stream.size <= AHEAD:
        entries = [entry, *itertools.islice(stream.ready, TURN)]
        try:
            record, *others = envelope.decode_records([each[2] for each in entries])
        except ProtocolError:
            turn.decodes_ahead = False  # in its turn it is found which of them is no event
        else:
            turn.ahead.update(zip([each[0] for each in entries[1:]], others, strict=True))
            return record
    return envelope.decode_record(entry[2])


def _where(stream: Stream, entry: Entry) -> str:
    journal, event, partition = stream.key
    name = f"The event {event} at {native_id(journal, entry.sequence) or entry.sequence} (partition {partition})"
    with contextlib.suppress(ProtocolError):
        name += f", {envelope.decode_record(entry.record).id}"
    return name
