"""`lightbus doctor`: its checks, and as a process against real workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
