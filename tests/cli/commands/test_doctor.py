"""`lightbus doctor`: its checks, and as a process against real workers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.asgi import MemoryConnection, on_connection
from lightbus.cli.checks.finding import CheckContext, Finding, Level
from lightbus.cli.commands import doctor
from lightbus.exceptions import NotReachable

if TYPE_CHECKING:
    from lightbus.testing import MemoryBus

    from ..conftest import Commands


def test_all_is_well(commands: Commands) -> None:
    """On a healthy bus it lists its checks, and ends with 0."""
    commands.services()
    findings = commands.json("doctor")
    assert {finding["level"] for finding in findings} == {"ok"}
    checks = [finding["check"] for finding in findings]
    assert checks == ["bus", "interfaces", "sockets", "data directory", "open files", "peers", "versions"]
    text = commands.text("doctor")
    assert "ok      peers: 2 answer, the slowest in " in text
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [80, 140])
def test_long_finding_is_wrapped_between_words(commands: Commands, columns: int) -> None:
    """On a terminal a long finding is wrapped between words, indented."""
    commands.services()
    with commands.on_terminal(columns, "doctor") as terminal:
        terminal.wait_for_line("^ok      versions: ")
        assert terminal.wait() == 0
    lines = terminal.lines[next(n for n, line in enumerate(terminal.lines) if "ok      bus: " in line) :]
    assert all(len(line) <= columns and line.startswith(("ok      ", " " * 8)) for line in lines)
    shown = " ".join(line.strip() for line in lines)
    assert "one key on each host opens it to the LAN: lightbus keys init." in shown


def test_errors_make_the_exit_code_2(commands: Commands, tmp_path: Path) -> None:
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


ODD = """
import lightbus
from lightbus.engine import peer_api
from lightbus.engine import events_api

async def health(self):
    return {"healthy": True, "problems": [], "losses": 7, "refused": []}

peer_api.PeerApi.health = health
events_api._dead_page = lambda journals, group, skip: [{"group": group}]
events_api._counted = lambda described, positions, journals: {"api": 1}
"""


def test_a_worker_that_answers_as_none_does(commands: Commands) -> None:
    """A worker with invalid answers is named, and the others are shown, by every command."""
    commands.serve("auth").wait_for_line("Ready")
    commands.listening("shop")
    commands.serve("auth", where="odd", replace=("import lightbus", ODD)).wait_for_line("Ready")
    found = commands.run("doctor", code=1)
    assert re.search(r"warning answers: auth .* sent an invalid answer to internal\.(peer|events)\.\w+", found.stdout)
    assert "ok      peers: 3 answer" in found.stdout
    for command in (["groups", "list"], ["lag"], ["dead", "list"]):
        shown = commands.run(*command, code=3)
        assert re.search(r"auth .* does not answer that: auth .* its answer", shown.stderr)
    [group] = commands.json("groups", "list", code=3)
    assert group["members"] != {}
    assert len(commands.json("peers")) == 3


SLOW = """
import asyncio
import lightbus
from lightbus.engine import events_api

async def groups(self, api="", after=(), limit=0):
    await asyncio.Event().wait()

events_api.EventsApi.groups = groups
"""


def test_a_worker_that_does_not_answer_in_time(commands: Commands) -> None:
    """It is a warning, even if all other findings are good."""
    commands.serve("auth", replace=("import lightbus", SLOW)).wait_for_line("Ready")
    found = commands.run("doctor", code=1)
    assert re.search(r"warning answers: auth .* did not answer internal\.events\.groups within", found.stdout)


def test_a_check_that_cannot_be_made_hides_no_other(
    one_hangs: MemoryBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when all workers end while it checks: that is a finding, and the exit code is one of its own."""

    async def fails(context: CheckContext) -> AsyncIterator[Finding]:
        yield Finding(level=Level.OK, check="groups", text="one is well.")
        raise NotReachable("No peer is on the bus.")

    async def works(context: CheckContext) -> AsyncIterator[Finding]:
        yield Finding(level=Level.OK, check="names", text="differ.")

    monkeypatch.setattr(doctor, "CHECKS", {"groups": fails, "names": works})
    assert asyncio.run(on_connection(MemoryConnection(one_hangs), doctor._run_checks)) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["check"], each["level"]) for each in told] == [
        ("groups", "ok"),
        ("groups", "warning"),
        ("names", "ok"),
    ]
    assert told[1]["text"] == "could not be checked: No peer is on the bus."
