from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import BusPath, EventMessage
from lightbus.contrib import relay
from lightbus.contrib.relay import OutboxRow, Relay, file_lock
from lightbus.events.publishing import relay_turns
from lightbus.plugins import register_plugin
from lightbus.testing import MemoryBus, memory_bus


class Table:
    """Rows in memory, which fail as a database does."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, OutboxRow]] = []
        self.refused: dict[int, str] = {}
        self.failures: list[Exception] = []
        self.is_taken = False
        self.deleting_fails = False
        self.batches = 0
        self.reads = 0
        self.waits = 0
        self.closed = 0

    def add(self, bus: BusPath, name: str, event: str = "user_registered", api: str = "auth", **more: Any) -> None:
        made = bus.client.made_events
        message = made.make("auth", "user_registered", {"username": name, **more})
        self.rows.append((api, OutboxRow(len(self.rows) + 1, event, made.record(message))))

    def waiting(self) -> list[str]:
        if self.failures:
            raise self.failures.pop()
        self.reads += 1
        return sorted({api for api, row in self.rows if row.number not in self.refused})

    @contextmanager
    def batch(self, api: str, most: int) -> Iterator[Batch | None]:
        self.batches += 1
        yield None if self.is_taken else Batch(self, api, most)

    def wait(self, seconds: float) -> bool | None:
        self.waits += 1
        return None

    def close(self) -> None:
        self.closed += 1


class Batch:
    def __init__(self, table: Table, api: str, most: int) -> None:
        self._table = table
        waiting = [row for of, row in table.rows if of == api and row.number not in table.refused]
        self.rows: Sequence[OutboxRow] = waiting[:most]

    def delete(self, numbers: Sequence[int]) -> None:
        if self._table.deleting_fails:
            self._table.deleting_fails = False
            raise ConnectionError("the server has gone away")
        self._table.rows = [each for each in self._table.rows if each[1].number not in numbers]

    def refuse(self, number: int, error: str) -> None:
        self._table.refused[number] = error


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def bus(hub: MemoryBus, table: Table, monkeypatch: pytest.MonkeyPatch) -> BusPath:
    """Return a bus whose worker relays the rows of the table. It does not run yet."""
    monkeypatch.setattr(relay, "FIRST_PAUSE", 0.02)
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    register_plugin(bus.client.hooks, Relay(lambda: table, name="of the test", place="here", poll=0.02))
    return bus


def names(bus: BusPath) -> list[str]:
    return [message.kwargs["username"] for message in bus.auth.user_registered.history()]


def test_what_waits_is_fired_in_order_with_its_id(hub: MemoryBus, bus: BusPath, table: Table) -> None:
    """More rows than a batch, and rows added later; afterwards the table is empty."""
    for number in range(relay.MOST_AT_ONCE + 10):
        table.add(bus, str(number))
    first = bus.client.made_events.from_record("auth", "user_registered", table.rows[0][1].record).id
    hub.start(bus)
    wait_until(lambda: not table.rows)
    table.add(bus, "later")
    wait_until(lambda: not table.rows)
    kept = bus.auth.user_registered.history()
    assert [each.kwargs["username"] for each in kept] == [*map(str, range(relay.MOST_AT_ONCE + 10)), "later"]
    assert kept[0].id == first


def test_event_that_never_can_be_fired(
    hub: MemoryBus, bus: BusPath, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row is kept with the error, and logged once; the other events are fired."""
    table.add(bus, "before")
    table.add(bus, "gone", event="user_deleted")
    table.rows.append(("auth", OutboxRow(3, "user_registered", b"nonsense")))
    table.add(bus, "behind")
    hub.start(bus)
    wait_until(lambda: len(table.rows) == 2)
    assert names(bus) == ["before", "behind"]
    assert "EventNotFound" in table.refused[2]
    assert "ProtocolError" in table.refused[3]
    assert [record.getMessage() for record in caplog.records if "row 2" in record.getMessage()] != []


def test_database_that_fails(hub: MemoryBus, bus: BusPath, table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what to do, the connection is reopened, and all events are fired when it works again."""
    table.failures = [OSError("no route"), OSError("no route")]
    table.add(bus, "sally")
    hub.start(bus)
    wait_until(lambda: not table.rows)
    assert names(bus) == ["sally"]
    assert table.closed == 2
    said = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(said) == 1
    assert "of the test" in said[0]


def test_what_could_not_be_deleted_is_not_fired_again(hub: MemoryBus, bus: BusPath, table: Table) -> None:
    """If the database fails between firing and deleting, only the deletion is repeated."""
    table.add(bus, "sally")
    table.deleting_fails = True
    hub.start(bus)
    wait_until(lambda: not table.rows)
    assert names(bus) == ["sally"]


def test_another_relay_has_the_rows(hub: MemoryBus, bus: BusPath, table: Table) -> None:
    """They are left to it, and checked again later."""
    table.add(bus, "sally")
    table.is_taken = True
    hub.start(bus)
    wait_until(lambda: table.batches >= 3)
    assert names(bus) == []
    table.is_taken = False
    wait_until(lambda: names(bus) == ["sally"])


def test_bus_that_takes_nothing(
    hub: MemoryBus, bus: BusPath, table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing can be fired, events wait, which is logged; then they are fired in order."""
    made = bus.client.made_events
    fire, failures = made.relay_blocking, [relay.LightbusException("the disk is full")] * 3

    def fails(messages: Any) -> None:
        if failures:
            raise failures.pop()
        fire(messages)

    monkeypatch.setattr(made, "relay_blocking", fails)
    table.add(bus, "first")
    table.add(bus, "second")
    hub.start(bus)
    wait_until(lambda: not table.rows)
    assert names(bus) == ["first", "second"]
    assert len([each for each in caplog.records if "the disk is full" in each.getMessage()]) == 1


def test_events_that_another_worker_fires_after_a_failure(
    hub: MemoryBus, bus: BusPath, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause after the failure is over once there is nothing to fire: then the relay waits as before."""
    tried = threading.Event()

    def fails(messages: Any) -> None:
        tried.set()
        raise relay.LightbusException("the disk is full")

    monkeypatch.setattr(bus.client.made_events, "relay_blocking", fails)
    table.add(bus, "sally")
    hub.start(bus)
    assert tried.wait(60)
    table.rows = []
    before = table.waits
    wait_until(lambda: table.waits >= before + 50)  # far more than within the pause


class Turns:
    """It is the turn of another worker, until it is ours."""

    def __init__(self) -> None:
        self.ours = False

    def is_ours(self, api: str, first: int) -> bool:
        return self.ours


class Clock:
    """A clock that moves when somebody waits, and the event that stops a relay at a time."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = self.end = now

    def monotonic(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self.now >= self.end

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(relay, "time", clock)
    monkeypatch.setattr(relay, "AGAIN", 0.125)
    return clock


def attempts(run: relay._RelayRun, table: Table, clock: Clock, seconds: float) -> list[float]:
    """Let a relay run for so many seconds; return after how many it tried to get the rows."""
    found, begun, batch = [], clock.now, table.batch

    def noted(api: str, most: int) -> Any:
        found.append(clock.now - begun)
        return batch(api, most)

    table.batch = noted  # type: ignore[method-assign]
    clock.end = begun + seconds
    run.run()
    table.batch = batch  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize("is_taken", [False, True], ids=["not our turn", "another relay has the rows"])
def test_rows_that_are_left_to_another_relay_are_checked_less_often(
    bus: BusPath, table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    """After pauses that double up to the seconds between two checks; from the first one again once they were ours."""
    turns = Turns()
    monkeypatch.setattr(bus.client.made_events, "relay_blocking", lambda messages: None)
    run = relay._RelayRun(bus.client, table, cast(Any, turns), "of the test", 0.5, cast(Any, clock))

    def let(ours: bool) -> None:
        turns.ours, table.is_taken = ours or is_taken, is_taken and not ours

    let(ours=False)
    table.add(bus, "sally")
    assert attempts(run, table, clock, 2.0) == [0, 0.125, 0.375, 0.875, 1.375, 1.875]
    let(ours=True)
    assert attempts(run, table, clock, 0.6) != []
    assert table.rows == []
    let(ours=False)
    table.add(bus, "bob")
    assert attempts(run, table, clock, 0.5) == [0, 0.125, 0.375]


def test_notifications_of_rows_that_another_relay_fires(
    bus: BusPath, table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is not read at each of them, and soon enough for a row of another API."""
    run = relay._RelayRun(bus.client, table, cast(Any, Turns()), "of the test", 0.5, cast(Any, clock))

    def wait(seconds: float) -> bool:
        clock.now += 0.001
        return True

    monkeypatch.setattr(table, "wait", wait)
    table.is_taken = True
    table.add(bus, "sally")
    clock.end += 10
    run.run()
    assert 70 <= table.reads <= 80


def test_api_of_another_service(hub: MemoryBus, bus: BusPath, table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """Events of an API that is not registered here are left to another worker, which is logged."""
    table.add(bus, "theirs", api="shop")
    table.add(bus, "ours")
    with caplog.at_level(logging.WARNING):
        hub.start(bus)
        wait_until(lambda: names(bus) == ["ours"])
        wait_until(
            lambda: any("for a worker that has registered that API" in each.getMessage() for each in caplog.records)
        )
    assert [api for api, _ in table.rows] == ["shop"]


class View(Table):
    """The rows of another table, which are locked by somebody else at any time but its turn."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self.is_taken = True

    def waiting(self) -> list[str]:
        return self._table.waiting()

    @contextmanager
    def batch(self, api: str, most: int) -> Iterator[Batch | None]:
        self.batches += 1
        yield None if self.is_taken else Batch(self._table, api, most)


@pytest.mark.parametrize("ends", [False, True], ids=["both run", "the first ends"])
def test_events_of_two_workers_stay_in_order(table: Table, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that gets the rows waits until the groups have handled what another one has fired."""
    monkeypatch.setattr(relay_turns, "PATIENCE", relay_turns.LONGEST)  # a machine may stand still for seconds
    heard: list[str] = []
    gate = threading.Event()
    with memory_bus(journal=True) as hub:

        def worker() -> tuple[BusPath, View]:
            bus, view = hub.create(service_name="auth"), View(table)
            bus.client.register_api(AuthApi())
            register_plugin(bus.client.hooks, Relay(lambda: view, name="of the test", place="here", poll=0.02))
            return bus, view

        def hear(event_message: EventMessage, username: str) -> None:
            gate.wait(60)
            heard.append(username)

        one, his = worker()
        other, hers = worker()
        reader = hub.create(service_name="reads")
        reader.auth.user_registered.listen(hear, listener_name="hear")
        hub.start(one, other, reader, timeout=60)
        for number in range(100):  # more than a listener handles at a time before it turns to another journal
            table.add(one, f"{number:03}")
        his.is_taken = False
        wait_until(lambda: not table.rows)
        his.is_taken = True
        if ends:
            one.client.close()
        hers.is_taken, before = False, hers.batches
        for number in range(100, 140):
            table.add(other, f"{number:03}")
        wait_until(lambda: hers.batches >= before + 3 or not table.rows)
        gate.set()
        wait_until(lambda: len(set(heard)) == 140, 180)
    assert list(dict.fromkeys(heard)) == [f"{number:03}" for number in range(140)]


def test_lock_of_a_file(tmp_path: Path) -> None:
    """One at a time has it; a database in memory needs none."""
    database = str(tmp_path / "shop.sqlite3")
    with file_lock(database) as is_ours:
        assert is_ours
        with file_lock(database) as is_theirs:
            assert not is_theirs
    with file_lock(database) as is_ours:
        assert is_ours
    with file_lock(":memory:") as is_ours:
        assert is_ours
