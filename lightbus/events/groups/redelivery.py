"""Events that one group is given again, or late: stored once more under a name of their own, for that group alone."""

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
"""Events, and bytes, that are stored again by one commit."""


class Redelivery:
    """
    Delivers events to a group again. On the node's loop, unless noted otherwise.

    Args:
        groups: by API and name.
        journals: where they are stored.
        members: informed.

    """

    def __init__(
        self, groups: Mapping[tuple[str, str], GroupState], journals: ServedJournals, members: GroupMembers
    ) -> None:
        self._groups = groups
        self._journals = journals
        self._members = members

    def drop_dead(self, group: str, journal: str, sequence: int) -> Dead | None:
        """Take out a dead letter of a group; None where there is no such thing. From any thread."""
        held = self._journals.get(journal)
        return None if held is None else held.dead_letters.take(group, sequence)

    def retry_dead(self, group: str, journal: str, sequence: int) -> bool:
        """Have a dead letter given to its group again; return whether there is such a thing."""
        return bool(self.renew_retried(group, self.store_dead(group, [(journal, sequence)])))

    def store_dead(self, group: str, which: Iterable[tuple[str, int]]) -> list[tuple[str, str, int]]:
        """
        Store dead letters of a group as events once more, and take them out; return API, journal and sequence.

        From any thread; the group's members learn of it by `renew_retried`. Raises JournalError.
        """
        found = []
        for name, sequence in which:
            journal = self._journals.get(name)
            dead = None if journal is None else journal.dead_letters.get(group, sequence)
            if journal is not None and dead is not None:
                found.append((journal, dead))
        for journal in {journal.id: journal for journal, _ in found}.values():
            dead_here = [dead for held, dead in found if held is journal]
            # First they are stored, then taken out; if only the first came to pass, the next attempt stores nothing.
            again = [_again(dead.topic, group, journal.id, dead.sequence, dead.record) for dead in dead_here]
            self._journals.target(journal).append(again)
            journal.dead_letters.remove([(group, dead.sequence) for dead in dead_here])
        return [(dead.topic.api, journal.id, dead.sequence) for journal, dead in found]

    def renew_retried(self, group: str, stored: list[tuple[str, str, int]]) -> list[tuple[str, int]]:
        """Have the members of a group learn of what was stored for it; return journals and sequences."""
        for api in {api for api, _, _ in stored}:
            if (known := self._groups.get((api, group))) is not None:
                self._members.renew(known, self._journals.all())
        return [(journal, sequence) for _, journal, sequence in stored]

    def store_late(
        self, group: str, journal: Journal, target: Journal, topic: Topic, after: int, last: int
    ) -> tuple[int, int]:
        """
        Store in `target` for a group a page of what a topic has behind `after`, up to `last`. From any thread.

        Return up to where that is, and how many events. Raises JournalError.
        """
        page = journal.page(topic, after, limit=MAX_PAGE, max_bytes=MAX_PAGE_BYTES)
        missed = [entry for entry in page.entries if entry.sequence <= last]
        target.append([_again(topic, group, journal.id, sequence, record) for sequence, _, record in missed])
        return page.through, len(missed)


def _again(topic: Topic, group: str, journal: str, sequence: int, record: bytes) -> NewEvent:
    """Return an event of a journal as it is given to one group. However often it is stored, it is there once."""
    id = name_for_group(f"{journal}-{sequence}", group)
    return NewEvent(topic.for_group(group), record, time.time(), id=id)
