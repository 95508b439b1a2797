"""Moves the events of an API from journals that no process has open to a backend: see `ports/moving.py`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.rows import JournalEntry
from ...adapters.sqlite.topic import Topic
from ...ports.events import EventTopic
from ...ports.moving import BackendMove, MovedDeadLetter, MovedEvent, MovedGroup
from ..groups.group_state import times_of
from ..kept_events import record_or_damaged

__all__ = ["move_to_backend"]

PAGE = 500
PAGE_BYTES = 1024 * 1024
"""Events, and bytes, moved at a time."""

STEPS = ("past", "owed", "dead", "clear")
"""The steps of a move, in order: all events, unhandled events by group, dead letters, removal from the journal."""


async def move_to_backend(
    journals: Sequence[Journal],
    groups: Mapping[str, KnownGroup],
    target: BackendMove,
    api: str,
    advance: Callable[[int], None],
) -> Counter[str]:
    """
    Move an API; return how many events, unhandled events and dead letters were moved by this run.

    Args:
        journals: the journals with the events.
        groups: the groups of the API, by name.
        target: the backend.
        api: the API.
        advance: called with the number of events done.

    """
    moved: Counter[str] = Counter()
    leaving = [_Leaving(journal, api, groups, target, moved, advance) for journal in journals]
    for each in leaving:
        await each.resume()
        await each.go_through("past", each.put_past)
    for group in groups.values():
        await target.add_group(MovedGroup(group.name, group.events, times_of(group)[0]))
    for each in leaving:
        await each.go_through("owed", each.put_owed)
        await each.put_dead()
        await each.clear()
    return moved


class _Leaving:
    """One journal whose events of an API are moved."""

    def __init__(
        self,
        journal: Journal,
        api: str,
        groups: Mapping[str, KnownGroup],
        target: BackendMove,
        moved: Counter[str],
        advance: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._api = api
        self._groups = groups
        self._target = target
        self._moved = moved
        self._advance = advance
        self._source = f"{journal.id}.{api}".replace(".", "_")
        self._topics = [topic for topic in journal.topics.all() if topic.api == api]
        self._cursors = {name: self._positions(group) for name, group in groups.items()}
        self._step, self._through, self._head = STEPS[0], 0, journal.head

    def _positions(self, group: KnownGroup) -> dict[Topic, int]:
        """Return the positions of a group, as a worker that serves the journal would determine them."""
        found = self._journal.cursors.of(self._api, group.name)
        if group.name not in {each.name for each in self._journal.groups.all() if each.api == self._api}:
            for topic in self._topics:
                found.setdefault(topic, self._journal.history.position_since(topic, group.created_at))
        return found

    def _owes(self, group: KnownGroup, topic: Topic, sequence: int) -> bool:
        is_wanted = {topic.declared_event, "*"} & set(group.events) and topic.only_group in ("", group.name)
        return bool(is_wanted) and sequence > self._cursors[group.name].get(topic, 0)

    async def resume(self) -> None:
        """Continue an interrupted move. Events that were moved but not removed are removed first."""
        noted = await self._target.resume(self._source)
        if noted:
            self._step, self._through = str(noted["step"]), int(noted["through"])
        if self._step == "clear":
            await self._clear_through(self._through)
            self._step, self._through = STEPS[0], 0
        if not noted or self._step == STEPS[0]:
            await self._note()

    async def _note(self) -> None:
        await self._target.note(self._source, {"step": self._step, "through": self._through})

    async def go_through(self, step: str, put: Callable[[list[tuple[Topic, JournalEntry]]], object]) -> None:
        """Do one step page by page, from where an earlier run stopped."""
        more = self._step == step
        scan = partial(self._journal.history.scan, lambda topic: topic.api == self._api, limit=PAGE)
        while more:
            read = partial(scan, self._through, max_bytes=PAGE_BYTES)
            entries, self._through, more = await asyncio.to_thread(read)
            await put(entries)  # type: ignore[misc]
            await self._note()
        if self._step == step:
            await self._next()

    async def _next(self) -> None:
        self._step, self._through = STEPS[STEPS.index(self._step) + 1], 0
        await self._note()

    async def put_past(self, entries: Sequence[tuple[Topic, JournalEntry]]) -> None:
        """Move events for the history. Events stored again for one group are left out: the originals are moved."""
        past = [_moved(*each) for each in entries if not each[0].only_group]
        await self._target.put(self._source, past)
        self._moved["events"] += len(past)
        self._advance(len(entries))

    async def put_owed(self, entries: Sequence[tuple[Topic, JournalEntry]]) -> None:
        """Move the events that groups have not handled, for each group."""
        for name, group in self._groups.items():
            owed = [each for each in entries if self._owes(group, each[0], each[1].sequence)]
            if not owed:
                continue
            places = await self._target.put(self._source, [_moved(*each) for each in owed], name)
            self._moved["owed"] += len(owed)
            deliveries = {
                (_place(topic), place): number
                for (topic, entry), place in zip(owed, places, strict=True)
                if (number := self._journal.deliveries.of(name, topic, entry.sequence))
            }
            await self._target.add_deliveries(name, deliveries)
            held = {*self._journal.cursors.held(self._api, name)}
            await self._target.mark_begun(name, sorted(held & {topic.partition for topic, _ in owed}))

    async def put_dead(self) -> None:
        """Move the dead letters."""
        if self._step != "dead":
            return
        for page in self._dead():
            await self._target.add_dead_letters(self._source, page)
            self._moved["dead"] += len(page)
        await self._next()
        self._through = self._head
        await self._note()

    def _dead(self) -> Iterator[list[MovedDeadLetter]]:
        skip = 0
        while found := self._journal.dead_letters.all(skip=skip, limit=PAGE):
            skip += len(found)
            yield [
                MovedDeadLetter(
                    each.group, _moved(each.topic, JournalEntry(each.sequence, 0, each.record)),
                    each.deliveries, each.error, each.died_at,
                )
                for each in found
                if each.topic.api == self._api
            ]  # fmt: skip

    async def clear(self) -> None:
        """Remove the moved events from the journal."""
        await self._clear_through(self._head)

    async def _clear_through(self, through: int) -> None:
        await asyncio.to_thread(self._remove, through)
        await self._target.finish(self._source)

    def _remove(self, through: int) -> None:
        journal = self._journal
        for name in self._groups:
            moved = [(name, topic, journal.topics.last(topic)) for topic in self._topics]
            journal.change(*journal.cursors.changes(cursors=[each for each in moved if each[2] <= through]))
        dead = [(each.group, each.sequence) for each in journal.dead_letters.all() if each.topic.api == self._api]
        journal.dead_letters.remove([each for each in dead if each[1] <= through])
        journal.retention.remove(self._topics, through)


def _place(topic: Topic) -> EventTopic:
    return EventTopic(topic.declared_event, topic.partition)


def _moved(topic: Topic, entry: JournalEntry) -> MovedEvent:
    record = record_or_damaged(entry.record)
    id = record.id or f"damaged {entry.sequence}"
    return MovedEvent(entry.sequence, id, _place(topic), entry.record, record.published_at)
