"""The message table, and how a message becomes one ZeroMQ frame and back. No state, no I/O.

A frame on a ROUTER/DEALER pair is

    kind (1 byte) | protocol version (1 byte) | call id (8 bytes, big endian) | msgpack array of the fields

and a frame on a PUB/SUB pair is a topic (which a subscription must be a prefix of) followed by the same, where the
call id is 0. One frame per message: each further ZeroMQ part costs more than all of the encoding (see
docs/architecture.md). The fixed head is readable even where the rest is not, so a broken request is still answered.

Receivers ignore fields that they do not know at the end of the array, and take the default of one that is missing there
(the class gives it), so that fields can be added within a version.
`docs/protocol.md` shows this table with test vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from ..exceptions import ProtocolError
from . import codec
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

EVENT_TOPIC_PARTS = 3
_MARKER_TOPIC_LENGTH = 1 + 16
_HEAD = struct.Struct(">BBQ")


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

    bus: str
    target: str
    """The instance id that is expected here; empty when only the address is known (a seed)."""
    instance: str
    service: str
    process: str
    peers_digest: str
    """Of the instance ids that the sender has verified itself."""
    announcement: dict[str, Any] | None
    """What the sender announces, where it is a worker itself."""
    max_message_size: int = 0
    """Bytes that a message to the sender may have; 0: it does not say."""


class Welcome(NamedTuple):
    """Worker to engine: the answer to HELLO. Only this makes a peer count as up."""

    announcement: dict[str, Any]
    peers_digest: str
    clock: float
    """The worker's wall clock, seconds since 1970."""
    draining: bool


class Request(NamedTuple):
    """Caller to worker: execute a procedure."""

    target: str
    """The instance that is meant; another one refuses."""
    api: str
    procedure: str
    left: float
    """Seconds left until the caller's deadline."""
    caller: str
    """The calling process's instance id."""
    chain: list[str]
    """The instances in which a call is waiting for this one (nested calls), outermost first."""
    trace: dict[str, Any] | None
    """Trace context (W3C names), passed on untouched."""
    epoch: int
    """0, or the number that the worker gave when it refused this call because it had stood still."""
    kwargs: dict[str, Any]


class Result(NamedTuple):
    """Worker to caller: what the procedure returned."""

    value: Any


class Error(NamedTuple):
    """Worker to caller: why there is no result."""

    code: str
    message: str
    started: bool
    """False: it was certainly not executed, another peer may be asked."""
    details: dict[str, Any]


class Cancel(NamedTuple):
    """Caller to worker: nobody waits for the request with this call id any more."""


class Fire(NamedTuple):
    """Process without a publisher of its own to a worker: publish this event for me (hand-off)."""

    target: str
    api: str
    event: str
    left: float
    key: str | None
    record: bytes
    wait_for: str
    """`"journal"`: answer when it is on disk; `"ack"`: when every group has handled it, too."""


class Accepted(NamedTuple):
    """Publisher to the process that handed off: the event is on disk (best-effort ones: published)."""

    native_id: str
    publisher: str


class Peers(NamedTuple):
    """Worker to the engines connected to it: who came and who went, as the sender has seen itself."""

    joined: list[Any]
    """Pairs of an announcement and its age in seconds."""
    left: list[Any]


class Drain(NamedTuple):
    """Worker to engines: send me nothing new. Until it is confirmed, requests are refused as not started."""


class Drained(NamedTuple):
    """Engine to worker: none of this process's doors will send you anything new."""


class Goodbye(NamedTuple):
    """Either way: the sender is leaving now."""

    instance: str


class Join(NamedTuple):
    """Consumer to publisher: this process is a member of this group; which partitions are mine? Sent again to renew."""

    target: str
    """The instance that is meant; another one refuses."""
    api: str
    group: str
    """Empty: no group, but whatever is published while we are connected."""
    events: list[Any]
    """The events' names; `"*"` is every event of the API."""
    member: str
    """The consuming process's instance id."""
    host: str
    """The consumer's host: a publisher of the same host has the same clock."""
    presence: bytes
    """A topic to which the consumer is subscribed for as long as it is connected, and nobody else."""
    created_at: float
    """When the group was created, as far as its members know, by the consumer's clock."""
    clock: float
    """The consumer's wall clock, seconds since 1970."""
    digest: str
    """Of the listener's module and name: two programs under one group name can be told apart."""
    since: Any
    """Where a group that is new begins: nil, `"0"`, `"$"`, an event's id or a time."""
    positions: list[Any]
    """What this process has handled already, `[journal, event, partition, sequence]` each."""
    max_message_size: int = 0
    """Bytes that a message to the consumer may have; 0: it does not say."""


class Assign(NamedTuple):
    """Publisher to consumer: these are your partitions from now on. Those that are missing are to be released."""

    api: str
    group: str
    generation: int
    partitions: list[Any]
    events: list[Any]
    """The events that the group is owed here, `"*"` expanded."""
    created_at: float
    """When the group was created, by the publisher's clock."""
    clock: float
    """The publisher's wall clock."""


class Open(NamedTuple):
    """Consumer to publisher: I am subscribed to these partitions; where do I begin?"""

    api: str
    group: str
    generation: int
    partitions: list[Any]
    events: list[Any]
    since: Any
    """As in Join; asked by those without a group only."""


class Streams(NamedTuple):
    """Publisher to consumer: where each topic of a journal stands for you. Also sent unasked, for another journal."""

    api: str
    group: str
    generation: int
    partitions: list[Any]
    streams: list[Any]
    """`[journal, event, partition, cursor, head, doubtful]` each: all up to `cursor` was handled, `head` is the newest,
    and up to `doubtful` events may have been given to somebody who did not finish them."""


class Fetch(NamedTuple):
    """Consumer to publisher: give me what follows in this topic of a journal."""

    api: str
    journal: str
    event: str
    partition: int
    after: int
    limit: int
    max_message_size: int = 0
    """Bytes that the answer may have; 0: the consumer does not say."""


class Page(NamedTuple):
    """Publisher to consumer: the answer to FETCH."""

    records: list[Any]
    """As in Events. One that is too large for the consumer is left out: its record is a number, of its bytes."""
    through: int
    """Everything up to this sequence was given."""
    more: bool
    trimmed: int
    """How many events behind `after` retention has deleted."""


class Ack(NamedTuple):
    """Consumer to publisher: everything up to here was handled."""

    api: str
    group: str
    generation: int
    positions: list[Any]
    """`[journal, event, partition, sequence]` each."""


class Acked(NamedTuple):
    """Publisher to consumer: the answer to ACK, BURY and LEAVE, once it is on disk."""

    refused: list[Any]
    """The partitions that are not this member's (any more)."""


class Start(NamedTuple):
    """Consumer to publisher: I am about to handle an event that may have been given to somebody before. Count that."""

    api: str
    group: str
    generation: int
    journal: str
    event: str
    partition: int
    sequence: int
    at_least: int
    """The number that this delivery has at least."""


class Started(NamedTuple):
    """Publisher to consumer: the answer to START, once it is on disk."""

    deliveries: int
    """Which delivery this is; 0: the partition is not this member's (any more)."""


class Bury(NamedTuple):
    """Consumer to publisher: set this event aside, it was given often enough. Acknowledges it, too."""

    api: str
    group: str
    generation: int
    journal: str
    event: str
    partition: int
    sequence: int
    deliveries: int
    error: str


class Release(NamedTuple):
    """Consumer to publisher: I have finished with these partitions, give them to somebody else."""

    api: str
    group: str
    generation: int
    partitions: list[Any]


class Leave(NamedTuple):
    """Consumer to publisher: I have finished with everything, and leave the group."""

    api: str
    group: str


class Beat(NamedTuple):
    """Consumer to publisher: I am alive. And back: of these groups you are a member."""

    groups: list[Any]
    """`[api, group]` each."""
    states: list[Any] = []  # noqa: RUF012 - nobody changes a message
    """
    For each of the groups what the sender believes. Of a consumer: the generation it was assigned last, and the
    partitions that it has not given back. Of a publisher: the number of its latest STREAMS that went to all members.
    """


class Events(NamedTuple):
    """Publisher to subscribers: events of one topic, in order."""

    journal: str
    """Empty: of best effort, no journal holds them."""
    publisher: str
    records: list[Any]
    """`[sequence, sequence of the one before in this (event, partition), record]` each."""


class Marker(NamedTuple):
    """Publisher to one subscriber: all your subscriptions sent before this one are in force from here on."""

    journal: str
    head: int
    """The sequence of the newest event published before this marker."""


class Head(NamedTuple):
    """Publisher to subscribers, now and then: the newest event of a topic, for whoever missed it."""

    journal: str
    sequence: int


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

_ANY = object
_NUMBER = (float, int)
_OPTIONAL_MAP = (dict, type(None))
_GROUP = (str, str, int)
_TOPIC = (str, str, int)

# One row a message: its class, and for each field the types that may arrive. A missing kind is an error.
# Fields with a default may be missing at the end: they were added later.
_TABLE: dict[int, tuple[Callable[..., Message], tuple[Any, ...]]] = {
    Kind.HELLO: (Hello, (str, str, str, str, str, str, _OPTIONAL_MAP, int)),
    Kind.WELCOME: (Welcome, (dict, str, _NUMBER, bool)),
    Kind.REQUEST: (Request, (str, str, str, _NUMBER, str, list, _OPTIONAL_MAP, int, dict)),
    Kind.RESULT: (Result, (_ANY,)),
    Kind.ERROR: (Error, (str, str, bool, dict)),
    Kind.CANCEL: (Cancel, ()),
    Kind.FIRE: (Fire, (str, str, str, _NUMBER, (str, type(None)), bytes, str)),
    Kind.ACCEPTED: (Accepted, (str, str)),
    Kind.PEERS: (Peers, (list, list)),
    Kind.DRAIN: (Drain, ()),
    Kind.DRAINED: (Drained, ()),
    Kind.GOODBYE: (Goodbye, (str,)),
    Kind.JOIN: (Join, (str, str, str, list, str, str, bytes, _NUMBER, _NUMBER, str, _ANY, list, int)),
    Kind.ASSIGN: (Assign, (*_GROUP, list, list, _NUMBER, _NUMBER)),
    Kind.OPEN: (Open, (*_GROUP, list, list, _ANY)),
    Kind.STREAMS: (Streams, (*_GROUP, list, list)),
    Kind.FETCH: (Fetch, (str, *_TOPIC, int, int, int)),
    Kind.PAGE: (Page, (list, int, bool, int)),
    Kind.ACK: (Ack, (*_GROUP, list)),
    Kind.ACKED: (Acked, (list,)),
    Kind.START: (Start, (*_GROUP, *_TOPIC, int, int)),
    Kind.STARTED: (Started, (int,)),
    Kind.BURY: (Bury, (*_GROUP, *_TOPIC, int, int, str)),
    Kind.RELEASE: (Release, (*_GROUP, list)),
    Kind.LEAVE: (Leave, (str, str)),
    Kind.BEAT: (Beat, (list, list)),
    Kind.EVENTS: (Events, (str, str, list)),
    Kind.MARKER: (Marker, (str, int)),
    Kind.HEAD: (Head, (str, int)),
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
    cls, types = row
    fields = codec.decode(memoryview(frame)[_HEAD.size :])
    if type(fields) is not list:
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {len(types)} fields.")
    if len(fields) != len(types):
        _fit(kind, fields, len(types))
    if not all(map(isinstance, fields, types)):
        raise ProtocolError(f"A {Kind(kind).name} message has a field of the wrong type.")
    return call_id, cls(*fields)


def _fit(kind: int, fields: list[Any], number: int) -> None:
    """Leave out fields of a later version, and fill in those that an earlier one does not have."""
    defaults = _DEFAULTS[kind]
    missing = number - len(fields)
    if missing > len(defaults):
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {number} fields.")
    if missing > 0:
        fields += defaults[-missing:]
    del fields[number:]


def event_topic(api: str, event: str, partition: int) -> bytes:
    """Return `api NUL event NUL pp NUL`: the two hex digits have a fixed width, since a subscription is a prefix."""
    return b"%b\0%b\0%02x\0" % (api.encode(), event.encode(), partition)


def subscription(api: str, event: str) -> bytes:
    """Return the prefix that covers all partitions of an event; of all events of the API for `"*"`."""
    return f"{api}\0".encode() if event == "*" else f"{api}\0{event}\0".encode()


def split_topic(topic: bytes) -> tuple[str, str, int]:
    """Return the API, the event and the partition of a topic. Raises ValueError for what is none."""
    api, event, partition, _ = topic.split(b"\0")
    return api.decode(), event.decode(), int(partition, 16)


def marker_topic(unique: bytes) -> bytes:
    """Return the topic on which a subscriber asks for its marker; `unique` are 16 random bytes."""
    return MARKER_PREFIX + unique


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
    return [_record(fields) for fields in codec.decode(b"\xdd%b%b" % (len(data).to_bytes(4, "big"), b"".join(data)))]


def _record(fields: Any) -> Record:
    if type(fields) is list and len(fields) >= 4:
        id, version, published_at, kwargs = fields if len(fields) == 4 else fields[:4]
        # Written out: this runs once per event at each consumer.
        if type(id) is str and type(version) is int and type(kwargs) is dict and isinstance(published_at, _NUMBER):
            return _new(Record, (id, version, published_at, kwargs))
    raise ProtocolError("An event's record needs an id, a version, a time and a mapping of arguments.")
