"""The Django example, started as its reader would: runserver, runlightbus, and the project's own tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from helpers import Processes, wait_until
from helpers.http import ask, free_port, is_open

pytest.importorskip("django")
pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex07_django"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project, with a database of its own."""
    monkeypatch.setenv("SHOP_DB", str(tmp_path / "shop.sqlite3"))
    return Path(shutil.copytree(EXAMPLE, tmp_path / "example"))


@pytest.mark.long
def test_django_view_calls_a_worker_and_fires_on_commit(processes: Processes, example: Path) -> None:
    """A view calls a worker that has the models; an order is announced on commit, and never on a rollback."""
    done = processes.python("manage.py", "migrate", cwd=example)
    assert done.wait(60) == 0, done.report()
    with closing(sqlite3.connect(os.environ["SHOP_DB"])) as database, database:
        database.execute("INSERT INTO shop_product (name, stock) VALUES ('lamp', 1)")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    processes.python("manage.py", "runserver", str(port), cwd=example, name="runserver")
    worker = processes.python("manage.py", "runlightbus", "--workers", "2", cwd=example, name="runlightbus")
    wait_until(lambda: is_open(port) and ask(f"{url}/orders")[0] == 200, 30)
    worker.wait_for_line("All 2 workers serve", 30)
    assert json.loads(ask(f"{url}/stock/lamp")[1]) == {"stock": 1}
    assert ask(f"{url}/orders/lamp/ada", b"")[0] == 202
    wait_until(lambda: json.loads(ask(f"{url}/orders")[1]) == {"1": True}, 20)
    assert ask(f"{url}/orders/lamp/ben", b"")[0] == 409
    assert json.loads(ask(f"{url}/orders")[1]) == {"1": True}
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_its_own_tests(processes: Processes, example: Path) -> None:
    """The project's tests, with a mock and on a bus in memory, pass."""
    passed = processes.python("manage.py", "test", cwd=example)
    assert passed.wait(60) == 0, passed.report()
    assert "Ran 3 tests" in passed.stderr
