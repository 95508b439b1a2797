"""The publisher's side of consumer groups: their members, their partitions, and their positions.

A publisher coordinates the groups of the journals that it serves, its own and those it adopted; no other process does.
The decisions are in `core.groups` and `core.cursors`, the stored state is in the journals: an acknowledgement is
answered once it is on disk. Each part is a class of its own; they are assembled here, with the table of the handlers of
members' requests.
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
"""Seconds between two writes to the journal that a group has members."""


class Coordinator:
    """
    Answers the requests of consumers to a publisher. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        apis: the APIs whose events we publish.
        journals: the journals.
        reply: sends a frame to a routing id.
        handle: handles a message as if it had just arrived; used for requests that were deferred.
        receivers: the subscribers, and how large a message each accepts.
        member_timeout: seconds without a message after which a member loses its partitions.

    Attributes:
        groups: the groups by API and name; only `directory` adds and removes them.
        journals: the served journals.
        progress: the positions of the groups.
        directory: adds and removes groups, and sets their starting points in journals.
        redelivery: delivers events to a group again.
        cursors: stores acknowledgements.
        handlers: the handlers of members' requests, by message type. The caller answers with the error they raise.

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
        """Record that a subscription ended; if it was the presence topic of a member, the member is gone."""
        if not subscribed:
            self._members.unsubscribed(topic)

    def tick(self, now: float) -> None:
        """Revoke partitions of silent members, store which groups have members, and repeat what failed at journals."""
        self._store.tick()
        self.directory.tick()
        self._waiters.expire(now)
        self.cursors.tick()
        for group in list(self.groups.values()):
            self._members.expire_silent(group, now, self._member_timeout)
            if group.connections and now - group.saved_at > SAVE_SEEN_EVERY:
                group.saved_at = now
                group.info = group.info._replace(last_seen=machine_time())
                self._store.save_group(group)

    def when_handled(self, topic: Topic, sequence: int, seconds: float, on_handled: OnHandled) -> None:
        """Call back once every group that this event of our own journal is kept for has handled it, within its time."""
        if not self._waiters.add(topic, sequence, time.monotonic() + seconds, on_handled):
            self.counts["unwatched"] += 1
            self._failures.log(
                "waiters", logging.WARNING,
                "%d callers wait until their events are handled (wait_for='ack'), and no more can: the last one that "
                "was refused fired %s.%s. Their groups are behind: see lightbus lag",
                len(self._waiters), topic.api, topic.event, changes=False,
            )  # fmt: skip


def _table(
    asked: MemberRequests, delivery: DeliveryRequests, cursors: CursorStore
) -> dict[type, Callable[[bytes, int, Any], None]]:
    """Return the handler of each message type."""
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
