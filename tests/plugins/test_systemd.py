from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import wait_until
from lightbus.plugins.systemd import SystemdPlugin, notify, watchdog_interval
from lightbus.testing import MemoryBus, memory_bus


class Supervisor:
    """A fake systemd: receives the notifications of a process."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.told: list[str] = []

    def lines(self) -> list[str]:
        """Return all notifications so far."""
        try:
            while True:
                self.told += self.socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self.told


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus() as hub:
        yield hub


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    path = f"/tmp/lightbus-notify-{os.getpid()}" if len(str(tmp_path)) > 80 else str(tmp_path / "notify")
    made = Supervisor(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield made
    made.socket.close()
    Path(path).unlink()


def test_a_worker_notifies_systemd(hub: MemoryBus, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY once it serves, a watchdog beat as often as required, STOPPING when it begins to end."""
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    bus = hub.create(plugins=[SystemdPlugin()])
    bus.client.on_start(lambda: told.extend(supervisor.lines()))
    told: list[str] = []
    hub.start(bus)
    assert told == []
    wait_until(lambda: supervisor.lines().count("WATCHDOG=1") >= 3)
    assert supervisor.told[0] == "READY=1"
    assert f"MAINPID={os.getpid()}" in supervisor.told
    assert "STOPPING=1" not in supervisor.told
    bus.client.close()
    assert "STOPPING=1" in supervisor.lines()


def test_without_a_watchdog(hub: MemoryBus, supervisor: Supervisor) -> None:
    """Without a watchdog in the unit no ping is sent."""
    bus = hub.create(plugins=[SystemdPlugin()])
    hub.start(bus)
    bus.client.close()
    assert [line for line in supervisor.lines() if not line.startswith(("STATUS", "MAINPID"))] == [
        "READY=1",
        "STOPPING=1",
    ]


def test_no_notification_without_systemd() -> None:
    """Without NOTIFY_SOCKET nothing is sent."""
    assert notify("READY=1", {}) is False


def test_a_supervisor_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is logged, and no reason to fail."""
    assert notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")}) is False
    assert "systemd could not be notified of 'READY=1'" in caplog.text


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="abstract names are Linux's")
def test_name_with_at_sign_is_an_abstract_socket() -> None:
    """A name that begins with @ is one without a file."""
    name = f"lightbus-notify-{os.getpid()}"
    supervisor = Supervisor(f"\0{name}")
    assert notify("READY=1", {"NOTIFY_SOCKET": f"@{name}"}) is True
    assert supervisor.lines() == ["READY=1"]
    supervisor.socket.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
    ],
)
def test_watchdog_is_fed_twice_per_interval(environment: dict[str, str], expected: float | None) -> None:
    """Two pings per interval, and only by the watched process."""
    assert watchdog_interval(environment) == expected
