"""The outbox in Django's table, on MariaDB. Tests of the outbox cover SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from helpers.mariadb import MariaDb


@pytest.fixture
def alias(mariadb: MariaDb) -> Iterator[str]:
    """Return the alias of a database that has the table."""
    driver = pytest.importorskip("pymysql")
    driver.install_as_MySQLdb()
    driver.version_info = (2, 2, 7, "final", 0)  # Django asks what its own driver's version is
    from lightbus.contrib.django.outbox.models import OutboxEvent

    place = {"NAME": mariadb.new_database(), "HOST": str(mariadb.socket), "USER": "root"}
    connections.databases["other"] = connections.configure_settings(
        {"default": {}, "other": {"ENGINE": "django.db.backends.mysql", **place}}
    )["other"]
    with connections["other"].schema_editor() as editor:
        editor.create_model(OutboxEvent)
    yield "other"
    connections["other"].close()
    del connections["other"], connections.databases["other"]


@pytest.mark.database
def test_one_relay_at_a_time(alias: str) -> None:
    """A second relay gets no rows, without waiting, and inserts are not blocked."""
    from lightbus.contrib.django.outbox.models import OutboxEvent
    from lightbus.contrib.django.outbox.store import DjangoStore

    def put(name: str) -> int:
        return int(OutboxEvent.objects.using(alias).create(api="auth", event=name, record=b"x" * 100_000).number)

    def other() -> tuple[bool, int]:
        with DjangoStore(alias).batch("auth", 10) as batch:
            is_ours = batch is not None
        number = put("second")
        connections.close_all()
        return is_ours, number

    first, store = put("first"), DjangoStore(alias)
    with ThreadPoolExecutor(1) as threads:
        assert store.wait(0.0) is None
        with store.batch("auth", 10) as batch:
            assert batch is not None
            assert [(row.number, len(row.record)) for row in batch.rows] == [(first, 100_000)]
            is_theirs, second = threads.submit(other).result(20)
            assert not is_theirs
            batch.delete([first])
        assert threads.submit(other).result(20)[0]
    with store.batch("auth", 1) as batch:
        assert batch is not None
        assert [row.number for row in batch.rows] == [second]
        batch.refuse(second, "wrong")
    assert store.waiting() == ["auth"]  # what was put in last
    assert sorted(OutboxEvent.objects.using(alias).values_list("error", flat=True)) == ["", "wrong"]
    store.close()
