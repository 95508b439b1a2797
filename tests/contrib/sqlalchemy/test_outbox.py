from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import BusPath, EventNotFound, UnknownApi, UsageError, ValidationError
from lightbus.testing import MemoryBus

pytest.importorskip("sqlalchemy")

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lightbus.contrib.sqlalchemy.outbox import Outbox


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
