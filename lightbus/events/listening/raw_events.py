"""Undecoded events of one name: for a listener that needs few of many, and decodes only those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...exceptions import ProtocolError
from ...message import EventMessage, event_message
from ...wire import envelope

__all__ = ["RawEvents"]


class RawEvents(NamedTuple):
    """
    Successive events of one topic.

    Attributes:
        api, event: the API and the event name.
        journal: the journal that keeps them; empty for events of best effort.
        publisher: the publisher, if it is known.
        rows: the undecoded events: `[sequence, previous, record]` each.

    """

    api: str
    event: str
    journal: str
    publisher: str
    rows: Sequence[Sequence[Any]]

    def last(self, count: int) -> RawEvents:
        """Return the last events, at most `count`."""
        return self if len(self.rows) <= count else self._replace(rows=self.rows[-count:])

    def only(self, is_wanted: Callable[[EventMessage], bool]) -> RawEvents:
        """Return the events that are wanted. This decodes all of them."""
        return self._replace(rows=[row for row, message in self._decoded() if is_wanted(message)])

    def messages(self) -> list[EventMessage]:
        """Return the decoded events. Invalid ones are left out."""
        return [message for _, message in self._decoded()]

    def _decoded(self) -> Iterator[tuple[Sequence[Any], EventMessage]]:
        for row, (id, version, published_at, kwargs, trace) in self._records():
            where = (self.journal, row[0])
            yield (
                row,
                event_message(self.api, self.event, kwargs, version, id, where, 1, published_at, self.publisher, trace),
            )

    def _records(self) -> Iterator[tuple[Sequence[Any], Sequence[Any]]]:
        rows = self.rows
        try:
            yield from zip(rows, envelope.decode_fields([row[2] for row in rows]), strict=True)
        except ProtocolError:  # nothing was yielded yet: decode one by one, and leave out the invalid ones
            for row in rows:
                try:
                    yield row, envelope.decode_record(row[2])
                except ProtocolError:
                    continue
