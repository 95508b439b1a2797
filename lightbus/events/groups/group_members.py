"""The connected members of each group, and the messages to them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from ...adapters.sqlite.journal import Journal
from ...core.groups import MemberAssignment
from ...exceptions import PeerRefused
from ...membership.context import Identity
from ...recurring import RecurringLog
from ...wire.envelope import Assign, Join, Streams
from ...wire.sizes import Receivers, fitting_partitions
from .group_progress import GroupProgress
from .group_state import GroupState, MemberConnection, times_of
from .group_store import GroupStore
from .replies import Send
from .served_journals import ServedJournals

__all__ = ["GroupMembers"]

logger = logging.getLogger("lightbus.groups")


class GroupMembers:
    """
    The members of all groups of a publisher. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        groups: the groups by API and name.
        journals: the served journals.
        progress: the positions of the groups.
        store: stores which partitions members have.
        receivers: how large a message each subscriber takes.
        send: sends a message to a member.
        counts: the coordinator's counters: lost, hung.

    Attributes:
        edition: counts changes that were sent to all members of a group. Beats carry it, so that a lost one is noticed.

    """

    def __init__(
        self,
        identity: Identity,
        groups: Mapping[tuple[str, str], GroupState],
        journals: ServedJournals,
        progress: GroupProgress,
        store: GroupStore,
        receivers: Receivers,
        send: Send,
        counts: Counter[str],
    ) -> None:
        self.edition = 0
        self._identity = identity
        self._groups = groups
        self._journals = journals
        self._progress = progress
        self._store = store
        self._receivers = receivers
        self._send = send
        self._counts = counts
        self._log = RecurringLog(logger)
        self._members: dict[tuple[bytes, str, str], str] = {}
        """The member of a group by connection: routing id, API, group -> member."""
        self._presences: dict[bytes, set[tuple[str, str, str]]] = {}
        """Presence topic -> API, group, member. A process has one presence topic for all its listeners."""

    def connect(self, group: GroupState, join: Join, routing_id: bytes) -> None:
        """Record the connection of a member. A connection can be only one member of a group at a time."""
        api, name = group.info.api, group.info.name
        before = self._members.get((routing_id, api, name), join.member)
        if before != join.member:  # else one process could take partitions as many members
            self._revoke(group, before, f"has joined again as {join.member[:4]}")
        self.disconnect(group, join.member)
        group.connections[join.member] = MemberConnection(
            routing_id, join.presence, join.digest, self._receivers.most(join.max_message_size)
        )
        self._members[routing_id, api, name] = join.member
        self._presences.setdefault(join.presence, set()).add((api, name, join.member))

    def disconnect(self, group: GroupState, member: str) -> None:
        """Remove the connection of a member."""
        connection = group.connections.pop(member, None)
        if connection is not None:
            api, name = group.info.api, group.info.name
            self._members.pop((connection.routing_id, api, name), None)
            present = self._presences.get(connection.presence, set())
            present.discard((api, name, member))
            if not present:
                self._presences.pop(connection.presence, None)

    def find(self, routing_id: bytes, api: str, name: str) -> tuple[GroupState, str] | None:
        """Return the group and the member of a connection; None if it is no member."""
        group, member = self._groups.get((api, name)), self._members.get((routing_id, api, name))
        return None if group is None or member is None else (group, member)

    def speaker(self, routing_id: bytes, api: str, name: str) -> tuple[GroupState, str]:
        """Return the group and the member of a connection. Raises PeerRefused if it is no member."""
        group, member = self._groups.get((api, name)), self._members.get((routing_id, api, name))
        if group is None or member is None:
            raise PeerRefused(
                f"{self._identity} does not know you as a member of the group {name} of {api}: join again."
            )
        return group, member

    def describe(self, routing_id: bytes) -> str:
        """Return the peer of a connection, for a log line."""
        member = next((member for (each, _, _), member in self._members.items() if each == routing_id), None)
        return f"the connection {routing_id.hex()}" if member is None else f"the member {member}"

    # Messages to members

    def assign(self, group: GroupState, assignment: MemberAssignment, call_id: int = 0) -> None:
        """Send a member its assignment; with `call_id`, as the answer to its request."""
        connection = group.connections.get(assignment.member)
        if connection is None:
            return
        info = group.info
        self._store.save_held(group, assignment.partitions, is_held=True)
        events = self._journals.event_names(info.api, info.events, info.name)
        partitions = list(assignment.partitions)
        message = Assign(
            info.api, info.name, assignment.generation, partitions, events, *times_of(info), group.is_mixed
        )  # fmt: skip
        connection.generation, connection.events = assignment.generation, events
        self._send(connection.routing_id, call_id, message)

    def renew(self, group: GroupState, journals: list[Journal]) -> None:
        """Inform the members of a group of events in journals that are not published live."""
        events = self._journals.event_names(group.info.api, group.info.events, group.info.name)
        for member, connection in list(group.connections.items()):
            if events != connection.events:  # there are event names that the member does not know
                for assignment in group.membership.renew(member):
                    self.assign(group, assignment)
            self._send_streams(group, member, journals)
        if group.connections:
            self.edition += 1

    def _send_streams(self, group: GroupState, member: str, journals: list[Journal]) -> None:
        info, connection, partitions = group.info, group.connections[member], group.membership.held_by(member)
        streams = self._progress.streams(group, partitions, journals)
        taken, _ = fitting_partitions(partitions, streams, connection.max_message_size)
        if len(taken) == len(partitions):  # else the member notices by the next beat, and asks in parts that fit
            message = Streams(info.api, info.name, group.membership.generation, partitions, streams)
            self._send(connection.routing_id, 0, message)

    def compare(self, group: GroupState, member: str, generation: int, held: list[int]) -> bool:
        """Compare a member's report with our record, and send what it lacks; return whether it is a member."""
        connection, membership = group.connections[member], group.membership
        if generation > connection.generation:
            return False  # a member of an earlier group of this name, which was removed
        if generation == 0:
            return True  # it is joining
        assigned = membership.assigned_to(member)
        if generation != connection.generation or not {*held} >= {*assigned}:
            self.assign(group, MemberAssignment(member, connection.generation, assigned))
        elif given_back := {*membership.held_by(member)} - {*held}:
            for assignment in membership.released(member, generation, given_back):
                self.assign(group, assignment)
        return True

    # Members that leave or are lost

    def leave(self, group: GroupState, member: str) -> None:
        """Remove a member that has finished its events, and assign its partitions to other members."""
        held = group.membership.held_by(member)
        assignments = group.membership.leave(member)
        self.disconnect(group, member)
        self._store.save_held(group, held, is_held=False)
        for assignment in assignments:
            self.assign(group, assignment)

    def unsubscribed(self, topic: bytes) -> None:
        """Record that a subscription ended; if it was the presence topic of members, these are gone."""
        self._receivers.left(topic)
        for api, name, member in list(self._presences.get(topic, ())):
            self._revoke(self._groups[api, name], member, "is gone")
            self._counts["lost"] += 1

    def expire_silent(self, group: GroupState, now: float, timeout: float) -> None:
        """Revoke the partitions of members that have been silent too long."""
        for member in group.membership.silent(now, timeout):
            self._revoke(group, member, f"sent nothing for {timeout:g} s")
            self._counts["hung"] += 1

    def _revoke(self, group: GroupState, member: str, what: str) -> None:
        lost, assignments = group.membership.lost(member)
        self._log.log(
            (group.info.api, group.info.name, member), logging.INFO,
            "The member %s of the group %s %s; its %d partitions are assigned to others",
            member[:4], group.info.name, what, len(lost.partitions),
        )  # fmt: skip
        self.disconnect(group, member)
        for journal in self._journals.all():
            if journal.id in group.cursors:
                topics = self._journals.topics(group, lost.partitions, journal)
                group.cursors[journal.id].mark_in_flight(topics)
        for assignment in assignments:
            self.assign(group, assignment)
