"""The internal API `internal.events`: what every publisher answers about the events that it keeps.

Call one particular publisher with `bus_options={"peer": instance id}`: each answers for the journals that it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from ..adapters.host.machine_time import machine_time
from ..adapters.sqlite.dead_letters import Dead
from ..adapters.sqlite.group_table import KnownGroup
from ..adapters.sqlite.journal import Journal
from ..adapters.sqlite.rows import JournalEntry
from ..adapters.sqlite.topic import Topic
from ..events.backends.backend_answers import BackendAnswers, group_of_backend, with_backend
from ..events.event_record import native_id
from ..events.groups.coordinator import Coordinator
from ..events.groups.group_progress import count_lag
from ..events.groups.group_state import GroupState, created_of, times_of
from ..events.kept_events import readable, serialize_kept_event
from ..events.newest import MAX_HISTORY, newest_of
from ..phrases import safely
from ..service.api import Api
from ..wire import field_types, fields

__all__ = ["EventsApi", "group_of_wire", "split_native_id"]

T = TypeVar("T")

MAX_HISTORY_BYTES = 16 * 1024 * 1024
"""Bytes of events in one answer, approximately."""

GROUPS_AT_A_TIME = 200
"""Groups described without giving other tasks of the loop a turn: there may be thousands of groups."""

DEAD_AT_A_TIME = 100
"""Dead letters read in one query."""

MAX_PAGE = 500
MAX_PAGE_BYTES = 1024 * 1024
"""Events and bytes in one page: reading them takes the loop a few milliseconds."""


class EventsApi(Api):
    """`internal.events`. Times are in seconds since 1970."""

    class Meta:
        name = "internal.events"
        internal = True

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        max_events: int,
        max_bytes: int,
        executor: Executor | None = None,
        elsewhere: BackendAnswers | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._elsewhere = elsewhere
        self._max_events, self._max_bytes = max_events, max_bytes
        self._executor = executor

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run a query in a thread, since it may take long."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def groups(self, api: str = "", after: list[str] | None = None, limit: int = 0) -> list[dict[str, Any]]:
        """
        Return the consumer groups (of one API): their members, positions and losses.

        Sorted by API and name. With a limit (0: none), one page: so many groups after `after`, an API and a name. A
        page with fewer is the last.
        """
        known = {key: group for key, group in self._coordinator.groups.items() if api in ("", key[0])}
        elsewhere = {} if self._elsewhere is None else await self._elsewhere.groups(api)
        start = tuple(after or ())
        keys = sorted(key for key in known.keys() | elsewhere.keys() if key > start)[: max(limit, 0) or None]
        found = await self._journal_facts([known[key] for key in keys if key in known])
        return [
            group_of_backend(elsewhere[key]) if key not in found
            else with_backend(found[key], elsewhere[key]) if key in elsewhere
            else found[key]
            for key in keys
        ]  # fmt: skip

    async def _journal_facts(self, groups: list[GroupState]) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the state of groups from the journals, by API and name."""
        journals = self._coordinator.journals.all()
        described: list[dict[str, Any]] = []
        for start in range(0, len(groups), GROUPS_AT_A_TIME):
            some = groups[start : start + GROUPS_AT_A_TIME]
            asked = [(_described(group), self._coordinator.progress.positions(group)) for group in some]
            described += await self._in_thread(partial(_all_counted, asked, journals))
        return {(group.info.api, group.info.name): each for group, each in zip(groups, described, strict=True)}

    async def lag(self, api: str, group: str) -> int | None:
        """Return how many events a group has not handled yet; null if the group is not known."""
        more = None if self._elsewhere is None else await self._elsewhere.lag(api, group)
        known = self._coordinator.groups.get((api, group))
        if known is None:
            return more
        positions = self._coordinator.progress.positions(known)
        return (more or 0) + await self._in_thread(lambda: count_lag(positions))

    async def remove_group(self, api: str, group: str) -> bool:
        """Remove a group: no more events are kept for it. Return whether it was known."""
        was_known = self._coordinator.directory.forget(api, group)
        return (self._elsewhere is not None and await self._elsewhere.remove_group(api, group)) or was_known

    async def dead(self, group: str = "", skip: int = 0) -> list[dict[str, Any]]:
        """
        Return the dead letters (of one group): events that failed as often as the listener allows.

        Oldest first in each journal, after the first `skip`, as many as fit in one answer; none if there are no more.
        """
        journals = self._coordinator.journals.all()
        found = await self._in_thread(lambda: _dead_page(journals, group, max(0, skip)))
        if found or self._elsewhere is None:
            return found
        here = await self._in_thread(lambda: sum(journal.dead_letters.count(group or None) for journal in journals))
        return (await self._elsewhere.dead(group))[max(0, skip - here) :][:MAX_HISTORY]

    async def retry_dead(self, group: str, native_id: str) -> bool:
        """Deliver a dead letter again, to its group only. Return whether it exists."""
        return bool(await self.retry_dead_events(group, [native_id]))

    async def retry_dead_events(self, group: str, native_ids: list[str]) -> list[str]:
        """Deliver several dead letters again, up to a thousand at a time; return those that exist."""
        which = [split_native_id(each) for each in native_ids[:MAX_HISTORY]]
        stored = await self._in_thread(lambda: self._coordinator.redelivery.store_dead(group, which))
        found = [native_id(*each) for each in self._coordinator.redelivery.renew_retried(group, stored)]
        return found if self._elsewhere is None else found + await self._elsewhere.retry_dead(group, which)

    async def drop_dead(self, group: str, native_id: str) -> bool:
        """Delete a dead letter. Return whether it existed."""
        return bool(await self.drop_dead_events(group, [native_id]))

    async def drop_dead_events(self, group: str, native_ids: list[str]) -> list[str]:
        """Delete several dead letters, up to a thousand at a time; return those that existed."""
        which = [(each, *split_native_id(each)) for each in native_ids[:MAX_HISTORY]]
        drop = self._coordinator.redelivery.drop_dead
        found = await self._in_thread(
            lambda: [native for native, journal, sequence in which if drop(group, journal, sequence) is not None]
        )
        if self._elsewhere is None:
            return found
        return found + await self._elsewhere.drop_dead(group, [(journal, sequence) for _, journal, sequence in which])

    async def history(
        self,
        api: str,
        event: str,
        start: float | None = None,
        stop: float | None = None,
        limit: int = MAX_HISTORY,
    ) -> list[dict[str, Any]]:
        """Return the newest events between two times, oldest first; the event `"*"` means all events of the API."""
        limit = max(1, min(limit, MAX_HISTORY))
        journals = self._coordinator.journals.all()
        elsewhere = [] if self._elsewhere is None else await self._elsewhere.history(api, event, start, stop, limit)

        def read() -> list[dict[str, Any]]:
            found = [
                readable(
                    _serialized(journal.id, *each)
                    for each in journal.history.latest(api, event, start=start, stop=stop, limit=limit)
                )
                for journal in journals
            ]
            found.append(elsewhere)
            return _within(newest_of(found, limit))

        return await self._in_thread(read)

    async def kept(
        self, journal: str, after: int = 0, api: str = "*", event: str = "*", limit: int = MAX_PAGE
    ) -> dict[str, Any] | None:
        """
        Return a page of the events of a journal after a sequence, oldest first; null if it is not served here.

        Names may have wildcards. Besides `events`, the page has `through`, after which the next page begins, and
        `more`. An event that was delivered again to one group only is listed again, with that group (`only_group`).
        """
        held = next((each for each in self._coordinator.journals.all() if each.id == journal), None)
        limit, after = max(1, min(limit, MAX_PAGE)), max(0, min(after, fields.MAX_INT))
        if held is None:
            return None if self._elsewhere is None else await self._elsewhere.kept(journal, after, api, event, limit)

        def is_wanted(topic: Topic) -> bool:
            return fnmatchcase(topic.api, api) and fnmatchcase(topic.declared_event, event)

        def read() -> dict[str, Any]:
            found, through, more = held.history.scan(is_wanted, after, limit=limit, max_bytes=MAX_PAGE_BYTES)
            events = (_serialized(held.id, *each) | _only_for(each[0]) for each in found)
            return {"events": readable(events), "through": through, "more": more}

        return await self._in_thread(read)

    async def latest(
        self,
        journal: str,
        before: int = fields.MAX_INT,
        api: str = "*",
        event: str = "*",
        start: float | None = None,
        stop: float | None = None,
        limit: int = MAX_PAGE,
    ) -> dict[str, Any] | None:
        """
        Return a page of the events of a journal before a sequence, newest first; null if it is not served here.

        Names may have wildcards. Besides `events`, those between two times, the page has `before`: the sequence before
        which the next page begins, or null if there is none.
        """
        held = next((each for each in self._coordinator.journals.all() if each.id == journal), None)
        limit, before = max(1, min(limit, MAX_PAGE)), max(0, min(before, fields.MAX_INT))
        if held is None:
            asked = self._elsewhere
            return None if asked is None else await asked.latest(journal, before, api, event, start, stop, limit)

        def is_wanted(topic: Topic) -> bool:
            return fnmatchcase(topic.api, api) and fnmatchcase(topic.declared_event, event)

        def read() -> dict[str, Any]:
            found, further = held.history.page_before(
                is_wanted, before, start=start, stop=stop, limit=limit, max_bytes=MAX_PAGE_BYTES
            )
            return {"events": readable(_serialized(held.id, *each) for each in found), "before": further}

        return await self._in_thread(read)

    async def handled(self, native_ids: list[str]) -> dict[str, dict[str, str]]:
        """
        Return the state of events: native id -> group that the event is kept for -> `waiting`, `acked` or `dead`.

        Events that are not stored here (any more) are left out. Raises ValueError for an invalid native id.
        """
        journals = {journal.id: journal for journal in self._coordinator.journals.all()}
        asked = [(native, *split_native_id(native)) for native in native_ids[:MAX_HISTORY]]
        known = [(native, journals[name], sequence) for native, name, sequence in asked if name in journals]
        topics = await self._in_thread(lambda: [journal.topic_of(sequence) for _, journal, sequence in known])
        found = [
            (native, journal, sequence, self._coordinator.progress.cursors_of(journal, topic))
            for (native, journal, sequence), topic in zip(known, topics, strict=True)
            if topic is not None
        ]
        states = await self._in_thread(
            lambda: {
                native: {group: _status(journal, group, sequence, acked) for group, acked in groups.items()}
                for native, journal, sequence, groups in found
            }
        )
        return states if self._elsewhere is None else states | await self._elsewhere.handled(asked)

    async def journals(self) -> list[dict[str, Any]]:
        """
        Return the journals that this process serves: their paths, sizes and limits, and what groups lost.

        `head` is the sequence of the newest event ever stored. Event backends that this process answers for are listed,
        too; their limits are set elsewhere (`max_events`, `max_bytes`: 0).
        """
        elsewhere = [] if self._elsewhere is None else await self._elsewhere.journals()
        return elsewhere + [
            {
                "journal": journal.id,
                "path": safely(str, journal.path),  # the names of files need not be UTF-8
                "head": journal.head,
                "events": journal.size[0],
                "bytes": journal.size[1],
                "max_events": self._max_events,
                "max_bytes": self._max_bytes,
                "lost": [
                    {"group": group, "api": topic.api, "event": topic.event, "count": count, "at": at}
                    for group, topic, count, at in journal.retention.lost()
                ],
            }
            for journal in self._coordinator.journals.all()
        ]


def _described(group: GroupState) -> dict[str, Any]:
    info = group.info
    created_at, clock = times_of(info)
    return {
        **info._asdict(),
        "events": list(info.events),
        "created_at": created_at,
        "last_seen": clock - (machine_time() - info.last_seen),
        "clock": clock,
        "members": {member: group.membership.held_by(member) for member in group.connections},
        "acks": group.acks,
        "mixed": group.is_mixed,
    }


def _all_counted(
    asked: list[tuple[dict[str, Any], list[tuple[Journal, Topic, int]]]], journals: list[Journal]
) -> list[dict[str, Any]]:
    return [_counted(described, positions, journals) for described, positions in asked]


def _counted(
    described: dict[str, Any], positions: list[tuple[Journal, Topic, int]], journals: list[Journal]
) -> dict[str, Any]:
    name = described["name"]
    return {
        **described,
        "lag": count_lag(positions),
        "dead": sum(journal.dead_letters.count(name) for journal in journals),
        "lost": sum(journal.retention.lost_by(name) for journal in journals),
    }


def _dead_page(journals: list[Journal], group: str, skip: int) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = []
    size = 0
    for journal in journals:
        count = journal.dead_letters.count(group or None)
        while skip < count and len(page) < MAX_HISTORY:
            for each in journal.dead_letters.all(group or None, skip=skip, limit=DEAD_AT_A_TIME):
                size += len(each.record) + len(each.error)
                if page and (size > MAX_HISTORY_BYTES or len(page) == MAX_HISTORY):
                    return page
                page.append(_dead(journal.id, each))
            skip += DEAD_AT_A_TIME
        skip = max(0, skip - count)
    return page


def _status(journal: Journal, group: str, sequence: int, acked: int) -> str:
    if sequence > acked:
        return "waiting"
    return "dead" if journal.dead_letters.has(group, sequence) else "acked"


def group_of_wire(value: dict[str, Any], *, is_near: bool = True) -> KnownGroup:
    """
    Return a group as another publisher described it. If that is not `is_near` (on this host), its clock differs.

    Raises ValueError for an invalid description.
    """
    if type(value) is not dict or not all(key in value and check(value[key]) for key, check in _OF_GROUP.items()):
        raise ValueError("not a group as a publisher describes it")
    return KnownGroup(
        value["api"],
        value["name"],
        tuple(value["events"]),
        created_of(value["created_at"], value["clock"], is_near=is_near),
        created_of(value["last_seen"], value["clock"], is_near=is_near),
        value["digest"],
    )


_OF_GROUP: dict[str, fields.FieldCheck] = {
    "api": fields.text(field_types.MAX_NAME, least=1),
    "name": fields.text(field_types.MAX_NAME, least=1),
    "events": fields.listing(field_types.EventName, field_types.MAX_NAMES),
    "created_at": fields.moment,
    "last_seen": fields.moment,
    "clock": fields.moment,
    "digest": fields.text(64),
}
"""Checks of the fields that another publisher reports of a group; they come from the network, and may be invalid."""


def split_native_id(native_id: str) -> tuple[str, int]:
    """Return the journal and the sequence of a native id. Raises ValueError for an invalid id."""
    journal, _, sequence = native_id.rpartition("-")
    if not (fields.instance_id(journal) and sequence.isascii() and sequence.isdigit() and len(sequence) <= 19):
        raise ValueError(f"{native_id!r:.100} is not a native id: <journal>-<sequence>")
    return journal, min(int(sequence), fields.MAX_INT)


def _dead(journal: str, dead: Dead) -> dict[str, Any]:
    event = _serialized(journal, dead.topic, JournalEntry(dead.sequence, 0, dead.record))
    return {**event, "group": dead.group, "deliveries": dead.deliveries, "error": dead.error, "died_at": dead.died_at}


def _serialized(journal: str, topic: Topic, entry: JournalEntry) -> dict[str, Any]:
    return serialize_kept_event(journal, topic.api, topic.declared_event, topic.partition, entry.sequence, entry.record)


def _only_for(topic: Topic) -> dict[str, Any]:
    return {"only_group": topic.only_group} if topic.only_group else {}


def _within(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest of these events that fit in one answer."""
    size = 0
    for number in range(len(found) - 1, -1, -1):
        size += found[number]["size"]
        if size > MAX_HISTORY_BYTES and number < len(found) - 1:
            return found[number + 1 :]
    return found


def seconds(when: datetime | float | None) -> float | None:
    """Return a time in seconds since 1970."""
    return when.timestamp() if isinstance(when, datetime) else when
