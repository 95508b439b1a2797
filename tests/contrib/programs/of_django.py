"""Orders in a database that is used by Django."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings
from django.db import connection, transaction

from lightbus import BusPath
from lightbus.contrib.django.project import connect


class RolledBack(Exception):
    """What goes wrong with some."""


def database(url: str) -> dict[str, Any]:
    """Return a database setting of Django."""
    if url.startswith("sqlite:///"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    if url.startswith("mysql+pymysql:"):
        import pymysql

        pymysql.install_as_MySQLdb()
        parts = urlsplit(url)
        [path] = parse_qs(parts.query)["unix_socket"]
        return {"ENGINE": "django.db.backends.mysql", "NAME": parts.path[1:], "HOST": path, "USER": parts.username}
    name, _, host = url.removeprefix("postgresql+psycopg://lightbus@/").partition("?host=")
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, "HOST": host, "USER": "lightbus"}


class Shop:
    """What it sells is stored, and told, in one transaction."""

    def __init__(self, bus: BusPath, url: str) -> None:
        self._bus = bus
        settings.configure(DATABASES={"default": database(url)}, INSTALLED_APPS=["lightbus.contrib.django.outbox"])
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)")
        connect(bus.client)

    def last(self) -> int:
        """Return the last order that was committed."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(number) FROM orders")
            return cursor.fetchone()[0] or 0

    def sell(self, numbers: Sequence[int], *, is_kept: bool) -> None:
        """Store orders and their events."""
        from lightbus.contrib.django import outbox

        with suppress(RolledBack), transaction.atomic(), connection.cursor() as cursor:
            for number in numbers:
                cursor.execute("INSERT INTO orders (number) VALUES (%s)", [number])
                outbox.fire(self._bus.sales.sold, customer=f"c{number % 7}", number=number)
            if not is_kept:
                raise RolledBack
