"""A Django that is set up once for all tests, on a database in a file of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("django")

import django
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file of the database; connections of all threads are new, and close with the test."""
    file = tmp_path / "test.sqlite3"
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}},
            INSTALLED_APPS=["lightbus.contrib.django", "lightbus.contrib.django.outbox"],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            USE_TZ=True,
        )
        django.setup()
    connections.databases["default"]["NAME"] = str(file)
    connections["default"].settings_dict["NAME"] = str(file)
    with ThreadPoolExecutor(1) as threads:  # that of Django's asynchronous methods ends with the test
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", threads)
        yield file
        threads.submit(connections.close_all).result()
    connections.close_all()
