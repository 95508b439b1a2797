"""What groups have acknowledged: stored by one commit for each tick of the loop, and answered once it is on disk."""

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
        journals: where they are stored.
        members: the members that acknowledge.
        progress: knows how far a group can have come.
        waiters: are called back when all groups have handled an event.
        reply: sends a frame to a routing id.
        counts: of the coordinator: acked, refused_acks, impossible_acks.

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
        """Routing id, call id and refused partitions of each acknowledgement that is not answered yet."""
        self._writes: defaultdict[str, dict[tuple[str, Topic], int]] = defaultdict(dict)
        """By journal."""
        self._failures = RecurringLog(logger)
        self._is_due = False

    def on_ack(self, routing_id: bytes, call_id: int, ack: Ack) -> None:
        """Record up to where a member has handled topics, and answer once that is on disk; refuse topics of others."""
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
        """Record what a member that joins says to have handled, before it lost its publisher."""
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
        """Have a position stored at the end of this tick."""
        self._writes[journal][group, topic] = sequence
        self.save_soon()

    def answer_once_stored(self, routing_id: bytes, call_id: int, refused: list[int]) -> None:
        """Answer an acknowledgement when what was noted up to now is on disk."""
        self._answers.append((routing_id, call_id, refused))
        self.save_soon()

    def save_soon(self) -> None:
        """Store at the end of this tick."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.save)

    def save(self) -> None:
        """Store the acknowledgements of this tick by one commit for each journal, and answer them."""
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
                    # Not answered: the consumers continue up to their bound, and repeat unconfirmed acknowledgements.
                    self._failures.log(name, logging.ERROR, "Acknowledgements were not stored: %s", error)
                    self._writes[name] = positions
                    answers = []
        for routing_id, call_id, refused in answers:
            self._reply(routing_id, envelope.encode(Acked(refused), call_id))

    def tick(self) -> None:
        """Try again to store what a journal did not take."""
        if self._writes:
            self.save_soon()
