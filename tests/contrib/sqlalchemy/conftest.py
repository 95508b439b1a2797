"""An outbox, in a file of SQLite's or at a MariaDB, and a worker on a bus in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.clients import AuthApi
from helpers.mariadb import MariaDb
from lightbus import BusPath
from lightbus.testing import MemoryBus, memory_bus

pytest.importorskip("sqlalchemy")

from sqlalchemy import MetaData, create_engine

from lightbus.contrib.sqlalchemy.outbox import Outbox


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(MetaData())


@pytest.fixture
def engine(tmp_path: Path, outbox: Outbox) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{tmp_path}/auth.sqlite3")
    outbox.table.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def hub(engine: Any) -> Iterator[MemoryBus]:
    # Behind the engine: the relay uses that until its worker has stopped.
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    return bus


@pytest.fixture
def at_mariadb(mariadb: MariaDb, outbox: Outbox) -> Iterator[Any]:
    engine = create_engine(mariadb.url.format(mariadb.new_database()))
    outbox.table.metadata.create_all(engine)
    yield engine
    engine.dispose()
