"""`lightbus doctor`: its checks, and as a process against real workers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.damage import damage
from lightbus.adapters.sqlite.outbox import Outbox
from lightbus.cli.checks.this_host import _little_room

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands


def test_all_is_well(commands: Commands) -> None:
    """On a bus where nothing is wrong it says what it looked at, and ends with 0."""
    commands.services()
    findings = commands.json("doctor")
    assert {finding["level"] for finding in findings} == {"ok"}
    checks = [finding["check"] for finding in findings]
    assert checks == ["bus", "interfaces", "sockets", "data directory", "open files", "peers", "versions"]
    text = commands.text("doctor")
    assert "ok      peers: 2 answer, the slowest in " in text
    assert "\x1b" not in text


def test_nobody(commands: Commands) -> None:
    """An empty bus is a warning that says where it looked and what to start."""
    process = commands.run("doctor", "--wait", "0.2", code=1)
    assert "warning peers: nobody is on the bus (bus 'test-" in process.stdout
    assert "Start a worker (lightbus run)" in process.stdout


def test_warnings(commands: Commands) -> None:
    """Two processes of one name and two versions of one API are warned of, and make the exit code 1."""
    for version in (1, 2):
        worker = commands.serve("auth", "--process-name", "same", version=version, where=f"auth-{version}")
        worker.wait_for_line("Ready")
    findings = {each["check"]: each for each in commands.json("doctor", code=1) if each["level"] == "warning"}
    assert "2 processes are called 'auth same'" in findings["names"]["text"]
    assert "do not serve the same (versions 2, 1; services auth)" in findings["versions"]["text"]
    assert all(finding["remedy"] for finding in findings.values())


def test_errors(commands: Commands, tmp_path: Path) -> None:
    """A fixed peer that does not answer and a data directory that is a file are errors, and make the exit code 2."""
    file = tmp_path / "file"
    file.touch()
    environment = {
        "LIGHTBUS_SECURITY": "insecure",
        "LIGHTBUS_INTERFACES": "127.0.0.1",
        "LIGHTBUS_PEERS": "127.0.0.1:9",
        "LIGHTBUS_DATA_DIR": str(file),
    }
    text = commands.run("doctor", "--wait", "1", code=2, env=environment).stdout
    assert "error   fixed peers: tcp://127.0.0.1:9 does not answer. Is a worker running there" in text
    assert f"error   data directory: {file} cannot be written to" in text
    assert "ok      interfaces: lo (127.0.0.1): used, named." in text


def test_refused_events(commands: Commands, surroundings: Surroundings) -> None:
    """What waits in the outbox of a host since it is refused is said once, however many processes tell it."""
    commands.services()
    outbox = Outbox(surroundings.data / surroundings.bus)
    outbox.put(id="1", api="mail", event="sent", key=None, record=b"")
    outbox.refuse([("1", "a digest", "It has no event 'sent'.")])
    [warning] = [each for each in commands.json("doctor", code=1) if each["level"] != "ok"]
    assert warning["check"] == "outbox"
    assert f"1 events of mail.sent are kept in the outbox {outbox.path}" in warning["text"]
    damage(outbox.path)
    assert "outbox.sqlite.corrupt-1" in commands.run("doctor", code=1).stdout


def test_stuck_group(commands: Commands) -> None:
    """A group that has processes and events to handle, and handles none, is warned of with what to look at."""
    commands.services()
    mail = commands.serve("mail", replace=("max_deliveries=1", "max_deliveries=1000"))
    mail.wait_for_line("Events of auth .* arrive")
    commands.run("fire", "auth.user_registered", "username=sally")
    mail.wait_for_line("no sally here")
    findings = [each for each in commands.json("doctor", code=1) if each["check"] == "groups"]
    assert len(findings) == 1
    assert re.search(r"mail-fails of auth at auth \w{4} has 1 events to handle, and handled none", findings[0]["text"])
    assert "RETRY" in findings[0]["remedy"]


def test_a_listener_that_has_stopped(commands: Commands) -> None:
    """It is a warning that says what it failed with; `peers` shows it, too, as do the peer's own statistics."""
    commands.services()
    mail = commands.serve("mail", replace=("RETRY", "STOP_LISTENER"))
    mail.wait_for_line("Events of auth .* arrive")
    commands.run("fire", "auth.user_registered", "username=sally")
    mail.wait_for_line("The listener fails of auth.user_registered has stopped")
    [finding] = [each for each in commands.json("doctor", code=1) if each["check"] == "health"]
    assert (
        "fails of auth.user_registered has stopped, since its handler failed: ValueError: no sally" in finding["text"]
    )
    told = {each["service"]: each for each in commands.json("peers")}
    assert (told["mail"]["stopped_listeners"], told["auth"]["stopped_listeners"]) == (["fails"], [])
    assert "up, 1 listener stopped" in commands.text("peers")
    assert "stopped" in commands.text("peers", "info", "mail")


def test_data_directory(commands: Commands, tmp_path: Path) -> None:
    """A directory that is not there yet is no finding where it can be made; the default one is looked at, too."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"LIGHTBUS_DATA_DIR": str(home / "some" / "where")}
    text = commands.run("doctor", "--wait", "0.2", code=1, env=environment).stdout
    assert f"ok      data directory: {home}/some/where will be made with the first event." in text
    (home / "some").touch()
    text = commands.run("doctor", "--wait", "0.2", code=2, env=environment).stdout
    assert f"error   data directory: {home}/some/where cannot be made by this user." in text
    text = commands.run("doctor", "--wait", "0.2", code=1, env={"LIGHTBUS_DATA_DIR": "", "HOME": str(home)}).stdout
    assert f"data directory: {home}" in text


@pytest.mark.parametrize(
    ("available", "files", "expected"),
    [
        (0, 100, "0.0 MiB left"),
        (900, 100, ""),
        (900, 0, "no room for another file (inodes)"),
        (40, 100, "3.9 MiB left"),
    ],
)
def test_little_room(
    available: int, files: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or nearly, is told of, also where only another file has no room."""
    disk = os.statvfs_result((4096, 102_400, 1000, available, available, 100, files, files, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert _little_room(tmp_path) == expected


def test_events_that_wait_while_no_worker_runs(commands: Commands, surroundings: Surroundings) -> None:
    """What waits in the outbox of this host while nobody is there is told of, with what starts its way."""
    outbox = Outbox(surroundings.data / surroundings.bus)
    outbox.put(id="1", api="mail", event="sent", key=None, record=b"")
    text = commands.run("doctor", "--wait", "0.2", code=1).stdout
    assert f"warning outbox: 1 events of mail wait on this host, in {outbox.path}, and no worker" in text


OWN_DISCOVERY = """
class Registry:
    problem = {problem!r}

    def __init__(self, bus): ...
    def look(self): ...
    async def start(self, found, lost): ...
    async def announce(self, announcement): ...
    async def move(self, addresses, announcement): ...
    async def withdraw(self): ...
    async def stop(self): ...
"""


@pytest.mark.parametrize(
    ("problem", "code", "told"),
    [
        (
            None,
            1,
            "ok      discovery: peers are found by 'registry' (discovery.backend), which tells of no problem.",
        ),
        ("nobody answers at 192.0.2.1: start it.", 2, "error   discovery: 'registry' does not work: nobody answers at"),
    ],
)
@pytest.mark.parametrize("security", ["host", "insecure"])
def test_discovery_of_a_package(
    commands: Commands, tmp_path: Path, security: str, problem: str | None, code: int, told: str
) -> None:
    """What it says of itself is passed on, and nothing of multicast is looked at that it may not need."""
    information = tmp_path / "installed" / "registry-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Name: registry\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[lightbus_discovery]\nregistry = own_registry:Registry\n")
    (information.parent / "own_registry.py").write_text(OWN_DISCOVERY.format(problem=problem))
    settings = tmp_path / "settings.yaml"
    settings.write_text("discovery: {backend: registry}\nnetwork: {interfaces: [127.0.0.1]}\n")
    environment = {"PYTHONPATH": str(information.parent), "LIGHTBUS_SECURITY": security}
    text = commands.run("doctor", "--wait", "0.2", "--config", str(settings), code=code, env=environment).stdout
    assert told in text
    assert "port 5353" not in text
    assert "a transport or a discovery of its own cannot be seen from here" in text
