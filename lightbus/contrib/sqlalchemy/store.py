"""The outbox table as the relay uses it: batches of one API's rows, and notifications of new rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select, text, update

from ..relay import CHANNEL, OutboxRow, file_lock, key_of_lock, name_of_lock, wait_for_notification

__all__ = ["SqlAlchemyStore"]


class SqlAlchemyStore:
    """
    The outbox table of one database. Used in the relay's thread.

    Args:
        engine: the engine of the database.
        table: the outbox table.

    """

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine = engine
        self._table = table
        self._listening: Any = None
        """The connection that listens for notifications."""

    def waiting(self) -> list[str]:
        """Return the APIs of the events that wait."""
        columns = self._table.c
        with self._engine.connect() as connection:
            found = connection.execute(select(columns.api).where(columns.error == "").distinct().order_by(columns.api))
            return [row[0] for row in found]

    @contextmanager
    def batch(self, api: str, most: int) -> Iterator[_SqlAlchemyBatch | None]:
        """Lock and yield the oldest rows of an API; None while another relay holds them."""
        dialect = self._engine.dialect.name
        if dialect == "sqlite":  # a transaction would block all other writers
            with file_lock(self._engine.url.database or "") as is_ours:
                yield self._read(api, most) if is_ours else None
            return
        if dialect in ("mysql", "mariadb"):  # row locks would block inserts of further rows
            with self._named_lock(api) as is_ours:
                yield self._read(api, most) if is_ours else None
            return
        with self._engine.begin() as connection:
            is_ours = True
            if dialect == "postgresql":
                is_ours = connection.execute(select(text(f"pg_try_advisory_xact_lock({key_of_lock(api)})"))).scalar()
            rows = self._rows(api, most)
            if dialect != "postgresql":
                rows = rows.with_for_update()
            yield _SqlAlchemyBatch(self._engine, self._table, connection.execute(rows), connection) if is_ours else None

    @contextmanager
    def _named_lock(self, api: str) -> Iterator[bool]:
        """Hold the named lock of MySQL or MariaDB for an API, on its own connection, which releases it if it breaks."""
        name = name_of_lock(self._engine.url.database or "", api)
        with self._engine.connect() as connection:
            is_ours = connection.execute(select(func.get_lock(name, 0))).scalar() == 1
            try:
                yield is_ours
            finally:
                if is_ours:
                    connection.execute(select(func.release_lock(name)))

    def wait(self, seconds: float) -> bool | None:
        """Return whether a row was inserted within so many seconds; None if the database cannot notify."""
        if self._engine.dialect.name != "postgresql":
            return None
        if self._listening is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text(f"LISTEN {CHANNEL}"))
            self._listening = connection
            return True  # a row may have been inserted before
        return wait_for_notification(self._listening.connection.driver_connection, seconds)

    def close(self) -> None:
        """Close the connection that listens; it is not returned to the pool."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.invalidate()
            listening.close()

    def _read(self, api: str, most: int) -> _SqlAlchemyBatch:
        with self._engine.connect() as connection:
            return _SqlAlchemyBatch(self._engine, self._table, connection.execute(self._rows(api, most)), None)

    def _rows(self, api: str, most: int) -> Any:
        columns = self._table.c
        rows = select(columns.number, columns.event, columns.record)
        return rows.where(columns.error == "", columns.api == api).order_by(columns.number).limit(most)


class _SqlAlchemyBatch:
    def __init__(self, engine: Engine, table: Table, found: Any, connection: Connection | None) -> None:
        self.rows: Sequence[OutboxRow] = [OutboxRow(number, event, bytes(record)) for number, event, record in found]
        self._engine = engine
        self._table = table
        self._connection = connection

    def delete(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._execute(delete(self._table).where(self._table.c.number.in_(numbers)))

    def refuse(self, number: int, error: str) -> None:
        self._execute(update(self._table).where(self._table.c.number == number).values(error=error))

    def _execute(self, statement: Any) -> None:
        if self._connection is not None:
            self._connection.execute(statement)
        else:
            with self._engine.begin() as connection:
                connection.execute(statement)
