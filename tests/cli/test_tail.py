"""`lightbus tail`, as a process, against real workers."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Commands


@pytest.mark.timeout(90)
def test_tail(commands: Commands) -> None:
    """Live events are shown in both forms, those that are kept with --since, and no group is made of it."""
    commands.services()
    following = commands.start("tail", "auth.*")
    following.wait_for_line("Following the events of auth")
    other = commands.start("tail", "shop.*", "--json")
    commands.run("fire", "auth.user_registered", "username=sally")
    following.wait_for_line(r'auth\.user_registered +\{"username": "sally", "age": 0\}')
    following.signal(signal.SIGINT)
    assert following.wait(20) == 0
    other.signal(signal.SIGTERM)
    other.wait(20)
    assert other.stdout == ""
    [kept] = commands.json("tail", "--since", "0", "--count", "1")
    assert (kept["api"], kept["event"], kept["kwargs"]["username"]) == ("auth", "user_registered", "sally")
    assert [group["name"] for group in commands.json("groups", "list")] == ["shop-greeter"]


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", ""])
def test_since_when_nothing_can_be(commands: Commands, since: str) -> None:
    """What is no time and no id is refused, with what can be written."""
    process = commands.run("tail", "--since", since, code=2)
    assert f"{since!r} is no id of an event, and no date and time." in " ".join(process.stderr.split())
