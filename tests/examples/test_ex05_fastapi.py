"""The FastAPI example, started as its reader would: two web processes under uvicorn, and a worker."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from helpers import Processes, wait_until
from helpers.http import ask

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex05_fastapi"


@pytest.mark.long
def test_two_web_processes_and_a_worker(processes: Processes, tmp_path: Path) -> None:
    """Requests call and fire; the health route follows the worker's coming; all end in order."""
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    command = [sys.executable, "-m", "uvicorn", "web:app", "--port", "0", "--workers", "2"]
    web = processes.start(command, cwd=example, name="uvicorn")
    url = web.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)", 30)[1]
    web.wait_for_line("Application startup complete", 30)
    assert ask(f"{url}/health")[0] == 503
    assert "store" in json.loads(ask(f"{url}/health")[1])["reasons"][0]
    worker = processes.worker(cwd=example)
    wait_until(lambda: ask(f"{url}/health")[0] == 200, 30)
    assert json.loads(ask(f"{url}/price/lamp")[1]) == 40
    assert ask(f"{url}/orders?product=lamp&customer=ada", b"")[0] == 202
    worker.wait_for_line("ships lamp to ada")
    wait_until(lambda: web.output.count("Application startup complete") == 2, 20)
    web.signal(signal.SIGTERM)
    assert web.wait(60) in (0, -signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert worker.wait(60) == 0
