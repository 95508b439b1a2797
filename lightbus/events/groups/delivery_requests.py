"""Requests of group members about events: to send a page, to count a delivery, to store a dead letter."""

from __future__ import annotations

import logging
import time
from collections import Counter

from ...adapters.sqlite.topic import Topic
from ...exceptions import PeerRefused
from ...membership.context import Identity
from ...wire.envelope import Ack, Acked, Fetch, Page, Reject, Start, Started
from ...wire.sizes import Receivers, fitting
from .cursor_store import CursorStore
from .group_members import GroupMembers
from .group_progress import GroupProgress
from .group_state import GroupState
from .replies import Send
from .served_journals import ServedJournals

__all__ = ["DeliveryRequests"]

logger = logging.getLogger("lightbus.groups")

MAX_PAGE = 1000
MAX_PAGE_BYTES = 1024 * 1024
"""Largest number of events, and of bytes, in one answer."""


class DeliveryRequests:
    """
    Answers these requests, one method for each. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        journals: the journals with the events.
        members: the members that send requests.
        progress: tells which positions a group can have reached.
        cursors: stores a dead letter as acknowledged, and answers once that is on disk.
        receivers: how large a message each subscriber takes.
        send: sends an answer.
        counts: the coordinator's counters: pages, redelivered, dead_lettered.

    """

    def __init__(
        self,
        identity: Identity,
        journals: ServedJournals,
        *,
        members: GroupMembers,
        progress: GroupProgress,
        cursors: CursorStore,
        receivers: Receivers,
        send: Send,
        counts: Counter[str],
    ) -> None:
        self._identity = identity
        self._journals = journals
        self._members = members
        self._progress = progress
        self._cursors = cursors
        self._receivers = receivers
        self._send = send
        self._counts = counts

    def on_fetch(self, routing_id: bytes, call_id: int, fetch: Fetch) -> None:
        """Send a page of a topic."""
        journal = self._journals.get(fetch.journal)
        if journal is None:
            raise PeerRefused(f"{self._identity} does not serve the journal {fetch.journal}.")
        topic = Topic(fetch.api, fetch.event, fetch.partition)
        limit = max(1, min(fetch.limit, MAX_PAGE))
        page = journal.page(topic, fetch.after, limit=limit, max_bytes=MAX_PAGE_BYTES)
        self._counts["pages"] += 1
        records, are_all = fitting(page.entries, self._receivers.most(fetch.max_message_size))
        through = page.through if are_all else records[-1][0]
        self._send(routing_id, call_id, Page(records, through, page.more or not are_all, page.trimmed))

    def on_start(self, routing_id: bytes, call_id: int, start: Start) -> None:
        """Count a delivery of an event that is about to begin, and answer with the count."""
        group, member = self._members.speaker(routing_id, start.api, start.group)
        journal = self._journals.get(start.journal)
        topic = Topic(start.api, start.event, start.partition)
        if journal is None or not self._is_of(group, member, start):
            self._send(routing_id, call_id, Started(0))
            return
        # The request may be a repetition whose answer was lost, here or at the journal's previous owner: count it once.
        asker = f"{member} {call_id}"
        count = journal.deliveries.answer_to(asker, start.group, topic, start.sequence)
        if not count:
            self._counts["redelivered"] += start.at_least > 1
            count = journal.deliveries.count(start.group, topic, start.sequence, start.at_least, asker)
        self._send(routing_id, call_id, Started(count))

    def on_dead_letter(self, routing_id: bytes, call_id: int, reject: Reject) -> None:
        """Store an event as a dead letter."""
        group, member = self._members.speaker(routing_id, reject.api, reject.group)
        journal = self._journals.get(reject.journal)
        topic = Topic(reject.api, reject.event, reject.partition)
        if journal is None or not self._is_of(group, member, reject):
            self._send(routing_id, call_id, Acked([reject.partition]))
            return
        if not group.has_handled(journal.id, topic, reject.sequence):  # else it is stored: the answer was lost
            how = reject.deliveries, reject.error, time.time()
            is_kept = journal.dead_letters.add(reject.group, topic, reject.sequence, *how)
            self._counts["dead_lettered"] += is_kept
            logger.error(
                "%s-%d of %s.%s %s for the group %s after %d deliveries: %s",
                reject.journal, reject.sequence, reject.api, reject.event,
                "is a dead letter now" if is_kept else "was deleted by retention before it became a dead letter",
                reject.group, reject.deliveries, reject.error[:500],
            )  # fmt: skip
        position = [reject.journal, reject.event, reject.partition, reject.sequence]
        self._cursors.on_ack(routing_id, call_id, Ack(reject.api, reject.group, reject.generation, [position]))

    def _is_of(self, group: GroupState, member: str, message: Start | Reject) -> bool:
        """Return whether the event in a message exists, and the member has its partition."""
        topic = Topic(message.api, message.event, message.partition)
        is_held = group.membership.holds(member, message.generation, message.partition)
        return (
            is_held
            and message.sequence > 0
            and self._progress.has_reached(group, message.journal, topic, message.sequence)
        )
