"""The `lightbus` command as a whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers import Processes
from helpers.terminal import on_terminal
from lightbus.cli import COMMANDS, _group

pytestmark = pytest.mark.new_interpreters

SHOW_MODULES = """
import json, sys
from lightbus.cli import main
try:
    main(args={args!r}, prog_name="lightbus")
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported_by(processes: Processes, *args: str) -> set[str]:
    """Return the modules that a process has after the command line `args`."""
    process = processes.python("-c", SHOW_MODULES.format(args=list(args)))
    assert process.wait() == 0, process.report()
    return set(json.loads(process.stderr.splitlines()[-1]))


def test_help_imports_no_command(processes: Processes) -> None:
    """`lightbus --help` is quick: neither a command nor what the bus itself needs is imported."""
    modules = imported_by(processes, "--help")
    assert "click" in modules
    heavy = {"asyncio", "zmq", "msgpack", "pydantic", "zeroconf", "rich", "jsonschema_rs", "yaml", "ifaddr", "schedule"}
    assert modules & heavy == set()
    assert modules & {module for module, _, _ in COMMANDS.values()} == set()


def test_command_imports_no_other(processes: Processes) -> None:
    """A command is imported when it is run, and none of the others with it."""
    modules = imported_by(processes, "run", "--help")
    assert "lightbus.cli.commands.run" in modules
    assert modules & {"lightbus.cli.commands.demo", "lightbus.cli.commands.version", "rich", "zeroconf"} == set()


INTERRUPTED_WHILE_IMPORTING = """
import sys, types
from lightbus import cli
cli.COMMANDS["slow"] = ("slow", "slow", "Interrupt yourself.")
sys.path.insert(0, {path!r})
cli.main(args=["slow"], prog_name="lightbus")
"""


def test_ctrl_c_while_importing_is_quiet(processes: Processes, tmp_path: Path) -> None:
    """Ctrl-C before a command has begun ends it as it ends any program: no traceback of an import, no message."""
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise ValueError\n")
    process = processes.python("-c", INTERRUPTED_WHILE_IMPORTING.format(path=str(tmp_path)))
    assert process.wait() == -signal.SIGINT, process.report()
    assert process.output == ""


def test_help_lists_every_command() -> None:
    """Each command is listed with its line, and can be asked for help itself."""
    result = CliRunner().invoke(_group, ["--help"])
    assert result.exit_code == 0
    for name, (_, _, line) in COMMANDS.items():
        assert f"{name} " in result.output
        assert line in result.output
        assert CliRunner().invoke(_group, [name, "--help"]).exit_code == 0


def test_a_long_error_is_broken_between_words(tmp_path: Path) -> None:
    """On a terminal, whose lines would end amid them."""
    with on_terminal(60, tmp_path, "peers", "--config", str(tmp_path / "there-is-no-such-file.yaml")) as terminal:
        assert terminal.wait() != 0
    words = {word for line in terminal.lines for word in line.split()}
    assert terminal.lines[0].startswith("Error: ")
    assert len(terminal.lines) > 1
    assert str(tmp_path / "there-is-no-such-file.yaml") in {word.rstrip(".:,") for word in words}


def test_unknown_command_is_refused() -> None:
    """A command that is not there is a usage error, not a traceback."""
    result = CliRunner().invoke(_group, ["walk"])
    assert result.exit_code == 2
    assert "No such command 'walk'" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_near_command_is_named(name: str) -> None:
    """Whichever it is that was misspelt, a usage error names it."""
    result = CliRunner().invoke(_group, [f"{name[:-1]}_{name[-1]}"])
    assert result.exit_code == 2
    assert "Did you mean '" in result.output
    assert f"'{name}'" in result.output


def test_module_is_the_command(processes: Processes) -> None:
    """`python -m lightbus` is `lightbus`."""
    process = processes.lightbus("--help")
    assert process.wait() == 0
    assert process.stdout.startswith("Usage: lightbus ")


@pytest.mark.parametrize(
    ("command", "code"),
    [("cheat >&-", 0), ("context list --json >&-", 0), ("schema diff /nowhere /nowhere 2>&-", 2)],
)
def test_closed_streams_change_no_exit_code(command: str, code: int) -> None:
    """A standard stream that the caller has closed is as good as /dev/null."""
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m lightbus {command}"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
@pytest.mark.parametrize("command", ["cheat", "version --json", "dumpconfigschema"])
def test_output_without_room_is_an_error(command: str) -> None:
    """A full disk is no traceback, neither of the command nor of Python at its end."""
    words = f"exec {sys.executable} -m lightbus {command} >/dev/full"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: The output cannot be written: No space left on device.\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_is_written_in_any_encoding(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """What the encoding of the output lacks is escaped, so that JSON stays JSON."""
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    for words in (["add", "中", "--bus-name", "ś😀"], ["list", "--json"], ["list"]):
        process = processes.lightbus("context", *words)
        assert process.wait() == 0, process.report()
        if "--json" in words:
            told = json.loads(process.stdout)
            assert (told["context"], told["bus_name"]) == ("中", "ś😀")
    assert ("中" in process.stdout) is (encoding == "utf-8")
