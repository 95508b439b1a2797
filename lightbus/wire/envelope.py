"""The message table, and how a message becomes one ZeroMQ frame and back. No state, no I/O.

A frame on a ROUTER/DEALER pair is

    kind (1 byte) | protocol version (1 byte) | call id (8 bytes, big endian) | msgpack array of the fields

and a frame on a PUB/SUB pair is a topic (which a subscription must be a prefix of) followed by the same, where the
call id is 0. One frame per message: each further ZeroMQ part costs more than all of the encoding (see
docs/architecture.md). The fixed head is readable even where the rest is not, so a broken request is still answered.

Receivers ignore fields that they do not know at the end of the array, and take the default of one that is missing there
(the class gives it), so that fields can be added within a version.
`docs/protocol.md` shows this table with test vectors.

A message is added here and nowhere else: its number in `Kind`, its class, and its name in `Message`. What a field may
hold stands beside it, as a type and a range (`fields.py`), and is checked before anybody sees the message.
"""

# Without `from __future__ import annotations`: the checks are read from the fields' annotations when this is imported,
# and to evaluate them from text would take longer than all the rest of it.

import reprlib
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args

from ..exceptions import ProtocolError
from . import codec, fields
from .announcement import PROTOCOL_VERSION

__all__ = [
    "EVENT_TOPIC_PARTS",
    "MARKER_PREFIX",
    "PARTITIONS",
    "PRESENCE_PREFIX",
    "PROTOCOL_VERSION",
    "Accepted",
    "Ack",
    "Acked",
    "Assign",
    "Beat",
    "Bury",
    "Cancel",
    "Drain",
    "Drained",
    "Error",
    "Events",
    "Fetch",
    "Fire",
    "Goodbye",
    "Head",
    "Hello",
    "Join",
    "Kind",
    "Leave",
    "Marker",
    "Message",
    "Open",
    "Page",
    "Peers",
    "Record",
    "Release",
    "Request",
    "Result",
    "Start",
    "Started",
    "Streams",
    "Welcome",
    "call_id_of",
    "decode",
    "decode_published",
    "decode_record",
    "encode",
    "encode_published",
    "encode_record",
    "event_topic",
    "is_marker_topic",
    "marker_topic",
    "split_topic",
    "subscription",
]

PARTITIONS = 16
"""How many partitions an event's stream falls into; part of the protocol, since both sides count with it."""

PRESENCE_PREFIX = b"\xfe"
"""A consumer's sign that it is connected: a topic of its own. No name begins with this byte in UTF-8."""

MARKER_PREFIX = b"\xff"
"""Markers sort after every topic: libzmq sends subscriptions in order, so a marker seen means all are in place."""

MAX_NAME = 512
"""Characters of a name: of an API, a procedure, a group, a service or a process."""

MAX_NAMES = 4096
"""Names of events in one message: more than an API can announce, since some are given to a group once more."""

MAX_ROWS = 65_536
"""Positions and topics in one message: about as many as a consumer remembers."""

MAX_RECORDS = 10_000
"""Events in one message."""

MAX_PEERS = 4096
MAX_CHAIN = 64
"""Calls nested in each other: more than a worker executes, so that it can say that."""

MAX_TRACE = 64
MAX_BYTES = 2**32
"""No bound by itself: what a message may have in all is `network.max_message_size`."""

EVENT_TOPIC_PARTS = 3
_MARKER_TOPIC_LENGTH = 1 + 16
_HEAD = struct.Struct(">BBQ")

# What fields hold. The type is for who reads the code, the check for what peers send.
Instance: TypeAlias = Annotated[str, fields.instance_id]
"""Who somebody is: 16 lowercase hexadecimal digits."""
AnyInstance: TypeAlias = Annotated[str, fields.no_instance_or_id]
JournalId: TypeAlias = Annotated[str, fields.instance_id]
AnyJournal: TypeAlias = Annotated[str, fields.no_instance_or_id]
Name: TypeAlias = Annotated[str, fields.text(MAX_NAME)]
EventName: TypeAlias = Annotated[str, fields.text(2 * MAX_NAME + 16)]
"""An event's name may be followed by the group that it is given to once more."""
Digest: TypeAlias = Annotated[str, fields.text(64)]
Prose: TypeAlias = Annotated[str, fields.prose(1024 * 1024)]
Bool: TypeAlias = Annotated[bool, fields.flag]
Whole: TypeAlias = Annotated[int, fields.whole(0, fields.MAX_INT)]
"""A count or a sequence."""
Number: TypeAlias = Annotated[int, fields.whole(0, 2**31 - 1)]
Partition: TypeAlias = Annotated[int, fields.whole(0, PARTITIONS - 1)]
Moment: TypeAlias = Annotated[float, fields.number(-fields.MAX_SECONDS, fields.MAX_SECONDS)]
"""Seconds since 1970."""
Seconds: TypeAlias = Annotated[float, fields.number(-fields.MAX_SECONDS, fields.MAX_SECONDS)]
Arguments: TypeAlias = Annotated[dict[str, Any], fields.is_arguments]
AnyMap: TypeAlias = Annotated[dict[str, Any] | None, fields.optional(fields.is_arguments)]
Bytes: TypeAlias = Annotated[bytes, fields.binary(MAX_BYTES)]
Anything: TypeAlias = Annotated[Any, fields.anything]
Since: TypeAlias = Annotated[Any, fields.since]
Partitions: TypeAlias = Annotated[list[Any], fields.listing(Partition, PARTITIONS)]
EventNames: TypeAlias = Annotated[list[Any], fields.listing(EventName, MAX_NAMES)]
Positions: TypeAlias = Annotated[
    list[Any], fields.listing(fields.row(JournalId, EventName, Partition, Whole), MAX_ROWS)
]
StreamRows: TypeAlias = Annotated[
    list[Any], fields.listing(fields.row(JournalId, EventName, Partition, Whole, Whole, Whole), MAX_ROWS)
]
Chain: TypeAlias = Annotated[list[str], fields.listing(fields.text(64), MAX_CHAIN)]
Trace: TypeAlias = Annotated[dict[str, Any] | None, fields.optional(fields.string_map(MAX_TRACE))]
Key: TypeAlias = Annotated[str | None, fields.optional(fields.prose(MAX_BYTES))]
WaitFor: TypeAlias = Annotated[str, fields.one_of("journal", "ack")]
PeerRows: TypeAlias = Annotated[list[Any], fields.listing(fields.row(fields.is_arguments, Seconds), MAX_PEERS)]
Instances: TypeAlias = Annotated[list[Any], fields.listing(fields.instance_id, MAX_PEERS)]
Presence: TypeAlias = Annotated[bytes, fields.binary(64)]
GroupRows: TypeAlias = Annotated[list[Any], fields.listing(fields.row(Name, Name), MAX_ROWS)]
LastError: TypeAlias = Annotated[str, fields.prose(10_000)]
MemberStates: TypeAlias = Annotated[
    list[Any], fields.listing(fields.either(fields.row(Whole, Partitions), fields.row(Whole)), MAX_ROWS)
]
Records: TypeAlias = Annotated[list[Any], fields.published_records(MAX_RECORDS)]
PageRecords: TypeAlias = Annotated[list[Any], fields.published_records(MAX_RECORDS, or_sizes=True)]


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
    BURY = 23
    RELEASE = 24
    LEAVE = 25
    BEAT = 26
    EVENTS = 32
    MARKER = 33
    HEAD = 34


class Hello(NamedTuple):
    """Engine to worker: who I am, and whom I believe to be speaking to. Repeated, it is the heartbeat."""

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
    clock: Moment
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
    trace: Trace
    """Trace context (W3C names), passed on untouched."""
    epoch: Whole
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
    key: Key
    record: Bytes
    wait_for: WaitFor
    """`"journal"`: answer when it is on disk; `"ack"`: when every group has handled it, too."""


class Accepted(NamedTuple):
    """Publisher to the process that handed off: the event is on disk (best-effort ones: published)."""

    native_id: Name
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
    presence: Presence
    """A topic to which the consumer is subscribed for as long as it is connected, and nobody else."""
    created_at: Moment
    """When the group was created, as far as its members know, by the consumer's clock."""
    clock: Moment
    """The consumer's wall clock, seconds since 1970."""
    digest: Digest
    """Of the listener's module and name: two programs under one group name can be told apart."""
    since: Since
    """Where a group that is new begins: nil, `"0"`, `"$"`, an event's id or a time."""
    positions: Positions
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
    created_at: Moment
    """When the group was created, by the publisher's clock."""
    clock: Moment
    """The publisher's wall clock."""


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
    """`[journal, event, partition, cursor, head, doubtful]` each: all up to `cursor` was handled, `head` is the newest,
    and up to `doubtful` events may have been given to somebody who did not finish them."""


class Fetch(NamedTuple):
    """Consumer to publisher: give me what follows in this topic of a journal."""

    api: Name
    journal: JournalId
    event: EventName
    partition: Partition
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
    positions: Positions
    """`[journal, event, partition, sequence]` each."""


class Acked(NamedTuple):
    """Publisher to consumer: the answer to ACK, BURY and LEAVE, once it is on disk."""

    refused: Partitions
    """The partitions that are not this member's (any more)."""


class Start(NamedTuple):
    """Consumer to publisher: I am about to handle an event that may have been given to somebody before. Count that."""

    api: Name
    group: Name
    generation: Whole
    journal: JournalId
    event: EventName
    partition: Partition
    sequence: Whole
    at_least: Number
    """The number that this delivery has at least."""


class Started(NamedTuple):
    """Publisher to consumer: the answer to START, once it is on disk."""

    deliveries: Number
    """Which delivery this is; 0: the partition is not this member's (any more)."""


class Bury(NamedTuple):
    """Consumer to publisher: set this event aside, it was given often enough. Acknowledges it, too."""

    api: Name
    group: Name
    generation: Whole
    journal: JournalId
    event: EventName
    partition: Partition
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
    For each of the groups what the sender believes. Of a consumer: the generation it was assigned last, and the
    partitions that it has not given back. Of a publisher: the number of its latest STREAMS that went to all members.
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

    journal: JournalId
    sequence: Whole
    follows: Whole = 0
    complete: Whole = 0
    """Both as in Events, where this stands for an event that is too large to be published; else 0."""


class Record(NamedTuple):
    """One event, encoded once where it was fired and then carried as bytes through hand-off, journal and PUB."""

    id: str
    version: int
    published_at: float
    kwargs: dict[str, Any]


Message: TypeAlias = (
    Hello
    | Welcome
    | Request
    | Result
    | Error
    | Cancel
    | Fire
    | Accepted
    | Peers
    | Drain
    | Drained
    | Goodbye
    | Join
    | Assign
    | Open
    | Streams
    | Fetch
    | Page
    | Ack
    | Acked
    | Start
    | Started
    | Bury
    | Release
    | Leave
    | Beat
    | Events
    | Marker
    | Head
)

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time

# One row a message: its class, and a check for each of its fields. A missing kind is an error.
# Fields with a default may be missing at the end: they were added later.
_TABLE: dict[int, tuple[Callable[..., Message], tuple[fields.Check, ...]]] = {
    Kind[cls.__name__.upper()]: (cls, fields.checks_of(cls)) for cls in get_args(Message)
}
_DEFAULTS: dict[int, list[Any]] = {
    kind: [*getattr(cls, "_field_defaults", {}).values()] for kind, (cls, _) in _TABLE.items()
}
_KIND_OF: dict[Any, int] = {cls: kind for kind, (cls, _) in _TABLE.items()}


def encode(message: Message, call_id: int = 0) -> bytes:
    """Return the frame of `message`. Raises DeformError where a value in it cannot be put on the wire."""
    head = _HEAD.pack(_KIND_OF[type(message)], PROTOCOL_VERSION, call_id)
    return head + codec.encode([*message], names=message._fields)


def call_id_of(frame: bytes) -> int:
    """Return the call id of a frame whose fields may be unreadable; 0 where even the head is."""
    return int(_HEAD.unpack_from(frame)[2]) if len(frame) >= _HEAD.size else 0


def decode(frame: bytes) -> tuple[int, Message]:
    """Return `(call id, message)`. Any bytes give that or ProtocolError, nothing else."""
    if len(frame) < _HEAD.size:
        raise ProtocolError(f"A message of {len(frame)} bytes is too short: its head alone has {_HEAD.size}.")
    kind, version, call_id = _HEAD.unpack_from(frame)
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"A peer speaks protocol version {version}, this process version {PROTOCOL_VERSION}. "
            "Run versions of Lightbus on one bus that share a protocol version."
        )
    row = _TABLE.get(kind)
    if row is None:
        raise ProtocolError(f"Unknown kind of message: {kind}.")
    cls, checks = row
    values = codec.decode(memoryview(frame)[_HEAD.size :])
    if type(values) is not list:
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {len(checks)} fields.")
    if len(values) != len(checks):
        _fit(kind, values, len(checks))
    if not fields.passes(checks, values):
        raise _wrong_field(kind, checks, values)
    return call_id, cls(*values)


def _wrong_field(kind: int, checks: tuple[fields.Check, ...], values: list[Any]) -> ProtocolError:
    number = [check(value) for check, value in zip(checks, values, strict=True)].index(False)
    name = _TABLE[kind][0]._fields[number]  # type: ignore[attr-defined]
    return ProtocolError(
        f"A {Kind(kind).name} message has a field of the wrong type, or out of its range: "
        f"`{name}` is {reprlib.repr(values[number])}."
    )


def _fit(kind: int, values: list[Any], number: int) -> None:
    """Leave out fields of a later version, and fill in those that an earlier one does not have."""
    defaults = _DEFAULTS[kind]
    missing = number - len(values)
    if missing > len(defaults):
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {number} fields.")
    if missing > 0:
        values += defaults[-missing:]
    del values[number:]


def event_topic(api: str, event: str, partition: int) -> bytes:
    """Return `api NUL event NUL pp NUL`: the two hex digits have a fixed width, since a subscription is a prefix."""
    return b"%b\0%b\0%02x\0" % (api.encode(), event.encode(), partition)


def subscription(api: str, event: str) -> bytes:
    """Return the prefix that covers all partitions of an event; of all events of the API for `"*"`."""
    return f"{api}\0".encode() if event == "*" else f"{api}\0{event}\0".encode()


def split_topic(topic: bytes) -> tuple[str, str, int]:
    """Return the API, the event and the partition of a topic. Any bytes give that or ProtocolError, nothing else."""
    try:
        api, event, partition, _ = topic.split(b"\0")
        number = int(partition, 16)
        if 0 <= number < PARTITIONS:
            return api.decode(), event.decode(), number
    except ValueError:
        pass
    raise ProtocolError("A published message has no topic of the form `api NUL event NUL partition NUL`.")


def marker_topic(unique: bytes) -> bytes:
    """Return the topic on which a subscriber asks for its marker; `unique` are 16 random bytes."""
    return MARKER_PREFIX + unique


def is_marker_topic(topic: bytes) -> bool:
    """Return whether a topic is one of a marker: anything else that begins alike is a stranger's."""
    return topic.startswith(MARKER_PREFIX) and len(topic) == _MARKER_TOPIC_LENGTH


def encode_published(topic: bytes, message: Events | Marker | Head) -> bytes:
    """Return the PUB frame: the topic, then the message."""
    return topic + encode(message)


def decode_published(frame: bytes) -> tuple[bytes, Message]:
    """Return `(topic, message)` of a PUB frame. Any bytes give that or ProtocolError, nothing else."""
    if frame[:1] == MARKER_PREFIX:
        end = _MARKER_TOPIC_LENGTH
    else:
        end = 0
        for _ in range(EVENT_TOPIC_PARTS):
            end = frame.find(b"\0", end) + 1
            if end == 0:
                raise ProtocolError("A published message has no topic of the form `api NUL event NUL partition NUL`.")
    _, message = decode(frame[end:])
    return frame[:end], message


def encode_record(record: Record) -> bytes:
    """Return the event as bytes. Raises DeformError where an argument cannot be put on the wire."""
    return codec.encode([*record], names=record._fields)


def decode_record(data: bytes) -> Record:
    """Return the event. Any bytes give one or ProtocolError, nothing else."""
    return _record(codec.decode(data))


def decode_records(data: Sequence[bytes]) -> list[Record]:
    """
    Return events in half the time that it takes to decode one by one.

    Raises ProtocolError where one of them is none: which one, `decode_record` tells.
    """
    # One array of all. Bytes that are not one value each may come apart elsewhere than where they were joined: in a
    # publisher's own records that is no more than what it could have sent anyway.
    return [_record(values) for values in codec.decode(b"\xdd%b%b" % (len(data).to_bytes(4, "big"), b"".join(data)))]


def _record(values: Any) -> Record:
    if type(values) is list and len(values) >= 4:
        id, version, published_at, kwargs = values if len(values) == 4 else values[:4]
        # Written out: this runs once per event at each consumer.
        if (
            type(id) is str
            and len(id) <= MAX_NAME
            and type(version) is int
            and 0 <= version <= fields.MAX_INT
            and (type(published_at) is float or type(published_at) is int)
            and -fields.MAX_SECONDS <= published_at <= fields.MAX_SECONDS
            and fields.is_arguments(kwargs)
        ):
            return _new(Record, (id, version, published_at, kwargs))
    raise ProtocolError("An event's record needs an id, a version, a time and a mapping of arguments.")
