"""Where an event is that a backend keeps, or is to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..adapters.sqlite.topic import Topic
from ..ports.events import EventBackend

__all__ = ["AnyPlace", "BackendPlace", "Place"]

Place: TypeAlias = tuple[Topic, int]
"""Where an event is in our own journal."""


@dataclass(frozen=True, slots=True)
class BackendPlace:
    """
    Where an event is.

    Attributes:
        api: of which API it is.
        backend: what keeps it; None while it waits in the outbox of this host for that.
        sequence: its number there; 0 while it waits.

    """

    api: str
    backend: EventBackend | None = None
    sequence: int = 0

    @property
    def store(self) -> str:
        """What names the place of the API's events; empty while it waits."""
        return "" if self.backend is None else self.backend.store(self.api)


AnyPlace: TypeAlias = Place | BackendPlace
"""Where an event is: in a journal, or at a backend."""
