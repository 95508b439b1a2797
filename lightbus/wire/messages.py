"""
The message table: all messages between peers. No state, no I/O.

A message is added here and nowhere else: its number in `Kind`, its class, and its name in `AnyMessage` and `__all__`.
All four are written out, since type checkers read them there; `tests/wire/test_messages.py` names the one that is
missing. `envelope.py` exports the names in `__all__`. The annotation of a field gives its type and its range
(`field_types.py`), which are checked before the message is used. Fields with a default may be missing at the end: they
were added later. Two places write out the fields of a REQUEST once more, for speed: `_is_request` in `envelope.py`,
and `OutboundCall.encoded`. `docs/protocol.md` shows this table with test vectors.
"""

# Without `from __future__ import annotations`: the checks are read from the fields' annotations at import, and
# evaluating them from text would take longer than all the rest.

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
    """Engine to worker: who I am, and which instance I expect here. Repeated as the heartbeat."""

    bus: Name
    target: AnyInstance
    """The instance id that is expected here; empty when only the address is known (a seed)."""
    instance: Instance
    service: Name
    process: Name
    peers_digest: Digest
    """Digest of the instance ids that the sender has verified itself."""
    announcement: AnyMap
    """The sender's announcement, if it is a worker itself."""
    max_message_size: Whole = 0
    """The largest message to the sender, in bytes; 0: not given."""


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
    """The addressed instance; another one refuses."""
    api: Name
    procedure: Name
    left: Seconds
    """Seconds left until the caller's deadline."""
    caller: Instance
    """The calling process's instance id."""
    chain: Chain
    """The instances with a call that waits for this one (nested calls), outermost first."""
    trace: TraceContext
    """Trace context (W3C names), passed on unchanged."""
    stall_count: Whole
    """0, or the number that the worker gave when it refused this call because its event loop had stalled."""
    kwargs: Arguments


class Result(NamedTuple):
    """Worker to caller: the result of the procedure."""

    value: Anything


class Error(NamedTuple):
    """Worker to caller: why there is no result."""

    code: Name
    message: Prose
    started: Bool
    """False: the call was certainly not executed, and another peer may be called."""
    details: Arguments


class Cancel(NamedTuple):
    """Caller to worker: I no longer wait for the request with this call id."""


class Fire(NamedTuple):
    """From a process without a publisher to a worker: publish this event for me (hand-off)."""

    target: AnyInstance
    api: Name
    event: EventName
    left: Seconds
    key: EventKey
    record: Bytes
    wait_for: WaitFor
    """`"journal"`: answer when the event is on disk; `"ack"`: when every group has handled it, too."""


class Batch(NamedTuple):
    """From a process without a publisher to a worker: publish these events for me, all of them or none."""

    target: AnyInstance
    api: Name
    event: EventName
    left: Seconds
    rows: EventRows
    """Each is `[key, record]`, as in Fire."""
    wait_for: WaitFor


class Accepted(NamedTuple):
    """Publisher to the process that handed an event off: it is on disk (best effort: published)."""

    native_id: Name
    """For a Batch, the id of its last event."""
    publisher: Instance


class Peers(NamedTuple):
    """Worker to the engines connected to it: the peers that joined and left, as the sender has seen itself."""

    joined: PeerRows
    """Pairs of an announcement and its age in seconds."""
    left: Instances


class Drain(NamedTuple):
    """Worker to engines: send me nothing new. Until this is confirmed, requests are refused as not started."""


class Drained(NamedTuple):
    """Engine to worker: no channel of this process will send you anything new."""


class Goodbye(NamedTuple):
    """Either way: the sender is leaving now."""

    instance: Instance


class Join(NamedTuple):
    """Consumer to publisher: this process is a member of this group; which partitions are mine? Sent again to renew."""

    target: AnyInstance
    """The addressed instance; another one refuses."""
    api: Name
    group: Name
    """Empty: no group, but all events published while we are connected."""
    events: EventNames
    """The events' names; `"*"` is every event of the API."""
    member: Instance
    """The consuming process's instance id."""
    host: Name
    """The consumer's host: a publisher on the same host has the same clock."""
    presence: PresenceBytes
    """A topic to which only this consumer is subscribed, as long as it is connected."""
    created_at: PointInTime
    """When the group was created, as its members know it, by the consumer's clock."""
    clock: PointInTime
    """The consumer's wall clock, seconds since 1970."""
    digest: Digest
    """Digest of the listener's module and name: it distinguishes two programs that use one group name."""
    since: Since
    """Where a new group starts: nil, `"0"`, `"$"`, an event's id or a time."""
    positions: PositionRows
    """The positions that this process has handled already, each as `[journal, event, partition, sequence]`."""
    max_message_size: Whole = 0
    """The largest message to the consumer, in bytes; 0: not given."""


class Assign(NamedTuple):
    """Publisher to consumer: these are your partitions from now on. Release all others."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    events: EventNames
    """The events that the group gets from this publisher, `"*"` expanded."""
    created_at: PointInTime
    """When the group was created, by the publisher's clock."""
    clock: PointInTime
    """The publisher's wall clock."""
    mixed: Bool = False
    """Whether different programs are members of the group."""


class Open(NamedTuple):
    """Consumer to publisher: I am subscribed to these partitions; where do I start?"""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    events: EventNames
    since: Since
    """As in Join; only used without a group."""
    max_message_size: Whole = 0
    """The largest answer, in bytes; 0: not given."""


class Streams(NamedTuple):
    """Publisher to consumer: the state of each topic of a journal. Also sent without a request, for another journal."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions
    streams: StreamRows
    """Each is `[journal, event, partition, cursor, head, possibly_delivered]`: all up to `cursor` was handled, `head`
    is the newest, and events up to `possibly_delivered` may have been delivered to a consumer that did not finish
    them."""


class Fetch(NamedTuple):
    """Consumer to publisher: send me the next events of this topic of a journal."""

    api: Name
    journal: JournalId
    event: EventName
    partition: PartitionNumber
    after: Whole
    limit: Whole
    max_message_size: Whole = 0
    """The largest answer, in bytes; 0: not given."""


class Page(NamedTuple):
    """Publisher to consumer: the answer to FETCH."""

    records: PageRecords
    """As in Events. A record that is too large for the consumer is replaced by the number of its bytes."""
    through: Whole
    """The page covers all events up to this sequence."""
    more: Bool
    trimmed: Whole
    """The number of events after `after` that retention has deleted."""


class Ack(NamedTuple):
    """Consumer to publisher: all events up to these positions were handled."""

    api: Name
    group: Name
    generation: Whole
    positions: PositionRows
    """Each is `[journal, event, partition, sequence]`."""


class Acked(NamedTuple):
    """Publisher to consumer: the answer to ACK, REJECT and LEAVE, once it is on disk."""

    refused: Partitions
    """The partitions that this member does not hold (any more)."""


class Start(NamedTuple):
    """Consumer to publisher: I am about to handle an event that may have been delivered before. Count this delivery."""

    api: Name
    group: Name
    generation: Whole
    journal: JournalId
    event: EventName
    partition: PartitionNumber
    sequence: Whole
    at_least: Number
    """The least number of this delivery."""


class Started(NamedTuple):
    """Publisher to consumer: the answer to START, once it is on disk."""

    deliveries: Number
    """The number of this delivery; 0: this member does not hold the partition (any more)."""


class Reject(NamedTuple):
    """Consumer to publisher: make this event a dead letter, its deliveries are used up. Acknowledges it, too."""

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
    """Consumer to publisher: I have finished with these partitions, assign them to another member."""

    api: Name
    group: Name
    generation: Whole
    partitions: Partitions


class Leave(NamedTuple):
    """Consumer to publisher: I have finished with all my partitions, and leave the group."""

    api: Name
    group: Name


class Beat(NamedTuple):
    """Consumer to publisher: I am alive. And back: you are a member of these groups."""

    groups: GroupRows
    """Each is `[api, group]`."""
    states: MemberStates = []  # noqa: RUF012 - nobody changes a message
    """
    For each of the groups, the state that the sender has recorded. From a consumer: the generation of its last
    assignment, and the partitions that it has not released. From a publisher: the number of its latest STREAMS that
    went to all members.
    """


class Events(NamedTuple):
    """Publisher to subscribers: events of one topic, in order."""

    journal: AnyJournal
    """Empty: events of best effort, which are in no journal."""
    publisher: Instance
    records: Records
    """Each is `[sequence, sequence of the previous event in this (event, partition), record]`."""
    follows: Whole = 0
    """This publisher has published all events of this name (in all partitions) up to this sequence before."""
    complete: Whole = 0
    """With this message it has published all up to this sequence; 0: not given."""


class Marker(NamedTuple):
    """Publisher to one subscriber: all subscriptions that you sent before the marker's are now active."""

    journal: AnyJournal
    head: Whole
    """The sequence of the newest event published before this marker."""


class Head(NamedTuple):
    """Publisher to subscribers, now and then: the newest event of a topic, for those who missed it."""

    journal: AnyJournal
    """Empty: events of best effort."""
    sequence: Whole
    follows: Whole = 0
    complete: Whole = 0
    """Both as in Events, if this replaces an event that is too large to be published; else 0."""


AnyMessage: TypeAlias = (
    Hello | Welcome | Request | Result | Error | Cancel | Fire | Batch | Accepted | Peers | Drain | Drained | Goodbye |
    Join | Assign | Open | Streams | Fetch | Page | Ack | Acked | Start | Started | Reject | Release | Leave | Beat |
    Events | Marker | Head
)  # fmt: skip
