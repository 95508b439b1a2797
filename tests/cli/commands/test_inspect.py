"""`lightbus inspect`, as a process, against real workers, and what its conditions mean."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from helpers import wait_until
from helpers.asgi import MemoryConnection, on_connection
from lightbus.cli.commands.history import _HistoryQuery
from lightbus.cli.commands.inspect import Search, _Inspection
from lightbus.cli.support import publishers
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.filters import MessageFilter
from lightbus.exceptions import LightbusTimeout

if TYPE_CHECKING:
    from lightbus.testing import MemoryBus

    from ..conftest import Commands

EVENT = {
    "id": "i-1", "native_id": "j-1", "api": "shop.orders", "event": "placed", "version": 2, "kwargs": {"n": 3},
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({}, True),
        ({"id": "i-1"}, True),
        ({"id": "i-2"}, False),
        ({"api": "shop.*", "event": "pl*"}, True),
        ({"api": "shop"}, False),
        ({"event": "p"}, False),
        ({"version": ("=", 2)}, True),
        ({"version": ("<", 2)}, False),
        ({"version": (">=", 2)}, True),
    ],
)
def test_all_conditions_have_to_hold(given: dict[str, Any], matches: bool) -> None:
    """Each condition has to hold."""
    assert Search(**given).matches(EVENT) is matches


def test_internal_events_are_shown_when_asked_for() -> None:
    """Internal events are found with the option, or by the API's name."""
    event = {**EVENT, "api": "internal.state"}
    shown = [Search(**given).matches(event) for given in ({}, {"internal": True}, {"api": "int*"}, {"id": "i-1"})]  # type: ignore[arg-type]
    assert shown == [False, True, True, True]


@pytest.mark.long
def test_each_filter_finds_its_events(commands: Commands) -> None:
    """Each filter finds its events, in each format; unknown names are reported, with an exit code."""
    auth, _ = commands.services()
    for name, age in (("sally", 31), ("ada", 36), ("bob", 7)):
        commands.run("fire", "auth.user_registered", f"username={name}", f"age={age}")
    every = commands.json("inspect")
    assert [each["kwargs"]["username"] for each in every] == ["sally", "ada", "bob"]
    sally, ada, bob = every

    def found(*args: str, code: int = 0) -> list[dict[str, Any]]:
        return commands.json("inspect", *args, code=code)

    assert found("--json-path", "age>=31", "--version", "1", "--api", "a*", "--event", "user_*") == [sally, ada]
    assert found("-j", "username=bob", "--count", "1") == [bob]
    assert found("--id", ada["id"]) == found("--native-id", ada["native_id"]) == [ada]
    assert found("--version", ">1") == found("--api", "shop.*") == []
    assert found("-n", ada["native_id"], "-e", "no", code=3) == []
    assert found("--native-id", ada["native_id"] + "0", code=3) == []
    assert found("--id", "nix", code=3) == []

    assert "Did you mean 'auth'?" in commands.run("inspect", "--api", "auht", code=3).stderr
    misspelt = commands.run("inspect", "--api", "auth", "--event", "user_registred", code=3).stderr
    assert "'auth' has no event 'user_registred', and no journal has one. Did you mean 'user_registered'?" in misspelt

    plain = commands.run("inspect", "--id", ada["id"])  # into a pipe: as with --json
    assert [json.loads(line) for line in plain.stdout.splitlines()] == [ada]
    assert json.loads(commands.text("inspect", "--id", ada["id"], "--format", "pretty")) == ada
    human = commands.text("inspect", "--id", ada["id"], "-F", "human", "--validate")
    assert "auth.user_registered  version 1" in human
    assert [line.strip() for line in human.splitlines()[2:]] == ['username: "ada"', "age: 36", "valid"]
    assert "no local cache" in commands.run("inspect", "--cache-only", "-b", "bus").stderr
    assert "'new' is not a version" in commands.run("inspect", "--version", "new", code=2).stderr
    assert "is not a path" in commands.run("inspect", "--json-path", "=3", code=2).stderr
    assert "is not a native id" in commands.run("inspect", "--native-id", "nix", code=2).stderr

    following = commands.start("inspect", "--follow", "--json-path", "age=99")
    other = commands.start("inspect", "--follow", "--count", "4")
    other.wait_for_line('"bob"')  # it has read what there is
    commands.run("fire", "auth.user_registered", "username=eve", "age=99")
    following.wait_for_line('"eve"')
    following.signal(signal.SIGINT)
    assert following.wait(60) == 0
    assert following.stdout.count("\n") == 1
    assert other.wait(60) == 0

    auth.ask_to_end()
    auth.wait()  # and who else is on this host sees to its journal
    names = ["sally", "ada", "bob", "eve"]
    wait_until(lambda: [each["kwargs"]["username"] for each in commands.look("inspect")] == names, 30)


@pytest.mark.parametrize("is_valid", [False, True])
def test_invalid_event_is_shown_with_the_reason(commands: Commands, is_valid: bool) -> None:
    """
    An event that does not satisfy the schema of today is shown with the reason, and the exit code tells.

    One that has an argument more than that is given to listeners, and so it is valid.
    """
    auth, _ = commands.services()
    commands.run("fire", "auth.user_registered", "username=sally", "age=31")
    auth.ask_to_end()
    auth.wait()
    change = ("age", "years") if is_valid else ("int, default=0", "list, default=()")
    commands.serve("auth", version=2, replace=change).wait_for_line("Ready")
    # Its journal is continued by the new one, or adopted by whichever process comes first: a moment may pass.
    wait_until(lambda: commands.look("inspect"), what="the event is in a journal that somebody serves")
    [event] = commands.json("inspect", "--validate", code=not is_valid)
    assert event["valid"] is is_valid
    if is_valid:
        assert event["problem"] is None
        return
    assert "age" in event["problem"]
    assert "invalid: " in commands.text("inspect", "--validate", "--format", "human", code=1)


@pytest.mark.parametrize("columns", [80, 140])
def test_terminal_output_leaves_no_progress_bar(commands: Commands, columns: int) -> None:
    """On a terminal the output is text; the bar is removed, and control characters are escaped."""
    commands.services()
    commands.run("fire", "auth.user_registered", "username=\x1b[2Jsally")
    with commands.on_terminal(columns, "inspect") as terminal:
        terminal.wait_for_line(r'^    username: "\\u001b\[2Jsally"$')
        assert terminal.wait() == 0
        head, where, *arguments = terminal.lines[-4:]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  auth\.user_registered  version 1", head)
        assert where.startswith("    id ")
        assert arguments[1] == "    age: 0"


@pytest.mark.parametrize("command", ["inspect", "history"])
def test_missing_events_are_no_success(one_hangs: MemoryBus, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Where a publisher does not answer, its events may be missing: exit code 3, with --json as well."""
    ask = publishers._ask
    asked: list[str] = []

    async def one_silent(bus: Connection, peer: Any, procedure: str, kwargs: dict[str, Any]) -> Any:
        asked.append(peer.instance)
        if peer.instance == asked[0]:
            raise LightbusTimeout("it does not answer")
        return await ask(bus, peer, procedure, kwargs)

    monkeypatch.setattr(publishers, "_ask", one_silent)

    async def use(bus: Connection) -> int:
        if command == "history":
            return await _HistoryQuery(bus, MessageFilter(), (None, None), internal=False).run(20)
        return await _Inspection(bus, Search(), "json", validate=False).run([], None, follow=False)

    assert asyncio.run(on_connection(MemoryConnection(one_hangs), use)) == 3
    assert len({*asked}) == 2
