"""
The message table: what peers say to each other. No state, no I/O.

A message is added here and nowhere else: its number in `Kind`, its class, and its name in `AnyMessage` and `__all__`.
All four are written out, since the types of who uses them are read from there; `tests/wire/test_messages.py` names the
one that is missing. `envelope.py` hands on what `__all__` names. What a field may hold stands beside it, as a type and
a range (`field_types.py`), and is checked before anybody sees the message. Fields with a default may be missing at the
end: they were added later. `docs/protocol.md` shows this table with test vectors.
"""

# Without `from __future__ import annotations`: the checks are read from the fields' annotations when this is imported,
# and to evaluate them from text would take longer than all the rest of it.

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from .field_types import (
    AnyInstance,
    AnyJournal,
    AnyMap,
    Anything,
    Arguments,
    Bool,
    Bytes,
    Chain,
    Digest,
    EventKey,
    EventName,
    EventNames,
    EventRows,
    GroupRows,
    Instance,
    Instances,
    JournalId,
    LastError,
    MemberStates,
    Name,
    Number,
    PageRecords,
    PartitionNumber,
    Partitions,
    PeerRows,
    PointInTime,
    PositionRows,
    PresenceBytes,
    Prose,
    Records,
    Seconds,
    Since,
    StreamRows,
    TraceContext,
    WaitFor,
    Whole,
)

__all__ = [
    "Accepted", "Ack", "Acked", "AnyMessage", "Assign", "Batch", "Beat", "Cancel", "Drain", "Drained", "Error",
    "Events", "Fetch", "Fire", "Goodbye", "Head", "Hello", "Join", "Kind", "Leave", "Marker", "Open", "Page",
    "Peers", "Reject", "Release", "Request", "Result", "Start", "Started", "Streams", "Welcome",
]  # fmt: skip


class Kind(IntEnum):
    """The first byte of every message."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    RESULT = 4
    ERROR = 5
    CANCEL = 6
    FIRE = 7
    ACCEPTED = 8
    PEERS = 9
    DRAIN = 10
    DRAINED = 11
    GOODBYE = 12
    JOIN = 13
    ASSIGN = 14
    OPEN = 15
    STREAMS = 16
    FETCH = 17
    PAGE = 18
    ACK = 19
    ACKED = 20
    START = 21
    STARTED = 22
    REJECT = 23
    RELEASE = 24
    LEAVE = 25
    BEAT = 26
    BATCH = 27
    EVENTS = 32
    MARKER = 33
    HEAD = 34


class Hello(NamedTuple):
    """Engine to worker: who I am, and which instance I expect here. Repeated, it is the heartbeat."""

    bus: Name
    target: AnyInstance
    """The instance id that is expected here; empty when only the address is known (a seed)."""
    instance: Instance
    service: Name
    process: Name
    peers_digest: Digest
    """Of the instance ids that the sender has verified itself."""
    announcement: AnyMap
    """What the sender announces, where it is a worker itself."""
    max_message_size: Whole = 0
    """Bytes that a message to the sender may have; 0: it does not say."""


class Welcome(NamedTuple):
    """Worker to engine: the answer to HELLO. Only this makes a peer count as up."""

    announcement: Arguments
    peers_digest: Digest
    clock: PointInTime
    """The worker's wall clock, seconds since 1970."""
    draining: Bool


class Request(NamedTuple):
    """Caller to worker: execute a procedure."""

    target: AnyInstance
    """The instance that is meant; another one refuses."""
    api: Name
    procedure: Name
    left: Seconds
    """Seconds left until the caller's deadline."""
    caller: Instance
    """The calling process's instance id."""
    chain: Chain
    """The instances in which a call is waiting for this one (nested calls), outermost first."""
    trace: TraceContext
    """Trace context (W3C names), passed on untouched."""
    stall_count: Whole
    """0, or the number that the worker gave when it refused this call because it had stood still."""
    kwargs: Arguments


class Result(NamedTuple):
    """Worker to caller: what the procedure returned."""

    value: Anything


class Error(NamedTuple):
    """Worker to caller: why there is no result."""

    code: Name
    message: Prose
    started: Bool
    """False: it was certainly not executed, another peer may be asked."""
    details: Arguments


class Cancel(NamedTuple):
    """Caller to worker: nobody waits for the request with this call id any more."""


class Fire(NamedTuple):
    """Process without a publisher of its own to a worker: publish this event for me (hand-off)."""

    target: AnyInstance
    api: Name
    event: EventName
    left: Seconds
    key: EventKey
    record: Bytes
    wait_for: WaitFor
    """`"journal"`: answer when it is on disk; `"ack"`: when every group has handled it, too."""


class Batch(NamedTuple):
    """Process without a publisher of its own to a worker: publish these events for me, all of them or none."""

    target: AnyInstance
    api: Name
    event: EventName
    left: Seconds
    rows: EventRows
    """`[key, record]` each, as in Fire."""
    wait_for: WaitFor


class Accepted(NamedTuple):
    """Publisher to the process that handed off: the event is on disk (best-effort ones: published)."""

    native_id: Name
    """Of a Batch: of its last event."""
    publisher: Instance


class Peers(NamedTuple):
    """Worker to the engines connected to it: who came and who went, as the sender has seen itself."""

    joined: PeerRows
    """Pairs of an announcement and its age in seconds."""
    left: Instances


class Drain(NamedTuple):
    """Worker to engines: send me nothing new. Until it is confirmed, requests are refused as not started."""


class Drained(NamedTuple):
    """Engine to worker: none of this process's doors will send you anything new."""


class Goodbye(NamedTuple):
    """Either way: the sender is leaving now."""

    instance: Instance


class Join(NamedTuple):
    """Consumer to publisher: this process is a member of this group; which partitions are mine? Sent again to renew."""

    target: AnyInstance
    """The instance that is meant; another one refuses."""
    api: Name
    group: Name
    """Empty: no group, but whatever is published while we are connected."""
    events: EventNames
    """The events' names; `"*"` is every event of the API."""
    member: Instance
    """The consuming process's instance id."""
    host: Name
    """The consumer's host: a publisher of the same host has the same clock."""
    presence: PresenceBytes
    """A topic to which the consumer is subscribed for as long as it is connected, and nobody else."""
    created_at: PointInTime
    """When the group was created, as far as its members know, by the consumer's clock."""
    clock: PointInTime
    """The consumer's wall clock, seconds since 1970."""
    digest: Digest
    """Of the listener's module and name: two programs under one group name can be told apart."""
    since: Since
    """Where a group that is new begins: nil, `"0"`, `"$"`, an event's id or a time."""
    positions: PositionRows
    """What this process has handled already, `[journal, event, partition, sequence]` each."""
    max_message_size: Whole = 0
    """Bytes that a message to the consumer may have; 0: it does not say."""


class Assign(NamedTuple):
    """Publisher to consumer: these are your partitions from now on. Those that are missing are to be released."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    events: EventNames
    """The events that the group is owed here, `"*"` expanded."""
    created_at: PointInTime
    """When the group was created, by the publisher's clock."""
    clock: PointInTime
    """The publisher's wall clock."""
    mixed: Bool = False
    """Whether different programs are members of the group."""


class Open(NamedTuple):
    """Consumer to publisher: I am subscribed to these partitions; where do I begin?"""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    events: EventNames
    since: Since
    """As in Join; asked by those without a group only."""
    max_message_size: Whole = 0
    """Bytes that the answer may have; 0: the consumer does not say."""


class Streams(NamedTuple):
    """Publisher to consumer: where each topic of a journal stands for you. Also sent unasked, for another journal."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    streams: StreamRows
    """`[journal, event, partition, cursor, head, possibly_delivered]` each: all up to `cursor` was handled, `head` is
    the newest, and up to `possibly_delivered` events may have been given to somebody who did not finish them."""


class Fetch(NamedTuple):
    """Consumer to publisher: give me what follows in this topic of a journal."""

    api: Name
    journal: JournalId
    event: EventName
    partition: PartitionNumber
    after: Whole
    limit: Whole
    max_message_size: Whole = 0
    """Bytes that the answer may have; 0: the consumer does not say."""


class Page(NamedTuple):
    """Publisher to consumer: the answer to FETCH."""

    records: PageRecords
    """As in Events. One that is too large for the consumer is left out: its record is a number, of its bytes."""
    through: Whole
    """Everything up to this sequence was given."""
    more: Bool
    trimmed: Whole
    """How many events behind `after` retention has deleted."""


class Ack(NamedTuple):
    """Consumer to publisher: everything up to here was handled."""

    api: Name
    group: Name
    generation: Whole
    positions: PositionRows
    """`[journal, event, partition, sequence]` each."""


class Acked(NamedTuple):
    """Publisher to consumer: the answer to ACK, REJECT and LEAVE, once it is on disk."""

    refused: Partitions
    """The partitions that are not this member's (any more)."""


class Start(NamedTuple):
    """Consumer to publisher: I am about to handle an event that may have been given to somebody before. Count that."""

    api: Name
    group: Name
    generation: Whole
    journal: JournalId
    event: EventName
    partition: PartitionNumber
    sequence: Whole
    at_least: Number
    """The number that this delivery has at least."""


class Started(NamedTuple):
    """Publisher to consumer: the answer to START, once it is on disk."""

    deliveries: Number
    """Which delivery this is; 0: the partition is not this member's (any more)."""


class Reject(NamedTuple):
    """Consumer to publisher: make this event a dead letter, it was given often enough. Acknowledges it, too."""

    api: Name
    group: Name
    generation: Whole
    journal: JournalId
    event: EventName
    partition: PartitionNumber
    sequence: Whole
    deliveries: Number
    error: LastError


class Release(NamedTuple):
    """Consumer to publisher: I have finished with these partitions, give them to somebody else."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions


class Leave(NamedTuple):
    """Consumer to publisher: I have finished with everything, and leave the group."""

    api: Name
    group: Name


class Beat(NamedTuple):
    """Consumer to publisher: I am alive. And back: of these groups you are a member."""

    groups: GroupRows
    """`[api, group]` each."""
    states: MemberStates = []  # noqa: RUF012 - nobody changes a message
    """
    For each of the groups the state that the sender has recorded. Of a consumer: the generation it was assigned last,
    and the partitions that it has not given back. Of a publisher: the number of its latest STREAMS that went to all
    members.
    """


class Events(NamedTuple):
    """Publisher to subscribers: events of one topic, in order."""

    journal: AnyJournal
    """Empty: of best effort, no journal holds them."""
    publisher: Instance
    records: Records
    """`[sequence, sequence of the one before in this (event, partition), record]` each."""
    follows: Whole = 0
    """All of this event (of all partitions) up to this sequence were published before, by this publisher."""
    complete: Whole = 0
    """With this message all up to here are; 0: it does not say."""


class Marker(NamedTuple):
    """Publisher to one subscriber: all your subscriptions sent before this one are in force from here on."""

    journal: AnyJournal
    head: Whole
    """The sequence of the newest event published before this marker."""


class Head(NamedTuple):
    """Publisher to subscribers, now and then: the newest event of a topic, for whoever missed it."""

    journal: AnyJournal
    """Empty: of best effort."""
    sequence: Whole
    follows: Whole = 0
    complete: Whole = 0
    """Both as in Events, where this stands for an event that is too large to be published; else 0."""


AnyMessage: TypeAlias = (
    Hello | Welcome | Request | Result | Error | Cancel | Fire | Batch | Accepted | Peers | Drain | Drained | Goodbye |
    Join | Assign | Open | Streams | Fetch | Page | Ack | Acked | Start | Started | Reject | Release | Leave | Beat |
    Events | Marker | Head
)  # fmt: skip
