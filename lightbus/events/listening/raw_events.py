"""Events of one name as received bytes: for a listener that needs few of many, and decodes only those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...exceptions import ProtocolError
from ...message import EventMessage, event_message
from ...wire import envelope

__all__ = ["RawEvents"]


class RawEvents(NamedTuple):
    """
    Events that follow on each other in one topic.

    Attributes:
        api, event: what they are.
        journal: that keeps them; empty for those of best effort.
        publisher: their publisher, if that is known.
        rows: as they came: `[sequence, previous, record]` each.

    """

    api: str
    event: str
    journal: str
    publisher: str
    rows: Sequence[Sequence[Any]]

    def last(self, count: int) -> RawEvents:
        """Return the last ones, so many at most."""
        return self if len(self.rows) <= count else self._replace(rows=self.rows[-count:])

    def only(self, is_wanted: Callable[[EventMessage], bool]) -> RawEvents:
        """Return those that are wanted, which takes to decode all of them."""
        return self._replace(rows=[row for row, message in self._decoded() if is_wanted(message)])

    def messages(self) -> list[EventMessage]:
        """Return them decoded. Invalid ones are left out."""
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
        except ProtocolError:  # nothing was given by then; one by one it is found which of them is no event
            for row in rows:
                try:
                    yield row, envelope.decode_record(row[2])
                except ProtocolError:
                    continue
