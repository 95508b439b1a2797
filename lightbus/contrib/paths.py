"""The API, event name and client of a path, for code that fires the event later."""

from __future__ import annotations

from ..client import BusClient
from ..exceptions import UsageError
from ..path import BusPath

__all__ = ["client_of", "place_of"]


def place_of(event: object) -> tuple[str, str]:
    """Return the API and the name of an event. Raises UsageError for any object but the path of an event."""
    if not isinstance(event, BusPath) or not event.api_name:
        raise UsageError(f"It takes the path of an event, as bus.store.order_placed, and not {event!r:.100}.")
    return event.api_name, event.fully_qualified_name.rpartition(".")[2]


def client_of(event: BusPath) -> BusClient:
    """Return the client of the path's bus."""
    place_of(event)
    return event._client
