"""Events as bytes: encoded once when they are fired, and passed unchanged through hand-off, journal and PUB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..exceptions import ProtocolError
from . import codec, fields
from .field_types import MAX_NAME, MAX_TRACE

__all__ = ["Record", "decode_fields", "decode_record", "decode_records", "encode_record"]

_NEEDED = "An event's record needs an id, a version, a time and a mapping of arguments."

_is_trace = fields.string_map(MAX_TRACE)

_new = tuple.__new__  # makes a NamedTuple of its fields in half the time


class Record(NamedTuple):
    """One event, encoded once when it is fired, and then passed as bytes through hand-off, journal and PUB."""

    id: str
    version: int
    published_at: float
    kwargs: dict[str, Any]
    trace: dict[str, Any] | None = None
    """The trace context (W3C names) in which it was fired; left out if there is none."""


def encode_record(record: Record) -> bytes:
    """Return the event as bytes. Raises DeformError if an argument cannot be sent."""
    return codec.encode([*record] if record.trace else [*record[:4]], names=record._fields)


def decode_record(data: bytes) -> Record:
    """Return the event. Any bytes give one or ProtocolError, nothing else."""
    return _record(codec.decode(data))


def decode_records(data: Sequence[bytes]) -> list[Record]:
    """
    Return events, in half the time of decoding them one by one.

    Raises ProtocolError if one of them is invalid; `decode_record` says which one.
    """
    return [_new(Record, values) for values in decode_fields(data)]


def decode_fields(data: Sequence[bytes]) -> list[Sequence[Any]]:
    """Return the fields of events' Records, for code that needs no Record objects."""
    # Decode them as one array. If a record is not exactly one value, the array may be divided differently: a publisher
    # could have sent such records anyway.
    rows: list[Any] = codec.decode(b"\xdd%b%b" % (len(data).to_bytes(4, "big"), b"".join(data)))
    for values in rows:  # `_is_record`, written out for speed: executed for each event that a consumer gets
        if type(values) is not list or len(values) != 4:
            break
        id, version, published_at, kwargs = values
        if not (
            type(id) is str
            and len(id) <= MAX_NAME
            and id.isprintable()
            and type(version) is int
            and 0 <= version <= fields.MAX_INT
            and (type(published_at) is float or type(published_at) is int)
            and fields.FIRST_MOMENT <= published_at <= fields.LAST_MOMENT
            and type(kwargs) is dict
        ):
            break
        for key in kwargs:
            if type(key) is not str:
                raise ProtocolError(_NEEDED)
        values.append(None)  # no trace context, the usual case
    else:
        return rows
    return [_record(values) for values in rows]  # one has a trace context, or is invalid


def _record(values: Any) -> Record:
    trace = None
    if type(values) is list and len(values) > 4:  # with a trace context, or of a later version
        trace, values = values[4], values[:4]
    if not _is_record(values):
        raise ProtocolError(_NEEDED)
    if trace is not None and not _is_trace(trace):
        trace = None
    return _new(Record, (*values, trace))


def _is_record(values: Any) -> bool:
    """Return whether values are a Record without a trace."""
    if type(values) is not list or len(values) != 4:
        return False
    id, version, published_at, kwargs = values
    return (
        type(id) is str
        and len(id) <= MAX_NAME
        and id.isprintable()
        and type(version) is int
        and 0 <= version <= fields.MAX_INT
        and (type(published_at) is float or type(published_at) is int)
        and fields.FIRST_MOMENT <= published_at <= fields.LAST_MOMENT
        and fields.is_arguments(kwargs)
    )
