"""Events without a publisher are stored, and published later; or dropped, and counted."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest

import lightbus
from helpers import Door, wait_until
from helpers.clients import AuthApi, asked
from lightbus import Api, BusPath, Event, InvalidEventArguments, PeerUnreachable
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.engine.forwarding import Forwarder
from lightbus.testing import MemoryBus, memory_bus


def test_event_is_accepted_if_it_cannot_be_recorded_as_known(door: Door, tmp_path: Path) -> None:
    """If this process cannot write, an event that its publisher has stored causes no error."""
    (tmp_path / "file").write_text("")
    elsewhere = {"journal": {"data_dir": str(tmp_path / "file")}}
    served = lightbus.create(service_name="auth-service")
    served.client.register_api(AuthApi())
    caller = lightbus.create(elsewhere, service_name="caller")
    with closing(served.client), closing(caller.client):
        served.client.start_in_background()
        message = door.fire(caller.auth.user_registered, username="sally")
        assert message.native_id.startswith(served.client.engine.journals.own().id)


def test_events_kept_in_memory_bus_are_kept_where_its_journals_are(door: Door) -> None:
    """With journals the outbox of a bus in memory is in its directory, which is gone with it, and not in the user's."""
    with memory_bus(journal=True) as hub:
        bus = hub.create(service_name="auth-service")
        bus.client.register_api(AuthApi())
        door.fire(bus.auth.user_registered, username="sally")
        path = bus.client.engine.journals.path
        assert path.is_relative_to(bus.client.engine.config.journal.data_dir)
        assert HostOutbox(path).exists()
    assert not path.exists()


def test_best_effort_event_without_a_publisher(bus: BusPath, door: Door) -> None:
    """A best-effort event without a publisher is dropped and counted; others are stored in the outbox."""

    class Loose(Api):
        seen = Event(["what"], delivery="best_effort")
        kept = Event(["what"])

        class Meta:
            name = "loose"

    bus.client.register_api(Loose())
    message = door.fire(bus.loose.seen, what=1)
    assert (message.native_id, message.publisher) == ("", "")
    assert bus.client.dropped_events == 1
    kept = door.fire(bus.loose.kept, what=1)
    assert (kept.native_id, kept.publisher) == ("", "")
    assert [each.id for each in bus.client.engine.outbox.waiting()] == [kept.id]
    with pytest.raises(InvalidEventArguments):
        door.fire(bus.loose.seen, wath=1)


def test_a_process_that_keeps_events_publishes_them(hub: MemoryBus, bus: BusPath, door: Door) -> None:
    """If no peer advertises an API that it has registered, a process publishes itself, until it is a worker or ends."""
    door.fire(bus.auth.user_registered, username="sally")
    wait_until(lambda: bus.client.engine.publisher is not None)
    assert bus.client.is_worker
    other = hub.create(service_name="other")
    try:
        assert other.auth.user_registered.history()[0].kwargs == {"username": "sally", "age": 18}
        with pytest.raises(PeerUnreachable, match="serves no calls"):
            other.auth.check_password(username="admin", password="secret")
        bus.client.start_in_background()
        wait_until(lambda: _answers(other))
    finally:
        other.client.close()


def test_what_a_process_keeps_and_publishes_is_in_order(door: Door) -> None:
    """Events fired before it published come first, whatever is fired while it becomes the publisher."""
    with memory_bus(journal=True) as hub:
        bus = hub.create(service_name="auth-service")
        bus.client.register_api(AuthApi())
        numbers = iter(range(10**6))
        while bus.client.engine.publisher is None:
            door.fire(bus.auth.user_registered, username="sally", age=next(numbers))
        for _ in range(10):
            door.fire(bus.auth.user_registered, username="sally", age=next(numbers))
        found = asked(door)(bus.auth.user_registered, "history")
        assert [each.kwargs["age"] for each in found] == list(range(next(numbers)))
        assert HostOutbox(bus.client.engine.journals.path).counts() == {}


def test_what_an_event_backend_took_waits_no_more(bus: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events fired before the process published leave the outbox once its backend has stored them, in order."""
    monkeypatch.setattr(Forwarder, "_look", lambda forwarder: None)
    for number in range(3):
        door.fire(bus.auth.user_registered, username="sally", age=number)
    assert bus.client.engine.outbox.counts() == {"auth": 3}
    wait_until(lambda: bus.client.engine.outbox.counts() == {})
    door.fire(bus.auth.user_registered, username="sally", age=3)
    assert [each.kwargs["age"] for each in asked(door)(bus.auth.user_registered, "history")] == [0, 1, 2, 3]


def test_who_keeps_events_says_at_the_end_where_they_are(
    bus: BusPath, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that ends before it published its events logs where they are, and who will deliver them."""
    for username in ("sally", "ada"):
        door.fire(bus.auth.user_registered, username=username)
    path = bus.client.engine.outbox.path
    bus.client.close()
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        f"Nobody publishes auth at the moment. 2 events wait on this host, in {path}: once there is a publisher" in said
    )


def _answers(bus: BusPath) -> bool:
    try:
        return bool(bus.auth.check_password(username="admin", password="secret"))
    except lightbus.LightbusException:
        return False
