"""Acknowledgements of groups: stored in one commit per iteration of the loop, and answered once they are on disk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError
from ...recurring import RecurringLog
from ...wire import envelope
from ...wire.envelope import Ack, Acked
from .ack_waiters import AckWaiters
from .group_members import GroupMembers
from .group_progress import GroupProgress
from .group_state import GroupState
from .served_journals import ServedJournals

__all__ = ["CursorStore"]

logger = logging.getLogger("lightbus.groups")


class CursorStore:
    """
    Moves the cursors of groups, and stores them. Only touched from the node's loop.

    Args:
        journals: the journals that store the cursors.
        members: the members that acknowledge.
        progress: tells which positions a group can have reached.
        waiters: called back when all groups have handled an event.
        reply: sends a frame to a routing id.
        counts: the coordinator's counters: acked, refused_acks, impossible_acks.

    """

    def __init__(
        self,
        journals: ServedJournals,
        members: GroupMembers,
        progress: GroupProgress,
        waiters: AckWaiters,
        reply: Callable[[bytes, bytes], bool],
        counts: Counter[str],
    ) -> None:
        self._journals = journals
        self._members = members
        self._progress = progress
        self._waiters = waiters
        self._reply = reply
        self._counts = counts
        self._answers: list[tuple[bytes, int, list[int]]] = []
        """Routing id, call id and refused partitions of each unanswered acknowledgement."""
        self._writes: defaultdict[str, dict[tuple[str, Topic], int]] = defaultdict(dict)
        """The positions to store: by journal, then by group and topic."""
        self._failures = RecurringLog(logger)
        self._is_due = False

    def on_ack(self, routing_id: bytes, call_id: int, ack: Ack) -> None:
        """Record the positions that a member has handled, and answer once stored; refuse partitions of others."""
        group, member = self._members.speaker(routing_id, ack.api, ack.group)
        refused: set[int] = set()
        for journal, event, partition, sequence in ack.positions:
            topic = Topic(ack.api, event, partition)
            if not self._progress.has_reached(group, journal, topic, sequence):
                self._counts["impossible_acks"] += 1
                refused.add(partition)
            elif not group.membership.holds(member, ack.generation, partition):
                refused.add(partition)
            elif group.cursors[journal].acknowledge(topic, sequence):
                self._writes[journal][group.info.name, topic] = sequence
                self._counts["acked"] += 1
                group.acks += 1
                self._waiters.acknowledged(topic)
        group.membership.record_activity(member, time.monotonic())
        self._counts["refused_acks"] += len(refused)
        self.answer_once_stored(routing_id, call_id, sorted(refused))

    def adopt_reported(self, group: GroupState, positions: list[Any]) -> None:
        """Record the positions that a joining member had handled at its previous publisher."""
        for journal, event, partition, sequence in positions:
            cursors = group.cursors.get(journal)
            topic = Topic(group.info.api, event, partition)
            if cursors is None:
                continue
            if not self._progress.has_reached(group, journal, topic, sequence):
                self._counts["impossible_acks"] += 1
            elif cursors.adopt_reported(topic, sequence):
                self.note(journal, group.info.name, topic, sequence)
                self._waiters.acknowledged(topic)

    def note(self, journal: str, group: str, topic: Topic, sequence: int) -> None:
        """Store a position at the end of this iteration of the loop."""
        self._writes[journal][group, topic] = sequence
        self.save_soon()

    def group_removed(self, api: str, group: str) -> None:
        """Drop the noted positions of a group: a later group of this name would start there after a restart."""
        for positions in self._writes.values():
            for key in [key for key in positions if (key[1].api, key[0]) == (api, group)]:
                del positions[key]

    def answer_once_stored(self, routing_id: bytes, call_id: int, refused: list[int]) -> None:
        """Answer an acknowledgement once all positions noted so far are on disk."""
        self._answers.append((routing_id, call_id, refused))
        self.save_soon()

    def save_soon(self) -> None:
        """Schedule `save` at the end of this iteration of the loop."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.save)

    def save(self) -> None:
        """Store the noted positions in one commit per journal, and answer the acknowledgements."""
        self._is_due = False
        writes, self._writes = self._writes, defaultdict(dict)
        answers, self._answers = self._answers, []
        for name, positions in writes.items():
            journal = self._journals.get(name)
            if journal is not None:
                try:
                    cursors = [(group, topic, at) for (group, topic), at in positions.items()]
                    journal.change(*journal.cursors.changes(cursors=cursors))
                except JournalError as error:
                    # Not answered: consumers continue up to their limit, and repeat unconfirmed acknowledgements.
                    self._failures.log(name, logging.ERROR, "Acknowledgements were not stored: %s", error)
                    self._writes[name] = positions
                    answers = []
        for routing_id, call_id, refused in answers:
            self._reply(routing_id, envelope.encode(Acked(refused), call_id))

    def tick(self) -> None:
        """Repeat writes that a journal failed to store."""
        if self._writes:
            self.save_soon()
