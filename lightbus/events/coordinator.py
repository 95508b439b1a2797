"""The publisher's side of consumer groups: who is a member, who has which partitions, how far each group has come.

A publisher coordinates the groups of the journals that it serves, its own and those it adopted; no other process has a
say in them. What it decides is in `core.groups` and `core.cursors`, what it promises is in the journals: an
acknowledgement is answered once it is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, ClassVar, Protocol

from ..adapters.host.machine_time import machine_time
from ..adapters.sqlite.dead_letters import Dead
from ..adapters.sqlite.journal import Group, Journal, NewEvent, Topic
from ..core.cursors import Cursors
from ..core.groups import Assignment
from ..core.groups import Group as Membership
from ..exceptions import JournalError, LightbusException, PeerBusy, PeerRefused, ProtocolError
from ..membership.context import Identity
from ..membership.guard import Guard
from ..recurring import RecurringLog
from ..service.api import ApiRegistry
from ..wire import envelope
from ..wire.envelope import (
    PARTITIONS,
    Ack,
    Acked,
    Assign,
    Beat,
    Bury,
    Error,
    Fetch,
    Join,
    Leave,
    Message,
    Open,
    Page,
    Release,
    Start,
    Started,
    Streams,
)
from ..wire.sizes import Receivers, fitting, fitting_partitions
from .ack_waiters import AckWaiters, OnHandled
from .name_budget import NameBudget

__all__ = ["AGAIN", "Coordinator", "GroupAtWork", "Moment", "count_lag", "created_of"]

logger = logging.getLogger("lightbus.groups")

MARGIN = 0.5
"""
Seconds by which a group is owed more than it was created ago where that was read from another host's clock: what the
network and the clocks' difference leave uncertain shall be too many events rather than too few.
"""

AGAIN = " for "
"""
What makes the name of an event that one group is given again, or late: "user_registered for shop-send_mail". No event's
own name has a blank; so such an event is kept, followed and acknowledged as any other, by that group alone.
"""

MAX_WAY = 60.0
"""Seconds that a message may have been on its way, where its sender's clock is ours: more means that it was moved."""

MAX_PAGE = 1000
MAX_PAGE_BYTES = 1024 * 1024
LOOK_FIRST = 3600.0
"""Seconds after its start in which a publisher forgets no group."""
MAX_SEARCHES = 100
"""Questions that wait at a time for an event to be found by its id."""

MAX_MISSED = 1000
"""Events that are remembered to have been asked for in vain, so that it is said once."""

MAX_GROUPS = 10_000
"""Groups of one publisher: each is kept on disk, and has a name that a stranger may have chosen."""

MAX_MEMBERS = 1000
"""Members of one group: to share its partitions out means to look at each."""

SAVE_SEEN_EVERY = 60.0
"""Seconds between two notes in the journal that a group has members."""


class JournalSet(Protocol):
    """The journals that this process serves."""

    def own(self) -> Journal:
        """Return our own, opened at first use. Raises JournalError."""

    def all(self) -> list[Journal]:
        """Return them, our own first."""

    def get(self, journal: str) -> Journal | None:
        """Return the one of this name."""

    def others(self) -> list[Journal]:
        """Return those that belong to other services."""


class Moment(float):
    """A moment of the machine's time (`machine_time`); a time that is none is one of day, in seconds since 1970."""


@dataclass(slots=True)
class _Connection:
    """A member's connection, and what the member was told last."""

    routing_id: bytes
    presence: bytes
    digest: str
    max_message_size: int
    """Bytes that it takes."""
    generation: int = 0
    events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GroupAtWork:
    """A group as this publisher knows it. Only touched from the node's loop."""

    info: Group
    membership: Membership
    cursors: dict[str, Cursors[Topic]] = field(default_factory=dict)
    """By journal."""
    connections: dict[str, _Connection] = field(default_factory=dict)
    """By member."""
    counted: dict[tuple[str, Topic], tuple[tuple[bytes, int, int], int]] = field(default_factory=dict)
    """Per journal and topic the latest START, by routing id, call id and sequence, and what it was answered."""
    saved_at: float = 0.0
    acks: int = 0
    """How often it acknowledged anything: where that stands still, and something is to be done, it is stuck."""
    _names: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())
    """The names of `info.events`, and the same to look one up among thousands: each event that is fired asks for it."""
    is_estimated: bool = False
    """Whether its creation was read from another host's clock."""
    has_own_start: bool = False
    """Whether it began where its listener said (`since`), and not with its creation."""

    @property
    def owed_since(self) -> Moment:
        """Since when it is owed events."""
        return Moment(self.info.created_at - (MARGIN if self.is_estimated else 0.0))

    def has_handled(self, journal: str, topic: Topic, sequence: int) -> bool:
        """Return whether everything up to a sequence was acknowledged."""
        cursors = self.cursors.get(journal)
        return cursors is not None and cursors.acked.get(topic, 0) >= sequence

    def is_owed(self, event: str) -> bool:
        """Return whether the group listens to an event of its API, or is to be given it again on its own."""
        event, again, group = event.partition(AGAIN)
        events, names = self._names
        if events is not self.info.events:
            names = frozenset(self.info.events)
            self._names = self.info.events, names
        return (event in names or "*" in names) and (not again or group == self.info.name)


@dataclass(slots=True)
class _Unsaved:
    """What a journal did not take yet."""

    held: dict[tuple[str, str, int], bool] = field(default_factory=dict)
    """Per API, group and partition whether a member has it."""
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    has_failed: bool = False


class Coordinator:
    """
    Answers everything that consumers ask a publisher. Only touched from the node's loop.

    Args:
        identity: who we are.
        apis: whose events we publish.
        shelf: the journals.
        reply: sends a frame to a routing id.
        receivers: who is subscribed, and how large a message it takes.
        member_timeout: seconds without a sign of life after which a member loses its partitions.

    """

    def __init__(
        self,
        identity: Identity,
        apis: ApiRegistry,
        shelf: JournalSet,
        reply: Callable[[bytes, bytes], bool],
        receivers: Receivers,
        *,
        member_timeout: float = 10.0,
    ) -> None:
        self.identity = identity
        self.counts: Counter[str] = Counter()
        """joined, left, lost, hung, acked, refused_acks, unbelieved, redelivered, buried, pages, given_late,
        unwatched."""
        self.guard = Guard(logger)
        self.groups: dict[tuple[str, str], GroupAtWork] = {}
        self._names = NameBudget()
        self._missed: set[tuple[str, str]] = set()
        self._sought: dict[tuple[str, str], dict[str, int]] = {}
        """Per API and id of an event its sequence in each journal in which it was looked for; 0 where it is not."""
        self._searching: set[asyncio.Task[None]] = set()
        self._one_search = asyncio.Lock()
        self._apis = apis
        self._shelf = shelf
        self._reply_to = reply
        self._receivers = receivers
        self._member_timeout = member_timeout
        self._members: dict[tuple[bytes, str, str], str] = {}
        """Who speaks through a connection for a group: routing id, API, group -> member."""
        self._presences: dict[bytes, set[tuple[str, str, str]]] = {}
        """Presence topic -> API, group, member: a process has one for all that it listens to."""
        self._edition = 0
        """How often all members of groups were to be told of something new to them. Beats say which they have heard."""
        self._removed: dict[tuple[str, str], float] = {}
        """Per (API, group) when it was removed: if it comes back, it begins anew."""
        self._since = machine_time()
        self._waiters = AckWaiters(self._handled_by_all)
        self._acks: list[tuple[bytes, int, list[int]]] = []
        self._writes: dict[str, dict[tuple[str, Topic], int]] = {}
        self._failures = RecurringLog(logger)
        self._save_is_due = False
        self._unsaved: defaultdict[str, _Unsaved] = defaultdict(_Unsaved)
        """By journal."""
        self._served: set[str] = set()
        for journal in shelf.all():
            self.journal_added(journal)

    # Journals

    def journal_added(self, journal: Journal) -> None:
        """Serve one more journal: its groups are taken over, and members are told where they stand in it."""
        for info in journal.groups():
            known = self.groups.get((info.api, info.name))
            if known is None:
                known = self._create(info, None, is_stored=True)  # what is fired from now on is kept for it, too
            self._open(known, journal)
        self._served.add(journal.id)
        for group in self.groups.values():
            if journal.id not in group.cursors:
                self._begin(group, journal, group.owed_since)
                if self._concerns(group, journal):
                    self._save_group(group, [journal])
            self._renew(group, [journal])  # what one group alone was given again is an event of a name of its own

    def journal_grew(self, journal: Journal) -> None:
        """Record that events were stored in a journal that are not published live: members are told of them."""
        apis = {topic.api for topic in journal.all_topics()}
        for group in list(self.groups.values()):
            if group.info.api in apis:
                self._renew(group, [journal])

    def _concerns(self, group: GroupAtWork, journal: Journal) -> bool:
        """Return whether a journal is to know a group: one of another service knows those of its own APIs."""
        is_ours = journal not in self._shelf.others()
        return bool(journal.topics(group.info.api)) or (is_ours and self._apis.find(group.info.api) is not None)

    def _target(self, journal: Journal) -> Journal:
        """Return where the events of a journal are stored once more: what is another service's stays with it."""
        return journal if journal in self._shelf.others() else self._shelf.own()

    def is_owed(self, journal: Journal) -> bool:
        """Return whether any group has something left to handle in a journal."""
        return any(
            acked < journal.last(topic)
            for topic in journal.all_topics()
            for acked in self.owed(journal, topic).values()
        )

    def _keeps(self, api: str) -> bool:
        """Return whether events of an API are kept here: of one of ours, or for a service that has no worker here."""
        return self._apis.find(api) is not None or any(journal.topics(api) for journal in self.journals())

    def journal_removed(self, journal: Journal) -> None:
        """Serve one less: nobody is owed anything in it."""
        self._served.discard(journal.id)
        self._unsaved.pop(journal.id, None)
        for group in self.groups.values():
            group.cursors.pop(journal.id, None)
            group.counted = {key: value for key, value in group.counted.items() if key[0] != journal.id}

    def lost(self, group: str, api: str, event: str, count: int) -> None:
        """Record that retention deleted events that a group had not handled."""
        self.counts["trimmed_unread"] += count
        logger.error(
            "The journal is over its cap: %d events of %s.%s were deleted that the group %s had not handled. "
            "Raise journal.max_events or journal.max_bytes, have the group run, or remove it: lightbus groups remove",
            count, api, event, group,
        )  # fmt: skip

    def merge(self, info: Group, *, is_near: bool = True) -> None:
        """
        Record that another publisher of the API knows this group: what is fired from now on is kept for it, too.

        Args:
            info: the group, its creation by our clock.
            is_near: whether the other publisher is on this host, so that its clock is ours.

        """
        known = self.groups.get((info.api, info.name))
        info = info._replace(created_at=max(info.created_at, self._removed.get((info.api, info.name), -math.inf)))
        if known is not None:
            self._learn_creation(known, info.created_at, is_near=is_near)
        elif self._keeps(info.api):
            self._create(info, None, is_near=is_near)

    def forget(self, api: str, name: str) -> bool:
        """Forget a group: nothing is kept for it any more. Return whether it was known."""
        group = self.groups.get((api, name))
        if group is None:
            return False
        for journal in self.journals():
            self._unsaved[journal.id].groups.pop((api, name), None)
            journal.remove_group(api, name)
        self._removed[api, name] = machine_time()
        self._names.release(api, name)
        del self.groups[api, name]
        for member in list(group.connections):
            self._disconnect(group, member)
        self._waiters.group_removed(api)
        return True

    # What consumers ask

    def handle(self, routing_id: bytes, call_id: int, message: Message) -> bool:
        """Answer a consumer; return whether it was a consumer's message."""
        if type(message) not in self._HANDLERS:
            return False
        if isinstance(message, (Join, Open)) and (journals := self._unsearched(message)):
            self._search(journals, routing_id, call_id, message)
        else:
            self._handle(routing_id, call_id, message)
        return True

    def _handle(self, routing_id: bytes, call_id: int, message: Message) -> None:
        try:
            self._HANDLERS[type(message)](self, routing_id, call_id, message)
        except LightbusException as error:
            self._send(routing_id, call_id, Error(error.code, str(error), False, {}))
        except Exception as error:
            self.guard.failed(self._named(routing_id), message, error)
            text = f"a {type(message).__name__} message has fields that do not fit: {error!s:.500}"
            self._send(routing_id, call_id, Error(ProtocolError.code, text, False, {}))

    def _unsearched(self, message: Join | Open) -> list[Journal]:
        """Return the journals in which the event is still to be looked for that somebody wants to begin with."""
        since = message.since
        if not isinstance(since, str) or since in ("0", "$"):
            return []
        known = self._sought.get((message.api, since), {})
        return [each for each in self.journals() if each.id not in known and _native(each, since) is None]

    def _search(self, journals: list[Journal], routing_id: bytes, call_id: int, message: Join | Open) -> None:
        """Look for an event by its id, in a thread, and go on with the message then."""
        name = message.api, str(message.since)
        if len(self._searching) >= MAX_SEARCHES:
            text = f"{self.identity} looks for {MAX_SEARCHES} events already: ask again later"
            self._send(routing_id, call_id, Error(PeerRefused.code, text, False, {}))
            return

        async def search() -> None:
            async with self._one_search:
                for journal in journals:
                    if journal.id not in self._sought.get(name, {}):
                        found = await asyncio.to_thread(_sequence_of, journal, *name)
                        self._note_sought(name, journal, found)
            self._handle(routing_id, call_id, message)

        task = asyncio.get_running_loop().create_task(search())
        self._searching.add(task)
        task.add_done_callback(self._searching.discard)

    def _note_sought(self, name: tuple[str, str], journal: Journal, found: int) -> None:
        if name not in self._sought and len(self._sought) >= MAX_MISSED:
            del self._sought[next(iter(self._sought))]
        self._sought.setdefault(name, {})[journal.id] = found

    def _named(self, routing_id: bytes) -> str:
        """Return who speaks through a connection, for a log line."""
        member = next((member for (each, _, _), member in self._members.items() if each == routing_id), None)
        return f"the connection {routing_id.hex()}" if member is None else f"the member {member}"

    def _on_join(self, routing_id: bytes, call_id: int, join: Join) -> None:
        if join.target != self.identity.instance:
            raise PeerRefused(f"the group was meant for the instance {join.target}, and this is {self.identity}.")
        if not self._keeps(join.api):
            self._apis.get(join.api)  # raises UnknownApi
        self._receivers.joined(join.presence, join.max_message_size)
        if not join.group:
            everything = list(range(PARTITIONS))
            events = self._events(join.api, join.events)
            self._send(routing_id, call_id, Assign(join.api, "", 0, everything, events, 0.0, time.time()))
            return
        group = self._group_of(join)
        if len(group.connections) >= MAX_MEMBERS and join.member not in group.connections:
            raise PeerBusy(f"the group {join.group} of {join.api} has {MAX_MEMBERS} members already.")
        self._believe(group, join.positions)
        self._connect(group, join, routing_id)
        self.counts["joined"] += 1
        for assignment in group.membership.join(join.member, time.monotonic()):
            self._assign(group, assignment, call_id if assignment.member == join.member else 0)

    def _on_open(self, routing_id: bytes, call_id: int, message: Open) -> None:
        if not message.group:
            self._check_since(message.api, message.since)
            streams = self._streams_of_nobody(message)
        else:
            group, member = self._speaker(routing_id, message.api, message.group)
            held = [p for p in message.partitions if group.membership.holds(member, message.generation, p)]
            message = message._replace(partitions=held)
            streams = self._streams(group, held, self.journals())
        size = self._receivers.most(message.max_message_size)
        partitions, streams = fitting_partitions(message.partitions, streams, size)
        answer = Streams(message.api, message.group, message.generation, partitions, streams)
        self._send(routing_id, call_id, answer)

    def _on_fetch(self, routing_id: bytes, call_id: int, fetch: Fetch) -> None:
        journal = self._shelf.get(fetch.journal)
        if journal is None:
            raise PeerRefused(f"{self.identity} does not serve the journal {fetch.journal}.")
        topic = Topic(fetch.api, fetch.event, fetch.partition)
        limit = max(1, min(fetch.limit, MAX_PAGE))
        page = journal.page(topic, fetch.after, limit=limit, max_bytes=MAX_PAGE_BYTES)
        self.counts["pages"] += 1
        records, are_all = fitting(page.entries, self._receivers.most(fetch.max_message_size))
        through = page.through if are_all else records[-1][0]
        self._send(routing_id, call_id, Page(records, through, page.more or not are_all, page.trimmed))

    def _on_ack(self, routing_id: bytes, call_id: int, ack: Ack) -> None:
        group, member = self._speaker(routing_id, ack.api, ack.group)
        refused: set[int] = set()
        for journal, event, partition, sequence in ack.positions:
            topic = Topic(ack.api, event, partition)
            if not self._has_reached(group, journal, topic, sequence):
                self.counts["unbelieved"] += 1
                refused.add(partition)
            elif group.membership.holds(member, ack.generation, partition):
                self._acknowledge(group, journal, topic, sequence)
            else:
                refused.add(partition)
        group.membership.heard(member, time.monotonic())
        self.counts["refused_acks"] += len(refused)
        self._acks.append((routing_id, call_id, sorted(refused)))
        self._save_soon()

    def _on_start(self, routing_id: bytes, call_id: int, start: Start) -> None:
        group, member = self._speaker(routing_id, start.api, start.group)
        journal = self._shelf.get(start.journal)
        topic = Topic(start.api, start.event, start.partition)
        is_held = group.membership.holds(member, start.generation, start.partition)
        if journal is None or not is_held or not self._has_reached(group, start.journal, topic, start.sequence):
            self._send(routing_id, call_id, Started(0))
            return
        asked = routing_id, call_id, start.sequence
        before, count = group.counted.get((start.journal, topic), (None, 0))
        if asked != before:  # else its answer was lost, and it counts once
            self.counts["redelivered"] += start.at_least > 1
            count = journal.count_delivery(start.group, topic, start.sequence, start.at_least)
            group.counted[start.journal, topic] = asked, count
        self._send(routing_id, call_id, Started(count))

    def _on_bury(self, routing_id: bytes, call_id: int, bury: Bury) -> None:
        group, member = self._speaker(routing_id, bury.api, bury.group)
        journal = self._shelf.get(bury.journal)
        topic = Topic(bury.api, bury.event, bury.partition)
        is_held = group.membership.holds(member, bury.generation, bury.partition)
        if journal is None or not is_held or not self._has_reached(group, bury.journal, topic, bury.sequence):
            self._send(routing_id, call_id, Acked([bury.partition]))
            return
        if group.has_handled(bury.journal, topic, bury.sequence):  # its answer was lost: it is set aside once
            self._acks.append((routing_id, call_id, []))
            self._save_soon()
            return
        is_kept = journal.dead_letters.add(bury.group, topic, bury.sequence, bury.deliveries, bury.error, time.time())
        self.counts["buried"] += is_kept
        logger.error(
            "%s-%d of %s.%s %s for the group %s after %d deliveries: %s",
            bury.journal, bury.sequence, bury.api, bury.event,
            "is set aside" if is_kept else "was deleted by retention before it was set aside",
            bury.group, bury.deliveries, bury.error[:500],
        )  # fmt: skip
        self._acknowledge(group, bury.journal, topic, bury.sequence)
        self._acks.append((routing_id, call_id, []))
        self._save_soon()

    def _on_release(self, routing_id: bytes, call_id: int, release: Release) -> None:
        group, member = self._speaker(routing_id, release.api, release.group)
        for assignment in group.membership.released(member, release.generation, release.partitions):
            self._assign(group, assignment)

    def _on_leave(self, routing_id: bytes, call_id: int, leave: Leave) -> None:
        group, member = self._speaker(routing_id, leave.api, leave.group)
        held = group.membership.held_by(member)
        assignments = group.membership.leave(member)
        self._disconnect(group, member)
        self.counts["left"] += 1
        self._save_held(group, held, is_held=False)
        for assignment in assignments:
            self._assign(group, assignment)
        self._acks.append((routing_id, call_id, []))
        self._save_soon()

    def _on_beat(self, routing_id: bytes, call_id: int, beat: Beat) -> None:
        now = time.monotonic()
        mine = []
        for (api, name), state in zip_longest(beat.groups, beat.states[: len(beat.groups)]):
            group = self.groups.get((api, name))
            member = self._members.get((routing_id, api, name))
            if group is None or member is None or not group.membership.heard(member, now):
                continue
            if state is None or len(state) != 2 or self._compare(group, member, *state):
                mine.append([api, name])
        self._send(routing_id, call_id, Beat(mine, [[self._edition]] * len(mine)))

    def _compare(self, group: GroupAtWork, member: str, generation: int, held: list[int]) -> bool:
        """Mend what a member believes of itself and we do not, or the other way round; return whether it is one."""
        connection, membership = group.connections[member], group.membership
        if generation > connection.generation:
            return False  # of a group of this name that was removed
        if generation == 0:
            return True  # it is joining
        assigned = membership.assigned_to(member)
        if generation != connection.generation or not {*held} >= {*assigned}:
            self._assign(group, Assignment(member, connection.generation, assigned))
        elif given_back := {*membership.held_by(member)} - {*held}:
            for assignment in membership.released(member, generation, given_back):
                self._assign(group, assignment)
        return True

    _HANDLERS: ClassVar[dict[type, Callable[[Coordinator, bytes, int, Any], None]]] = {
        Join: _on_join,
        Open: _on_open,
        Fetch: _on_fetch,
        Ack: _on_ack,
        Start: _on_start,
        Bury: _on_bury,
        Release: _on_release,
        Leave: _on_leave,
        Beat: _on_beat,
    }

    # Members that go without a word

    def subscribed(self, topic: bytes, subscribed: bool) -> None:
        """Record that a subscription ended: where it was a member's sign of presence, the member is gone."""
        if not subscribed:
            self._receivers.left(topic)
            for api, name, member in list(self._presences.get(topic, ())):
                self._lose(self.groups[api, name], member, "is gone")
                self.counts["lost"] += 1

    def tick(self, now: float) -> None:
        """Take the partitions of members that hang, note which groups have members, and store what was not taken."""
        for journal in self.journals():
            self._save_unsaved(journal)
        self._waiters.expire(now)
        if self._writes:
            self._save_soon()
        for group in list(self.groups.values()):
            for member in group.membership.silent(now, self._member_timeout):
                self._lose(group, member, f"gave no sign of life for {self._member_timeout:g} s")
                self.counts["hung"] += 1
            if group.connections and now - group.saved_at > SAVE_SEEN_EVERY:
                group.saved_at = now
                group.info = group.info._replace(last_seen=machine_time())
                self._save_group(group)

    def _lose(self, group: GroupAtWork, member: str, what: str) -> None:
        lost, assignments = group.membership.lost(member)
        logger.info(
            "The member %s of the group %s %s; its %d partitions are given to others",
            member[:4], group.info.name, what, len(lost.partitions),
        )  # fmt: skip
        self._disconnect(group, member)
        for journal in self.journals():
            if journal.id in group.cursors:
                group.cursors[journal.id].doubt(self._topics(group, lost.partitions, journal))
        for assignment in assignments:
            self._assign(group, assignment)

    # What others of this process ask

    def when_handled(self, topic: Topic, sequence: int, seconds: float, on_handled: OnHandled) -> None:
        """Call back once every group that is owed this event of our own journal has handled it, within its time."""
        if not self._waiters.add(topic, sequence, time.monotonic() + seconds, on_handled):
            self.counts["unwatched"] += 1
            self._failures.say(
                "waiters", logging.WARNING,
                "%d callers wait until their events are handled (wait_for='ack'), and no further one is told when: the "
                "last one fired %s.%s. Their groups are behind: see lightbus lag",
                len(self._waiters), topic.api, topic.event, changes=False,
            )  # fmt: skip

    def _handled_by_all(self, topic: Topic) -> int | None:
        return min(self.owed(self._shelf.own(), topic).values(), default=None)

    def owed(self, journal: Journal, topic: Topic) -> dict[str, int]:
        """Return how far each group that is owed a topic has come in it (what retention asks)."""
        return {
            group.info.name: group.cursors[journal.id].acked.get(topic, 0)
            for group in self.groups.values()
            if group.info.api == topic.api and group.is_owed(topic.event) and journal.id in group.cursors
        }

    def journals(self) -> list[Journal]:
        """Return the journals that are served here: of those that are open, the ones that the groups have begun in."""
        return [journal for journal in self._shelf.all() if journal.id in self._served]

    def drop_dead(self, group: str, journal: str, sequence: int) -> Dead | None:
        """Take out an event that was set aside for a group; None where there is no such thing."""
        held = self._shelf.get(journal)
        return None if held is None else held.dead_letters.take(group, sequence)

    def retry_dead(self, group: str, journal: str, sequence: int) -> bool:
        """Have an event that was set aside given to its group again; return whether there is such a thing."""
        return bool(self.renew_retried(group, self.store_dead(group, [(journal, sequence)])))

    def store_dead(self, group: str, which: Iterable[tuple[str, int]]) -> list[tuple[str, str, int]]:
        """
        Store events that were set aside for a group once more, and take them out; return API, journal and sequence.

        From any thread; the group's members learn of it by `renew_retried`. Raises JournalError.
        """
        found = []
        for name, sequence in which:
            journal = self._shelf.get(name)
            dead = None if journal is None else journal.dead_letters.get(group, sequence)
            if journal is not None and dead is not None:
                found.append((journal, dead))
        for journal in {journal.id: journal for journal, _ in found}.values():
            dead_here = [dead for held, dead in found if held is journal]
            # First they are stored, then taken out; if only the first came to pass, the next attempt stores nothing.
            again = [_again(dead.topic, group, journal.id, dead.sequence, dead.record) for dead in dead_here]
            self._target(journal).append(again)
            journal.dead_letters.remove([(group, dead.sequence) for dead in dead_here])
        return [(dead.topic.api, journal.id, dead.sequence) for journal, dead in found]

    def renew_retried(self, group: str, stored: list[tuple[str, str, int]]) -> list[tuple[str, int]]:
        """Have the members of a group learn of what was stored for it; return journals and sequences."""
        for api in {api for api, _, _ in stored}:
            if (known := self.groups.get((api, group))) is not None:
                self._renew(known, self.journals())
        return [(journal, sequence) for _, journal, sequence in stored]

    def lag(self, group: GroupAtWork) -> int:
        """Return how many events a group has not handled yet."""
        return count_lag(self.positions(group))

    def positions(self, group: GroupAtWork) -> list[tuple[Journal, Topic, int]]:
        """Return up to where a group has handled each topic that it is owed: what its lag is counted from."""
        return [
            (journal, topic, group.cursors[journal.id].acked.get(topic, 0))
            for journal in self.journals()
            for topic, _ in self._topics(group, range(PARTITIONS), journal)
        ]

    def expired(self, now: float, group_expiry: float) -> list[Group]:
        """
        Return the groups that were not seen for longer than `group_expiry` seconds (`now` as of machine_time()).

        None is until this process has looked for an hour itself, or `group_expiry`: while it was down it saw nobody.
        """
        if now - self._since < min(LOOK_FIRST, group_expiry):
            return []
        idle = (group.info for group in self.groups.values() if not group.connections)
        return [info for info in idle if now - info.last_seen > group_expiry]

    # Groups

    def _group_of(self, join: Join) -> GroupAtWork:
        is_near = join.host == self.identity.host
        created_at = created_of(join.created_at, join.clock, is_near=is_near)
        created_at = max(created_at, self._removed.get((join.api, join.group), -math.inf))
        events = tuple(str(event) for event in join.events)
        info = Group(join.api, join.group, events, created_at, machine_time(), join.digest)
        known = self.groups.get((join.api, join.group))
        if known is None:
            return self._create(info, join.since, is_near=is_near)
        if known.info.digest != join.digest and known.connections:
            self.counts["mixed"] += 1
            logger.warning(
                "Two different programs listen under the group %s of %s: each is given a part of the events. "
                "Give one of them another service_name or listener_name.",
                join.group, join.api,
            )  # fmt: skip
        self._learn_creation(known, info.created_at, is_near=is_near)
        new = set(events) - set(known.info.events)
        wanted = tuple(sorted({*events, *known.info.events} if known.connections else events))
        self._names.take(info.api, info.name, wanted)
        known.info = info._replace(events=wanted, created_at=known.info.created_at)
        for journal in self.journals():
            for topic, head in journal.topics(join.api).items():
                if topic.event in new and known.cursors[journal.id].begin(topic, head):
                    self._note(journal.id, join.group, topic, head)
        self._save_group(known)
        return known

    def _create(self, info: Group, since: Any, *, is_near: bool = True, is_stored: bool = False) -> GroupAtWork:
        if len(self.groups) >= MAX_GROUPS and not is_stored:
            raise PeerBusy(
                f"{self.identity} has {len(self.groups)} groups already, and takes no further one. "
                "Remove those that nobody needs: lightbus groups remove."
            )
        self._names.take(info.api, info.name, info.events, bounded=not is_stored)
        group = self._add(info)
        group.is_estimated = not is_near
        group.has_own_start = since not in (None, "$")
        try:
            self._check_since(info.api, since)
            for journal in self.journals():
                self._begin(group, journal, group.owed_since if since is None else since)
        except BaseException:
            self._names.release(info.api, info.name)
            del self.groups[info.api, info.name]  # one that has begun in some journals only would be asked for all
            raise
        self._save_group(group)
        return group

    def _found(self, journal: Journal, api: str, since: Any) -> Any:
        """Return the sequence of an event that is given by its id or native id; anything else, or unknown, as it is."""
        if not isinstance(since, str) or since in ("0", "$"):
            return since
        found = _native(journal, since) or self._sought.get((api, since), {}).get(journal.id)
        return _At(found) if found else since

    def _check_since(self, api: str, since: Any) -> None:
        """Warn of an event that somebody wants to begin with, and that no journal here has. Once for each."""
        if not isinstance(since, str) or since in ("0", "$") or (api, since) in self._missed:
            return
        for journal in self.journals():
            found = self._found(journal, api, since)
            if isinstance(found, _At) and journal.record(found) is not None:
                return
        if len(self._missed) < MAX_MISSED:
            self._missed.add((api, since))
        logger.warning(
            "Somebody wants the events of %s since %s, and no journal here has that event. Unless another publisher "
            "has it, it was deleted or never was, and they are given what is fired from now on. "
            "Give the id of an event that is kept (bus.%s.<event>.history()), or a time.",
            api, since, api,
        )  # fmt: skip

    def _learn_creation(self, group: GroupAtWork, created_at: float, *, is_near: bool) -> None:
        """
        Take in since when a group exists; give it what it was passed over for where that is longer than we knew.

        Its cursors stay: what is behind them was handled. What was fired since its creation is stored once more, for
        this group alone.
        """
        if created_at >= group.info.created_at:
            return
        info, end = group.info, group.owed_since
        was_estimated, group.is_estimated = group.is_estimated, not is_near
        group.info = info._replace(created_at=created_at)
        try:
            if not group.has_own_start and group.owed_since < end:
                self._give_late(group, end)
            self._save_group(group)
        except JournalError as error:
            text = "The group %s of %s is not given what it missed: %s"
            self._failures.say((info.api, info.name), logging.ERROR, text, info.name, info.api, error)
            group.info, group.is_estimated = info, was_estimated  # to be tried again when it joins

    def _give_late(self, group: GroupAtWork, end: float) -> None:
        """Store for a group what was fired since it is owed events and before `end`, when we thought it had begun."""
        name, count = group.info.name, 0
        for journal in self.journals():
            for topic, _ in self._topics(group, range(PARTITIONS), journal):
                after, last = (journal.position_since(topic, at) for at in (group.owed_since, end))
                while after < last and AGAIN not in topic.event:
                    page = journal.page(topic, after, limit=MAX_PAGE, max_bytes=MAX_PAGE_BYTES)
                    missed = [entry for entry in page.entries if entry.sequence <= last]
                    again = [_again(topic, name, journal.id, sequence, record) for sequence, _, record in missed]
                    self._target(journal).append(again)
                    after = page.through
                    count += len(missed)
        if count:
            self.counts["given_late"] += count
            logger.info("The group %s of %s is older than was known here: it is given %d events more",
                        name, group.info.api, count)  # fmt: skip
            self._renew(group, self.journals())

    def _renew(self, group: GroupAtWork, journals: list[Journal]) -> None:
        """Have the members of a group learn of events in journals that are published to nobody."""
        events = self._events(group.info.api, group.info.events, group.info.name)
        for member, connection in list(group.connections.items()):
            if events != connection.events:  # there is a name that is new to it
                for assignment in group.membership.renew(member):
                    self._assign(group, assignment)
            self._tell_streams(group, member, group.membership.held_by(member), journals)
        if group.connections:
            self._edition += 1

    def _begin(self, group: GroupAtWork, journal: Journal, since: Any) -> None:
        """Have a group begin in a journal that does not know it yet."""
        cursors = group.cursors[journal.id] = Cursors({})
        topics = self._topics(group, range(PARTITIONS), journal)
        since = self._found(journal, group.info.api, since)
        for topic, head in topics:
            position = _position(journal, topic, head, since, Moment(group.info.created_at))
            if cursors.begin(topic, position):
                self._note(journal.id, group.info.name, topic, position)

    def _add(self, info: Group) -> GroupAtWork:
        group = GroupAtWork(info, Membership(f"{info.api}\0{info.name}", PARTITIONS))
        self.groups[info.api, info.name] = group
        return group

    def _open(self, group: GroupAtWork, journal: Journal) -> None:
        cursors = group.cursors[journal.id] = Cursors(journal.cursors(group.info.api, group.info.name))
        # Whoever had these when the journal was last written may have begun what there was, and did not finish it.
        held = journal.held(group.info.api, group.info.name)
        topics = [topic for topic, _ in self._topics(group, held, journal)]
        cursors.doubt((topic, journal.last_of_epoch(topic, held[topic.partition])) for topic in topics)

    def _believe(self, group: GroupAtWork, positions: list[Any]) -> None:
        for journal, event, partition, sequence in positions:
            cursors = group.cursors.get(journal)
            topic = Topic(group.info.api, event, partition)
            if cursors is None:
                continue
            if not self._has_reached(group, journal, topic, sequence):
                self.counts["unbelieved"] += 1
            elif cursors.believe(topic, sequence):
                self._note(journal, group.info.name, topic, sequence)
                self._waiters.acknowledged(topic)

    def _has_reached(self, group: GroupAtWork, journal: str, topic: Topic, sequence: int) -> bool:
        """
        Return whether a topic that the group is owed has come so far: nobody can have handled what is not there yet.

        Who says so is mistaken, and would have the group passed over for what is fired later.
        """
        held = self._shelf.get(journal) if journal in group.cursors and group.is_owed(topic.event) else None
        return held is not None and sequence <= held.last(topic)

    def _save_group(self, group: GroupAtWork, journals: Iterable[Journal] | None = None) -> None:
        if journals is None:
            journals = [journal for journal in self.journals() if self._concerns(group, journal)]
        for journal in journals:
            self._unsaved[journal.id].groups[group.info.api, group.info.name] = group.info
            self._save_unsaved(journal)

    # Members

    def _connect(self, group: GroupAtWork, join: Join, routing_id: bytes) -> None:
        api, name = group.info.api, group.info.name
        self._disconnect(group, join.member)
        group.connections[join.member] = _Connection(
            routing_id, join.presence, join.digest, self._receivers.most(join.max_message_size)
        )
        self._members[routing_id, api, name] = join.member
        self._presences.setdefault(join.presence, set()).add((api, name, join.member))

    def _disconnect(self, group: GroupAtWork, member: str) -> None:
        connection = group.connections.pop(member, None)
        if connection is not None:
            api, name = group.info.api, group.info.name
            self._members.pop((connection.routing_id, api, name), None)
            present = self._presences.get(connection.presence, set())
            present.discard((api, name, member))
            if not present:
                self._presences.pop(connection.presence, None)

    def _speaker(self, routing_id: bytes, api: str, name: str) -> tuple[GroupAtWork, str]:
        group, member = self.groups.get((api, name)), self._members.get((routing_id, api, name))
        if group is None or member is None:
            raise PeerRefused(
                f"{self.identity} does not know you as a member of the group {name} of {api}: join again."
            )
        return group, member

    def _assign(self, group: GroupAtWork, assignment: Assignment, call_id: int = 0) -> None:
        connection = group.connections.get(assignment.member)
        if connection is None:
            return
        info = group.info
        self._save_held(group, assignment.partitions, is_held=True)
        events = self._events(info.api, info.events, info.name)
        partitions = list(assignment.partitions)
        message = Assign(info.api, info.name, assignment.generation, partitions, events, *self.times_of(info))
        connection.generation, connection.events = assignment.generation, events
        self._send(connection.routing_id, call_id, message)

    def times_of(self, info: Group) -> tuple[float, float]:
        """Return when a group was created and what time it is, in seconds since 1970, as our clock counts them now."""
        clock = time.time()
        return clock - (machine_time() - info.created_at), clock

    def _save_held(self, group: GroupAtWork, partitions: Iterable[int], *, is_held: bool) -> None:
        for journal in self.journals():
            held = self._unsaved[journal.id].held
            held.update({(group.info.api, group.info.name, partition): is_held for partition in partitions})
            self._save_unsaved(journal)

    def _save_unsaved(self, journal: Journal) -> None:
        """Store who is in which group. A journal that does not take it holds up nobody: the next tick tries again."""
        unsaved = self._unsaved[journal.id]
        try:
            if unsaved.held:
                journal.save(held=[(*key, is_held) for key, is_held in unsaved.held.items()])
                unsaved.held.clear()
            while unsaved.groups:
                journal.save_group(next(iter(unsaved.groups.values())))
                del unsaved.groups[next(iter(unsaved.groups))]
            unsaved.has_failed = False
        except JournalError as error:
            if not unsaved.has_failed:
                unsaved.has_failed = True
                logger.error("Who is in which group was not stored, and is tried again: %s", error)

    # Where topics stand

    def _events(self, api: str, events: Iterable[str], group: str = "") -> list[str]:
        """Return the names of events, with `"*"` expanded to those that the API declares or a journal holds."""
        names = set(events)
        kept = {topic.event for journal in self.journals() for topic in journal.topics(api)}
        if "*" in names:
            declared = self._apis.find(api)
            names |= set(declared.events if declared is not None else ())
            names |= {event for event in kept if AGAIN not in event}
        again = {event for event in kept if group and event.endswith(AGAIN + group)}
        return sorted(names - {"*"} | {event for event in again if event.partition(AGAIN)[0] in names})

    def _topics(self, group: GroupAtWork, partitions: Iterable[int], journal: Journal) -> list[tuple[Topic, int]]:
        wanted = set(partitions)
        return [
            (topic, head)
            for topic, head in journal.topics(group.info.api).items()
            if topic.partition in wanted and group.is_owed(topic.event)
        ]

    def _streams(self, group: GroupAtWork, partitions: Iterable[int], journals: Iterable[Journal]) -> list[Any]:
        rows = []
        partitions = list(partitions)
        for journal in journals:
            failed = journal.failing(group.info.name)
            for topic, head in self._topics(group, partitions, journal):
                standing = group.cursors[journal.id].standing(topic, head, failed.get(topic, 0))
                rows.append([journal.id, topic.event, topic.partition, *standing])
        return rows

    def _streams_of_nobody(self, message: Open) -> list[Any]:
        rows = []
        events, partitions = set(message.events), set(message.partitions)
        for journal in self.journals():
            topics = {
                topic: head
                for topic, head in journal.topics(message.api).items()
                if topic.event in events and topic.partition in partitions
            }
            since = self._found(journal, message.api, message.since)
            for topic, head in topics.items():
                position = _position(journal, topic, head, since)
                rows.append([journal.id, topic.event, topic.partition, position, head, 0])
        return rows

    def _tell_streams(self, group: GroupAtWork, member: str, partitions: list[int], journals: list[Journal]) -> None:
        info, connection = group.info, group.connections[member]
        streams = self._streams(group, partitions, journals)
        taken, _ = fitting_partitions(partitions, streams, connection.max_message_size)
        if len(taken) == len(partitions):  # else it is told by the next beat, and asks for as much as it takes
            message = Streams(info.api, info.name, group.membership.generation, partitions, streams)
            self._send(connection.routing_id, 0, message)

    # Acknowledging

    def _acknowledge(self, group: GroupAtWork, journal: str, topic: Topic, sequence: int) -> None:
        cursors = group.cursors.get(journal)
        if cursors is not None and cursors.acknowledge(topic, sequence):
            self._note(journal, group.info.name, topic, sequence)
            self.counts["acked"] += 1
            group.acks += 1
            self._waiters.acknowledged(topic)

    def _note(self, journal: str, group: str, topic: Topic, sequence: int) -> None:
        self._writes.setdefault(journal, {})[group, topic] = sequence
        self._save_soon()

    def _save_soon(self) -> None:
        if not self._save_is_due:
            self._save_is_due = True
            asyncio.get_running_loop().call_soon(self.save)

    def save(self) -> None:
        """Store the acknowledgements of this tick by one commit for each journal, and answer them."""
        self._save_is_due = False
        writes, self._writes = self._writes, {}
        acks, self._acks = self._acks, []
        for name, cursors in writes.items():
            journal = self._shelf.get(name)
            if journal is not None:
                try:
                    journal.save(cursors=[(group, topic, at) for (group, topic), at in cursors.items()])
                except JournalError as error:
                    # Not answered: the consumers go on to their bound, and acknowledge again what is not confirmed.
                    self._failures.say(name, logging.ERROR, "Acknowledgements were not stored: %s", error)
                    self._writes[name] = cursors
                    acks = []
        for routing_id, call_id, refused in acks:
            self._send(routing_id, call_id, Acked(refused))

    def _send(self, routing_id: bytes, call_id: int, message: Message) -> None:
        self._reply_to(routing_id, envelope.encode(message, call_id))


def created_of(created_at: float, clock: float, *, is_near: bool) -> float:
    """
    Return since which moment of this machine a group exists, of which somebody tells by the clock that it has.

    Only what that clock has counted meanwhile is believed, and on the same host (`is_near`) for how long the message
    was on its way: whatever the time of day is, and whenever it is put right.
    """
    age = max(0.0, clock - created_at)
    way = time.time() - clock if is_near else 0.0
    return machine_time() - age - (way if 0.0 < way < MAX_WAY else 0.0)


def count_lag(positions: Iterable[tuple[Journal, Topic, int]]) -> int:
    """Return how many events are behind these positions. Where they are many this takes its time: from a thread."""
    return sum(journal.count_after(topic, acked) for journal, topic, acked in positions)


def _again(topic: Topic, group: str, journal: str, sequence: int, record: bytes) -> NewEvent:
    """Return an event of a journal as it is given to one group. However often it is stored, it is there once."""
    event = topic.event.partition(AGAIN)[0]
    id = f"{journal}-{sequence}{AGAIN}{group}"
    return NewEvent(topic._replace(event=f"{event}{AGAIN}{group}"), record, time.time(), id=id)


def _position(journal: Journal, topic: Topic, head: int, since: Any, otherwise: Moment | None = None) -> int:
    """Return behind which sequence somebody begins who is owed what was fired since an event, or since a time."""
    if since == "$":
        return head
    if since == "0":
        return 0
    if isinstance(since, _At):
        return min(since, head)
    if isinstance(since, str):
        since = otherwise  # another publisher has it
    if isinstance(since, Moment):
        return journal.position_since(topic, since)
    if isinstance(since, datetime):
        since = since.timestamp()
    return head if since is None else journal.position_before(topic, float(since))


class _At(int):
    """The sequence that an id stands for."""


def _native(journal: Journal, since: str) -> int | None:
    """Return the sequence of an event that is given by its native id; None where that is another journal's, or none."""
    name, _, number = since.rpartition("-")
    return int(number) if name == journal.id and number.isascii() and number.isdigit() else None


def _sequence_of(journal: Journal, api: str, id: str) -> int:
    """Return the sequence of the event of an id; 0 where it is not there. From a thread."""
    try:
        found = journal.find(lambda record: envelope.decode_record(record).id == id, id.encode(), api)
    except JournalError as error:
        logger.error("The event %s is not looked for: %s", id, error)
        return 0
    return 0 if found is None else found[1]
