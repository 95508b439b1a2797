"""Events that are made now and fired later: their hooks, and their counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import lightbus
from helpers import Door
from helpers.clients import AuthApi
from helpers.doors import SyncDoor
from lightbus import Api, BusPath, Event, EventMessage, UnknownApi, ValidationError


def made(bus: BusPath, **kwargs: Any) -> EventMessage:
    return bus.client.made_events.make("auth", "user_registered", kwargs, is_ours=True)


def store(bus: BusPath, message: EventMessage, door: Door) -> bytes:
    """Store an event as an outbox does, sync or async, and return the stored event."""
    events = bus.client.made_events

    async def stored() -> bytes:
        async with events.storing_async(message):
            return events.record(message)

    if not isinstance(door, SyncDoor):
        return asyncio.run(stored())
    with events.storing(message):
        return events.record(message)


def test_hooks_know_that_it_is_stored(bus: BusPath, door: Door) -> None:
    """A hook around an event that is put into an outbox can see that it is not fired yet; later it cannot."""
    seen = []
    bus.client.before_event_sent(
        lambda client, event_message: seen.append(client.made_events.is_storing(event_message))
    )
    message = made(bus, username="ada")
    store(bus, message, door)
    assert seen == [True]
    assert not bus.client.made_events.is_storing(message)


def test_arguments_replaced_by_a_hook_are_checked(bus: BusPath, door: Door) -> None:
    """Arguments that a hook replaces are completed, and raise in the transaction if they are invalid."""
    given: list[dict[str, Any]] = [{"username": "eve"}, {"username": 1}]

    def replace(event_message: EventMessage) -> None:
        event_message.kwargs = given.pop(0)

    bus.client.before_event_sent(replace)
    events = bus.client.made_events
    record = store(bus, made(bus, username="ada"), door)
    assert events.from_record("auth", "user_registered", record).kwargs == {"username": "eve", "age": 18}
    with pytest.raises(ValidationError):
        store(bus, made(bus, username="ada"), door)


def test_relayed_events_are_counted(served: BusPath) -> None:
    """By name, behind their firing; one that is fired directly is none of them."""
    events = served.client.made_events
    events.fire_blocking(made(served, username="direct"))
    events.relay_blocking([made(served, username=name) for name in ("ada", "grace")])
    assert events.relayed == {("auth", "user_registered"): 2}
    kept = [each.kwargs["username"] for each in served.auth.user_registered.history()]
    assert kept == ["direct", "ada", "grace"]


def test_whose_events_are_in_the_journal(tmp_path: Path) -> None:
    """Only those that the journal of this process keeps need to wait there for those of another process."""

    class LiveApi(Api):
        moved = Event(delivery="best_effort")

        class Meta:
            name = "live"

    class StreamApi(Api):
        moved = Event()

        class Meta:
            name = "stream"

    config = {"apis": {"stream": {"events": {"backend": "memory"}}}, "journal": {"data_dir": str(tmp_path)}}
    bus = lightbus.create(config, service_name="shop")
    for api in (AuthApi(), LiveApi(), StreamApi()):
        bus.client.register_api(api)
    turns, journals = bus.client.made_events.relay_turns("of the test", "here"), bus.client.engine.journals
    for name in ("live", "stream"):
        assert turns.is_ours(name, 1)
        assert journals.opened is None
    assert turns.is_ours("auth", 1)
    assert journals.opened is not None
    bus.client.close()


def test_api_that_is_not_registered_here(bus: BusPath) -> None:
    """An event of an outbox could not be checked then."""
    with pytest.raises(UnknownApi, match="not registered in this process"):
        bus.client.made_events.make("shop", "opened", {}, is_ours=True)
