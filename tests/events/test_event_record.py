"""An event on disk and on the wire: its record, its id, its key."""

from __future__ import annotations

import threading
from enum import Enum, IntEnum
from itertools import chain
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from helpers.published import ME
from lightbus.events.event_record import EventIds, key_of, record_of
from lightbus.message import EventMessage
from lightbus.service.api import Event
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import Record


@pytest.mark.parametrize(
    ("key", "kwargs", "expected"),
    [
        ("username", {"username": "sally"}, "sally"),
        ("username", {"username": 7}, "7"),
        ("username", {"username": None}, None),
        ("username", {}, None),
        (None, {"username": "sally"}, None),
    ],
)
def test_the_key_of_an_event(key: str | None, kwargs: dict[str, Any], expected: str | None) -> None:
    """The key is the text of the argument that the declaration names; without a declaration there is none."""
    assert key_of(Event(["username"], key=key), kwargs) == expected


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.LOW, "1"),
        (("b", "a"), "['a', 'b']"),
        ({"b", "a", "c"}, "['a', 'b', 'c']"),
        (frozenset({3, 1}), "['1', '3']"),
        (Point(1, 2), """["('x', 1)", "('y', 2)"]"""),
        ({"y": 2, "x": 1}, """["('x', 1)", "('y', 2)"]"""),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bytearray(b"a"), "b'a'"),
        (True, "True"),
        (2**70, str(2**70)),
    ],
)
def test_the_key_is_that_of_the_wire(value: Any, expected: str) -> None:
    """The process that fires an object, and the publisher that gets its encoded form, compute the same key."""
    event = Event(["what"], key="what")
    sent = codec.decode(codec.encode({"what": value}))
    assert key_of(event, {"what": value}) == key_of(event, sent) == expected


def test_an_unknown_event_has_no_key() -> None:
    """Nothing is known of an event that is not declared here."""
    assert key_of(None, {"username": "sally"}) is None


def test_event_ids_are_unique() -> None:
    """Each thread gets other ids, also at the same time, and all begin with the instance that fires."""
    ids, made = EventIds(ME), [list[str]() for _ in range(4)]

    def make(own: list[str]) -> None:
        for _ in range(100):
            own += [ids.next() for _ in range(5)]
            own += ids.several(5)

    threads = [threading.Thread(target=make, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = list(chain(*made))
    assert len(set(every)) == len(every) == 4000
    assert f"{ME}-1" in every
    assert all(each.startswith(f"{ME}-") for each in every)


def test_a_record_holds_the_event() -> None:
    """A message becomes the record that every receiver reads."""
    message = EventMessage(api_name="auth", event_name="seen", kwargs={"what": 1}, id="i", version=3, published_at=2.5)
    assert envelope.decode_record(record_of(message)) == Record("i", 3, 2.5, {"what": 1})
