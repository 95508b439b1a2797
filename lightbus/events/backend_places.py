"""Where an event is that a backend keeps, or is to keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..adapters.sqlite.topic import Topic
from ..ports.events import EventBackend

__all__ = ["AnyPlace", "BackendPlace", "Place", "newest_places", "sequence_of"]

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


def sequence_of(place: AnyPlace) -> int:
    """Return the number of an event where it is."""
    return place.sequence if isinstance(place, BackendPlace) else place[1]


def newest_places(places: Iterable[AnyPlace]) -> list[AnyPlace]:
    """Return the last place of each topic: who has handled that has handled all before it."""
    newest: dict[Any, AnyPlace] = {}
    for place in places:
        newest[place.api if isinstance(place, BackendPlace) else place[0]] = place
    return list(newest.values())
