"""The Flask example, started as its reader would: gunicorn imports it once, and each process it forks is a worker."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

import lightbus
from helpers import Processes, wait_until
from helpers.http import ask

pytest.importorskip("flask")
pytest.importorskip("gunicorn")
pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex06_flask"


@pytest.mark.long
def test_each_preloaded_process_is_a_worker(processes: Processes, tmp_path: Path) -> None:
    """Calls and events are served in the Flask program's context, by both of the forked processes."""
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "web:app"]
    web = processes.start(command, cwd=example, name="gunicorn")
    url = web.wait_for_line(r"Listening at: (http://127\.0\.0\.1:\d+)", 30)[1]
    wait_until(lambda: ask(f"{url}/health")[0] == 200, 30)
    observer = lightbus.create(service_name="observer")
    try:
        observer.client.wait_for_apis("store", timeout=60)
        wait_until(lambda: len(observer.client.engine.snapshot.by_api["store"]) == 2, 20)
    finally:
        observer.client.close()
    assert json.loads(ask(f"{url}/price/lamp")[1])["price"] == 40
    assert ask(f"{url}/orders/lamp/ada", b"")[0] == 202
    web.wait_for_line("ships lamp to ada")
    web.signal(signal.SIGTERM)
    assert web.wait(60) == 0
