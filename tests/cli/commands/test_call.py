"""`lightbus call`, as a process, against real workers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import Processes
from helpers.asgi import MemoryConnection, on_connection
from lightbus.cli.commands.call import _call, noting_timeouts
from lightbus.cli.support.connection import Connection
from lightbus.exceptions import LightbusTimeout, UnknownApi

if TYPE_CHECKING:
    from lightbus.core.peers import Peer
    from lightbus.testing import MemoryBus

    from ..conftest import Commands


def test_result_is_shown_as_json(commands: Commands) -> None:
    """The result is JSON, a string is shown unchanged; a number is sent as text if the schema wants text."""
    commands.services()
    assert commands.text("call", "auth.check_password", "username=admin", "password=1234") == "true\n"
    assert commands.text("call", "auth.echo", "value=12") == "12\n"
    [told] = commands.json("call", "shop.orders.place", "username=sally")
    assert 0 < told.pop("seconds") < 5
    assert told == {"api": "shop.orders", "procedure": "place", "result": False}


def test_arguments_from_elsewhere(commands: Commands, processes: Processes, tmp_path: Path) -> None:
    """All arguments may come from a file, a value from a file, and either from standard input."""
    commands.services()
    (tmp_path / "all.json").write_text('{"username": "admin", "password": "1234"}')
    (tmp_path / "value").write_text("1234")
    assert commands.text("call", "auth.check_password", f"@{tmp_path}/all.json") == "true\n"
    assert commands.text("call", "auth.check_password", "username=admin", f"password=@{tmp_path}/value") == "true\n"
    shell = f"{sys.executable} -m lightbus call auth.echo value=- --wait 20 < {tmp_path}/value"
    process = processes.start(["sh", "-c", shell])
    assert process.wait(60) == 0, process.report()
    assert process.stdout == "1234\n"


def test_errors_have_exit_codes(commands: Commands) -> None:
    """Wrong arguments, no peer, a failed handler and a timeout have different exit codes."""
    commands.services()
    assert "password" in commands.run("call", "auth.check_password", "username=admin", code=2).stderr
    assert "'admin' is not an argument" in commands.run("call", "auth.check_password", "admin", code=2).stderr
    assert "no procedure 'nix'" in commands.run("call", "auth.nix", code=3).stderr
    assert "use `lightbus fire`" in commands.run("call", "auth.user_registered", code=3).stderr
    assert "RuntimeError: as it should" in commands.run("call", "auth.fail", code=5).stderr
    assert "the API 'nix'" in commands.run("call", "nix.da", "--wait", "1", code=3).stderr


def test_all_and_one_peer(commands: Commands) -> None:
    """`--all` asks every peer that serves the API and shows each answer; `--peer` asks the one that is named."""
    for name in ("left", "right"):
        commands.serve("auth", "--process-name", name, where=name).wait_for_line("Ready")
    told = commands.json("call", "auth.echo", "value=x", "--all")
    assert sorted((each["process"], each["result"]) for each in told) == [("left", "x"), ("right", "x")]
    failed = commands.json("call", "auth.fail", "--all", code=5)
    assert [each["error"] for each in failed] == ["worker_error", "worker_error"]
    assert [each["process"] for each in commands.json("call", "auth.echo", "value=x", "--peer", "left")] == ["left"]
    text = commands.text("call", "auth.echo", "value=x", "--all")
    assert sorted(text.splitlines()) == ["auth left: ", "auth right: ", "x", "x"]


HANGS = """async def fail(self) -> None:
        import asyncio
        print("called", flush=True)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
"""


def test_ctrl_c_is_quiet(commands: Commands) -> None:
    """Ctrl-C ends a command without a word, with the code that shells have for it; its call is cancelled."""
    auth = commands.serve(
        "auth", replace=('def fail(self) -> None:\n        raise RuntimeError("as it should")\n', HANGS)
    )
    auth.wait_for_line("Ready")
    process = commands.start("call", "auth.fail", "--timeout", "60")
    auth.wait_for_line("^called$")
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.output == ""
    auth.wait_for_line("^cancelled$")


WORDS = ("username=admin", "password=secret")


@pytest.mark.parametrize("everybody", [False, True])
def test_schema_of_another_peer_is_taken_where_one_hangs(
    one_hangs: MemoryBus, capsys: pytest.CaptureFixture[str], everybody: bool
) -> None:
    """A peer that does not answer keeps nobody from calling the others."""

    async def use(bus: Connection) -> int:
        return await _call(bus, "auth.check_password", WORDS, None, None, everybody=everybody)

    assert asyncio.run(on_connection(MemoryConnection(one_hangs), use)) == 0
    results = [json.loads(line)["result"] for line in capsys.readouterr().out.splitlines()]
    assert results == [True] * (2 if everybody else 1)


def test_peers_that_have_just_ended_are_an_error(one_hangs: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with --all, where they were found and are gone at the second look."""

    async def nobody(bus: Connection) -> list[Peer]:
        return []

    async def use(bus: Connection) -> int:
        monkeypatch.setattr(Connection, "discover_all", nobody)
        return await _call(bus, "auth.check_password", WORDS, None, None, everybody=True)

    with pytest.raises(UnknownApi, match="No peer that is up serves 'auth'"):
        asyncio.run(on_connection(MemoryConnection(one_hangs), use))


def test_timeouts_name_the_option(one_hangs: MemoryBus, capsys: pytest.CaptureFixture[str]) -> None:
    """An error about time is followed up by an option; one of which nothing was done is not."""
    bus = MemoryConnection(one_hangs)
    bus.output.as_json = False
    for error, is_noted in ((LightbusTimeout("5 s"), True), (UnknownApi("nobody"), False)):
        with pytest.raises(type(error)), noting_timeouts(bus):
            raise error
        assert ("--timeout SECONDS" in capsys.readouterr().err) is is_noted
    asyncio.run(bus.close())
