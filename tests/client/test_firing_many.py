"""Firing many events together, sync and async, as publisher and by hand-off, durable and best effort."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import lightbus
from helpers import Door, wait_until
from lightbus import (
    Api,
    BusPath,
    Event,
    EventMessage,
    EventNotFound,
    InvalidEventArguments,
    JournalError,
    LightbusTimeout,
    OnError,
    Parameter,
    PayloadTooLarge,
    ValidationError,
)
from lightbus.client import firing_many as module
from lightbus.client.firing_many import MOST_TOGETHER, PORTION
from lightbus.events.publishing.publisher import Publisher
from lightbus.testing import BusMocker

USERS = [{"username": f"user {number}"} for number in range(40)]


class AuthApi(Api):
    user_registered = Event([Parameter("username", str), Parameter("age", int, default=18)])
    moved = Event([Parameter("username", str), Parameter("n", int)], key="username")
    seen = Event([Parameter("username", str)], delivery="best_effort")
    posted = Event([Parameter("data", bytes)])

    class Meta:
        name = "auth"


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API that no worker serves yet."""
    bus = lightbus.create(service_name="auth-service")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


@pytest.fixture
def served(bus: BusPath) -> BusPath:
    """Return a bus with a worker in the background."""
    bus.client.start_in_background()
    return bus


@pytest.fixture
def caller() -> Iterator[BusPath]:
    """Return a bus that registers nothing, and hands off the events it fires."""
    bus = lightbus.create({"network": {"max_message_size": 2**20}}, service_name="caller")
    yield bus
    bus.client.close()


@pytest.fixture(params=["publisher", "hand-off"])
def firing(request: pytest.FixtureRequest, served: BusPath, caller: BusPath) -> BusPath:
    """Return a bus that publishes itself, or one that hands off."""
    return served if request.param == "publisher" else caller


def publisher_of(bus: BusPath) -> Publisher:
    publisher = bus.client.engine.publisher
    assert publisher is not None
    return publisher


def names(bus: BusPath, **options: Any) -> list[str]:
    return [message.kwargs["username"] for message in bus.auth.user_registered.history(**options)]


def test_a_list_is_stored_by_one_commit(
    served: BusPath, firing: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are on disk, in their order and completed, when it returns their ids."""
    door.fire(firing.auth.user_registered, username="first")  # the journal is there
    commits: list[int] = []
    journal = served.client.engine.journals.own()
    append = journal.append_runs
    monkeypatch.setattr(
        journal, "append_runs", lambda runs: commits.append(sum(len(run.records) for run in runs)) or append(runs)
    )
    ids = door.fire_many(firing.auth.user_registered, USERS)
    assert commits == [len(USERS)]
    kept = served.auth.user_registered.history()[1:]
    assert [(each.id, each.kwargs) for each in kept] == [
        (id, {**user, "age": 18}) for id, user in zip(ids, USERS, strict=True)
    ]
    assert door.fire_many(firing.auth.user_registered, []) == []


def test_list_that_is_not_stored_in_time(served: BusPath, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so, and is the same for both."""
    monkeypatch.setattr(module, "LATE_TIMEOUT", 0.05)
    with contextlib.closing(sqlite3.connect(served.client.engine.journals.own().path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="did not store the events: its worker is stopping"):
            door.fire_many(served.auth.user_registered, USERS)


def test_all_or_none(served: BusPath, firing: BusPath, door: Door) -> None:
    """If one event of a list is invalid none is fired, and the error says which one, if known here."""
    wrong = [*USERS[:3], {"username": 5}]
    with pytest.raises((ValidationError, InvalidEventArguments)) as caught:
        door.fire_many(firing.auth.user_registered, wrong)
    if firing is served:
        assert caught.value.__notes__ == ["It is number 3 of 4 that were to be fired together: none was."]
    with pytest.raises(EventNotFound, match="has no event 'user_registred'"):
        door.fire_many(firing.auth.user_registred, USERS)
    assert publisher_of(served).counts["stored"] == 0


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ({"username": "sally"}, "It takes the arguments of each event as a dict"),
        ("sally", "It takes the arguments of each event as a dict"),
        (5, "It takes the arguments of each event as a dict"),
        ([{"username": "sally"}, "harry"], r"given 'harry'\. It takes the arguments"),
        ([{"username": "sally"}] * (MOST_TOGETHER + 1), "was given 10001 events.* give it a generator"),
    ],
)
def test_invalid_argument_of_fire_many_is_refused(served: BusPath, door: Door, events: Any, text: str) -> None:
    """The error says what it takes, and nothing is fired."""
    with pytest.raises(InvalidEventArguments, match=text):
        door.fire_many(served.auth.user_registered, events)
    assert publisher_of(served).counts["stored"] == 0


def test_a_generator_is_fired_in_portions(served: BusPath, firing: BusPath, door: Door) -> None:
    """The events of each portion are on disk before the generator is asked for further ones."""
    stored: list[int] = []

    def users() -> Iterator[dict[str, str]]:
        for number in range(2 * PORTION + 5):
            if number % PORTION == 0:
                stored.append(publisher_of(served).counts["stored"])
            yield {"username": f"user {number}"}

    ids = door.fire_many(firing.auth.user_registered, users())
    assert len(set(ids)) == 2 * PORTION + 5
    assert stored == [0, PORTION, 2 * PORTION]
    assert names(served, limit=3) == [f"user {number}" for number in range(2 * PORTION + 2, 2 * PORTION + 5)]


def test_a_generator_that_yields_a_wrong_event(served: BusPath, door: Door) -> None:
    """The events of earlier portions are fired, and the error says so."""

    def users() -> Iterator[dict[str, Any]]:
        yield from ({"username": f"user {number}"} for number in range(PORTION))
        yield {"username": 5}

    with pytest.raises((ValidationError, InvalidEventArguments)) as caught:
        door.fire_many(served.auth.user_registered, users())
    assert caught.value.__notes__[-1].startswith(f"{PORTION} events before were fired; the last one is ")
    assert publisher_of(served).counts["stored"] == PORTION


def test_a_generator_that_fails(served: BusPath, firing: BusPath, door: Door) -> None:
    """Its own error says how many of its events were fired, and how many were not."""

    def users() -> Iterator[dict[str, Any]]:
        yield from ({"username": f"user {number}"} for number in range(PORTION + 7))
        raise KeyError("the source is away")

    with pytest.raises(KeyError) as caught:
        door.fire_many(firing.auth.user_registered, users())
    assert_told(caught.value, fired=PORTION, left=7)
    assert publisher_of(served).counts["stored"] == PORTION


def test_an_async_generator_that_fails(served: BusPath, firing: BusPath) -> None:
    """It is the same of one that is asynchronous."""

    async def users() -> AsyncIterator[dict[str, Any]]:
        for number in range(PORTION + 7):
            yield {"username": f"user {number}"}
        raise KeyError("the source is away")

    with pytest.raises(KeyError) as caught:
        asyncio.run(firing.auth.user_registered.fire_many_async(users()))
    assert_told(caught.value, fired=PORTION, left=7)
    assert publisher_of(served).counts["stored"] == PORTION


def assert_told(error: BaseException, fired: int, left: int) -> None:
    notes = "\n".join(error.__notes__)
    assert f"the last {left} events it yielded were not fired." in notes
    assert f"{fired} events before were fired; the last one is " in notes


def test_an_async_generator(firing: BusPath) -> None:
    """It is asked for the next events on the loop."""

    async def users() -> AsyncIterator[dict[str, str]]:
        for user in USERS:
            await asyncio.sleep(0)
            yield user

    ids = asyncio.run(firing.auth.user_registered.fire_many_async(users()))
    assert len(set(ids)) == len(USERS)
    assert names(firing) == [user["username"] for user in USERS]


def test_events_of_a_key_stay_in_order(served: BusPath, firing: BusPath, door: Door) -> None:
    """The events of a key are handled in the order of the list, also with several partitions at a time."""
    seen: dict[str, list[int]] = {}
    done = threading.Event()

    async def on_moved(event_message: EventMessage, username: str, n: int) -> None:
        seen.setdefault(username, []).append(n)
        if sum(map(len, seen.values())) == 300:
            done.set()

    served.auth.moved.listen(on_moved, concurrency=4)
    door.fire_many(firing.auth.moved, [{"username": f"u{n % 7}", "n": n} for n in range(300)])
    assert done.wait(60)
    assert seen == {f"u{rest}": list(range(rest, 300, 7)) for rest in range(7)}


def test_events_of_best_effort(served: BusPath, firing: BusPath, door: Door) -> None:
    """They are published to the present listeners, and stored nowhere."""
    seen: list[str] = []
    served.auth.seen.listen(lambda event_message, username: seen.append(username), listener_name="eyes")
    wait_until(lambda: door.fire_many(firing.auth.seen, [{"username": "probe"}]) and seen)
    ids = door.fire_many(firing.auth.seen, USERS)
    assert len(ids) == len(USERS)
    wait_until(lambda: {user["username"] for user in USERS} <= {*seen})
    assert publisher_of(served).counts["stored"] == 0


def test_waiting_for_the_groups(served: BusPath, firing: BusPath, door: Door) -> None:
    """With `wait_for="ack"` it returns when every group has handled all events, or raises when time is up."""
    handled: list[str] = []
    gate = threading.Event()

    def on_registered(event_message: EventMessage, username: str) -> None:
        gate.wait(60)
        handled.append(username)

    served.auth.user_registered.listen(on_registered, listener_name="greeter", on_error=OnError.RETRY)
    wait_until(lambda: served.auth.user_registered.lag("greeter") == 0)
    firing.client.wait_for_apis("auth")
    with pytest.raises(LightbusTimeout):
        door.fire_many(firing.auth.user_registered, USERS, bus_options={"wait_for": "ack", "timeout": 0.3})
    gate.set()
    options = {"wait_for": "ack", "timeout": 20}
    door.fire_many(firing.auth.user_registered, [{"username": "last"}], bus_options=options)
    wait_until(lambda: len(handled) == len(USERS) + 1)
    before = len(handled)
    door.fire_many(firing.auth.user_registered, USERS, bus_options=options)
    assert len(handled) == before + len(USERS)


def test_size_limit_of_fire_many(served: BusPath, caller: BusPath, door: Door) -> None:
    """A list that is handed off must fit into one message; the events of a generator are split."""
    data = [{"data": bytes(100_000)} for _ in range(15)]
    with pytest.raises(PayloadTooLarge):
        door.fire_many(caller.auth.posted, data)
    assert publisher_of(served).counts["stored"] == 0
    assert len(door.fire_many(caller.auth.posted, iter(data))) == 15
    assert publisher_of(served).counts["stored"] == 15


def test_events_without_a_publisher(bus: BusPath, door: Door) -> None:
    """They are stored on this host, and delivered in order later; best-effort events are dropped and counted."""
    door.fire_many(bus.auth.seen, USERS)
    assert bus.client.dropped_events == len(USERS)
    ids = door.fire_many(bus.auth.user_registered, USERS)
    bus.client.start_in_background()
    wait_until(lambda: [message.id for message in bus.auth.user_registered.history()] == ids, 20)


def test_hooks_around_each_event(served: BusPath, door: Door) -> None:
    """Hooks before run for each event before any is fired, and may change it; those after when all are on disk."""
    order: list[tuple[str, str, bool]] = []

    @served.client.before_event_sent
    def before(event_message: EventMessage) -> None:
        order.append(("before", event_message.kwargs["username"], bool(event_message.native_id)))
        event_message.kwargs["age"] = 7

    @served.client.after_event_sent
    def after(event_message: EventMessage) -> None:
        order.append(("after", event_message.kwargs["username"], bool(event_message.native_id)))

    door.fire_many(served.auth.user_registered, USERS[:2])
    assert order == [
        ("before", "user 0", False), ("before", "user 1", False), ("after", "user 0", True), ("after", "user 1", True)
    ]  # fmt: skip
    assert [message.kwargs["age"] for message in served.auth.user_registered.history()] == [7, 7]


def test_a_mocked_bus_records_each(bus: BusPath, door: Door) -> None:
    """A test of a program that fires many together sees them one by one."""
    with BusMocker(bus) as mock:
        mock.mock_event_firing("auth.user_registered")
        door.fire_many(bus.auth.user_registered, USERS)
        mock.assert_events_fired("auth.user_registered", times=len(USERS))
