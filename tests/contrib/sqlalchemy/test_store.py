"""The outbox as the relay sees it: rows of one API at a time, for one relay at a time."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.postgres import Postgres
from lightbus import Api, BusPath, Event
from lightbus.contrib import relay
from lightbus.testing import MemoryBus

pytest.importorskip("sqlalchemy")

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from lightbus.contrib.sqlalchemy.outbox import Outbox
from lightbus.contrib.sqlalchemy.store import SqlAlchemyStore


def test_rows_of_one_api_in_their_order(engine: Any, outbox: Outbox, bus: BusPath, hub: MemoryBus) -> None:
    """Up to the limit; fired rows are deleted, refused ones keep their error and do not wait any more."""
    shop = hub.create(service_name="shop")
    shop.client.register_api(ShopApi())
    store = SqlAlchemyStore(engine, outbox.table)
    assert (store.waiting(), store.wait(0.0)) == ([], None)  # SQLite tells of nothing
    with engine.begin() as connection:
        for name in ("ada", "grace", "eve"):
            outbox.fire(connection, bus.auth.user_registered, username=name)
        outbox.fire(connection, shop.shop.sold, item="lamp")
    assert store.waiting() == ["auth", "shop"]
    with store.batch("auth", 2) as batch:
        assert batch is not None
        first, second = batch.rows
        assert [row.event for row in batch.rows] == ["user_registered"] * 2
        batch.delete([first.number])
        batch.refuse(second.number, "wrong")
        batch.delete([])
    with store.batch("auth", 2) as batch:
        assert batch is not None
        assert [row.number for row in batch.rows] == [second.number + 1]
        batch.delete([batch.rows[0].number])
    assert store.waiting() == ["shop"]
    store.close()


def test_one_relay_at_a_time_at_sqlite(engine: Any, outbox: Outbox, bus: BusPath) -> None:
    """A second relay gets no rows meanwhile, and inserts are not blocked."""
    store, other = SqlAlchemyStore(engine, outbox.table), SqlAlchemyStore(engine, outbox.table)
    with engine.begin() as connection:
        outbox.fire(connection, bus.auth.user_registered, username="ada")
    with store.batch("auth", 9) as batch, other.batch("auth", 9) as nothing:
        assert (batch is None, nothing is None) == (False, True)
        with engine.begin() as connection:
            outbox.fire(connection, bus.auth.user_registered, username="grace")
    with other.batch("auth", 9) as batch:
        assert batch is not None
        assert len(batch.rows) == 2


class ShopApi(Api):
    sold = Event(["item"])

    class Meta:
        name = "shop"


@pytest.mark.database
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_postgresql_notifies_of_a_commit(postgres: Postgres, outbox: Outbox, bus: BusPath, driver: str) -> None:
    """A commit wakes `wait`, a rollback does not; one relay at a time gets the rows."""
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


@pytest.mark.database
def test_mariadb_has_one_relay_at_a_time(at_mariadb: Any, outbox: Outbox, bus: BusPath) -> None:
    """A second relay gets no rows, without waiting, and inserts are not blocked."""
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
