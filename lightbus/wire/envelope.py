"""
Messages <-> ZeroMQ frames, one frame each. No state, no I/O. The messages themselves are in `messages.py`.

A frame on a ROUTER/DEALER pair is

    kind (1 byte) | protocol version (1 byte) | call id (8 bytes, big endian) | msgpack array of the fields

and a frame on a PUB/SUB pair is a topic (`topics.py`) followed by the same, where the call id is 0. One frame per
message: each further ZeroMQ part costs more than all of the encoding (docs/architecture/measurements.md). The fixed
head is readable even if the rest is not, so that an invalid request is answered.

Receivers ignore unknown fields at the end of the array, and use the default of a missing one there (given in the
class), so that fields can be added within a version.

This module exports all of the protocol.
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
"""Most requests whose names (instances, API, procedure) are remembered as checked: a peer may send any names."""

# One row for each message: its class, and a check for each of its fields. A missing kind is an error.
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
_new: Any = tuple.__new__  # what NamedTuples use, without the call of a Python function


def encode(message: AnyMessage, call_id: int = 0) -> bytes:
    """Return the frame of `message`. Raises DeformError if a value in it cannot be sent."""
    head = _pack_head(_KIND_OF[type(message)], PROTOCOL_VERSION, call_id)
    return codec.encode([*message], names=message._fields, head=head)


def encode_result(value: Any, call_id: int) -> bytes:
    """Return the frame of a RESULT, like `encode`, without creating the message."""
    return codec.encode([value], names=Result._fields, head=_pack_head(_RESULT, PROTOCOL_VERSION, call_id))


def encode_request(values: Sequence[Any], call_id: int) -> bytes:
    """Return the frame of a REQUEST with these field values, like `encode`, without creating the message."""
    return codec.encode(values, names=Request._fields, head=_pack_head(_REQUEST, PROTOCOL_VERSION, call_id))


def call_id_of(frame: bytes) -> int:
    """Return the call id of a frame whose fields may be unreadable; 0 if even the head is."""
    return int(_HEAD.unpack_from(frame)[2]) if len(frame) >= _HEAD.size else 0


def decode(frame: bytes, work: codec.Work | None = None) -> tuple[int, AnyMessage]:
    """Return `(call id, message)`. Any bytes give that or ProtocolError, nothing else. `work` counts large messages."""
    if len(frame) <= codec.SHORT:
        # The fast path of nearly all frames. The slow path finds and reports what is wrong with the others.
        try:
            kind, version, call_id = _unpack_head(frame)
            values = _unpack(frame[10:], ext_hook=_restore, timestamp=3)
            cls, count, passes = _FAST_PATHS[kind]
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
    # Copying a few bytes is quicker than making a view of them.
    values = codec.decode(frame[_HEAD.size :] if len(frame) < _SMALL else memoryview(frame)[_HEAD.size :], work)
    if type(values) is not list:
        raise ProtocolError(f"A {Kind(kind).name} message needs an array of {len(checks)} fields.")
    if len(values) != len(checks):
        _fit(kind, values, len(checks))
    if not fields.passes(checks, values):
        raise _wrong_field(kind, checks, values)
    return call_id, cls(*values)


def _combined_check(
    cls: Callable[..., AnyMessage], checks: tuple[fields.FieldCheck, ...]
) -> Callable[[list[Any]], bool] | None:
    """Return the check of all field values of a message; None if any values are valid."""
    if cls is Request:
        return _is_request
    if all(check is fields.anything for check in checks):
        return None
    return lambda values: all(map(call, checks, values))


def _is_request(values: list[Any]) -> bool:
    """Return whether these are values of a REQUEST. Its names take longest to check, and mostly were checked before."""
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


_FAST_PATHS: dict[int, tuple[Callable[..., AnyMessage], int, Callable[[list[Any]], bool] | None]] = {
    kind: (cls, len(checks), _combined_check(cls, checks)) for kind, (cls, checks) in _TABLE.items()
}
"""For each kind, the class of the message, its number of fields, and the check of its values."""


def _wrong_field(kind: int, checks: tuple[fields.FieldCheck, ...], values: list[Any]) -> ProtocolError:
    number = [check(value) for check, value in zip(checks, values, strict=True)].index(False)
    name = _TABLE[kind][0]._fields[number]  # type: ignore[attr-defined]
    return ProtocolError(
        f"A {Kind(kind).name} message has a field of the wrong type, or out of its range: "
        f"`{name}` is {reprlib.repr(values[number])}."
    )


def _fit(kind: int, values: list[Any], number: int) -> None:
    """Remove fields of a later version, and add the defaults of those that an earlier version does not have."""
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
