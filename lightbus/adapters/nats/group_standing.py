"""How a group stands, for those who look: what it has still to handle, and what was deleted before it could have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...ports.events import EventTopic
from .api_stream import ALL, PAST, ApiStream
from .group_losses import Mark, first_mark
from .subscription import filled

__all__ = ["GroupBacklog", "group_backlog"]


class GroupBacklog(NamedTuple):
    """How many events a group has not handled, and how many it will never have."""

    lag: int
    lost: int


async def group_backlog(stream: ApiStream, group: str, info: Mapping[str, Any]) -> GroupBacklog:
    """
    Look how a group stands.

    Args:
        stream: the events.
        group: the digest of its name.
        info: what is on record of it.

    """
    counts = stream.counts
    oldest, newest = await stream.bounds()
    await counts.catch_up(newest)
    lag = lost = 0
    for topic in {*await stream.topics(), *counts.events.topics}:
        if not {topic.event, "*"} & set(info["events"]):
            continue
        held = stream.records.records.get(f"part.{group}.{topic.partition}")
        mark = first_mark(filled(None if held is None else held.value), topic, int(info["start"]), info.get("numbers"))
        if counts.events.head(topic) > mark.sequence or counts.events.through < newest:
            lag += await _moved(stream, topic, mark.sequence + 1, int(info.get("past", 0)))
            waiting, missing = await _unhandled(stream, topic, mark, (ALL, group))
            lag += waiting
            lost += missing if oldest > mark.sequence + 1 else 0
        lost += mark.lost
    return GroupBacklog(lag, lost)


async def _unhandled(stream: ApiStream, topic: EventTopic, mark: Mark, whom: tuple[str, str]) -> tuple[int, int]:
    """Return how many events behind a place are kept, and how many are gone."""
    counted = await stream.counts.number_and_kept(topic, mark.sequence, whom)
    if counted is None:
        return sum([await stream.count(stream.places.subject(topic, only), mark.sequence + 1) for only in whom]), 0
    number, kept = counted
    return kept, 0 if mark.number is None else max(0, number - mark.number - kept)


async def _moved(stream: ApiStream, topic: EventTopic, first: int, past: int) -> int:
    """Return how many events that were moved here are kept for a group that wants what was before it."""
    if past < first:
        return 0
    moved = stream.places.subject(topic, PAST)
    return await stream.count(moved, first) - await stream.count(moved, past + 1)
