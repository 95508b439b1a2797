"""The event backend `jetstream`: NATS JetStream stores the events, calls stay between the peers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...exceptions import EventBackendError
from ...ports.events import (
    BackendContext,
    DeadLetter,
    EventInbox,
    EventTopic,
    GroupSummary,
    OutgoingEvent,
    StoredEvent,
    SubscriptionRequest,
)
from ...wire.field_types import PARTITIONS
from . import stream_lookup
from .api_stream import ALL, PAST, ApiStream
from .connection import NatsConnection
from .group_standing import group_backlog
from .moving import NatsMove
from .places import StreamPlaces, digest
from .settings import NatsSettings
from .subscription import GroupStart, NatsSubscription

__all__ = ["NatsEventBackend"]

logger = logging.getLogger("lightbus.events")


class NatsEventBackend:
    """The streams of one process. Only used on the loop that it was started on."""

    def __init__(self, context: BackendContext) -> None:
        self._bus = context.bus
        self._settings = NatsSettings.read(context.options)
        self._streams: dict[str, ApiStream] = {}
        self._subscriptions: list[NatsSubscription] = []
        self._connection: NatsConnection

    def store(self, api: str) -> str:
        """Return the name of an API's store."""
        return StreamPlaces(self._bus, api).store

    async def start(self) -> None:
        """Prepare the connection, which is opened at first use."""
        self._connection = NatsConnection(self._settings)

    async def stop(self) -> None:
        """Leave all groups, and disconnect."""
        try:
            for subscription in list(self._subscriptions):
                try:
                    await subscription.close(is_done=False)
                except EventBackendError as error:
                    logger.debug("Left the group without notice: %s", error)
            for stream in list(self._streams.values()):
                await stream.close()
        finally:  # whatever the servers answer, and also when this is cancelled
            await self._connection.close()

    def _stream(self, api: str) -> ApiStream:
        if api not in self._streams:
            self._streams[api] = ApiStream(self._connection, self._bus, api)
        return self._streams[api]

    async def publish(self, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        """Store events; those of one API are sent together, and stored in order."""
        by_api: dict[str, list[OutgoingEvent]] = {}
        for event in events:
            by_api.setdefault(event.api, []).append(event)
        published = await asyncio.gather(*(self._publish(*each) for each in by_api.items()))
        outcomes = {api: iter(each) for api, each in zip(by_api, published, strict=True)}
        return [next(outcomes[event.api]) for event in events]

    async def _publish(self, api: str, events: Sequence[OutgoingEvent]) -> Sequence[int | EventBackendError]:
        try:
            return await self._stream(api).publish(events)
        except EventBackendError as error:
            return [error] * len(events)

    async def subscribe(self, request: SubscriptionRequest, inbox: EventInbox) -> NatsSubscription:
        """Join a group."""
        stream = self._stream(request.api)
        await stream.opened()
        begins = await self._begin(stream, request)
        subscription = NatsSubscription(
            stream,
            request,
            inbox,
            begins,
            self._settings.member_timeout,
            begin_anew=lambda: self._begin(stream, replace(request, since=None)),
        )
        try:
            await subscription.open()
        except BaseException:
            subscription.abandon()  # the next attempt makes a new one
            raise
        self._subscriptions = [*(each for each in self._subscriptions if not each.is_closed), subscription]
        return subscription

    async def _begin(self, stream: ApiStream, request: SubscriptionRequest) -> GroupStart:
        """Return where a group starts, and record it if the group is new."""
        key = f"info.{digest(request.group)}"
        info = {"name": request.group, "events": list(request.events)}
        known = stream.records.records.get(key) if request.group else None
        if known is not None:
            if known.value["events"] != info["events"]:
                await stream.records.replace(key, {**known.value, **info})
            return GroupStart.of_record(known.value)
        if request.group:
            await self._remove_parts(stream, digest(request.group))
        past = await stream.head()
        start = await self._since(stream, request.since)
        numbers = await stream.counts.numbers_through(start, (ALL, digest(request.group)))
        begins = GroupStart(start, past, numbers, time.time())
        if request.group and not await stream.records.replace(key, {**info, **begins._asdict()}):
            await asyncio.sleep(0.1)  # another member has just created it: its record arrives soon
            return await self._begin(stream, request)
        return begins

    async def _remove_parts(self, stream: ApiStream, group: str) -> None:
        """Remove positions left of a removed group of this name, whose remover was killed, or met a late write."""
        prefix = f"part.{group}."
        parts = {key: held.revision for key, held in stream.records.records.items() if key.startswith(prefix)}
        await asyncio.gather(*(stream.records.delete(key, revision=revision) for key, revision in parts.items()))

    async def _since(self, stream: ApiStream, since: str | datetime | None) -> int:
        head = await stream.head()
        if since is None or since == "$":
            return head
        if since == "0":
            return 0
        if isinstance(since, datetime):
            return await stream_lookup.before(stream, since)
        found = await stream_lookup.place_of(stream, since)
        if found is None:
            text = "A listener asks for the events of %s since %s, which is not stored: it begins with the next event"
            logger.warning(text, stream.api, since)
        return head if found is None else found

    def move(self, api: str) -> NatsMove:
        """Return the object that moves the events of an API."""
        return NatsMove(self._stream(api), self._settings.member_timeout)

    async def when_handled(self, api: str, sequence: int) -> None:
        """Wait until all groups that get an event have handled it."""
        stream = self._stream(api)
        await stream.opened()
        found = await stream.find(sequence)
        if found is None:
            return
        while not self._is_handled(stream, *found):
            stream.records.changed.clear()
            await stream.records.changed.wait()

    def _is_handled(self, stream: ApiStream, event: StoredEvent, only: str) -> bool:
        return all(
            _status(stream, group, info, event) != "waiting" for group, info in _receiving_groups(stream, event, only)
        )

    async def groups(self, api: str) -> Sequence[GroupSummary]:
        """Return the groups of an API."""
        stream = self._stream(api)
        await stream.opened()
        found = []
        for group, info in _groups(stream):
            members: dict[str, list[int]] = {}
            for partition in range(PARTITIONS):
                held = stream.records.records.get(f"part.{group}.{partition}")
                if held is not None and held.value.get("owner"):
                    members.setdefault(held.value["owner"], []).append(partition)
            backlog = await group_backlog(stream, group, info)
            found.append(
                GroupSummary(
                    api=api,
                    name=info["name"],
                    events=tuple(info["events"]),
                    members=members,
                    lag=backlog.lag,
                    dead=sum(key.startswith(f"dead.{group}.") for key in stream.records.records),
                    lost=backlog.lost,
                )
            )
        return found

    async def remove_group(self, api: str, group: str) -> bool:
        """Delete the records of a group; return whether it existed."""
        stream = self._stream(api)
        await stream.opened()
        name = digest(group)
        info = f"info.{name}"
        known = {key: held.revision for key, held in stream.records.records.items() if key.split(".")[1] == name}
        existed = known.pop(info, None) is not None
        await stream.records.delete(info)  # first: then present members begin anew, and write their records again
        for key, revision in known.items():
            await stream.records.delete(key, revision=revision)
        return existed

    async def lag(self, api: str, group: str) -> int | None:
        """Return the number of unhandled events of a group; None if the group is unknown."""
        stream = self._stream(api)
        await stream.opened()
        name = digest(group)
        info = stream.records.records.get(f"info.{name}")
        return None if info is None else (await group_backlog(stream, name, info.value)).lag

    async def history(
        self, api: str, event: str, *, start: float | None, stop: float | None, limit: int
    ) -> Sequence[StoredEvent]:
        """Return the newest events between two times, in order."""
        return await stream_lookup.newest(self._stream(api), event, start=start, stop=stop, limit=limit)

    async def page(self, api: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return the next events after a sequence."""
        return await stream_lookup.page(self._stream(api), after, limit)

    async def count(self, api: str) -> int:
        """Return the number of kept events."""
        return await self._stream(api).size()

    async def status(self, api: str, sequence: int) -> Mapping[str, str]:
        """Return the status of an event in each group that gets it."""
        stream = self._stream(api)
        found = await stream.find(sequence)
        if found is None:
            return {}
        return {
            info["name"]: _status(stream, group, info, found[0]) for group, info in _receiving_groups(stream, *found)
        }

    async def dead_letters(self, api: str, group: str = "") -> Sequence[DeadLetter]:
        """Return the dead letters of an API."""
        stream = self._stream(api)
        await stream.opened()
        found = []
        for key, held in list(stream.records.records.items()):
            if key.startswith("dead.") and group in ("", held.value["group"]):
                event = await stream.find(int(key.rpartition(".")[2]))
                if event is not None:
                    value = held.value
                    letter = DeadLetter(value["group"], event[0], value["deliveries"], value["error"], value["died_at"])
                    found.append(letter)
        return sorted(found, key=lambda letter: letter.event.sequence)

    async def retry_dead(self, api: str, group: str, sequence: int) -> bool:
        """Deliver a dead letter to its group again; return False if it is gone, or the group does not get it now."""
        stream = self._stream(api)
        await stream.opened()
        key, name = f"dead.{digest(group)}.{sequence}", digest(group)
        found = await stream.find(sequence)
        if key not in stream.records.records or found is None:
            return False
        event, _ = found
        info = stream.records.records.get(f"info.{name}")
        if info is None or not {event.topic.event, "*"} & set(info.value["events"]):
            return False  # nobody would get it
        again = OutgoingEvent(
            api=api,
            topic=event.topic,
            id=f"{self.store(api)}-{sequence} for {name}",
            record=event.record,
            published_at=event.published_at,
        )
        [outcome] = await stream.publish([again], name)
        if isinstance(outcome, EventBackendError):
            raise outcome
        await stream.records.delete(key)
        return True

    async def drop_dead(self, api: str, group: str, sequence: int) -> bool:
        """Delete a dead letter; return whether it existed."""
        stream = self._stream(api)
        await stream.opened()
        key = f"dead.{digest(group)}.{sequence}"
        was_there = key in stream.records.records
        if was_there:
            await stream.records.delete(key)
        return was_there


def _groups(stream: ApiStream) -> list[tuple[str, dict[str, Any]]]:
    """Return the digest and the record of each group."""
    return [
        (key.removeprefix("info."), held.value)
        for key, held in stream.records.records.items()
        if key.startswith("info.")
    ]


def _receiving_groups(stream: ApiStream, event: StoredEvent, only: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the groups that get an event, which may be for a single group."""
    return [
        (group, info)
        for group, info in _groups(stream)
        if event.sequence > info["start"]
        and {event.topic.event, "*"} & set(info["events"])
        and (only in (ALL, group) or (only == PAST and event.sequence <= info.get("past", 0)))
    ]


def _status(stream: ApiStream, group: str, info: dict[str, Any], event: StoredEvent) -> str:
    if _cursor(stream, group, event.topic, int(info["start"])) < event.sequence:
        return "waiting"
    return "dead" if f"dead.{group}.{event.sequence}" in stream.records.records else "acked"


def _cursor(stream: ApiStream, group: str, topic: EventTopic, start: int) -> int:
    held = stream.records.records.get(f"part.{group}.{topic.partition}")
    return start if held is None else int(held.value["cursors"].get(topic.event, start))
