"""Looking up events in the stream of an API: by id, by time, and page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from nats.js.api import DeliverPolicy

from ...ports.events import StoredEvent
from .api_stream import ALL, MANY, PAST, ApiStream, published_at
from .stream_counts import MANY_HEADERS

__all__ = ["FROM", "before", "ids_behind", "newest", "page", "place_of"]

FROM = " from "
"""Separates the id of an event that was moved into the stream from its place in the source."""


async def before(stream: ApiStream, moment: datetime) -> int:
    """Return the sequence after which events were fired at a time or later."""
    first = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    found, through = await stream.messages(MANY, opt_start_time=first, deliver_policy=DeliverPolicy.BY_START_TIME)
    while found:  # skip events that were fired earlier and stored later
        for message in found:
            if published_at(message.headers) >= moment.timestamp():
                return int(message.metadata.sequence.stream) - 1
        found, through = await stream.messages(MANY, opt_start_seq=through + 1)
    return through


async def place_of(stream: ApiStream, id: str) -> int | None:
    """Return the sequence of an event by its id, reading headers only, the newest first."""
    oldest, upto = await stream.bounds()
    while upto >= oldest:
        first = max(oldest, upto - MANY_HEADERS + 1)
        found, _ = await stream.messages(upto - first + 1, opt_start_seq=first, headers_only=True)
        for message in found:
            if (message.headers or {}).get("Nats-Msg-Id", "").partition(FROM)[0] == id:
                return int(message.metadata.sequence.stream)
        upto = first - 1
    return None


async def ids_behind(stream: ApiStream, after: int) -> dict[str, int]:
    """Return the message ids of the events kept after a sequence, with their sequences."""
    ids: dict[str, int] = {}
    head = await stream.head()
    while after < head:
        found, through = await stream.messages(MANY_HEADERS, opt_start_seq=after + 1, headers_only=True)
        for message in found:
            ids[(message.headers or {}).get("Nats-Msg-Id", "")] = int(message.metadata.sequence.stream)
        after = max(after + 1, through)
    return ids


async def newest(
    stream: ApiStream, event: str, *, start: float | None, stop: float | None, limit: int
) -> Sequence[StoredEvent]:
    """Return the newest events between two times, in order."""
    oldest, upto = await stream.bounds()
    found: list[StoredEvent] = []
    while upto >= oldest and len(found) < limit:
        first = max(oldest, upto - MANY + 1)
        events, _ = await stream.read(f"{stream.places.prefix}.{event}.*.*", first, upto - first + 1)
        events = [(each, only) for each, only in events if each.sequence <= upto and only in (ALL, PAST)]
        found = [*(each for each, _ in events if _is_within(each, start, stop)), *found]
        in_turn = [each.published_at for each, only in events if only == ALL]  # moved ones were stored later
        if start is not None and in_turn and max(in_turn) < start:
            break
        upto = first - 1
    return found[-limit:]


async def page(stream: ApiStream, after: int, limit: int) -> list[StoredEvent]:
    """Return the next events after a sequence that are not for a single group."""
    page: list[StoredEvent] = []
    head = await stream.head()
    while len(page) < limit and after < head:
        found, through = await stream.read(f"{stream.places.prefix}.>", after + 1, limit - len(page))
        page += [event for event, only in found if only in (ALL, PAST)]
        after = max(after + 1, through)
    return page


def _is_within(event: StoredEvent, start: float | None, stop: float | None) -> bool:
    return (start is None or event.published_at >= start) and (stop is None or event.published_at <= stop)
