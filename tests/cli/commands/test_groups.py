"""`lightbus groups`, as a process, against real workers."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from helpers import wait_until
from helpers.journals import group
from lightbus.adapters.sqlite.journal_directory import JournalDirectory
from lightbus.config import load_config
from lightbus.events.publishing.journal_set import directory_of

if TYPE_CHECKING:
    from helpers.surroundings import Surroundings

    from ..conftest import Commands


@pytest.mark.long
def test_groups_are_shown_and_forgotten(commands: Commands) -> None:
    """A group is shown with its lag, members and losses; doctor reports one without members, until it is removed."""
    _, shop = commands.services()
    commands.listening("mail")
    commands.run("fire", "auth.user_registered", "username=ada")
    shop.wait_for_line("^welcome ada")
    wait_until(lambda: commands.look("dead", "list"), 10)
    groups = {group["name"]: group for group in commands.json("groups", "list")}
    assert set(groups) == {"shop-greeter", "mail-fails"}
    assert (groups["shop-greeter"]["lag"], len(groups["shop-greeter"]["members"])) == (0, 1)
    assert re.search(r"^auth +shop-greeter +user_registered ", commands.text("groups", "list"), re.MULTILINE)
    shop.ask_to_end()
    shop.wait()
    commands.run("fire", "auth.user_registered", "username=ada")
    found = [each["text"] for each in commands.json("doctor", code=1) if each["check"] == "groups"]
    assert any("shop-greeter of auth at auth" in text and "1 events to handle and no process" in text for text in found)
    assert "shop-greeter of auth is forgotten by 1 publishers\n" in commands.text("groups", "remove", "shop-greeter")


def test_two_programs_under_one_name(commands: Commands) -> None:
    """Each of them logs that it gets only a part, and `groups list` shows it: both are a `bus.py`."""
    _, shop = commands.services()
    other = commands.serve(
        "mail", "--service-name", "shop", replace=('listener_name="fails"', 'listener_name="greeter"')
    )
    for process in (shop, other):
        process.wait_for_line("Another program listens under the group shop-greeter of auth, too")
    assert [group["mixed"] for group in commands.json("groups", "list")] == [True]


@pytest.mark.long
def test_publishers_that_do_not_answer(commands: Commands) -> None:
    """Lists name them, and do not claim that there is nothing: nor do exit codes."""
    auth, _ = commands.services()
    auth.signal(signal.SIGSTOP)
    try:
        for command, claim in (
            (("lag",), "No publisher knows a group"),
            (("groups", "list"), "No publisher knows a group"),
            (("dead", "list"), "There are no dead letters"),
            (("dead", "retry", "all"), "There are no dead letters"),
        ):
            stderr = commands.run(*command, code=3).stderr
            assert re.search(r"auth \S+ on host \S+ does not answer \(\w+\): what it keeps is not shown", stderr)
            assert f"{claim}, as far as publishers answer." in stderr
    finally:
        auth.signal(signal.SIGCONT)


def test_a_group_is_forgotten_without_a_worker(commands: Commands, surroundings: Surroundings) -> None:
    """It is removed from this host's journals that wait for a worker; journals in use are named."""
    place = directory_of(load_config(service_name="cli"), surroundings.bus)
    nobody = commands.run("groups", "remove", "mail", "--wait", "0.2", code=3).stderr
    assert "No peer is on the bus" in nobody
    for service, names in (("one", ("mail", "audit")), ("two", ("mail",))):
        journal = JournalDirectory(place / service, host="h").open_own()
        for name in names:
            journal.groups.save(group(name))
        journal.close()
    error = commands.run("groups", "remove", "mial", "--wait", "0.2", code=3).stderr
    assert "No publisher knows the group 'mial'. There are: audit, mail." in error
    assert commands.json("groups", "remove", "mail", "--wait", "0.2") == [
        {"api": "auth", "group": "mail", "publishers": 0, "journals": 2}
    ]
    used = JournalDirectory(place / "one", host="h").open_own()
    error = commands.run("groups", "remove", "audit", "--wait", "0.2", code=3).stderr
    assert f"Not forgotten in {used.path}: a process that does not answer has it in use." in error
    used.close()
    text = commands.text("groups", "remove", "audit", "--wait", "0.2")
    assert text == "audit of auth is forgotten in 1 journals of this host that no worker serves\n"
