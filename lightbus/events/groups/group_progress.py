"""The positions of a publisher's groups in its journals: which events they have handled, and which are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...wire.envelope import PARTITIONS
from .group_state import GroupState
from .served_journals import ServedJournals

__all__ = ["GroupProgress", "count_lag"]


class GroupProgress:
    """
    Reads the positions of groups; changes nothing. Only touched from the node's loop.

    Args:
        groups: the groups by API and name.
        journals: the served journals.

    """

    def __init__(self, groups: Mapping[tuple[str, str], GroupState], journals: ServedJournals) -> None:
        self._groups = groups
        self._journals = journals

    def cursors_of(self, journal: Journal, topic: Topic) -> dict[str, int]:
        """Return the position in a topic of each group that its events are kept for (for retention)."""
        return {
            group.info.name: group.cursors[journal.id].acked.get(topic, 0)
            for group in self._groups.values()
            if group.info.api == topic.api and group.gets(topic.event) and journal.id in group.cursors
        }

    def has_unhandled(self, journal: Journal) -> bool:
        """Return whether any group has events left to handle in a journal."""
        return any(
            acked < journal.topics.last(topic)
            for topic in journal.topics.all()
            for acked in self.cursors_of(journal, topic).values()
        )

    def handled_by_all(self, topic: Topic) -> int | None:
        """Return the sequence up to which all groups have handled a topic of our own journal; None without groups."""
        return min(self.cursors_of(self._journals.own(), topic).values(), default=None)

    def has_reached(self, group: GroupState, journal: str, topic: Topic, sequence: int) -> bool:
        """
        Return whether this sequence exists in a topic of the group, so that the group can have handled it.

        A report of a sequence that does not exist is an error; accepting it would make the group miss later events.
        """
        held = self._journals.get(journal) if journal in group.cursors and group.gets(topic.event) else None
        return held is not None and sequence <= held.topics.last(topic)

    def lag(self, group: GroupState) -> int:
        """Return how many events a group has not handled yet."""
        return count_lag(self.positions(group))

    def positions(self, group: GroupState) -> list[tuple[Journal, Topic, int]]:
        """Return the position of a group in each of its topics; its lag is counted from there."""
        return [
            (journal, topic, group.cursors[journal.id].acked.get(topic, 0))
            for journal in self._journals.all()
            for topic, _ in self._journals.topics(group, range(PARTITIONS), journal)
        ]

    def streams(self, group: GroupState, partitions: Iterable[int], journals: Iterable[Journal]) -> list[Any]:
        """Return the positions of a group, as rows of a STREAMS message."""
        rows = []
        partitions = list(partitions)
        for journal in journals:
            failed = journal.deliveries.failing(group.info.name)
            for topic, head in self._journals.topics(group, partitions, journal):
                standing = group.cursors[journal.id].standing(topic, head, failed.get(topic, 0))
                rows.append([journal.id, topic.event, topic.partition, *standing])
        return rows


def count_lag(positions: Iterable[tuple[Journal, Topic, int]]) -> int:
    """Return how many events come after these positions. Call it in a thread: it is slow if there are many."""
    return sum(journal.count_after(topic, acked) for journal, topic, acked in positions)
