"""What doctor finds out about this host."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lightbus.cli.checks.finding import CheckContext, Finding, Level
from lightbus.cli.checks.this_host import _little_room, check_directories

if TYPE_CHECKING:
    from ..conftest import Commands


def test_data_directory_that_can_be_made_is_no_finding(commands: Commands, tmp_path: Path) -> None:
    """A missing directory that can be created is no finding; the default directory is checked, too."""
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_place_where_no_file_can_be_made(commands: Commands) -> None:
    """That is an error for root, too, to whom its rights would allow it."""
    text = commands.run("doctor", "--wait", "0.2", code=2, env={"LIGHTBUS_DATA_DIR": "/proc/nowhere"}).stdout
    assert "error   data directory: /proc/nowhere cannot be made by this user. Set LIGHTBUS_DATA_DIR" in text
    assert "/proc/nowhere/.sockets" not in text.partition("data directory")[0]


@pytest.mark.parametrize(
    ("left", "level", "text"),
    [(1, Level.ERROR, "no event can be kept now."), (100, Level.WARNING, "soon no event can be kept.")],
)
def test_a_disk_without_room(
    left: int, level: Level, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without any space left is an error: no event can be stored."""
    disk = os.statvfs_result((4096, 4096, 100_000, left, left, 100, 100, 100, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    config = SimpleNamespace(journal=SimpleNamespace(data_dir=tmp_path))
    bus = SimpleNamespace(client=SimpleNamespace(config=config))
    context = CheckContext(bus=bus, reports=[])  # type: ignore[arg-type]

    async def main() -> list[Finding]:
        return [each async for each in check_directories(context)]

    [finding] = asyncio.run(main())
    assert (finding.level, finding.text.endswith(text)) == (level, True)


@pytest.mark.parametrize(
    ("available", "files", "expected"),
    [
        (0, 100, "0.0 MiB left"),
        (900, 100, ""),
        (900, 0, "no room for another file (inodes)"),
        (40, 100, "3.9 MiB left"),
    ],
)
def test_full_disk_is_reported(
    available: int, files: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is nearly full is reported, also if only inodes are short."""
    disk = os.statvfs_result((4096, 102_400, 1000, available, available, 100, files, files, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert _little_room(tmp_path) == expected


OWN_DISCOVERY = """
class Registry:
    problem = {problem!r}

    def __init__(self, bus): ...
    def describe(self): return "at a registry"
    def foreign_peers(self, api): return []
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
            "ok      discovery: peers are found by 'registry' (discovery.backend), which reports no problem.",
        ),
        ("nobody answers at 192.0.2.1: start it.", 2, "error   discovery: 'registry' does not work: nobody answers at"),
    ],
)
@pytest.mark.parametrize("security", ["host", "insecure"])
def test_discovery_of_a_package(
    commands: Commands, tmp_path: Path, security: str, problem: str | None, code: int, told: str
) -> None:
    """Its own problem is reported, and multicast is not checked, which it may not need."""
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
