"""Acknowledges the handled events of a listener at its event backend: collected, and repeated until confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from ...core.streams import AckPosition, Stream
from ...phrases import INTERNAL_ERROR
from ...ports.events import EventSubscription, EventTopic
from ..listening.listener_queue import ListenerQueue

__all__ = ["AGAIN_AFTER", "BackendAcks", "topic_of"]

logger = logging.getLogger("lightbus.listeners")

AGAIN_AFTER = 0.5
"""Seconds after which an unanswered request to a backend is repeated."""


class BackendAcks:
    """
    Acknowledges streams. Only touched from the node's loop.

    Args:
        queue: the listener's queue; streams that waited for an acknowledgement are queued again.
        failed: called with the error if the backend does not take an acknowledgement.

    Attributes:
        to_send: the streams with events to acknowledge.

    """

    def __init__(self, queue: ListenerQueue, failed: Callable[[Exception], None]) -> None:
        self.to_send: set[Stream] = set()
        self._queue = queue
        self._failed = failed
        self._subscription: EventSubscription | None = None
        self._sending: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    def open(self, subscription: EventSubscription) -> None:
        """Set the subscription that acknowledgements are sent to."""
        self._subscription = subscription

    async def stop(self) -> None:
        """Stop the automatic sending."""
        self._closed = True
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    def mark(self, stream: Stream) -> None:
        """Acknowledge the handled events of a stream soon."""
        self.to_send.add(stream)
        if self._sending is None and self._subscription is not None and not self._closed:
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            await self.flush()
        except Exception as error:
            logger.error("Acknowledgements were not sent: %s", INTERNAL_ERROR, exc_info=error)
        finally:
            self._sending = None  # without an await before: streams marked from now on need a new task

    async def flush(self) -> None:
        """Acknowledge all handled events, including those handled meanwhile; return once all of that is confirmed."""
        while self._subscription is not None:
            try:
                await self.send(())
            except Exception as error:  # whatever a backend raises: what is not acknowledged is delivered again
                self._failed(error)
                await asyncio.sleep(AGAIN_AFTER)
            else:
                if not self.to_send:
                    return

    async def send(self, others: Iterable[Stream]) -> None:
        """Acknowledge handled events, also of `others`. Raises what the backend does; then they stay in `to_send`."""
        async with self._one_at_a_time:  # those that another call has sent are confirmed before this one returns
            await self._send(others)

    async def _send(self, others: Iterable[Stream]) -> None:
        if self._subscription is None:
            return
        streams, self.to_send = {*self.to_send, *others}, set()
        handled: dict[Stream, AckPosition] = {}
        for stream in streams:
            if (told := stream.next_ack()) is not None:
                handled[stream] = told
        if not handled:
            return
        positions: dict[EventTopic, int] = {}
        for stream, told in handled.items():  # two may have one topic: its partition was revoked, and is ours again
            positions[topic_of(stream)] = max(told.sequence, positions.get(topic_of(stream), 0))
        try:
            await self._subscription.ack(positions)
        except BaseException:
            self.to_send |= streams
            for stream in handled:
                stream.ack_failed()
            raise
        for stream, told in handled.items():
            stream.ack_confirmed(told)
            self._queue.requeue(stream)


def topic_of(stream: Stream) -> EventTopic:
    """Return the topic of a stream in its API."""
    _, event, partition = stream.key
    return EventTopic(event, partition)
