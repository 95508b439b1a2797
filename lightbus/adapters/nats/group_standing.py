"""The backlog of a group, for reports: the events it has still to handle, and those deleted before it got them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...ports.events import EventTopic
from .api_stream import ALL, PAST, ApiStream
from .group_losses import Mark, first_mark
from .subscription import complete_record

__all__ = ["GroupBacklog", "group_backlog"]


class GroupBacklog(NamedTuple):
    """How many events a group has not handled yet, and how many it has lost."""

    lag: int
    lost: int


async def group_backlog(stream: ApiStream, group: str, info: Mapping[str, Any]) -> GroupBacklog:
    """
    Return the backlog of a group.

    Args:
        stream: the stream of the events.
        group: the digest of its name.
        info: its record.

    """
    counts = stream.counts
    oldest, newest = await stream.bounds()
    await counts.catch_up(newest)
    lag = lost = 0
    for topic in {*await stream.topics(), *counts.events.topics}:
        if not {topic.event, "*"} & set(info["events"]):
            continue
        held = stream.records.records.get(f"part.{group}.{topic.partition}")
        mark = first_mark(
            complete_record(None if held is None else held.value), topic, int(info["start"]), info.get("numbers")
        )
        if counts.events.head(topic) > mark.sequence or counts.events.through < newest:
            lag += await _moved(stream, topic, mark.sequence + 1, int(info.get("past", 0)))
            waiting, missing = await _unhandled(stream, topic, mark, (ALL, group))
            lag += waiting
            lost += missing if oldest > mark.sequence + 1 else 0
        lost += mark.lost
    return GroupBacklog(lag, lost)


async def _unhandled(stream: ApiStream, topic: EventTopic, mark: Mark, receivers: tuple[str, str]) -> tuple[int, int]:
    """Return how many events after a mark are kept, and how many are lost."""
    counted = await stream.counts.number_and_kept(topic, mark.sequence, receivers)
    if counted is None:
        return sum([await stream.count(stream.places.subject(topic, only), mark.sequence + 1) for only in receivers]), 0
    number, kept = counted
    return kept, 0 if mark.number is None else max(0, number - mark.number - kept)


async def _moved(stream: ApiStream, topic: EventTopic, first: int, past: int) -> int:
    """Return how many moved events, older than the group, are kept for it."""
    if past < first:
        return 0
    moved = stream.places.subject(topic, PAST)
    return await stream.count(moved, first) - await stream.count(moved, past + 1)
