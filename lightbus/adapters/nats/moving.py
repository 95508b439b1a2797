"""Moves the events of one API from journals into a JetStream, or back: see `ports/moving.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ...exceptions import EventBackendError
from ...ports.events import DeadLetter, EventTopic, OutgoingEvent, StoredEvent
from ...ports.moving import MovedDeadLetter, MovedEvent, MovedGroup, StandingGroup
from ...wire.field_types import PARTITIONS
from . import stream_lookup
from .api_stream import ALL, PAST, ApiStream
from .places import digest
from .subscription import complete_record

__all__ = ["NatsMove"]

DEAD = "dead"
"""The receiver of an event that was moved here as a dead letter: no group gets it."""

KINDS = ("info", "part", "dead")
"""The kinds of group records."""


class NatsMove:
    """
    Moves the events of one API. Only used on the loop that it was made on.

    Args:
        stream: the stream of the events.
        member_timeout: seconds without a sign of life after which a member counts as gone.

    """

    def __init__(self, stream: ApiStream, member_timeout: float) -> None:
        self._stream = stream
        self._records = stream.records
        self._member_timeout = member_timeout
        self._sent: dict[str, int] = {}
        """The ids and sequences of the events stored since the progress of a source was last recorded."""

    # Into the stream

    async def resume(self, source: str) -> Mapping[str, Any]:
        """Return the recorded progress of a source, and look up which of its events were stored since."""
        await self._stream.opened()
        held = self._records.records.get(f"move.{source}")
        if held is None:
            return {}
        self._sent.update(await stream_lookup.ids_behind(self._stream, int(held.value["behind"])))
        return {**held.value}

    async def note(self, source: str, progress: Mapping[str, Any]) -> None:
        """Record the progress of a source."""
        await self._records.put(f"move.{source}", {**progress, "behind": await self._stream.head()})

    async def finish(self, source: str) -> None:
        """Delete the progress of a source."""
        await self._stream.opened()
        await self._records.delete(f"move.{source}")

    async def put(self, source: str, events: Sequence[MovedEvent], group: str = "") -> Sequence[int]:
        """Store events, and return their sequences."""
        if not group:
            return await self._put([_outgoing(self._stream.api, each, _past_id(source, each)) for each in events], PAST)
        only = digest(group)
        outgoing = [_outgoing(self._stream.api, each, f"{source}-{each.sequence} for {only}") for each in events]
        return await self._put(outgoing, only)

    async def _put(self, events: Sequence[OutgoingEvent], only: str) -> list[int]:
        new = [event for event in events if event.id not in self._sent]
        for event, outcome in zip(new, await self._stream.publish(new, only), strict=True):
            if isinstance(outcome, EventBackendError):
                raise outcome
            self._sent[event.id] = outcome
        return [self._sent.pop(event.id) for event in events]

    async def add_group(self, group: MovedGroup) -> None:
        """Create a group, if it does not exist."""
        key = f"info.{digest(group.name)}"
        while key not in self._records.records:
            start = await self._stream.head()
            if await self._stream.count(f"{self._stream.places.prefix}.*.*.{ALL}", 1):
                start = await stream_lookup.before(self._stream, datetime.fromtimestamp(group.created_at, UTC))
            numbers = await self._stream.counts.numbers_through(start, (ALL, digest(group.name)))
            info = {"name": group.name, "events": [*group.events], "start": start, "past": 0, "numbers": numbers}
            await self._records.replace(key, {**info, "created_at": group.created_at})

    async def add_deliveries(self, group: str, deliveries: Mapping[tuple[EventTopic, int], int]) -> None:
        """Record how often events were delivered to a group before."""
        for (topic, sequence), number in deliveries.items():
            starts = {f"{topic.event}:{sequence}": number}
            await self._change(group, topic.partition, starts, 0)

    async def mark_begun(self, group: str, partitions: Sequence[int]) -> None:
        """Record that a consumer may have started any event that is stored now."""
        head = await self._stream.head() if partitions else 0
        for partition in partitions:
            await self._change(group, partition, {}, head)

    async def _change(self, group: str, partition: int, starts: Mapping[str, int], begun_through: int) -> None:
        def change(value: Any) -> dict[str, Any]:
            state = complete_record(value)
            state["starts"] = {**state["starts"], **starts}
            state["begun_through"] = max(state["begun_through"], begun_through)
            return state

        await self._records.update(f"part.{digest(group)}.{partition}", change)

    async def add_dead_letters(self, source: str, letters: Sequence[MovedDeadLetter]) -> None:
        """Store dead letters, with their events."""
        outgoing = []
        for letter in letters:
            id = f"{source}-{letter.event.sequence} dead for {digest(letter.group)}"
            outgoing.append(_outgoing(self._stream.api, letter.event, id))
        for letter, sequence in zip(letters, await self._put(outgoing, DEAD), strict=True):
            value = {"group": letter.group, "deliveries": letter.deliveries, "error": letter.error}
            key = f"dead.{digest(letter.group)}.{sequence}"
            await self._records.put(key, {**value, "died_at": letter.died_at})

    # Out of the stream

    async def members(self) -> Sequence[str]:
        """Return the live members: those that renew their records while we wait."""
        await self._stream.opened()
        before = {key: held.revision for key, held in self._records.records.items() if key.startswith("member.")}
        if before:
            await asyncio.sleep(self._member_timeout / 2)
        found = {key: held.revision for key, held in self._records.records.items() if key.startswith("member.")}
        return sorted({key.rpartition(".")[2] for key, revision in found.items() if revision != before.get(key)})

    async def groups(self) -> Sequence[StandingGroup]:
        """Return the groups."""
        await self._stream.opened()
        return [self._standing_group(key[5:], held.value) for key, held in self._records_of("info")]

    def _records_of(self, *kinds: str) -> list[tuple[str, Any]]:
        return [each for each in self._records.records.items() if each[0].partition(".")[0] in kinds]

    def _standing_group(self, group: str, info: Mapping[str, Any]) -> StandingGroup:
        start = int(info["start"])
        cursors: dict[EventTopic, int] = {}
        deliveries: dict[tuple[EventTopic, int], int] = {}
        for partition in range(PARTITIONS):
            held = self._records.records.get(f"part.{group}.{partition}")
            state = complete_record(None if held is None else held.value)
            cursors.update({EventTopic(event, partition): max(at, start) for event, at in state["cursors"].items()})
            for key, number in state["starts"].items():
                event, _, sequence = key.rpartition(":")
                deliveries[EventTopic(event, partition), int(sequence)] = number
        created_at = float(info.get("created_at", time.time()))
        return StandingGroup(
            info["name"], tuple(info["events"]), created_at, start, cursors, deliveries
        )  # fmt: skip

    async def read(self, after: int, limit: int) -> tuple[Sequence[tuple[StoredEvent, str | None]], int]:
        """Return the events kept after a sequence, each with its only group, and the last sequence covered."""
        found, through = await self._stream.read(f"{self._stream.places.prefix}.>", after + 1, limit)
        names = {ALL: "", **{key[5:]: held.value["name"] for key, held in self._records_of("info")}}
        events = [(event, None if only == PAST else names[only]) for event, only in found if only in {*names, PAST}]
        return events, max(after, through)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Return the dead letters."""
        letters = []
        for key, held in self._records_of("dead"):
            if (found := await self._stream.find(int(key.rpartition(".")[2]))) is not None:
                value = held.value
                letters.append(
                    DeadLetter(value["group"], found[0], value["deliveries"], value["error"], value["died_at"])
                )
        return sorted(letters, key=lambda letter: letter.event.sequence)

    async def head(self) -> int:
        """Return the newest sequence."""
        return await self._stream.head()

    async def clear(self, through: int) -> None:
        """Delete all groups, and the events up to a sequence."""
        await self._stream.purge(through)
        for key, _ in self._records_of(*KINDS):
            await self._records.delete(key)


def _outgoing(api: str, event: MovedEvent, id: str) -> OutgoingEvent:
    return OutgoingEvent(api=api, topic=event.topic, id=id, record=event.record, published_at=event.published_at)


def _past_id(source: str, event: MovedEvent) -> str:
    return f"{event.id}{stream_lookup.FROM}{source}-{event.sequence}"
