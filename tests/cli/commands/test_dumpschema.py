"""`lightbus dumpschema` and `dumpconfigschema`: their output can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import Processes
from lightbus.config import config_schema
from lightbus.service.schema import Schema

from ..conftest import SERVICES

if TYPE_CHECKING:
    from ..conftest import Commands


def test_schemas_of_a_module_and_of_the_bus(commands: Commands, processes: Processes, tmp_path: Path) -> None:
    """Both are the same, in a file, in a directory and on standard output, and can be loaded."""
    commands.services()
    auth = tmp_path / "anywhere" / "auth"
    local = processes.lightbus("dumpschema", "--local", cwd=auth)
    both = processes.lightbus("dumpschema", "--json", cwd=auth)
    assert (local.wait(60), both.wait(60)) == (0, 0)
    assert (len(local.stdout.splitlines()) > 1, len(both.stdout.splitlines())) == (True, 1)
    directory = tmp_path / "schemas"
    directory.mkdir()
    commands.run("dumpschema", "--remote", "--out", str(directory))
    assert sorted(file.name for file in directory.iterdir()) == ["auth.json", "shop.orders.json"]
    assert [*json.loads(local.stdout)] == ["auth"]
    assert [*json.loads(both.stdout)] == ["auth", "shop.orders"]
    assert json.loads(local.stdout)["auth"] == json.loads((directory / "auth.json").read_text())
    read = Schema()
    read.load_local(directory)
    assert ("auth", "user_registered") in read.events
    assert read.get_rpc_schema("auth", "echo")["parameters"]["description"] == "Return it."


def test_a_module_without_a_bus_around_it(commands: Commands, processes: Processes, tmp_path: Path) -> None:
    """Its own APIs are written, with a note that there are no peers."""
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "bus.py").write_text(SERVICES["auth"].replace("{version}", "1"))
    alone = processes.lightbus("dumpschema", "--wait", "0.2", cwd=tmp_path / "auth")
    assert alone.wait(60) == 0
    assert [*json.loads(alone.stdout)] == ["auth"]
    assert "No peer is on the bus" in alone.stderr
    nowhere = processes.lightbus("dumpschema", "--wait", "0.2", cwd=tmp_path)
    assert nowhere.wait(60) == 3
    assert commands.run("dumpschema", "--local", "--remote", code=2).stderr.startswith("Error: --local and --remote")


def test_schema_of_the_settings(processes: Processes, tmp_path: Path) -> None:
    """It is that of the settings, on standard output or in a file."""
    shown = processes.lightbus("dumpconfigschema", cwd=tmp_path)
    written = processes.lightbus("dumpconfigschema", "--out", "schema.json", cwd=tmp_path)
    assert (shown.wait(60), written.wait(60)) == (0, 0)
    assert json.loads(shown.stdout) == json.loads((tmp_path / "schema.json").read_text()) == config_schema()
