"""Store events in the application's own transaction, and make the worker fire the committed ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Integer, LargeBinary, MetaData, String, Table, Text, insert, text
from sqlalchemy.dialects.mysql import LONGBLOB

from ...exceptions import UsageError
from ...message import EventMessage
from ...path import BusPath
from ...plugins import register_plugin
from ..paths import client_of, place_of
from ..relay import CHANNEL, POLL, Relay, place_of_outbox
from .store import SqlAlchemyStore

__all__ = ["Outbox"]


class Outbox:
    """
    The table of events that wait to be fired.

    Args:
        metadata: the table is added to it, so that it is created and migrated with the program's other tables.
        name: the name of the table; the default is that of Django projects.
        schema: the database schema of the table.

    Attributes:
        table: the table.

    """

    def __init__(self, metadata: MetaData, *, name: str = "lightbus_outbox", schema: str | None = None) -> None:
        self.table = Table(
            name,
            metadata,
            Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
            Column("api", String(255), nullable=False),
            Column("event", String(255), nullable=False),
            Column("record", LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb"), nullable=False),
            Column("error", Text, nullable=False, default="", server_default=text("('')")),
            schema=schema,
            sqlite_autoincrement=True,  # numbers are never reused
        )

    def fire(self, session: Any, event: BusPath, /, **kwargs: Any) -> str:
        """
        Store an event to be fired once the transaction of a Session or Connection is committed; return its id.

        The worker fires it, at least once, and the events of one API in the order in which they were stored.

        Args:
            session: the Session or Connection.
            event: the path of the event, as `bus.store.order_placed`. Its API must be registered in this process.
            kwargs: the arguments of the event.

        Raises UnknownApi and EventNotFound for a path that is no event of this process, and ValidationError,
        InvalidEventArguments and DeformError for invalid arguments: the transaction can still be rolled back.
        """
        made = client_of(event).made_events
        message = made.make(*place_of(event), kwargs, is_ours=True)
        with made.storing(message):
            for statement in self._statements(session, message, made.record(message)):
                session.execute(statement)
        return message.id

    async def fire_async(self, session: Any, event: BusPath, /, **kwargs: Any) -> str:
        """Store an event, as `fire` does, in the transaction of an AsyncSession or AsyncConnection."""
        made = client_of(event).made_events
        message = made.make(*place_of(event), kwargs, is_ours=True)
        async with made.storing_async(message):
            for statement in self._statements(session, message, made.record(message)):
                await session.execute(statement)
        return message.id

    def relay(self, bus: BusPath, engine: Engine, *, poll: float = POLL) -> None:
        """
        Make each worker of this bus fire the committed events. Call it once, in the bus module.

        Args:
            bus: a bus made by `create()`.
            engine: the engine of the database; beside an AsyncEngine, make a plain one.
            poll: seconds between two checks of the table, if there are no notifications: PostgreSQL sends some, which
                psycopg 3.2 and psycopg2 can receive.

        """
        if not isinstance(engine, Engine):
            raise UsageError(
                f"Outbox.relay() takes an Engine, and not {type(engine).__name__}: the relay has a thread of its own. "
                "Make one with sqlalchemy.create_engine() for the same database."
            )
        name = f"in {engine.url.render_as_string(hide_password=True)}"
        store = partial(SqlAlchemyStore, engine, self.table)
        register_plugin(bus.client.hooks, Relay(store, name=name, place=_place(engine, self.table), poll=poll))

    def _statements(self, session: Any, message: EventMessage, record: bytes) -> list[Any]:
        values = {"api": message.api_name, "event": message.event_name, "record": record, "error": ""}
        bind = session.get_bind() if hasattr(session, "get_bind") else session
        notifying = [text(f"SELECT pg_notify('{CHANNEL}', '')")]  # sent at the commit
        return [insert(self.table).values(**values), *(notifying if bind.dialect.name == "postgresql" else [])]


def _place(engine: Engine, table: Table) -> str:
    kind, url = engine.dialect.name, engine.url
    return place_of_outbox(
        "mysql" if kind == "mariadb" else kind,  # as Django calls both
        url.database or "",
        table.fullname,
        host=url.host or url.query.get("host") or url.query.get("unix_socket"),
        port=url.port,
        service=url.query.get("service"),
    )
