"""The outbox table as the relay uses it: batches of one API's rows, and notifications of new rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from ...relay import CHANNEL, OutboxRow, file_lock, key_of_lock, name_of_lock, wait_for_notification
from .models import OutboxEvent

__all__ = ["DjangoStore"]


class DjangoStore:
    """
    The outbox of one database. Used in the relay's thread, which has its own connections.

    Args:
        alias: the alias of the database.

    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._listening: Any = None
        """The driver's connection that listens for notifications."""

    @property
    def _waiting(self) -> Any:
        return OutboxEvent.objects.using(self._alias).filter(error="")

    def waiting(self) -> list[str]:
        """Return the APIs of the events that wait."""
        return [*self._waiting.order_by("api").values_list("api", flat=True).distinct()]

    @contextmanager
    def batch(self, api: str, most: int) -> Iterator[_DjangoBatch | None]:
        """Lock and yield the oldest rows of an API; None while another relay holds them."""
        connection = connections[self._alias]
        if connection.vendor == "sqlite":  # a transaction would block all other writers
            with file_lock(str(connection.settings_dict["NAME"])) as is_ours:
                yield _DjangoBatch(self._waiting, api, most) if is_ours else None
            return
        if connection.vendor == "mysql":  # row locks would block inserts of further rows
            with self._named_lock(api) as is_ours:
                yield _DjangoBatch(self._waiting, api, most) if is_ours else None
            return
        with transaction.atomic(using=self._alias):
            if connection.vendor != "postgresql":
                yield _DjangoBatch(self._waiting.select_for_update(), api, most)
                return
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key_of_lock(api)])
                is_ours = cursor.fetchone()[0]
            yield _DjangoBatch(self._waiting, api, most) if is_ours else None

    @contextmanager
    def _named_lock(self, api: str) -> Iterator[bool]:
        """Hold the named lock of MySQL or MariaDB for an API; if the process is killed, its connection releases it."""
        connection = connections[self._alias]
        name = name_of_lock(str(connection.settings_dict["NAME"]), api)
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
            is_ours = cursor.fetchone()[0] == 1
            try:
                yield is_ours
            finally:
                if is_ours:
                    cursor.execute("SELECT RELEASE_LOCK(%s)", [name])

    def wait(self, seconds: float) -> bool | None:
        """Return whether a row was inserted within so many seconds; None if the database cannot notify."""
        connection = connections[self._alias]
        if connection.vendor != "postgresql":
            return None
        connection.ensure_connection()
        if self._listening is not connection.connection:
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
            self._listening = connection.connection
            return True  # a row may have been inserted before
        return wait_for_notification(self._listening, seconds)

    def close(self) -> None:
        """Close the connection of this thread."""
        self._listening = None
        connections[self._alias].close()


class _DjangoBatch:
    def __init__(self, waiting: Any, api: str, most: int) -> None:
        rows = waiting.filter(api=api).order_by("number").values_list("number", "event", "record")[:most]
        self._events = OutboxEvent.objects.using(waiting.db)
        self.rows: Sequence[OutboxRow] = [OutboxRow(number, event, bytes(record)) for number, event, record in rows]

    def delete(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._events.filter(number__in=numbers).delete()

    def refuse(self, number: int, error: str) -> None:
        self._events.filter(number=number).update(error=error)
