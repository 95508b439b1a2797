"""Where an event is that a backend keeps, or is to keep."""

from __future__ import annotations

from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.events.backend_places import BackendPlace
from lightbus.ports.events import BackendContext


def test_store_is_that_of_the_backend() -> None:
    """An event that waits for its backend is in none."""
    backend = MemoryEventBackend(BackendContext(bus="places", instance="1" * 16))
    assert BackendPlace("shop", backend, 7).store == backend.store("shop")
    assert BackendPlace("shop").store == ""
