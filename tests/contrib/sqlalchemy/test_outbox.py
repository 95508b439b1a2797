from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import BusPath, EventNotFound, UnknownApi, UsageError, ValidationError
from lightbus.testing import MemoryBus

pytest.importorskip("sqlalchemy")

from sqlalchemy import MetaData, create_engine, func, select
from sqlalchemy.orm import Session

from lightbus.contrib.sqlalchemy.outbox import Outbox, _place


def count(engine: Any, outbox: Outbox) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox.table)).scalar())


def test_committed_and_rolled_back(hub: MemoryBus, bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """Committed events are fired by the worker, with the returned id; rolled back ones are not."""
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
    """`fire_async` works in an AsyncSession of any engine."""
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
    """They may set the trace, or refuse the event; the hooks after it run when it is fired."""
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
    wait_until(lambda: heard and len(told) > 2)  # the hook behind it runs beside the listener
    assert told == ["before ada", "before nobody", "after ada"]
    assert heard == [{"traceparent": "00-1-2-01"}]


def test_wrong_arguments_are_refused_before_the_commit(bus: BusPath, outbox: Outbox, engine: Any) -> None:
    """A wrong argument, a wrong name, an API of another service, an AsyncEngine."""
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


@pytest.mark.database
def test_relay_at_mariadb(at_mariadb: Any, outbox: Outbox, hub: MemoryBus, bus: BusPath) -> None:
    """In order, without rolled back ones, by two workers; an event of 100 kB fits."""
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


@pytest.mark.parametrize(
    ("url", "other", "is_same"),
    [
        ("postgresql+psycopg://sally:one@db/shop", "postgresql+psycopg2://bob:two@db/shop?connect_timeout=3", True),
        ("mysql+pymysql://sally@db/shop", "mariadb+pymysql://bob@db/shop", True),
        ("postgresql+psycopg:///shop?host=/run/one", "postgresql+psycopg:///shop?host=/run/two", False),
        ("postgresql+psycopg://db/shop", "postgresql+psycopg://db/blog", False),
        ("postgresql+psycopg://db/shop", "postgresql+psycopg://db:5433/shop", False),
        ("postgresql+psycopg://db/shop", "postgresql+psycopg://other/shop", False),
        ("postgresql+psycopg:///?service=shop", "postgresql+psycopg:///?service=blog", False),
        ("postgresql+psycopg://db/shop", "mysql+pymysql://db/shop", False),
    ],
)
def test_workers_of_one_database_take_turns_and_no_others(url: str, other: str, is_same: bool) -> None:
    """Whatever the driver and the user; the place has no password."""
    table = Outbox(MetaData()).table
    places = [_place(create_engine(each), table) for each in (url, other)]
    assert (places[0] == places[1]) is is_same
    assert not any(word in place for place in places for word in ("one@", "'one'", "two@", "'two'"))


def test_each_table_and_each_file_is_an_outbox_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is relative to where a program was started is not the same everywhere."""
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    table = Outbox(MetaData()).table
    here = _place(create_engine("sqlite:///shop.sqlite3"), table)
    assert here == _place(create_engine(f"sqlite:///{tmp_path}/deep/../shop.sqlite3"), table)
    assert here != _place(create_engine("sqlite:///shop.sqlite3"), Outbox(MetaData(), schema="mail").table)
    monkeypatch.chdir(tmp_path / "deep")
    assert here != _place(create_engine("sqlite:///shop.sqlite3"), table)


def test_relay_has_the_place_of_its_database(
    hub: MemoryBus, bus: BusPath, outbox: Outbox, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which it takes turns with others."""
    outbox.relay(bus, engine)
    turns: list[tuple[str, str]] = []
    made = bus.client.made_events
    relay_turns = made.relay_turns

    def noted(name: str, place: str) -> Any:
        turns.append((name, place))
        return relay_turns(name, place)

    monkeypatch.setattr(made, "relay_turns", noted)
    hub.start(bus)
    wait_until(lambda: turns)
    assert turns == [(f"in {engine.url}", _place(engine, outbox.table))]
