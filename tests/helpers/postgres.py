"""A PostgreSQL server for tests, on a socket in its own directory; without a server, the test is skipped."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .leaks import RESIDENT
from .waiting import wait_until

__all__ = ["Postgres", "running_postgres"]

WITHOUT_CARE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=40")
"""Settings for speed: data has to survive the end of any of our processes, but not a crash of the machine."""


class Postgres:
    """A running server."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._databases = 0

    @property
    def url(self) -> str:
        """Return its URL for SQLAlchemy; without the name of a database."""
        return f"postgresql+psycopg://lightbus@/{{}}?host={self.directory}"

    def execute(self, statement: str) -> Any:
        """Execute a statement, and return the first row of its result."""
        import psycopg

        with psycopg.connect(host=str(self.directory), user="lightbus", dbname="postgres", autocommit=True) as found:
            cursor = found.execute(statement)
            return cursor.fetchone() if cursor.description else None

    def new_database(self) -> str:
        """Make an empty database, and return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Make and start a server, as another user if we are root: it refuses to run as root."""
    initdb, postgres = _program("initdb"), _program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("there is no PostgreSQL server here (Debian's package postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    directory = Path(tempfile.mkdtemp(prefix="lb-pg-", dir="/tmp"))  # the path of a unix socket is short
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    process = None
    try:
        data = str(directory / "data")
        made = subprocess.run(
            [initdb, "-D", data, "-U", "lightbus", "-A", "trust", "-N", "-E", "UTF8"],
            **user, env=environment, cwd="/", capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        options = [word for setting in WITHOUT_CARE for word in ("-c", setting)]
        process = subprocess.Popen(
            [postgres, "-D", data, "-k", str(directory), "-c", "listen_addresses=", *options],
            **user, env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        RESIDENT.add(process.pid)
        server = Postgres(directory)
        wait_until(lambda: _answers(server), 30.0)
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _program(name: str) -> str | None:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else shutil.which(name)


def _answers(server: Postgres) -> bool:
    import psycopg

    try:
        return bool(server.execute("SELECT true"))
    except psycopg.OperationalError:
        return False
