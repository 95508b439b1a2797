"""An event as it is kept and sent: its record, its id, its key, and the name of the place where it is to be found."""

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
"""An event that is fired together with others: record, key, when it was fired, and its id where it was handed off."""

RECORD_FIELDS = Record._fields
"""What is packed into a record, in this order; of the trace, which comes last, nothing where there is none."""

_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})
"""Types whose text is the same before and behind the wire."""


def key_of(event: Event | None, kwargs: dict[str, Any]) -> str | None:
    """
    Return the key of an event with these arguments, which can be put on the wire; None where it has none.

    It is the text of what is on the wire, so that it is the same for who fires an Enum, and for the publisher that
    was sent its value.
    """
    if event is None or event.key is None:
        return None
    value = kwargs.get(event.key)
    if type(value) not in _AS_THEY_ARE:
        value = codec.decode(codec.encode(value))
    if isinstance(value, dict):
        value = [*value.items()]
    if isinstance(value, list):
        # Sorted, since the order of a set differs between processes. Two keys that become one that way do no harm.
        value = sorted(map(str, value))
    return None if value is None else str(value)


def native_id(journal: str, sequence: int) -> str:
    """Return where an event is to be found: `"<journal>-<sequence>"`; empty where no journal holds it."""
    return f"{journal}-{sequence}" if journal else ""


class EventIds:
    """Gives each fired event an id that is unique on the bus: the instance, and a number. From any thread."""

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
    """Return an event as it is kept and sent. Raises DeformError where an argument cannot be put on the wire."""
    # The fields of a Record, without making one: each fired event passes here.
    fields: list[Any] = [message.id, message.version, message.published_at, message.kwargs]
    if message._trace:
        fields.append(message._trace)
    try:
        return codec.encode(fields, names=RECORD_FIELDS)
    except DeformError as error:
        raise cannot_be_sent(message.canonical_name, error) from None


def cannot_be_sent(event: str, error: DeformError) -> DeformError:
    """Return the error of an event, by its name, whose arguments cannot be put on the wire."""
    return DeformError(f"The arguments of {event} cannot be sent: {error}")
