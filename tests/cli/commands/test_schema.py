"""`lightbus schema diff`: the differences between two dumps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..conftest import Commands


def dump(file: Path, **parameters: str) -> str:
    """Write the schema of an API with one event with these parameters."""
    properties = {name: {"type": kind} for name, kind in parameters.items()}
    members: dict[str, Any] = {"seen": {"parameters": {"type": "object", "properties": properties}}}
    file.write_text(json.dumps({"auth": {"rpcs": {}, "events": members}}))
    return str(file)


def test_what_breaks_and_what_does_not(commands: Commands, tmp_path: Path) -> None:
    """Exit code 1 for a breaking change."""
    old = dump(tmp_path / "old.json", user="string")
    new = dump(tmp_path / "new.json", user="integer", age="integer")
    both = "auth.seen: the parameter"
    assert commands.schema_diff(old, new, code=1).splitlines() == [
        f"breaks publishers and listeners  {both} 'user' is int, was str",
        f"compatible  {both} 'age' is new, and optional",
        "2 changes, 1 breaking.",
    ]
    more = dump(tmp_path / "more.json", user="string", age="integer")
    assert commands.schema_diff(old, more).splitlines()[-1] == "1 change, 0 breaking."
    assert commands.schema_diff(old, old) == "Nothing has changed.\n"


def test_directories_and_json(commands: Commands, tmp_path: Path) -> None:
    """A directory has a file per API."""
    for name, parameters in (("old", {"user": "string"}), ("new", {"user": "number"})):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "auth.json"
        dump(file, **parameters)
        file.write_text(json.dumps(json.loads(file.read_text())["auth"]))
    told = json.loads(commands.schema_diff(str(tmp_path / "old"), str(tmp_path / "new"), "--json", code=1))
    assert told["breaks"] == ["publishers", "listeners"]


def test_unreadable_schema_is_named(commands: Commands, tmp_path: Path) -> None:
    """What cannot be read is named."""
    (tmp_path / "old.json").write_text("[]")
    process = commands.start("schema", "diff", str(tmp_path / "old.json"), str(tmp_path / "new.json"))
    assert process.wait(60) == 2
    assert "old.json cannot be used" in process.stderr
