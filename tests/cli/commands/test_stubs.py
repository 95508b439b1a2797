"""`lightbus stubs`: types of everything on the bus, and the changes since they were written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lightbus.cli.commands import stubs

if TYPE_CHECKING:
    from ..conftest import Commands

CHANGED = ("def echo(self, value: str) -> str:", "def echo(self, value: str, times: int) -> str:")


def test_stubs_of_the_bus(commands: Commands, tmp_path: Path) -> None:
    """They have all members, with docstrings; --check shows the changes, and what they break."""
    worker = commands.serve("auth")
    file, package = tmp_path / "bus.pyi", tmp_path / "typed_bus"
    commands.run("stubs", "--out", str(file))
    text = file.read_text()
    assert "def __call__(self, *, username: str, password: str, bus_options: CallOptions | None = None)" in text
    assert '"""Return whether this is the user\'s password."""' in text
    commands.run("dumpschema", "--out", str(tmp_path / "schemas.json"))
    assert commands.text("stubs", "--schema", str(tmp_path / "schemas.json")) == text
    commands.run("stubs", "--package", str(package))
    assert {each.name for each in package.iterdir()} == {"__init__.py", "py.typed"}
    assert "Nothing has changed." in commands.text("stubs", "--check", "--out", str(file))
    worker.ask_to_end()
    worker.wait()
    commands.serve("auth", replace=CHANGED).wait_for_line("Ready")
    assert commands.text("stubs", "--check", "--package", str(package), code=1).splitlines() == [
        "breaks callers  auth.echo: the parameter 'times' is new, and needed",
        "1 change, 1 breaking.",
    ]
    told = commands.json("stubs", "--check", "--out", str(file), code=1)
    assert told == [
        {
            "api": "auth",
            "member": "echo",
            "kind": "procedure",
            "change": "the parameter 'times' is new, and needed",
            "breaks": ["callers"],
        }
    ]


def test_a_file_that_was_changed(commands: Commands, tmp_path: Path) -> None:
    """Differs, though the bus does not."""
    schemas, file = tmp_path / "schemas.json", tmp_path / "bus.pyi"
    schemas.write_text("{}")
    commands.run("stubs", "--schema", str(schemas), "--out", str(file))
    file.write_text(file.read_text().replace("class Bus", "class Buss"))
    command = commands.run("stubs", "--schema", str(schemas), "--out", str(file), "--check", code=1)
    assert "was changed, or written by another version of lightbus: write it again" in command.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--check",), 2, "--check compares with a file: name it by --out or --package."),
        (("--out", "a", "--package", "b"), 2, "--out and --package were both given: name one of them."),
        (("--schema", "{}", "--json"), 2, "--json shows what --check finds, and types are no JSON"),
        (("--schema", "{}", "--out", "a.pyi", "--check"), 2, "Write it with `lightbus stubs` first."),
        (("--schema", "gone.json"), 2, "There is no gone.json. Write it with `lightbus dumpschema --out gone.json`."),
        (("--schema", "{}", "--out", "/dev/null/bus.pyi"), 2, "cannot be written to /dev/null/bus.pyi"),
    ],
)
def test_refusal_says_what_can_be_done(
    commands: Commands, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """Impossible options are refused with the possible ones."""
    (tmp_path / "schemas.json").write_text("{}")
    given = [str(tmp_path / "schemas.json") if word == "{}" else word for word in words]
    assert said in " ".join(commands.run("stubs", *given, code=code).stderr.split())


def test_a_command_with_options() -> None:
    """It has its own options."""
    assert {"out", "package", "source", "check"} <= {each.name for each in stubs.stubs.params}
