"""Orders in a database that is used by SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Column, Integer, MetaData, Table, create_engine, func, insert, select
from sqlalchemy.orm import Session

from lightbus import BusPath
from lightbus.contrib.sqlalchemy.outbox import Outbox

metadata = MetaData()
orders = Table("orders", metadata, Column("number", Integer, primary_key=True))
outbox = Outbox(metadata)


class RolledBack(Exception):
    """What goes wrong with some."""


class Shop:
    """What it sells is stored, and told, in one transaction."""

    def __init__(self, bus: BusPath, url: str) -> None:
        self._bus = bus
        self._engine = create_engine(url)
        metadata.create_all(self._engine)
        outbox.relay(bus, self._engine)

    def last(self) -> int:
        """Return the last order that was committed."""
        with Session(self._engine) as session:
            return session.scalar(select(func.max(orders.c.number))) or 0

    def sell(self, numbers: Sequence[int], *, is_kept: bool) -> None:
        """Store orders and their events."""
        with suppress(RolledBack), Session(self._engine) as session, session.begin():
            for number in numbers:
                session.execute(insert(orders).values(number=number))
                outbox.fire(session, self._bus.sales.sold, customer=f"c{number % 7}", number=number)
            if not is_kept:
                raise RolledBack
