"""`lightbus context`, as processes, and commands that use a context."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands


def test_command_uses_the_bus_of_its_context(commands: Commands, surroundings: Surroundings, tmp_path: Path) -> None:
    """Contexts are added, shown, used and removed; a command uses the bus of its context."""
    commands.serve("auth").wait_for_line("Ready")
    elsewhere = {"LIGHTBUS_BUS": ""}
    refused = commands.run("context", "add", "here", code=2).stderr
    assert "A context needs a setting: give one of --config, --bus-name, --key-file" in " ".join(refused.split())
    commands.run("context", "add", "here", "--bus-name", surroundings.bus)
    commands.run("context", "add", "other", "--bus-name", "nobody-here", "--peers", "127.0.0.1:1")
    assert "already. Give --replace" in commands.run("context", "add", "here", "--bus-name", "x", code=2).stderr
    assert commands.run("apis", "--context", "here", "--columns", "api", env=elsewhere).stdout == "API\nauth\n"
    missing = commands.run("apis", "--context", "other", "--wait", "0.2", code=3).stderr
    assert "No peer is on the bus 'nobody-here' (context 'other')" in missing
    commands.run("context", "use", "here")
    assert commands.run("apis", "--columns", "api", env=elsewhere).stdout == "API\nauth\n"
    assert commands.json("context", "list") == [
        {
            "context": name, "current": name == "here", "bus_name": bus, "peers": peers, "key_file": None,
            "security": None, "interfaces": None, "config": None,
        }
        for name, bus, peers in (("here", surroundings.bus, None), ("other", "nobody-here", "127.0.0.1:1"))
    ]  # fmt: skip
    assert commands.text("context", "list").splitlines()[1].split() == ["*", "here", surroundings.bus]
    commands.run("context", "remove", "here")
    commands.run("context", "use", "--none")
    assert "There is no context 'here'" in commands.run("peers", "--context", "here", code=2).stderr
    assert "Name a context, or give --none." in commands.run("context", "use", code=2).stderr
