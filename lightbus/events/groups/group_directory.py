"""The groups of a publisher: created by members, learned from journals and other publishers, and removed."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import Any

from ...adapters.host.machine_time import machine_time
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...core.cursors import Cursors
from ...core.groups import Group as Membership
from ...exceptions import JournalError, PeerBusy
from ...membership.context import Identity
from ...recurring import RecurringLog
from ...wire.envelope import PARTITIONS, Join
from .ack_waiters import AckWaiters
from .cursor_store import CursorStore
from .group_members import GroupMembers
from .group_progress import GroupProgress
from .group_state import GroupState, created_of
from .group_store import GroupStore
from .late_events import LateEvents
from .name_budget import NameBudget
from .served_journals import ServedJournals
from .starting_points import StartingPoints, position_of

__all__ = ["LOOK_FIRST", "GroupDirectory"]

logger = logging.getLogger("lightbus.groups")

LOOK_FIRST = 3600.0
"""Seconds after its start in which a publisher does not expire groups."""

MAX_GROUPS = 10_000
"""Groups of one publisher; bounded, since each is kept on disk, and any peer can create one."""


class GroupDirectory:
    """
    Adds and removes groups, and sets their starting points in each journal. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        groups: the groups by API and name; only changed here.
        journals: the served journals.
        starts: finds the starting point of a group in a journal.
        store: stores the groups.
        cursors: stores their starting points.
        members: the connected members, informed of changes.
        late: delivers events that a group missed because it was not known here.
        progress: tells which events are kept for which groups.
        waiters: callers that may wait for a group that is removed.
        counts: the coordinator's counters: mixed, trimmed_unread.

    """

    def __init__(
        self,
        identity: Identity,
        groups: dict[tuple[str, str], GroupState],
        journals: ServedJournals,
        *,
        starts: StartingPoints,
        store: GroupStore,
        cursors: CursorStore,
        members: GroupMembers,
        late: LateEvents,
        progress: GroupProgress,
        waiters: AckWaiters,
        counts: Counter[str],
    ) -> None:
        self.cursors_of = progress.cursors_of
        self.has_unhandled = progress.has_unhandled
        self._identity = identity
        self._groups = groups
        self._journals = journals
        self._starts = starts
        self._store = store
        self._cursors = cursors
        self._members = members
        self._late = late
        self._waiters = waiters
        self._counts = counts
        self._names = NameBudget()
        self._removed: dict[tuple[str, str], float] = {}
        """By (API, group): when it was removed. If it joins again, it starts from there."""
        self._unserved: list[Journal] = []
        """Open journals that could not be read when they were to be served."""
        self._since = machine_time()
        self._failures = RecurringLog(logger)
        for journal in journals.opened():
            self.journal_added(journal)

    # Journals

    def journal_added(self, journal: Journal) -> None:
        """Serve one more journal; if it cannot be read now, later (`tick`): its events belong to nobody else."""
        self._unserved.append(journal)
        self.tick()

    def tick(self) -> None:
        """Serve the journals that could not be read before."""
        for journal in list(self._unserved):
            try:
                if not journal.is_closed:
                    self._serve(journal)
            except JournalError as error:
                text = "The journal %s cannot be served for now, which is tried again: %s"
                self._failures.log(("served", journal.id), logging.ERROR, text, journal.path, error)
            else:
                self._unserved.remove(journal)

    def _serve(self, journal: Journal) -> None:
        """Load the groups of a journal, and send members their positions in it."""
        for info in journal.groups.all():
            known = self._groups.get((info.api, info.name))
            if known is None:
                known = self._create(info, None, is_stored=True)  # events fired from now on are stored for it, too
            self._open(known, journal)
        for group in self._groups.values():
            if journal.id not in group.cursors:
                self._begin(group, journal, group.owed_since)
                if self._journals.concerns(group.info.api, journal):
                    self._store.save_group(group, [journal])
        self._journals.add(journal)  # not before each group has its positions in it
        for group in self._groups.values():
            # Events that were delivered again to one group have names of their own.
            self._members.renew(group, [journal])

    def serves(self, journal: Journal) -> bool:
        """Return whether a journal is served: only then is it known which of its events a group has left to handle."""
        return journal in self._journals.all()

    def journal_grew(self, journal: Journal) -> None:
        """Inform members of events that were stored in a journal without being published live."""
        apis = {topic.api for topic in journal.topics.all()}
        for group in list(self._groups.values()):
            if group.info.api in apis:
                self._members.renew(group, [journal])

    def journal_removed(self, journal: Journal) -> None:
        """Stop serving a journal: no group has events left in it."""
        self._unserved = [each for each in self._unserved if each is not journal]
        self._journals.remove(journal)
        self._store.journal_removed(journal)
        for group in self._groups.values():
            group.cursors.pop(journal.id, None)

    def _open(self, group: GroupState, journal: Journal) -> None:
        cursors = group.cursors[journal.id] = Cursors(journal.cursors.of(group.info.api, group.info.name))
        # The members that had these partitions when the journal was last written may have begun events.
        held = journal.cursors.held(group.info.api, group.info.name)
        topics = [topic for topic, _ in self._journals.topics(group, held, journal)]
        cursors.mark_in_flight((topic, journal.history.last_of_epoch(topic, held[topic.partition])) for topic in topics)

    def _begin(self, group: GroupState, journal: Journal, since: Any) -> None:
        """Set the starting points of a group in a journal that does not know it yet."""
        cursors: Cursors[Topic] = Cursors({})
        since = self._starts.resolve(journal, group.info.api, since)
        for topic, head in self._journals.topics(group, range(PARTITIONS), journal):
            position = position_of(journal, topic, head, since, group.created_at)
            if cursors.begin(topic, position):
                self._cursors.note(journal.id, group.info.name, topic, position)
        group.cursors[journal.id] = cursors  # not before: if the journal cannot be read, the group has none in it yet

    # Groups known to other publishers

    def merge(self, info: KnownGroup, *, is_near: bool = True) -> None:
        """
        Record that another publisher of the API knows this group: from now on events are kept for it here, too.

        Args:
            info: the group; `created_at` is by our clock.
            is_near: whether the other publisher is on this host, and so has the same clock.

        """
        known = self._groups.get((info.api, info.name))
        info = info._replace(created_at=self._since_removal(info.api, info.name, info.created_at))
        if known is not None:
            self._late.learn_creation(known, info.created_at, is_near=is_near)
        elif self._journals.keeps(info.api):
            self._create(info, None, is_near=is_near)

    def _since_removal(self, api: str, name: str, created_at: float) -> float:
        return max(created_at, self._removed.get((api, name), -math.inf))

    # Groups that join, change and are removed

    def has(self, api: str, name: str) -> bool:
        """Return whether a group is known."""
        return (api, name) in self._groups

    def joined(self, join: Join) -> GroupState:
        """Return the group that a member joins, created if it is new. Raises PeerBusy if there are too many."""
        is_near = join.host == self._identity.host
        created_at = created_of(join.created_at, join.clock, is_near=is_near)
        created_at = self._since_removal(join.api, join.group, created_at)
        events = tuple(str(event) for event in join.events)
        info = KnownGroup(join.api, join.group, events, created_at, machine_time(), join.digest)
        known = self._groups.get((join.api, join.group))
        if known is None:
            return self._create(info, join.since, is_near=is_near)
        if known.info.digest != join.digest and known.connections:
            self._counts["mixed"] += 1
            self._failures.log(
                ("mixed", join.api, join.group), logging.WARNING,
                "Two different programs listen under the group %s of %s: each is given a part of the events. "
                "Give one of them another service_name or listener_name.",
                join.group, join.api,
            )  # fmt: skip
        self._late.learn_creation(known, info.created_at, is_near=is_near)
        self._change_events(known, info)
        return known

    def _change_events(self, group: GroupState, info: KnownGroup) -> None:
        """Record the events that a group listens to now. New ones are kept for it from here on."""
        before = group.info.events
        wanted = tuple(sorted({*info.events, *before} if group.connections else info.events))
        self._names.take(info.api, info.name, wanted)
        # Not by comparing names: "*" includes the others, and a topic that nothing was handled of has no position yet.
        others = [
            (journal, topic, head)
            for journal in (self._journals.all() if wanted != before else ())
            for topic, head in journal.topics.of(info.api).items()
            if not topic.only_group and not group.gets(topic.event)
        ]
        group.info = info._replace(events=wanted, created_at=group.info.created_at)
        for journal, topic, head in others:
            if group.gets(topic.event) and group.cursors[journal.id].begin(topic, head):
                self._cursors.note(journal.id, info.name, topic, head)
        self._store.save_group(group)

    def _create(self, info: KnownGroup, since: Any, *, is_near: bool = True, is_stored: bool = False) -> GroupState:
        if len(self._groups) >= MAX_GROUPS and not is_stored:
            raise PeerBusy(
                f"{self._identity} has {len(self._groups)} groups already, and takes no further one. "
                "Remove those that are not needed: lightbus groups remove."
            )
        self._names.take(info.api, info.name, info.events, bounded=not is_stored)
        group = GroupState(info, Membership(f"{info.api}\0{info.name}", PARTITIONS))
        self._groups[info.api, info.name] = group
        group.is_estimated = not is_near
        group.has_own_start = since not in (None, "$")
        try:
            self._starts.check(info.api, since)
            for journal in self._journals.all():
                self._begin(group, journal, group.owed_since if since is None else since)
        except BaseException:
            self._names.release(info.api, info.name)
            del self._groups[info.api, info.name]  # it must have starting points in all journals or in none
            self._cursors.group_removed(info.api, info.name)
            raise
        self._store.save_group(group)
        return group

    def forget(self, api: str, name: str) -> bool:
        """Remove a group: no more events are kept for it. Return whether it was known. Raises JournalError."""
        group = self._groups.get((api, name))
        if group is None:
            return False
        self._store.remove_group(api, name)
        self._cursors.group_removed(api, name)
        self._removed.pop((api, name), None)
        self._removed[api, name] = machine_time()
        if len(self._removed) > MAX_GROUPS:
            del self._removed[next(iter(self._removed))]
        self._names.release(api, name)
        del self._groups[api, name]
        for member in list(group.connections):
            self._members.disconnect(group, member)
        self._waiters.group_removed(api)
        return True

    def expired(self, now: float, group_expiry: float) -> list[KnownGroup]:
        """
        Return the groups without members for longer than `group_expiry` seconds (`now` is a machine_time()).

        None, until this process has run for an hour, or for `group_expiry`: while it was down it saw no members.
        """
        if now - self._since < min(LOOK_FIRST, group_expiry):
            return []
        idle = (group.info for group in self._groups.values() if not group.connections)
        return [info for info in idle if now - info.last_seen > group_expiry]

    def lost(self, group: str, api: str, event: str, count: int) -> None:
        """Record that retention deleted events that a group had not handled."""
        self._counts["trimmed_unread"] += count
        self._failures.log(
            ("lost", api, event, group), logging.ERROR,
            "The journal is over its cap: %d events of %s.%s were deleted that the group %s had not handled. "
            "Raise journal.max_events or journal.max_bytes, have the group run, or remove it: lightbus groups remove",
            count, api, event, group, changes=False,
        )  # fmt: skip
