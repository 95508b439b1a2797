"""Events that groups missed because they were known here too late: read in a thread, page by page, and stored again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError
from ...recurring import RecurringLog
from ...wire.envelope import PARTITIONS
from .group_members import GroupMembers
from .group_state import GroupState, Moment
from .group_store import GroupStore
from .redelivery import Redelivery
from .served_journals import ServedJournals

__all__ = ["LateEvents"]

logger = logging.getLogger("lightbus.groups")


class LateEvents:
    """
    Delivers events fired since a group's creation, if that is earlier than was known here. On the node's loop.

    Until the group has all these events, journals store the later creation time: a process that serves them next
    repeats the delivery.

    Args:
        groups: the groups by API and name.
        journals: the journals with the events.
        redelivery: stores the events again.
        members: the members of the group, which are informed.
        store: stores the creation time of a group, once it has all events.
        counts: the coordinator's counters: given_late.

    """

    def __init__(
        self,
        groups: Mapping[tuple[str, str], GroupState],
        journals: ServedJournals,
        redelivery: Redelivery,
        members: GroupMembers,
        store: GroupStore,
        counts: Counter[str],
    ) -> None:
        self._groups = groups
        self._journals = journals
        self._redelivery = redelivery
        self._members = members
        self._store = store
        self._counts = counts
        self._failures = RecurringLog(logger)
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    def learn_creation(self, group: GroupState, created_at: float, *, is_near: bool) -> None:
        """
        Record the creation of a group; if it is earlier than we knew, deliver the events that the group missed.

        Its cursors stay: events up to them were handled. The missed events are stored again, for this group only.
        """
        if created_at >= group.info.created_at:
            return
        end = group.owed_since
        group.info, group.is_estimated = group.info._replace(created_at=created_at), not is_near
        if group.given_since is not None:
            return  # one run continues until the group has everything
        if group.has_own_start or group.owed_since >= end:
            self._store.save_group(group)
            return
        group.given_since = end
        task = asyncio.get_running_loop().create_task(self._deliver(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, group: GroupState) -> None:
        before = self._counts["given_late"]
        async with self._one_at_a_time:
            try:
                while group.given_since is not None and group.owed_since < group.given_since:
                    since = group.owed_since
                    for journal in self._journals.all():
                        await self._deliver_from(journal, group, since, group.given_since)
                    group.given_since = since
                group.given_since = None
                if self._is_known(group):
                    self._store.save_group(group)
            except JournalError as error:
                self._failed(group, error)
        if (count := self._counts["given_late"] - before) and self._is_known(group):
            self._members.renew(group, self._journals.all())
            text = "The group %s of %s is older than was known here: %d more events are delivered to it"
            self._failures.log(
                ("late", group.info.api, group.info.name), logging.INFO, text, group.info.name, group.info.api, count
            )

    async def _deliver_from(self, journal: Journal, group: GroupState, since: Moment, end: Moment) -> None:
        """Store the events of a journal from this time again, while the group exists. Raises JournalError."""
        topics = [topic for topic, _ in self._journals.topics(group, range(PARTITIONS), journal)]
        for topic in topics:
            if topic.only_group:
                continue
            after, last = await asyncio.to_thread(_between, journal, topic, since, end)
            while after < last and self._is_known(group) and self._journals.get(journal.id) is journal:
                target = self._journals.target(journal)
                after, count = await asyncio.to_thread(
                    self._redelivery.store_late, group.info.name, journal, target, topic, after, last
                )
                self._counts["given_late"] += count

    def _failed(self, group: GroupState, error: JournalError) -> None:
        info = group.info
        text = "The events that the group %s of %s missed cannot be delivered: %s"
        self._failures.log((info.api, info.name), logging.ERROR, text, info.name, info.api, error)
        if group.given_since is not None:  # so that it is tried again when a member joins
            group.info, group.is_estimated = info._replace(created_at=float(group.given_since)), False
            group.given_since = None

    def _is_known(self, group: GroupState) -> bool:
        return self._groups.get((group.info.api, group.info.name)) is group


def _between(journal: Journal, topic: Topic, since: Moment, end: Moment) -> tuple[int, int]:
    """Return the sequence of a topic after which the events between two moments begin, and the last of them."""
    return journal.history.position_since(topic, since), journal.history.position_since(topic, end)
