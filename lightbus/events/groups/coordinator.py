"""The publisher's side of consumer groups: their members, their partitions, and their positions.

A publisher coordinates the groups of the journals that it serves, its own and those it adopted; no other process has a
say in them. What it decides is in `core.groups` and `core.cursors`, what it promises is in the journals: an
acknowledgement is answered once it is on disk. Each matter is a class of its own; they are put together here, with
the table of the handlers of members' requests.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ...adapters.host.machine_time import machine_time
from ...adapters.sqlite.topic import Topic
from ...membership.context import Identity
from ...recurring import RecurringLog
from ...service.api import ApiRegistry
from ...wire.envelope import Ack, AnyMessage, Beat, Fetch, Join, Leave, Open, Reject, Release, Start
from ...wire.sizes import Receivers
from .ack_waiters import AckWaiters, OnHandled
from .cursor_store import CursorStore
from .delivery_requests import DeliveryRequests
from .group_directory import GroupDirectory
from .group_members import GroupMembers
from .group_progress import GroupProgress
from .group_state import GroupState
from .group_store import GroupStore
from .late_events import LateEvents
from .member_requests import MemberRequests
from .redelivery import Redelivery
from .replies import sender
from .served_journals import JournalSource, ServedJournals
from .starting_points import StartingPoints

__all__ = ["Coordinator"]

logger = logging.getLogger("lightbus.groups")

SAVE_SEEN_EVERY = 60.0
"""Seconds between two notes in the journal that a group has members."""


class Coordinator:
    """
    What answers everything that consumers ask a publisher. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        apis: whose events we publish.
        journals: the journals.
        reply: sends a frame to a routing id.
        handle: handles a message as if it had arrived just now: what could not be answered before.
        receivers: the subscribers, and how large a message each accepts.
        member_timeout: seconds without a sign of life after which a member loses its partitions.

    Attributes:
        groups: by API and name. Only `directory` changes which there are.
        journals: those that are served.
        progress: how far the groups have come.
        directory: makes and forgets groups, and has them begin in journals.
        redelivery: gives a group events again.
        cursors: what was acknowledged.
        handlers: the handlers of members' requests, by message. Their caller answers with what they raise.

    """

    def __init__(
        self,
        identity: Identity,
        apis: ApiRegistry,
        journals: JournalSource,
        reply: Callable[[bytes, bytes], bool],
        handle: Callable[[bytes, int, AnyMessage], None],
        receivers: Receivers,
        *,
        member_timeout: float = 10.0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """joined, left, lost, hung, acked, refused_acks, impossible_acks, redelivered, dead_lettered, pages,
        given_late, unwatched."""
        self.groups: dict[tuple[str, str], GroupState] = {}
        self.journals = ServedJournals(journals, apis)
        self.progress = GroupProgress(self.groups, self.journals)
        self._member_timeout = member_timeout
        self._failures = RecurringLog(logger)
        self._waiters = AckWaiters(self.progress.handled_by_all)
        send = sender(reply)
        self._store = GroupStore(self.journals)
        starts = StartingPoints(identity, self.journals)
        self._members = GroupMembers(
            identity, self.groups, self.journals, self.progress, self._store, receivers, send, self.counts
        )
        self.cursors = CursorStore(self.journals, self._members, self.progress, self._waiters, reply, self.counts)
        self.redelivery = Redelivery(self.groups, self.journals, self._members)
        late = LateEvents(self.groups, self.journals, self.redelivery, self._members, self._store, self.counts)
        self.directory = GroupDirectory(
            identity, self.groups, self.journals, starts=starts, store=self._store, cursors=self.cursors,
            members=self._members, late=late, progress=self.progress, waiters=self._waiters,
            counts=self.counts,
        )  # fmt: skip
        asked = MemberRequests(
            identity, apis, self.journals, directory=self.directory, members=self._members, progress=self.progress,
            starts=starts, cursors=self.cursors, receivers=receivers, send=send, handle=handle, counts=self.counts,
        )  # fmt: skip
        delivery = DeliveryRequests(
            identity, self.journals, members=self._members, progress=self.progress, cursors=self.cursors,
            receivers=receivers, send=send, counts=self.counts,
        )  # fmt: skip
        self.handlers = _table(asked, delivery, self.cursors)

    def describe(self, routing_id: bytes) -> str:
        """Return the peer of a connection, for a log line."""
        return self._members.describe(routing_id)

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """Record that a subscription ended: where it was a member's sign of presence, the member is gone."""
        if not subscribed:
            self._members.unsubscribed(topic)

    def tick(self, now: float) -> None:
        """Take the partitions of members that hang, note which groups have members, and store what was not taken."""
        self._store.tick()
        self._waiters.expire(now)
        self.cursors.tick()
        for group in list(self.groups.values()):
            self._members.expire_silent(group, now, self._member_timeout)
            if group.connections and now - group.saved_at > SAVE_SEEN_EVERY:
                group.saved_at = now
                group.info = group.info._replace(last_seen=machine_time())
                self._store.save_group(group)

    def when_handled(self, topic: Topic, sequence: int, seconds: float, on_handled: OnHandled) -> None:
        """Call back once every group that is owed this event of our own journal has handled it, within its time."""
        if not self._waiters.add(topic, sequence, time.monotonic() + seconds, on_handled):
            self.counts["unwatched"] += 1
            self._failures.log(
                "waiters", logging.WARNING,
                "%d callers wait until their events are handled (wait_for='ack'), and no further one is told when: the "
                "last one fired %s.%s. Their groups are behind: see lightbus lag",
                len(self._waiters), topic.api, topic.event, changes=False,
            )  # fmt: skip


def _table(
    asked: MemberRequests, delivery: DeliveryRequests, cursors: CursorStore
) -> dict[type, Callable[[bytes, int, Any], None]]:
    """Return which message goes to which method."""
    return {
        Join: asked.on_join,
        Open: asked.on_open,
        Fetch: delivery.on_fetch,
        Ack: cursors.on_ack,
        Start: delivery.on_start,
        Reject: delivery.on_dead_letter,
        Release: asked.on_release,
        Leave: asked.on_leave,
        Beat: asked.on_beat,
    }
