"""Publishing to the stream of one API: repeats, and the meaning of refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import takewhile

from nats.js.errors import APIError, ServiceUnavailableError

from ...exceptions import EventBackendError, EventBackendUnreachable
from ...ports.events import OutgoingEvent
from .connection import NatsConnection
from .places import StreamPlaces
from .publishing import OutgoingMessage, StreamRefusal

__all__ = ["PUBLISHED_AT", "StreamPublisher"]

PUBLISHED_AT = "Lightbus-Published-At"
"""The header with the time at which an event was fired."""

ATTEMPTS = 2
"""An event that did not arrive is published again for this many times `timeout`."""

AGAIN_AFTER = 0.1
HEADERS = 512
"""Most bytes of a message besides its event."""

TOO_LARGE = 10054
_FULL = "It is full, and was not made by us: have it keep more (max_bytes, max_msgs), or delete its oldest (discard)."
_NO_ROOM = "Give the servers more room (max_file_store of jetstream), or have streams keep less (max_age, max_bytes)."
REMEDIES = {
    TOO_LARGE: "Send less, or raise max_msg_size of the stream.",
    10023: _NO_ROOM,
    10047: _NO_ROOM,
    10060: "Another stream has its subjects: remove that, or rename the bus.",
    10077: _FULL,
    10122: _FULL,
}
"""Error codes of a server's refusals, and what to do about them."""

OTHERWISE = "See what the servers' log says."


class StreamPublisher:
    """
    Publishes to one stream, which must exist. Only used on the loop that it was made on.

    Args:
        connection: the connection to the servers.
        places: the names of the stream.
        api: the API of its events.

    """

    def __init__(self, connection: NatsConnection, places: StreamPlaces, api: str) -> None:
        self._connection = connection
        self._places = places
        self._api = api

    async def publish(self, events: Sequence[OutgoingEvent], only: str) -> list[int | EventBackendError]:
        """
        Store events in order; return the sequence or error of each: after one that did not arrive, none is stored.

        An event is sent again when its outcome is unknown: the servers recognise it by its id.
        """
        outcomes: list[int | EventBackendError] = []
        until = self._until()
        while len(outcomes) < len(events):
            left = events[len(outcomes) :]
            try:
                found = await self._send(left, only)
            except EventBackendUnreachable as error:
                if time.monotonic() > until:
                    return [*outcomes, *[error] * len(left)]
                await asyncio.sleep(AGAIN_AFTER)
            except EventBackendError as error:
                return [*outcomes, *[error] * len(left)]
            else:
                outcomes += found
                until = self._until()
        return outcomes

    def _until(self) -> float:
        return time.monotonic() + ATTEMPTS * self._connection.settings.timeout

    async def _send(self, events: Sequence[OutgoingEvent], only: str) -> Sequence[int | EventBackendError]:
        """Send events; return the outcomes of the first ones, at least one. Raises an error that holds for all."""
        channel = await self._connection.publishing()
        most = channel.client.max_payload
        size = next((n for n, event in enumerate(events) if len(event.record) + HEADERS > most), len(events))
        if not size:
            return [self._too_large(events[0], most)]
        messages = [self._message(event, only) for event in events[:size]]
        async with self._connection.asking():
            outcomes = await channel.publish(messages, self._places.stream, self._connection.settings.timeout)
            kept = [*takewhile(lambda outcome: isinstance(outcome, int), outcomes)]
            if not kept and isinstance(refused := outcomes[0], StreamRefusal):
                return [self._refused(refused.error)]
        return [outcome for outcome in kept if isinstance(outcome, int)]

    def _message(self, event: OutgoingEvent, only: str) -> OutgoingMessage:
        headers = {PUBLISHED_AT: repr(event.published_at)}
        return OutgoingMessage(self._places.subject(event.topic, only), event.id, event.record, headers)

    def _refused(self, error: APIError | None) -> EventBackendError:
        """Return the error if the server refuses only this event; raise it if it concerns all events."""
        if error is None:
            raise self._connection.unreachable(f"it did not confirm an event of {self._api}")
        if isinstance(error, ServiceUnavailableError) and error.err_code not in REMEDIES:
            raise error
        what = f"The stream {self._places.stream} does not keep an event of {self._api}: {error.description}."
        refused = EventBackendError(f"{what} {REMEDIES.get(error.err_code or 0, OTHERWISE)}")
        if error.err_code != TOO_LARGE:
            raise refused
        return refused

    def _too_large(self, event: OutgoingEvent, most: int) -> EventBackendError:
        return EventBackendError(
            f"{self._api}.{event.topic.event} takes {len(event.record)} bytes, and the JetStream takes messages of "
            f"{most} bytes, {HEADERS} of headers included. Send less, or raise max_payload of the servers."
        )
