"""The turns of a listener that takes batches: a batch is delivered once it is full, or has waited long enough.

No event is taken from the queue while a batch waits for more. An event that failed, alone or in a batch, is delivered
alone from then on; so is one that another member may have begun. So deliveries, retries and dead letters are counted
for the right event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging

from ...core.streams import Entry, Stream
from ...exceptions import LightbusException, PayloadTooLarge, ProtocolError
from ...message import EventMessage
from ...service.failures import as_exception
from ...wire.event_names import declared_event
from .batch_queue import BatchQueue, Chunk, Leftover, NextTurn
from .cancel_guard import CancelGuard
from .delivery import Delivery, failures
from .invocation import Invocation, Turn
from .listener_context import ListenerContext
from .listener_turns import ListenerTurns

__all__ = ["BatchTurns"]

logger = logging.getLogger("lightbus.listeners")


class _Given:
    """An event of a batch: its message if it is valid, and its error if it is not or has failed."""

    __slots__ = ("entry", "error", "message", "stream")

    def __init__(self, stream: Stream, entry: Entry) -> None:
        self.stream = stream
        self.entry = entry
        self.message: EventMessage | None = None
        self.error: BaseException | None = None


class BatchTurns(ListenerTurns):
    """The work of the tasks of a listener that takes batches. Only touched from the node's loop."""

    def __init__(
        self,
        context: ListenerContext,
        queue: BatchQueue,
        invocation: Invocation,
        delivery: Delivery,
        guard: CancelGuard,
    ) -> None:
        super().__init__(context, queue, invocation, delivery, guard)
        self._batches = queue
        self._loop = asyncio.get_running_loop()

    async def work(self) -> None:
        queue = self._batches
        while not queue.is_closed:
            next_turn = queue.next()
            if next_turn is None:
                await self._idle()
                continue
            if queue.is_delivered_alone(next_turn[0]):
                await self._deliver_alone(next_turn)
            else:
                queue.return_turn(next_turn)
                await self._fill(next_turn[0])
                chunks = queue.take_batch()
                if chunks:
                    await self._handle(chunks)
            await self._guard.pause(asyncio.sleep(0))

    async def _fill(self, stream: Stream) -> None:
        """Wait until a whole batch is queued, at most `batch_wait`."""
        queue, wait = self._batches, self._queue.listener.batch_wait
        if not wait or queue.has_enough(stream):
            return
        queue.is_filled.clear()
        queue.waits = True  # so that more is read meanwhile
        self._context.caught_up()
        timer = self._loop.call_later(wait, queue.is_filled.set)
        await self._guard.pause(queue.is_filled.wait())
        timer.cancel()
        queue.waits = False

    # One event at a time

    async def _deliver_alone(self, next_turn: NextTurn) -> None:
        """Deliver events of a stream one by one, as long as they must be delivered alone."""
        queue, delivery = self._batches, self._delivery
        stream, before, order = next_turn
        if queue.begin(stream):
            turn = self._invocation.new_turn(stream)
            going_on = True
            if (retry := queue.take_retry(stream)) is not None:
                going_on = await delivery.redeliver(stream, retry.entry, retry.deliveries + 1, turn, retry.pause)
                while going_on and (left := queue.next_leftover(stream)) is not None:
                    if left.failed:
                        going_on = await delivery.redeliver(stream, left.entry, 2, turn, retry.pause)
                    else:
                        queue.handled(stream, [left.entry])
            while going_on and not queue.is_closed and stream.is_next_possibly_delivered:
                entry = queue.take(stream, before)
                if entry is None:
                    break
                going_on = await delivery.redeliver(stream, entry, 2, turn)
            queue.end_of_batch(stream)
        if order is not None:
            queue.queue(order)

    # Batches

    async def _handle(self, chunks: list[Chunk]) -> None:
        """Deliver a batch, and acknowledge, retry or dead-letter each of its events."""
        messages = self._messages(chunks)
        fired = [] if messages is None else _fired(chunks, messages)  # now: the handler may change the messages
        if messages is not None and (error := await self._execute(messages)) is None:  # the usual case
            for (stream, entries), fired_at in zip(chunks, fired, strict=True):
                self._batches.handled(stream, entries)
                self._invocation.delays.note(declared_event(stream.key[1]), stream.owner.publisher, fired_at)
            for stream in dict.fromkeys(stream for stream, _ in chunks):
                self._batches.end_of_batch(stream)
            return
        given = self._given(chunks)
        fitting = [each for each in given if each.message is not None]
        if messages is None:
            messages = [each.message for each in fitting if each.message is not None]
            error = await self._execute(messages)
        first_failed = self._note_failed(fitting, messages, error)
        by_stream: dict[Stream, list[_Given]] = {}
        for each in given:
            by_stream.setdefault(each.stream, []).append(each)
        for stream, events in by_stream.items():
            await self._settle(stream, events, first_failed)
            self._batches.end_of_batch(stream)

    async def _execute(self, messages: list[EventMessage]) -> BaseException | None:
        """Call the listener; return the error that it raised, or None."""
        if not messages:
            return None
        try:
            await self._invocation.execute(messages, (messages[:],), {})
        except BaseException as error:
            await self._delivery.absorb_handlers_cancellation(error)
            return error
        return None

    def _note_failed(
        self, given: list[_Given], messages: list[EventMessage], error: BaseException | None
    ) -> _Given | None:
        """Record which events of a batch failed, and log how many; return the first, whose error is logged later."""
        if error is None:
            return None
        for each, reason in zip(given, failures(messages, error), strict=True):
            each.error = reason
        failed = [each for each in given if each.error is not None]
        if len(given) > 1 and failed:
            text = "The listener %s failed on %d of %d events of a batch. The first one:"
            logger.error(text, self._queue.listener.name, len(failed), len(given))
        return failed[0] if failed else None

    def _messages(self, chunks: list[Chunk]) -> list[EventMessage] | None:
        """Return the messages of a batch; None if one of its events is invalid, or does not fit."""
        turns: dict[Stream, Turn] = {}
        messages: list[EventMessage] = []
        for stream, entries in chunks:
            turn = turns.get(stream)
            if turn is None:
                turn = turns[stream] = self._invocation.new_turn(stream)
            try:
                messages += self._invocation.messages(entries, turn)
            except LightbusException:
                return None
        return messages

    def _given(self, chunks: list[Chunk]) -> list[_Given]:
        """Return the events of a batch, each with its message, or with the error why it does not fit."""
        given: list[_Given] = []
        for stream, entries in chunks:
            turn = self._invocation.new_turn(stream)
            turn.decodes_ahead = False
            for entry in entries:
                given.append(each := _Given(stream, entry))
                try:
                    message = self._invocation.message(stream, entry, 1, turn)
                    if turn.check is not None:
                        message.kwargs = turn.check(message.kwargs)
                    each.message = message
                except LightbusException as error:
                    each.error = error
        return given

    async def _settle(self, stream: Stream, events: list[_Given], first_failed: _Given | None) -> None:
        """Acknowledge the events of one stream up to one that is retried; later ones wait for that."""
        queue = self._batches
        handled: list[Entry] = []
        for number, each in enumerate(events):
            if each.error is None:
                handled.append(each.entry)
                continue
            queue.handled(stream, handled)
            handled = []
            if not await self._settle_failed(each, each.error, logs=each is first_failed):
                rest = [Leftover(one.entry, one.error is not None) for one in events[number + 1 :]]
                queue.keep_leftovers(stream, rest)
                return
        queue.handled(stream, handled)

    async def _settle_failed(self, each: _Given, error: BaseException, *, logs: bool) -> bool:
        """Handle an event that failed, or does not fit; return whether its stream continues."""
        stream, entry, message = each.stream, each.entry, each.message
        if message is None:
            assert isinstance(error, LightbusException)
            if isinstance(error, ProtocolError) and not isinstance(error, PayloadTooLarge):
                self._delivery.note_invalid(stream, entry, error)
                return self._queue.done(stream, entry)
            return await self._delivery.does_not_fit(stream, entry, 1, error)
        failure = as_exception(self._queue.listener.name, error)
        return await self._delivery.failed(stream, entry, message, failure, logs=logs)


def _fired(chunks: list[Chunk], messages: list[EventMessage]) -> list[float]:
    """Return when the last event of each chunk was fired."""
    ends = itertools.accumulate(len(entries) for _, entries in chunks)
    return [messages[end - 1].published_at for end in ends]
