"""Delivers one event to a listener, for the first time or again, and handles events that do not fit or fail.

The policies of `OnError` are implemented here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from ...core.streams import Entry, Stream
from ...exceptions import JournalError, LightbusException, PayloadTooLarge, ProtocolError
from ...listener import BatchFailed, Listener, OnError
from ...message import EventMessage
from ...phrases import safely
from ...service.failures import as_exception, is_a, report, show
from ...wire import envelope
from ..event_record import native_id
from .cancel_guard import CancelGuard, current_task
from .invocation import Invocation, Turn
from .listener_context import ListenerContext
from .listener_queue import ListenerQueue, Retry

__all__ = ["Delivery", "failures", "next_pause"]

logger = logging.getLogger("lightbus.listeners")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Shortest and longest pause, in seconds, before a failed event is tried again."""


def next_pause(last: float) -> float:
    """Return the pause before the next delivery of an event; `last` is the previous pause, 0 if there was none."""
    return min(2 * last, LONGEST_PAUSE) if last else FIRST_PAUSE


def failures(messages: Sequence[EventMessage], error: BaseException) -> list[BaseException | None]:
    """Return the error of each event of a batch whose handler raised; None for events that did not fail."""
    if not is_a(error, BatchFailed):
        return [error] * len(messages)
    assert isinstance(error, BatchFailed)
    reasons = error.reasons
    if unknown := reasons.keys() - {message.id for message in messages}:
        logger.error("A listener reports failed events that were not in its batch: %s. All count as failed",
                     safely(repr, sorted(unknown)[:10]))  # fmt: skip
        return [error] * len(messages)
    return [reasons.get(message.id) for message in messages]


class Delivery:
    """
    Delivers events to one listener. Only touched from the node's loop.

    All methods that return a bool return whether the stream continues with its next event.

    Args:
        context: the process that the listener runs in.
        queue: the listener's queue, in which events in progress are marked as done, put back or retried.
        invocation: calls the function.
        guard: protects against handlers that cancel their task.
        stop_listener: called with the error when the listener must stop for good.

    """

    def __init__(
        self,
        context: ListenerContext,
        queue: ListenerQueue,
        invocation: Invocation,
        guard: CancelGuard,
        stop_listener: Callable[[BaseException], None],
    ) -> None:
        self._context = context
        self._queue = queue
        self._invocation = invocation
        self._guard = guard
        self._stop_listener = stop_listener
        self._is_fatal = False
        """Whether the worker is stopping."""
        self._one_at_a_time = asyncio.Lock()
        """Held during a redelivery: if it ends this process, no other event is blamed."""

    @property
    def _listener(self) -> Listener:
        return self._queue.listener

    async def deliver(self, stream: Stream, entry: Entry, deliveries: int, turn: Turn, pause: float = 0.0) -> bool:
        """Deliver an event to the listener; `pause` is the pause before this delivery, if it is a retry."""
        try:
            message = self._invocation.message(stream, entry, deliveries, turn)
        except PayloadTooLarge as error:
            # A dead letter, which can be retried after the limit of this process was raised.
            return await self.does_not_fit(stream, entry, deliveries, error)
        except LightbusException as error:
            self.note_invalid(stream, entry, error)
            return self._queue.done(stream, entry)
        try:
            args, kwargs = self._invocation.arguments(message, turn)
        except LightbusException as error:
            return await self.does_not_fit(stream, entry, deliveries, error)
        event, fired_at = message.event_name, message.published_at  # now: the handler may change the message
        try:
            await self._invocation.execute((message,), args, kwargs)
        except BaseException as error:
            return await self.raised(stream, entry, message, error, pause)
        self._invocation.delays.note(event, stream.owner.publisher, fired_at)
        return self._queue.done(stream, entry)

    async def redeliver(self, stream: Stream, entry: Entry, at_least: int, turn: Turn, pause: float = 0.0) -> bool:
        """Deliver an event that may have been delivered to this or another member of the group before."""
        await self._guard.shielded(self._one_at_a_time.acquire())
        try:
            return await self._redeliver(stream, entry, at_least, turn, pause)
        finally:
            self._one_at_a_time.release()

    async def raised(
        self, stream: Stream, entry: Entry, message: EventMessage, error: BaseException, pause: float = 0.0
    ) -> bool:
        """Handle the error of an event's handler, or of a hook around it."""
        await self.absorb_handlers_cancellation(error)
        if (argument_error := self._invocation.handler.argument_error(error, message.kwargs)) is not None:
            return await self.does_not_fit(stream, entry, message.deliveries, argument_error)
        found = failures([message], error)[0] if self._listener.batch else error
        if found is None:
            return self._queue.done(stream, entry)
        return await self.failed(stream, entry, message, as_exception(self._listener.name, found), pause)

    async def absorb_handlers_cancellation(self, error: BaseException) -> None:
        """Undo a cancellation of this task by a handler that raised; raise the error if the listener is ending."""
        if current_task().cancelling():
            if self._guard.is_ending:
                raise error
            await self._guard.absorb_cancellation()

    async def _redeliver(self, stream: Stream, entry: Entry, at_least: int, turn: Turn, pause: float) -> bool:
        # Recorded before the delivery, so that the count is right even if the delivery ends this process.
        most = self._listener.max_deliveries
        recording = stream.owner.record_delivery(stream, entry, min(at_least, most))
        deliveries = await self._guard.shielded(recording)
        if deliveries == 0:
            return self._queue.put_back(stream)
        if deliveries > most:
            text = "Each delivery ended the process, or the handler."
            return await self._dead_letter(stream, entry, deliveries - 1, text)
        self._queue.counts["redelivered"] += 1
        return await self.deliver(stream, entry, max(deliveries, at_least), turn, pause)

    async def _dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        if not await self._guard.shielded(stream.owner.dead_letter(stream, entry, deliveries, error)):
            return self._queue.put_back(stream)
        self._queue.counts["dead_lettered"] += 1
        return self._queue.done(stream, entry)

    async def does_not_fit(self, stream: Stream, entry: Entry, deliveries: int, error: LightbusException) -> bool:
        """
        Make a dead letter of an event that does not fit the listener.

        Whether the sender or the listener is wrong, trying again does not help: `on_error` is not applied, nothing that
        a peer sends stops the listener, and the event is kept until one of them was corrected.
        """
        self.note_invalid(stream, entry, error)
        return await self._dead_letter(stream, entry, deliveries, f"{type(error).__name__}: {error}")

    def note_invalid(self, stream: Stream, entry: Entry, error: LightbusException) -> None:
        """Count and log an event that is not delivered to the listener."""
        self._queue.counts["invalid"] += 1
        logger.error("%s is not delivered to the listener %s: %s", _where(stream, entry), self._listener.name, error)

    async def failed(
        self,
        stream: Stream,
        entry: Entry,
        message: EventMessage,
        error: Exception,
        pause: float = 0.0,
        *,
        logs: bool = True,
    ) -> bool:
        """Apply `on_error` to an event whose handler failed, and log the error unless it is logged elsewhere."""
        policy, deliveries, most = self._listener.on_error, message.deliveries, self._listener.max_deliveries
        retries = policy in (OnError.RETRY, OnError.STOP_LISTENER) and not self._queue.is_closed
        self._queue.counts["failed"] += 1
        self._queue.failed_by[stream.key[1]] += 1
        if policy is OnError.ACKNOWLEDGE_AND_LOG:
            self._log_failure(message, error, "It counts as handled.", logs=logs)
            return self._queue.done(stream, entry)
        if deliveries >= most:
            kept = "a dead letter (lightbus dead list)" if self._listener.group else "dropped, as there is no group"
            self._log_failure(message, error, f"It was the last one: the event is {kept}.", logs=logs)
            going_on = await self._dead_letter(stream, entry, deliveries, show(error))
        elif retries:
            retry = Retry(entry, deliveries, next_pause(pause))
            text = f"It is tried again in {retry.pause:g} s, and its partition waits for it."
            self._log_failure(message, error, text, logs=logs)
            self._queue.retry_later(stream, retry)
            return False
        else:
            self._log_failure(message, error, "It is delivered to the group again.", logs=logs)
            if deliveries == 1:  # later deliveries are recorded already
                await self._guard.shielded(stream.owner.record_delivery(stream, entry, 1))
            going_on = self._queue.put_back(stream)
        if policy is OnError.SHUTDOWN:
            if not self._is_fatal:
                self._is_fatal = True
                self._context.on_fatal(self._listener, error)
            self._queue.is_closed = True
        elif policy is OnError.STOP_LISTENER and deliveries >= most:
            self._stop_listener(error)
        return going_on

    def _log_failure(self, message: EventMessage, error: Exception, what_next: str, *, logs: bool) -> None:
        if not logs:
            return
        text = "The listener %s failed on %s, delivery %d of %d. %s"
        most = self._listener.max_deliveries
        about = self._listener.name, safely(repr, message), message.deliveries, most, what_next
        if is_a(error, JournalError):  # on a full disk every handler that fires an event fails: no tracebacks
            logger.error(text, *about[:-1], f"{what_next} It raised: {error}")
        else:
            report(logger, logging.ERROR, error, text, *about)


def _where(stream: Stream, entry: Entry) -> str:
    journal, event, partition = stream.key
    name = f"The event {event} at {native_id(journal, entry.sequence) or entry.sequence} (partition {partition})"
    with contextlib.suppress(ProtocolError):
        name += f", {envelope.decode_record(entry.record).id}"
    return name
