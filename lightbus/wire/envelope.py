"""
How a message becomes one ZeroMQ frame and back. No state, no I/O. The messages themselves are in `messages.py`.

A frame on a ROUTER/DEALER pair is

    kind (1 byte) | protocol version (1 byte) | call id (8 bytes, big endian) | msgpack array of the fields

and a frame on a PUB/SUB pair is a topic (`topics.py`) followed by the same, where the call id is 0. One frame per
message: each further ZeroMQ part costs more than all of the encoding (docs/architecture/measurements.md). The fixed
head is readable even where the rest is not, so a broken request is still answered.

Receivers ignore fields that they do not know at the end of the array, and take the default of one that is missing there
(the class gives it), so that fields can be added within a version.

All of the protocol is to be had from here.
"""

import reprlib
import struct
from collections.abc import Callable, Sequence
from operator import call
from typing import Any, get_args

from ..exceptions import ProtocolError
from . import codec, fields, messages
from .announcement import PROTOCOL_VERSION
from .field_types import PARTITIONS
from .messages import *  # noqa: F403 - they are written in one place
from .messages import AnyMessage, Events, Head, Kind, Marker, Request, Result
from .records import Record, decode_fields, decode_record, decode_records, encode_record
from .topics import (
    EVENT_TOPIC_PARTS,
    MARKER_PREFIX,
    MARKER_TOPIC_LENGTH,
    PRESENCE_PREFIX,
    event_topic,
    is_marker_topic,
    marker_topic,
    split_topic,
    subscription,
)

__all__ = [
    "EVENT_TOPIC_PARTS",
    "MARKER_PREFIX",
    "PARTITIONS",
    "PRESENCE_PREFIX",
    "PROTOCOL_VERSION",
    "Record",
    "call_id_of",
    "decode",
    "decode_fields",
    "decode_published",
    "decode_record",
    "decode_records",
    "encode",
    "encode_published",
    "encode_record",
    "encode_request",
    "encode_result",
    "event_topic",
    "is_marker_topic",
    "marker_topic",
    "split_topic",
    "subscription",
]
__all__ += messages.__all__

_HEAD = struct.Struct(">BBQ")
_SMALL = 4096

MOST_KNOWN = 256
"""Requests of different instances, APIs or procedures whose names need no second look: a stranger may send any."""

# One row a message: its class, and a check for each of its fields. A missing kind is an error.
# Fields with a default may be missing at the end: they were added later.
_TABLE: dict[int, tuple[Callable[..., AnyMessage], tuple[fields.FieldCheck, ...]]] = {
    Kind[cls.__name__.upper()]: (cls, fields.checks_of(cls)) for cls in get_args(AnyMessage)
}
_DEFAULTS: dict[int, list[Any]] = {
    kind: [*getattr(cls, "_field_defaults", {}).values()] for kind, (cls, _) in _TABLE.items()
}
_KIND_OF: dict[Any, int] = {cls: kind for kind, (cls, _) in _TABLE.items()}

_known_requests: set[tuple[str, str, str, str]] = set()
_LEAST_SECONDS, _MOST_SECONDS, _MAX_INT = -fields.MAX_SECONDS, fields.MAX_SECONDS, fields.MAX_INT
_pack_head, _unpack_head = _HEAD.pack, _HEAD.unpack_from
_RESULT, _REQUEST = int(Kind.RESULT), int(Kind.REQUEST)
_unpack, _restore = codec.unpackb, codec.restore
_new: Any = tuple.__new__  # as a NamedTuple makes itself, without the call of a function in Python


def encode(message: AnyMessage, call_id: int = 0) -> bytes:
    """Return the frame of `message`. Raises DeformError where a value in it cannot be put on the wire."""
    head = _pack_head(_KIND_OF[type(message)], PROTOCOL_VERSION, call_id)
    return codec.encode([*message], names=message._fields, head=head)


def encode_result(value: Any, call_id: int) -> bytes:
    """Return the frame of a RESULT: what `encode` returns, without a message in between."""
    return codec.encode([value], names=Result._fields, head=_pack_head(_RESULT, PROTOCOL_VERSION, call_id))


def encode_request(values: Sequence[Any], call_id: int) -> bytes:
    """Return the frame of a REQUEST of these values, in the order of its fields: what `encode` returns, likewise."""
    return codec.encode(values, names=Request._fields, head=_pack_head(_REQUEST, PROTOCOL_VERSION, call_id))


def call_id_of(frame: bytes) -> int:
    """Return the call id of a frame whose fields may be unreadable; 0 where even the head is."""
    return int(_HEAD.unpack_from(frame)[2]) if len(frame) >= _HEAD.size else 0


def decode(frame: bytes, work: codec.Work | None = None) -> tuple[int, AnyMessage]:
    """Return `(call id, message)`. Any bytes give that or ProtocolError, nothing else. `work` is told what it took."""
    if len(frame) <= codec.SHORT:
        # The short way of nearly all. Whatever is wrong with the others is found, and told, on the long one.
        try:
            kind, version, call_id = _unpack_head(frame)
            values = _unpack(frame[10:], ext_hook=_restore, timestamp=3)
            cls, count, passes = _SHORT_WAYS[kind]
            is_whole = type(values) is list and len(values) == count and version == PROTOCOL_VERSION
            if is_whole and (passes is None or passes(values)):
                return call_id, _new(cls, values)
        except Exception:
            pass
    return _decode_any(frame, work)


def _decode_any(frame: bytes, work: codec.Work | None) -> tuple[int, AnyMessage]:
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
    # To copy a few bytes is quicker than to make a view of them.
    values = codec.decode(frame[_HEAD.size :] if len(frame) < _SMALL else memoryview(frame)[_HEAD.size :], work)
    if type(values) is not list:
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {len(checks)} fields.")
    if len(values) != len(checks):
        _fit(kind, values, len(checks))
    if not fields.passes(checks, values):
        raise _wrong_field(kind, checks, values)
    return call_id, cls(*values)


def _check_of_all(
    cls: Callable[..., AnyMessage], checks: tuple[fields.FieldCheck, ...]
) -> Callable[[list[Any]], bool] | None:
    """Return the check whether values, as many as there are fields, are those of a message; None: they always are."""
    if cls is Request:
        return _is_request
    if all(check is fields.anything for check in checks):
        return None
    return lambda values: all(map(call, checks, values))


def _is_request(values: list[Any]) -> bool:
    """Tell that of a REQUEST. The names in it, which take longest to check, are mostly those of one before."""
    target, api, procedure, left, caller, chain, trace, stall_count, kwargs = values
    names = target, api, procedure, caller
    if (
        names in _known_requests
        and trace is None
        and type(left) is float
        and type(chain) is list
        and not chain
        and type(stall_count) is int
        and type(kwargs) is dict
        and _LEAST_SECONDS <= left <= _MOST_SECONDS
        and 0 <= stall_count <= _MAX_INT
    ):
        for key in kwargs:  # noqa: SIM110 - a generator costs more than most maps have keys
            if type(key) is not str:
                return False
        return True
    if not fields.passes(_TABLE[Kind.REQUEST][1], values):
        return False
    if len(_known_requests) >= MOST_KNOWN:
        _known_requests.clear()
    _known_requests.add(names)
    return True


_SHORT_WAYS: dict[int, tuple[Callable[..., AnyMessage], int, Callable[[list[Any]], bool] | None]] = {
    kind: (cls, len(checks), _check_of_all(cls, checks)) for kind, (cls, checks) in _TABLE.items()
}
"""By kind the class of a message, how many fields it has, and the check of its values."""


def _wrong_field(kind: int, checks: tuple[fields.FieldCheck, ...], values: list[Any]) -> ProtocolError:
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


def encode_published(topic: bytes, message: Events | Marker | Head) -> bytes:
    """Return the PUB frame: the topic, then the message."""
    return topic + encode(message)


def decode_published(frame: bytes) -> tuple[bytes, AnyMessage]:
    """Return `(topic, message)` of a PUB frame. Any bytes give that or ProtocolError, nothing else."""
    if frame[:1] == MARKER_PREFIX:
        end = MARKER_TOPIC_LENGTH
    else:
        end = 0
        for _ in range(EVENT_TOPIC_PARTS):
            end = frame.find(b"\0", end) + 1
            if end == 0:
                raise ProtocolError("A published message has no topic of the form `api NUL event NUL partition NUL`.")
    _, message = decode(frame[end:])
    return frame[:end], message
