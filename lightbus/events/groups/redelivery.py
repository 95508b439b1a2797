"""Events delivered to one group again, or late: stored again under a name that only this group listens to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ...adapters.sqlite.dead_letters import Dead
from ...adapters.sqlite.journal import Journal, NewEvent
from ...adapters.sqlite.topic import Topic
from ...wire.event_names import name_for_group
from .group_members import GroupMembers
from .group_state import GroupState
from .served_journals import ServedJournals

__all__ = ["Redelivery"]

MAX_PAGE = 1000
MAX_PAGE_BYTES = 1024 * 1024
"""Events, and bytes, stored again in one commit."""


class Redelivery:
    """
    Delivers events to a group again. On the node's loop, unless noted otherwise.

    Args:
        groups: the groups by API and name.
        journals: the served journals.
        members: the members of the group, which are informed.

    """

    def __init__(
        self, groups: Mapping[tuple[str, str], GroupState], journals: ServedJournals, members: GroupMembers
    ) -> None:
        self._groups = groups
        self._journals = journals
        self._members = members

    def drop_dead(self, group: str, journal: str, sequence: int) -> Dead | None:
        """Remove and return a dead letter of a group; None if there is none. Thread-safe."""
        held = self._journals.get(journal)
        return None if held is None else held.dead_letters.take(group, sequence)

    def retry_dead(self, group: str, journal: str, sequence: int) -> bool:
        """Deliver a dead letter to its group again; return whether it existed."""
        return bool(self.renew_retried(group, self.store_dead(group, [(journal, sequence)])))

    def store_dead(self, group: str, which: Iterable[tuple[str, int]]) -> list[tuple[str, str, int]]:
        """
        Store dead letters of a group as events again, and remove them; return their APIs, journals and sequences.

        Those stay dead letters whose group was removed, or listens to other events now: nobody would get them.
        Thread-safe; call `renew_retried` afterwards to inform the group's members. Raises JournalError.
        """
        found = []
        for name, sequence in which:
            journal = self._journals.get(name)
            dead = None if journal is None else journal.dead_letters.get(group, sequence)
            if journal is not None and dead is not None and self._is_wanted(group, dead.topic):
                found.append((journal, dead))
        for journal in {journal.id: journal for journal, _ in found}.values():
            dead_here = [dead for held, dead in found if held is journal]
            # Stored before they are removed. If only the former succeeds, the next attempt stores them no second time.
            again = [_again(dead.topic, group, journal.id, dead.sequence, dead.record) for dead in dead_here]
            self._journals.target(journal).append(again)
            journal.dead_letters.remove([(group, dead.sequence) for dead in dead_here])
        return [(dead.topic.api, journal.id, dead.sequence) for journal, dead in found]

    def _is_wanted(self, group: str, topic: Topic) -> bool:
        known = self._groups.get((topic.api, group))
        return known is not None and known.gets(topic.declared_event)

    def renew_retried(self, group: str, stored: list[tuple[str, str, int]]) -> list[tuple[str, int]]:
        """Inform the members of a group of events stored again for it; return their journals and sequences."""
        for api in {api for api, _, _ in stored}:
            if (known := self._groups.get((api, group))) is not None:
                self._members.renew(known, self._journals.all())
        return [(journal, sequence) for _, journal, sequence in stored]

    def store_late(
        self, group: str, journal: Journal, target: Journal, topic: Topic, after: int, last: int
    ) -> tuple[int, int]:
        """
        Store a page of a topic's events after `after`, up to `last`, again in `target` for one group. Thread-safe.

        Return the last sequence of the page, and the number of events stored. Raises JournalError.
        """
        page = journal.page(topic, after, limit=MAX_PAGE, max_bytes=MAX_PAGE_BYTES)
        missed = [entry for entry in page.entries if entry.sequence <= last]
        target.append([_again(topic, group, journal.id, sequence, record) for sequence, _, record in missed])
        return page.through, len(missed)


def _again(topic: Topic, group: str, journal: str, sequence: int, record: bytes) -> NewEvent:
    """Return an event of a journal for one group. Its id is always the same, so that it is stored only once."""
    id = name_for_group(f"{journal}-{sequence}", group)
    return NewEvent(topic.for_group(group), record, time.time(), id=id)
