"""The shop, started as its reader would: pages are counted, pictures resized, and no event is lost."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from helpers import Process, Processes, wait_until

pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex03_shop"
PICTURE = b"P6 64 32 255\n" + bytes(range(256)) * 24


def free_port() -> int:
    """Return a TCP port of this host that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return a copy of the example: its processes leave byte code and pictures behind."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "ex03_shop"))


@pytest.fixture
def port() -> int:
    """Return the port of the test's shop."""
    return free_port()


def ask(port: int, path: str, data: bytes | None = None) -> str:
    """Return the shop's answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=120) as response:
        return str(response.read().decode())


def is_there(port: int) -> bool:
    """Return whether the shop answers at all."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def statistics(port: int) -> Any:
    """Return the views of each page, by the dashboard's count; None while there is no dashboard yet."""
    try:
        return json.loads(ask(port, "/statistics"))
    except urllib.error.HTTPError as error:
        if error.code != 500:
            raise
        error.close()
        return None


@pytest.mark.long
def test_shop_counts_views_and_resizes_each_picture_once(
    processes: Processes, example: Path, tmp_path: Path, port: int
) -> None:
    """One command starts it; Ctrl-C ends it. Views are counted, and each picture is resized once."""
    shop = processes.python("run.py", str(port), cwd=example, env={"THUMBNAILS": str(tmp_path)}, name="shop")
    wait_until(lambda: is_there(port), 20)
    for name in ("/", "/products/lamp", "/products/lamp"):
        ask(port, name)
    wait_until(lambda: statistics(port) == {"/": 1, "/products/lamp": 2}, 20)
    ids = [json.loads(ask(port, "/images", PICTURE))["image_id"] for _ in range(5)]
    wait_until(lambda: {file.stem for file in tmp_path.glob("*.ppm")} == set(ids), 20)
    assert (tmp_path / f"{ids[0]}.ppm").read_bytes().startswith(b"P6 16 8 255\n")
    assert shop.stdout.count(" is 16 x 8 now") == 5
    shop.signal(signal.SIGINT)
    assert shop.wait(60) == 0


@pytest.mark.long
def test_absent_dashboard_misses_nothing(processes: Processes, example: Path, port: int) -> None:
    """Views while no dashboard runs are counted by the next one; a killed shop loses none."""

    def start(name: str, *args: str) -> Process:
        return processes.python(*args, cwd=example / name, name=name)

    def dashboard() -> Process:
        started = start("dashboard", "-m", "lightbus", "run")
        started.wait_for_line("Ready")
        return started

    web = start("shop", "web.py", str(port))
    wait_until(lambda: is_there(port), 20)
    first = dashboard()
    ask(port, "/")
    wait_until(lambda: "looked at /, view 1" in first.stdout, 20)
    first.signal(signal.SIGTERM)
    assert first.wait(60) == 0
    for _ in range(3):
        ask(port, "/products/away")
    web.kill()
    web = start("shop", "web.py", str(port))
    wait_until(lambda: is_there(port), 20)
    ask(port, "/products/away")
    second = dashboard()
    wait_until(lambda: second.stdout.count("looked at /products/away") == 4, 20)
    assert "looked at /," not in second.stdout
