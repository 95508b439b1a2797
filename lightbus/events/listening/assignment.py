"""The topics that a publisher has assigned to one listener, and which of them are followed yet. No I/O."""

from __future__ import annotations

from typing import Any, TypeAlias

from ...wire.envelope import Assign, Open

__all__ = ["Assignment", "Pair"]

Pair: TypeAlias = tuple[str, int]
"""An event's name, and a partition."""


class Assignment:
    """
    The assignment of one listener at one publisher. Only touched from the node's loop.

    Args:
        api: the API of the events.
        group: the group's name; empty for a listener without a group.
        since: the starting point of a listener without a group.

    Attributes:
        generation: the latest known generation of the group's assignments; 0 while we are not a member.
        partitions, events: the assigned partitions and event names.
        followed: the pairs whose positions are known.

    """

    def __init__(self, api: str, group: str, since: Any) -> None:
        self.api = api
        self.group = group
        self.generation = 0
        self.partitions: frozenset[int] = frozenset()
        self.events: tuple[str, ...] = ()
        self.followed: set[Pair] = set()
        self._since = "$" if group or since is None else since

    @property
    def is_complete(self) -> bool:
        """Whether all assigned pairs are followed."""
        return len(self.followed) == len(self.events) * len(self.partitions)

    @property
    def pairs(self) -> set[Pair]:
        """The assigned pairs, by event and partition."""
        return {(event, partition) for event in self.events for partition in self.partitions}

    def change(self, message: Assign) -> tuple[frozenset[int], set[Pair]]:
        """Record a new assignment; return the partitions and the pairs that were revoked."""
        partitions, before = self.partitions, self.pairs
        self.generation = message.generation
        self.partitions, self.events = frozenset(message.partitions), tuple(message.events)
        return partitions - self.partitions, before - self.pairs

    def clear(self) -> None:
        """Drop the assignment."""
        self.generation = 0
        self.partitions, self.events = frozenset(), ()
        self.followed.clear()

    def question(self, pairs: set[Pair], max_message_size: int) -> Open | None:
        """Return the request for the positions of these pairs; None if there are none."""
        if not pairs:
            return None
        events = sorted({event for event, _ in pairs})
        partitions = sorted({partition for _, partition in pairs})
        return Open(self.api, self.group, self.generation, partitions, events, self._since, max_message_size)
