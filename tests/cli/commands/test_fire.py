"""`lightbus fire`, as a process, against real workers."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..conftest import Commands


def test_event_is_fired_and_its_publisher_named(commands: Commands) -> None:
    """An event reaches its listener, with the default that was left out; both forms say who took it."""
    _, shop = commands.services()
    assert "auth.user_registered is accepted by auth " in commands.text(
        "fire", "auth.user_registered", "username=sally"
    )
    shop.wait_for_line("^welcome sally 0$")
    [told] = commands.json("fire", "auth.user_registered", json.dumps({"username": "ada", "age": 36}))
    assert told["native_id"].count("-") == 1
    shop.wait_for_line("^welcome ada 36$")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_fire_without_an_accepting_publisher(commands: Commands) -> None:
    """An event that its publisher cannot store waits on this host, which is shown; doctor has the reason."""
    commands.serve("auth", env={"LIGHTBUS_DATA_DIR": "/proc/nowhere"})
    text = commands.text("fire", "auth.user_registered", "username=ada")
    assert re.search(r"auth.user_registered waits on this host as \S+: no publisher accepts it now", text)
    text = commands.run("doctor", code=2).stdout
    assert re.search("error   health: auth .*No event can be kept here at the moment. .*/proc/nowhere", text)


def test_arguments_are_checked_before_firing(commands: Commands) -> None:
    """Arguments are validated by the advertised schema, and a procedure is not fired."""
    commands.services()
    error = commands.run("fire", "auth.user_registered", "username=ada", "age=old", code=2).stderr
    assert "age" in error
    assert "use `lightbus call`" in commands.run("fire", "auth.echo", "value=x", code=3).stderr
    assert "no event 'nix'" in commands.run("fire", "auth.nix", code=3).stderr
