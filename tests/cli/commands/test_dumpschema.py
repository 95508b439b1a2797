"""`lightbus dumpschema` and `dumpconfigschema`: what they write is what others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import Processes
from lightbus.config import config_schema
from lightbus.service.schema import Schema

if TYPE_CHECKING:
    from ..conftest import Commands


def test_schemas_of_a_module_and_of_the_bus(commands: Commands, processes: Processes, tmp_path: Path) -> None:
    """Both are the same, in a file, in a directory and on standard output, and can be loaded."""
    commands.services()
    auth = tmp_path / "anywhere" / "auth"
    local = processes.lightbus("dumpschema", cwd=auth)
    assert local.wait(20) == 0
    directory = tmp_path / "schemas"
    directory.mkdir()
    commands.run("dumpschema", "--remote", "--out", str(directory))
    assert sorted(file.name for file in directory.iterdir()) == ["auth.json", "shop.orders.json"]
    assert json.loads(local.stdout)["auth"] == json.loads((directory / "auth.json").read_text())
    read = Schema()
    read.load_local(directory)
    assert ("auth", "user_registered") in read.events


def test_schema_of_the_settings(processes: Processes, tmp_path: Path) -> None:
    """It is that of the settings, on standard output or in a file."""
    shown = processes.lightbus("dumpconfigschema", cwd=tmp_path)
    written = processes.lightbus("dumpconfigschema", "--out", "schema.json", cwd=tmp_path)
    assert (shown.wait(20), written.wait(20)) == (0, 0)
    assert json.loads(shown.stdout) == json.loads((tmp_path / "schema.json").read_text()) == config_schema()
