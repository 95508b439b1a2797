from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from helpers.mariadb import MariaDb
from helpers.postgres import Postgres
from lightbus import BusPath, EventNotFound, UnknownApi, UsageError, ValidationError
from lightbus.contrib import relay
from lightbus.testing import MemoryBus, memory_bus

pytest.importorskip("sqlalchemy")

from sqlalchemy import MetaData, create_engine, func, select
from sqlalchemy.orm import Session

from lightbus.contrib.sqlalchemy.outbox import Outbox
from lightbus.contrib.sqlalchemy.store import SqlAlchemyStore


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(MetaData())


@pytest.fixture
def engine(tmp_path: Path, outbox: Outbox) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{tmp_path}/auth.sqlite3")
    outbox.table.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def hub(engine: Any) -> Iterator[MemoryBus]:
    # Behind the engine: the relay uses that until its worker has stopped.
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    return bus


def count(engine: Any, outbox: Outbox) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox.table)).scalar())


def test_committed_and_rolled_back(hub: MemoryBus, bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """What is committed is fired by the worker, with the id that was returned; what is rolled back never was there."""
    outbox.relay(bus, engine, poll=0.02)
    with Session(engine) as session:
        outbox.fire(session, bus.auth.user_registered, username="rolled back")
        session.rollback()
        id = outbox.fire(session, bus.auth.user_registered, username="ada")
        session.commit()
    with engine.begin() as connection:
        outbox.fire(connection, bus.auth.user_registered, username="of a connection")
    assert count(engine, outbox) == 2
    hub.start(bus)
    assert hub.wait_for_event("auth.user_registered").id == id
    wait_until(lambda: count(engine, outbox) == 0)
    kept = bus.auth.user_registered.history()
    assert [each.kwargs["username"] for each in kept] == ["ada", "of a connection"]


def test_session_of_an_event_loop(bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """`fire_async` does the same in an AsyncSession, whatever that is made of."""
    done: list[Any] = []

    class AsyncSession:
        def get_bind(self) -> Any:
            return engine

        async def execute(self, statement: Any) -> None:
            with engine.begin() as connection:
                done.append(connection.execute(statement))

    async def hook(event_message: Any) -> None:
        done.append(event_message.id)

    bus.client.before_event_sent(hook)
    id = asyncio.run(outbox.fire_async(AsyncSession(), bus.auth.user_registered, username="ada"))
    assert done[0] == id
    assert count(engine, outbox) == 1


def test_hooks_before_it_run_where_it_is_stored(hub: MemoryBus, bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """What they put into the trace goes with the event, one may refuse; and those behind it run when it is fired."""
    told: list[str] = []
    heard: list[Any] = []

    def before(event_message: Any) -> None:
        told.append(f"before {event_message.kwargs['username']}")
        event_message.trace["traceparent"] = "00-1-2-01"
        if event_message.kwargs["username"] == "nobody":
            raise LookupError("not this one")

    bus.client.before_event_sent(before)
    bus.client.after_event_sent(lambda event_message: told.append(f"after {event_message.kwargs['username']}"))
    bus.auth.user_registered.listen(lambda message, **_: heard.append(message.trace), listener_name="hear")
    outbox.relay(bus, engine, poll=0.02)
    with Session(engine) as session, session.begin():
        outbox.fire(session, bus.auth.user_registered, username="ada")
        with pytest.raises(LookupError):
            outbox.fire(session, bus.auth.user_registered, username="nobody")
    hub.start(bus)
    wait_until(lambda: heard)
    assert told == ["before ada", "before nobody", "after ada"]
    assert heard == [{"traceparent": "00-1-2-01"}]


def test_mistakes(bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """They are told before the commit: a wrong argument, a wrong name, an API of somebody else, an AsyncEngine."""
    fire: Any = outbox.fire
    relay_by: Any = outbox.relay
    with Session(engine) as session:
        with pytest.raises(ValidationError, match="age"):
            fire(session, bus.auth.user_registered, username="ada", age="old")
        with pytest.raises(EventNotFound, match="user_registered"):
            fire(session, bus.auth.user_registred, username="ada")
        with pytest.raises(UnknownApi, match="Register it: import the bus module"):
            fire(session, bus.shop.ordered, product="lamp")
        with pytest.raises(UsageError, match=r"bus\.store\.order_placed"):
            fire(session, "auth.user_registered", username="ada")
    with pytest.raises(UsageError, match="a thread of its own"):
        relay_by(bus, "sqlite://")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_postgresql_tells_of_a_commit(postgres: Postgres, outbox: Outbox, bus: BusPath, driver: str) -> None:
    """Who waits is told when a transaction is committed, and not when it is rolled back; one at a time has the rows."""
    pytest.importorskip(driver)
    engine = create_engine(postgres.url.replace("psycopg", driver).format(postgres.new_database()))
    outbox.table.metadata.create_all(engine)
    store, other = SqlAlchemyStore(engine, outbox.table), SqlAlchemyStore(engine, outbox.table)
    try:
        assert store.wait(0.0)  # it listens from now on
        assert store.wait(0.0) is False
        with Session(engine) as session:
            outbox.fire(session, bus.auth.user_registered, username="ada")
            session.rollback()
            assert store.wait(0.05) is False
            outbox.fire(session, bus.auth.user_registered, username="ada")
            session.commit()
        assert store.wait(10.0)
        assert store.waiting() == ["auth"]
        with store.batch("auth", relay.MOST_AT_ONCE) as batch, other.batch("auth", 1) as nothing:
            assert batch is not None
            assert nothing is None
            batch.refuse(batch.rows[0].number, "wrong")
        assert store.waiting() == []
    finally:
        store.close()
        other.close()
        engine.dispose()


@pytest.fixture
def at_mariadb(mariadb: MariaDb, outbox: Outbox) -> Iterator[Any]:
    engine = create_engine(mariadb.url.format(mariadb.new_database()))
    outbox.table.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_mariadb_has_one_relay_at_a_time(at_mariadb: Any, outbox: Outbox, bus: BusPath) -> None:
    """Another one does not wait for the rows, and whoever puts in further ones is not held up."""
    store, other = SqlAlchemyStore(at_mariadb, outbox.table), SqlAlchemyStore(at_mariadb, outbox.table)
    with at_mariadb.begin() as connection:
        outbox.fire(connection, bus.auth.user_registered, username="ada")
    assert store.wait(0.0) is None
    with store.batch("auth", relay.MOST_AT_ONCE) as batch, other.batch("auth", 1) as nothing:
        assert batch is not None
        assert nothing is None
        with at_mariadb.begin() as connection:
            outbox.fire(connection, bus.auth.user_registered, username="grace")
        batch.delete([batch.rows[0].number])
    with other.batch("auth", relay.MOST_AT_ONCE) as batch:
        assert batch is not None
        assert len(batch.rows) == 1
        batch.refuse(batch.rows[0].number, "wrong")
    assert store.waiting() == []


def test_relay_at_mariadb(at_mariadb: Any, outbox: Outbox, hub: MemoryBus, bus: BusPath) -> None:
    """In order, none that was rolled back, by two workers at a time; an event of 100 kB is none too many."""
    outbox.relay(bus, at_mariadb, poll=0.02)
    other = hub.create(service_name="auth")
    other.client.register_api(AuthApi())
    outbox.relay(other, at_mariadb, poll=0.02)
    names = [f"user {number}" for number in range(100)] + ["x" * 100_000]
    for name in names:
        with Session(at_mariadb) as session:
            outbox.fire(session, bus.auth.user_registered, username=name)
            outbox.fire(session, bus.auth.user_registered, username="rolled back")
            session.rollback()
            outbox.fire(session, bus.auth.user_registered, username=name)
            session.commit()
    hub.start(bus, other)
    wait_until(lambda: count(at_mariadb, outbox) == 0)
    kept = bus.auth.user_registered.history()
    assert [each.kwargs["username"] for each in kept] == names
