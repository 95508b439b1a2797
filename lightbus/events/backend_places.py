"""The place of an event: in a journal, at a backend, or in the outbox while its backend does not accept it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..adapters.sqlite.topic import Topic
from ..ports.events import EventBackend

__all__ = ["AnyPlace", "BackendPlace", "Place", "newest_places", "sequence_of"]

Place: TypeAlias = tuple[Topic, int]
"""The topic and sequence of an event in our own journal."""


@dataclass(frozen=True, slots=True)
class BackendPlace:
    """
    The place of an event of a backend.

    Attributes:
        api: the API of the event.
        backend: the backend that keeps it; None while it waits in the outbox of this host.
        sequence: its sequence at the backend; 0 while it waits.

    """

    api: str
    backend: EventBackend | None = None
    sequence: int = 0

    @property
    def store(self) -> str:
        """The name of the backend's store of the API's events; empty while the event waits."""
        return "" if self.backend is None else self.backend.store(self.api)


AnyPlace: TypeAlias = Place | BackendPlace
"""The place of an event: in our own journal, or at a backend."""


def sequence_of(place: AnyPlace) -> int:
    """Return the sequence of an event at its place."""
    return place.sequence if isinstance(place, BackendPlace) else place[1]


def newest_places(places: Iterable[AnyPlace]) -> list[AnyPlace]:
    """Return the last place of each topic: a group that has handled that one has handled all before it."""
    newest: dict[Any, AnyPlace] = {}
    for place in places:
        newest[place.api if isinstance(place, BackendPlace) else place[0]] = place
    return list(newest.values())
