"""An event as it is stored and sent: its record, its id, its key, and its native id."""

from __future__ import annotations

from itertools import islice
from typing import Any, TypeAlias

from ..exceptions import DeformError
from ..message import EventMessage
from ..service.api import Event
from ..wire import codec
from ..wire.envelope import Record

__all__ = ["RECORD_FIELDS", "EventIds", "RecordRow", "cannot_be_sent", "key_of", "native_id", "record_of"]

RecordRow: TypeAlias = tuple[bytes, str | None, float, str]
"""An event that is fired together with others: record, key, time of firing, and its id if it was handed off."""

RECORD_FIELDS = Record._fields
"""The fields of an encoded record, in this order; the trace, which is the last, is left out if there is none."""

_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})
"""Types whose text is the same before encoding and after decoding."""


def key_of(event: Event | None, kwargs: dict[str, Any]) -> str | None:
    """
    Return the key of an event with these arguments, which must be encodable; None if it has no key.

    The key is the text of the encoded value, so that it is the same for a process that fires an Enum, and for the
    publisher that receives the Enum's value.
    """
    if event is None or event.key is None:
        return None
    value = kwargs.get(event.key)
    if type(value) not in _AS_THEY_ARE:
        value = codec.decode(codec.encode(value))
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, list):
        # Sorted, since the order of a set differs between processes. If two keys become equal, that does no harm.
        value = sorted(map(str, value))
    return None if value is None else str(value)


def native_id(journal: str, sequence: int) -> str:
    """Return the native id of an event: `"<journal>-<sequence>"`; empty if no journal holds it."""
    return f"{journal}-{sequence}" if journal else ""


class EventIds:
    """Generates ids of events that are unique on the bus: the instance, and a number. Thread-safe."""

    def __init__(self, instance: str) -> None:
        self._prefix = f"{instance}-"
        self._numbers = iter(range(1, 2**63))

    def next(self) -> str:
        """Return a new id. `next` on a range iterator is one step under the interpreter lock."""
        return f"{self._prefix}{next(self._numbers)}"

    def several(self, count: int) -> list[str]:
        """Return so many new ids."""
        prefix = self._prefix
        return [f"{prefix}{number}" for number in islice(self._numbers, count)]


def record_of(message: EventMessage) -> bytes:
    """Return the encoded record of an event. Raises DeformError if an argument cannot be encoded."""
    # The fields of a Record, without making one, for speed: each fired event passes here.
    fields: list[Any] = [message.id, message.version, message.published_at, message.kwargs]
    if message._trace:
        fields.append(message._trace)
    try:
        return codec.encode(fields, names=RECORD_FIELDS)
    except DeformError as error:
        raise cannot_be_sent(message.canonical_name, error) from None


def cannot_be_sent(event: str, error: DeformError) -> DeformError:
    """Return the error for an event, given by name, whose arguments cannot be encoded."""
    return DeformError(f"The arguments of {event} cannot be sent: {error}")
