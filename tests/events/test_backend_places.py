"""The place of an event in a backend, or waiting for one."""

from __future__ import annotations

from lightbus.adapters.memory.events import MemoryEventBackend
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.backend_places import BackendPlace, newest_places, sequence_of
from lightbus.ports.events import BackendContext


def test_store_is_that_of_the_backend() -> None:
    """An event that waits for its backend is in no store."""
    backend = MemoryEventBackend(BackendContext(bus="places", instance="1" * 16))
    assert BackendPlace("shop", backend, 7).store == backend.store("shop")
    assert BackendPlace("shop").store == ""


def test_newest_place_of_each_topic_covers_earlier_ones() -> None:
    """The last one of each topic of a journal, and of each API in a backend, covers those before it."""
    one, other = Topic("auth", "seen", 0), Topic("auth", "seen", 1)
    places = [(one, 1), BackendPlace("shop", None, 4), (other, 2), (one, 3), BackendPlace("shop", None, 5)]
    newest = newest_places(places)
    assert newest == [(one, 3), BackendPlace("shop", None, 5), (other, 2)]
    assert [*map(sequence_of, newest)] == [3, 5, 2]
