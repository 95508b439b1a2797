"""The contract of outboxes: that of a host and the one in memory pass it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from lightbus.adapters.memory.outbox import MemoryOutbox
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.ports.outbox import EventOutbox

Make: TypeAlias = Callable[[], EventOutbox]


@pytest.fixture(params=["host", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that returns the outbox of a bus, as each of its processes gets it."""
    if request.param == "host":
        return lambda: HostOutbox(tmp_path / "shop")
    outbox = MemoryOutbox()
    return lambda: outbox


def put(outbox: EventOutbox, id: str, api: str = "auth", service: str = "") -> None:
    """Put an event in."""
    outbox.put_all(api=api, event="seen", rows=[(id, None, id.encode())], service=service)


def test_added_events_wait_in_order(make: Make) -> None:
    """Also for another process; the same id once; delivered events are removed."""
    for id in ("b", "a", "c", "a"):
        put(make(), id)
    put(make(), "x", api="other")
    other = make()
    assert [each.record for each in other.waiting({"auth": ""})] == [b"b", b"a", b"c"]
    assert [each.id for each in other.waiting(limit=2)] == ["b", "a"]
    assert other.counts() == {"auth": 3, "other": 1}
    other.delivered(["a", "b"])
    assert [each.id for each in other.waiting()] == ["c", "x"]


def test_refused_event_waits_for_another_form(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not returned while its API has the form in which it was refused, or not for a while; it stays."""
    outbox = make()
    for id in ("a", "b", "c"):
        put(outbox, id)
    put(outbox, "x", api="mail")
    assert outbox.waiting({}) == []
    outbox.refuse([("a", "1", "first"), ("b", "1", "second")])
    outbox.refuse([("b", "2", "third"), ("taken meanwhile", "2", "")])
    assert [each.id for each in outbox.waiting({"auth": "1"})] == ["b", "c"]
    assert [each.id for each in outbox.waiting({"auth": "2"})] == ["a", "c"]
    assert [each.id for each in outbox.waiting({"auth": "3", "mail": "1"})] == ["a", "b", "c", "x"]
    assert [(each.id, each.refused) for each in outbox.waiting()] == [("a", "1"), ("b", "2"), ("c", None), ("x", None)]
    [refused] = outbox.refused()
    assert refused[:3] == ("auth", "seen", 2)
    for adapter in ("sqlite", "memory"):
        monkeypatch.setattr(f"lightbus.adapters.{adapter}.outbox.TRY_AGAIN_AFTER", -1.0)
    assert [each.id for each in outbox.waiting({"auth": "1"})] == ["a", "b", "c"]
    outbox.delivered(["a", "b"])
    assert outbox.refused() == []
    put(outbox, "a")
    assert outbox.waiting()[-1].refused is None


def test_seen_events_are_remembered(make: Make) -> None:
    """That an event exists is known to every process, and one call is enough."""
    for _ in range(2):
        make().note_seen("auth", "seen")
    assert make().seen("auth") == {"seen"}
    assert make().seen("other") == set()


def test_one_process_hands_off_at_a_time(make: Make) -> None:
    """The second gets False, until the first has finished."""
    put(make(), "a")
    with make().hold() as first, make().hold() as second:
        assert (first(), second()) == (True, False)
    with make().hold() as third:
        assert third()


def test_state_changes_with_every_write(make: Make) -> None:
    """Before the first use; after adding; unchanged; after removing."""
    outbox = make()
    assert (outbox.exists(), outbox.state()) == (False, None)
    put(outbox, "a")
    before = outbox.state()
    assert outbox.exists()
    assert outbox.waiting()
    assert outbox.state() == before
    outbox.delivered(["a"])
    assert outbox.state() != before
    assert outbox.exists()


def test_all_fields_of_a_row_are_kept(make: Make) -> None:
    """Its key, its record, and the service whose own process added it; otherwise there is no service."""
    outbox = make()
    outbox.put_all(api="auth", event="seen", rows=[("a", "key", b"1"), ("b", None, b"2")], service="shop")
    put(outbox, "c", api="mail")
    first, second, third = outbox.waiting()
    assert (first.id, first.api, first.event, first.key, first.record) == ("a", "auth", "seen", "key", b"1")
    assert (second.key, third.api, third.service) == (None, "mail", "")
    assert {first.service, second.service} == {"shop"}
    assert first.at == second.at > 0
    assert outbox.services() == {"auth": "shop"}
