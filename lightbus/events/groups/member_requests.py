"""Requests of group members about their membership: join, open, release, leave, beat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any

from ...exceptions import PeerBusy, PeerRefused
from ...membership.context import Identity
from ...service.api import ApiRegistry
from ...wire.envelope import PARTITIONS, AnyMessage, Assign, Beat, Join, Leave, Open, Release, Streams
from ...wire.sizes import Receivers, fitting_partitions
from .cursor_store import CursorStore
from .group_directory import GroupDirectory
from .group_members import GroupMembers
from .group_progress import GroupProgress
from .replies import Send
from .served_journals import ServedJournals
from .starting_points import StartingPoints, position_of

__all__ = ["MemberRequests"]

MAX_MEMBERS = 1000
"""Members of one group; bounded, since each assignment of partitions visits all of them."""


class MemberRequests:
    """
    Answers these requests, one method for each. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        apis: the APIs whose events we publish.
        journals: the served journals.
        directory: the groups.
        members: the connected members.
        progress: the positions of the groups.
        starts: finds the starting points of listeners without a group.
        cursors: stores the positions that a joining member reports.
        receivers: how large a message each subscriber takes.
        send: sends an answer.
        handle: handles a message as if it had just arrived.
        counts: the coordinator's counters: joined, left.

    """

    def __init__(
        self,
        identity: Identity,
        apis: ApiRegistry,
        journals: ServedJournals,
        *,
        directory: GroupDirectory,
        members: GroupMembers,
        progress: GroupProgress,
        starts: StartingPoints,
        cursors: CursorStore,
        receivers: Receivers,
        send: Send,
        handle: Callable[[bytes, int, AnyMessage], None],
        counts: Counter[str],
    ) -> None:
        self._identity = identity
        self._apis = apis
        self._journals = journals
        self._directory = directory
        self._members = members
        self._progress = progress
        self._starts = starts
        self._cursors = cursors
        self._receivers = receivers
        self._send = send
        self._handle = handle
        self._counts = counts

    def _begins_later(self, routing_id: bytes, call_id: int, message: Join | Open) -> bool:
        """Search for the starting point of a request, if needed; return whether the answer must wait for that."""
        if self._directory.has(message.api, message.group):  # its starting point is known
            return False
        journals = self._starts.unsearched(message.api, message.since)
        if journals:
            answer = partial(self._handle, routing_id, call_id, message)
            self._starts.search(journals, message.api, message.since, answer)
        return bool(journals)

    def on_join(self, routing_id: bytes, call_id: int, join: Join) -> None:
        """Add a member; to a listener without a group, send the names of the events."""
        if self._begins_later(routing_id, call_id, join):
            return
        if join.target != self._identity.instance:
            raise PeerRefused(f"the group was meant for the instance {join.target}, and this is {self._identity}.")
        if not self._journals.keeps(join.api):
            self._apis.get(join.api)  # raises UnknownApi
        self._receivers.joined(join.presence, join.max_message_size)
        if not join.group:
            everything = list(range(PARTITIONS))
            events = self._journals.event_names(join.api, join.events)
            self._send(routing_id, call_id, Assign(join.api, "", 0, everything, events, 0.0, time.time()))
            return
        group = self._directory.joined(join)
        if len(group.connections) >= MAX_MEMBERS and join.member not in group.connections:
            raise PeerBusy(f"the group {join.group} of {join.api} has {MAX_MEMBERS} members already.")
        self._cursors.adopt_reported(group, join.positions)
        self._members.connect(group, join, routing_id)
        self._counts["joined"] += 1
        for assignment in group.membership.join(join.member, time.monotonic()):
            self._members.assign(group, assignment, call_id if assignment.member == join.member else 0)

    def on_open(self, routing_id: bytes, call_id: int, message: Open) -> None:
        """Send the positions of topics."""
        if self._begins_later(routing_id, call_id, message):
            return
        if not message.group:
            self._starts.check(message.api, message.since)
            streams = self._unassigned_streams(message)
        else:
            group, member = self._members.speaker(routing_id, message.api, message.group)
            held = [p for p in message.partitions if group.membership.holds(member, message.generation, p)]
            message = message._replace(partitions=held)
            streams = self._progress.streams(group, held, self._journals.all())
        size = self._receivers.most(message.max_message_size)
        partitions, streams = fitting_partitions(message.partitions, streams, size)
        answer = Streams(message.api, message.group, message.generation, partitions, streams)
        self._send(routing_id, call_id, answer)

    def _unassigned_streams(self, message: Open) -> list[Any]:
        rows = []
        events, partitions = set(message.events), set(message.partitions)
        for journal in self._journals.all():
            since = self._starts.resolve(journal, message.api, message.since)
            for topic, head in journal.topics.of(message.api).items():
                if topic.event in events and topic.partition in partitions:
                    position = position_of(journal, topic, head, since)
                    rows.append([journal.id, topic.event, topic.partition, position, head, 0])
        return rows

    def on_release(self, routing_id: bytes, call_id: int, release: Release) -> None:
        """Assign partitions that a member has finished with to others."""
        group, member = self._members.speaker(routing_id, release.api, release.group)
        for assignment in group.membership.released(member, release.generation, release.partitions):
            self._members.assign(group, assignment)

    def on_leave(self, routing_id: bytes, call_id: int, leave: Leave) -> None:
        """Remove a member."""
        group, member = self._members.speaker(routing_id, leave.api, leave.group)
        self._members.leave(group, member)
        self._counts["left"] += 1
        self._cursors.answer_once_stored(routing_id, call_id, [])

    def on_beat(self, routing_id: bytes, call_id: int, beat: Beat) -> None:
        """Record that a member is alive; answer with the groups that the sender is a member of."""
        now = time.monotonic()
        mine = []
        for (api, name), state in zip_longest(beat.groups, beat.states[: len(beat.groups)]):
            found = self._members.find(routing_id, api, name)
            if found is None or not found[0].membership.record_activity(found[1], now):
                continue
            if state is None or len(state) != 2 or self._members.compare(*found, *state):
                mine.append([api, name])
        self._send(routing_id, call_id, Beat(mine, [[self._members.edition]] * len(mine)))
