"""`lightbus describe`, as a process, against real workers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from helpers.asgi import MemoryConnection, on_connection
from lightbus.cli.commands.describe import _describe

if TYPE_CHECKING:
    import pytest

    from lightbus.testing import MemoryBus

    from ..conftest import Commands


def test_api_is_described_with_servers_and_listening_groups(commands: Commands) -> None:
    """An API is shown in its author's words, with who serves it and which groups listen."""
    commands.services()
    text = commands.text("describe", "auth")
    assert "auth, version 1\nUsers, in memory." in text
    assert "check_password(username: str, password: str) -> bool\n" in text
    assert "Return whether this is the user's password." in text
    assert "user_registered(username, age: int = 0)  (at least once, in order by username)" in text
    assert "shop-greeter: user_registered" in text
    [told] = commands.json("describe", "auth.check_password")
    [check] = told["procedures"]
    assert check["parameters"]["required"] == ["username", "password"]
    assert check["response"]["type"] == "boolean"
    assert (told["events"], told["groups"], told["mixed"]) == ([], [], False)


TYPED = """
import dataclasses

@dataclasses.dataclass
class Street:
    name: str

@dataclasses.dataclass
class Address:
    street: Street
    city: str = "Bern"

class AuthApi(lightbus.Api):
    def where(self, username: str) -> list[Address]:
        return []
"""


def test_types_are_explained(commands: Commands) -> None:
    """The fields of types in signatures are shown, and with --depth those of their types."""
    commands.serve("auth", replace=("class AuthApi(lightbus.Api):", TYPED)).wait_for_line("Ready")
    shown = commands.run("describe", "auth", env={"COLUMNS": "80"})
    assert '\nTypes\n  Address\n    street: Street\n    city: str = "Bern"\n' in shown.stdout
    assert "Not explained: Street (--depth 2)." in shown.stderr
    assert "  Street\n    name: str\n" in commands.text("describe", "auth", "--depth", "2")
    [told] = commands.json("describe", "auth.where")
    assert [each["name"] for each in told["types"]] == ["Address"]
    assert told["more_types"] == ["Street"]


def test_groups_without_a_process_are_shown(commands: Commands) -> None:
    """Groups without a process and listeners without a group are shown; commands are left out."""
    _, shop = commands.services()
    tail = commands.start("tail")
    tail.wait_for_line("Following")
    commands.listening("mail", replace=('listener_name="fails"', 'listener_name="all", group=None'))
    shop.ask_to_end()
    shop.wait()
    [told] = commands.json("describe", "auth")
    groups = {each["group"]: (each["events"], each["processes"], each["shared"]) for each in told["groups"]}
    assert groups == {
        "shop-greeter": (["user_registered"], 0, True),
        "mail-all": (["user_registered"], 1, False),
    }
    text = commands.text("describe", "auth.user_registered")
    assert "  shop-greeter: user_registered, no process now\n" in text
    assert "  mail-all: user_registered, each process everything (1)\n" in text
    assert "lightbus-cli" not in commands.text("graph")
    assert tail.running


def test_mixed_versions_are_flagged_and_the_latest_described(commands: Commands) -> None:
    """If two versions are served, both lists flag it, and the latest is described."""
    for version in (1, 2):
        commands.serve("auth", version=version, where=f"auth-{version}").wait_for_line("Ready")
    [api] = commands.json("apis")
    assert (api["versions"], api["mixed"]) == ([2, 1], True)
    assert "2, 1 (mixed)" in commands.text("apis")
    text = commands.text("describe", "auth")
    assert text.startswith("auth, version 2\n")
    assert "MIXED: its peers do not all serve the same" in text


def test_unknown_name_is_answered_with_near_ones(commands: Commands) -> None:
    """A name that is not there ends with near ones."""
    commands.services()
    assert "Did you mean 'auth'?" in commands.run("describe", "aut", code=3).stderr
    assert "Did you mean 'check_password'?" in commands.run("describe", "auth.check_pasword", code=3).stderr


def test_another_peer_describes_it_where_one_hangs(one_hangs: MemoryBus, capsys: pytest.CaptureFixture[str]) -> None:
    """Any peer that serves the same form of the API will do."""
    asyncio.run(on_connection(MemoryConnection(one_hangs), lambda bus: _describe(bus, "auth", 1)))
    told = json.loads(capsys.readouterr().out)
    assert ([each["name"] for each in told["events"]], len(told["peers"])) == (["user_registered"], 2)
