"""Moves the events of an API from a backend that no process uses to a journal: see `ports/moving.py`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from ...adapters.host.machine_time import machine_time
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal, NewEvent, Stored
from ...adapters.sqlite.topic import Topic
from ...ports.events import DeadLetter, EventTopic, StoredEvent
from ...ports.moving import BackendMove, StandingGroup
from ..kept_events import id_of

__all__ = ["MoveToJournal"]

PAGE = 500


class MoveToJournal:
    """
    Moves an API.

    Args:
        source: the backend.
        store: the name of the backend's store.
        journal: the journal.
        api: the API.
        advance: called with the number of events done.

    """

    def __init__(
        self, source: BackendMove, store: str, journal: Journal, api: str, advance: Callable[[int], None]
    ) -> None:
        self.moved: Counter[str] = Counter()
        self._source = source
        self._store = store
        self._journal = journal
        self._api = api
        self._advance = advance
        self._groups: Sequence[StandingGroup] = ()
        self._positions: defaultdict[str, dict[Topic, int]] = defaultdict(dict)
        """The positions of each group in the journal."""
        self._dead: dict[int, tuple[Topic, int]] = {}
        """The places in the journal of events that are dead letters, by their sequences at the backend."""

    async def run(self) -> None:
        """Move events, groups and dead letters; those that an earlier run moved are skipped. Raises JournalError."""
        self._groups = await self._source.groups()
        letters = await self._source.dead_letters()
        head, wanted = await self._source.head(), {letter.event.sequence for letter in letters}
        for is_past in (True, False):  # handled events first, so that one position can cover them
            through = 0
            while through < head:
                events, through = await self._source.read(through, PAGE)
                await self._take([each for each in events if (each[1] is None) is is_past], wanted)
                self._advance(len(events))
        for letter in letters:
            await self._take_dead(letter)
        await asyncio.to_thread(self._save_groups)
        await self._source.note("journal", {"step": "clear", "through": head})
        await self.clear(head)

    async def clear(self, head: int) -> None:
        """Remove the moved events from the backend."""
        await self._source.clear(head)
        await self._source.finish("journal")

    async def _take(self, events: Sequence[tuple[StoredEvent, str | None]], wanted: set[int]) -> None:
        stored = await self._append([(event, only or "") for event, only in events])
        for (event, only), kept in zip(events, stored, strict=True):
            topic = self._topic(event.topic, only or "")
            self.moved["events"] += kept.is_new
            if event.sequence in wanted:
                self._dead[event.sequence] = topic, kept.sequence
            for group in self._groups:
                if only is None or (only in ("", group.name) and group.has_handled(event.topic, event.sequence)):
                    self._positions[group.name][topic] = kept.sequence
                elif number := group.deliveries.get((event.topic, event.sequence)):
                    self._journal.deliveries.count(group.name, topic, kept.sequence, number)

    async def _append(self, events: Sequence[tuple[StoredEvent, str]]) -> list[Stored]:
        new = [
            NewEvent(self._topic(event.topic, only), event.record, event.published_at, self._id(event))
            for event, only in events
        ]
        return await asyncio.to_thread(partial(self._journal.append, new)) if new else []

    def _topic(self, topic: EventTopic, only: str) -> Topic:
        found = Topic(self._api, *topic)
        return found.for_group(only) if only else found

    def _id(self, event: StoredEvent) -> str:
        return f"{id_of(event.record)} from {self._store}-{event.sequence}"

    async def _take_dead(self, letter: DeadLetter) -> None:
        """Store a dead letter. If its event was not moved, store that for the dead letter's group only, as handled."""
        where = self._dead.get(letter.event.sequence)
        if where is None:
            [stored] = await self._append([(letter.event, letter.group)])
            where = self._topic(letter.event.topic, letter.group), stored.sequence
            self._positions[letter.group][where[0]] = stored.sequence
        self._journal.dead_letters.add(
            letter.group, *where, letter.deliveries, letter.error, letter.died_at
        )  # fmt: skip
        self.moved["dead"] += 1

    def _save_groups(self) -> None:
        now, today = machine_time(), time.time()
        for group in self._groups:
            cursors = [(group.name, topic, at) for topic, at in self._positions[group.name].items()]
            self._journal.change(*self._journal.cursors.changes(cursors=cursors))
            self._journal.groups.save(
                KnownGroup(self._api, group.name, group.events, now - (today - group.created_at), now, "")
            )
