"""The database servers that the tests of this directory share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.mariadb import MariaDb, running_mariadb
from helpers.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a running server; skip the test without one."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """Return a running server; skip the test without one."""
    with running_mariadb() as server:
        yield server
