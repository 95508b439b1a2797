"""The reports of publishers on their events, and notes about those that do not answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from helpers.scripted_bus import Answer, ScriptedBus, peer
from lightbus.cli.support.connection import Connection
from lightbus.cli.support.publishers import (
    ask_each,
    ask_for_groups,
    ask_publishers,
    code_of,
    groups_on_bus,
    no_such_group,
    nothing_shown,
)
from lightbus.core.peers import Peer, PeerState
from lightbus.events.listening.group_pages import PAGE
from lightbus.exceptions import LightbusTimeout, NotReachable, ProtocolError, UnknownProcedure

ONE, TWO = peer("auth", instance="1" * 16), peer("shop", instance="2" * 16)
SILENT = peer("mail", instance="3" * 16, state=PeerState.SUSPECT)


def bus_of(*answers: Answer, peers: list[Peer]) -> tuple[ScriptedBus, Connection]:
    """Return a bus with these peers."""
    bus = ScriptedBus(*answers)
    bus.peers = peers
    return bus, cast(Connection, bus)


def ask(connection: Connection) -> list[tuple[str, Any]]:
    """Return who answered what."""
    told = asyncio.run(ask_publishers(connection, "journals"))
    return [(each.announcement.service, answer) for each, answer in told]


def test_who_keeps_nothing_is_left_out() -> None:
    """The others' answers come with who gave them."""
    bus, connection = bus_of([1], None, peers=[ONE, TWO])
    assert ask(connection) == [("auth", [1])]
    assert (bus.notes, code_of(connection)) == ([], 0)


def test_silent_publisher_is_noted_once() -> None:
    """A note says that its events are missing, and the exit code is 3."""
    bus, connection = bus_of([1], peers=[ONE, SILENT])
    for _ in range(2):
        assert ask(connection) == [("auth", [1])]
    [note] = bus.notes
    assert "mail" in note
    assert "does not answer (suspect): what it keeps is not shown" in note
    assert code_of(connection) == NotReachable.exit_code
    assert nothing_shown(connection, "There is nothing.") == "There is nothing, as far as publishers answer."


def test_ended_publisher_is_noted_once() -> None:
    """Its events will be served by another peer: nothing is lost, and the exit code is 0."""
    bus, connection = bus_of([1], peers=[ONE])
    bus.gone = [TWO.announcement]
    for _ in range(2):
        ask(connection)
    [note] = bus.notes
    assert "what it kept is shown once a worker here serves it" in note
    assert code_of(connection) == 0
    assert nothing_shown(connection, "There is nothing.") == "There is nothing."


@pytest.mark.parametrize("quietly", [False, True])
def test_an_answer_that_is_an_error(quietly: bool) -> None:
    """It is noted, unless `quietly`."""
    bus, connection = bus_of(LightbusTimeout("busy"), [2], peers=[ONE, TWO])
    told = asyncio.run(ask_each(connection, bus.peers, "journals", quietly=quietly))
    assert [answer for _, answer in told] == [[2]]
    said = "does not answer that: auth 1111… on host h did not answer internal.events.journals within "
    assert (said in "".join(bus.notes)) is not quietly
    assert bool(bus.silent) is not quietly


def test_an_answer_that_no_worker_gives() -> None:
    """It is noted, and recorded for doctor; the answers of the others are used."""
    _, connection = bus_of(ProtocolError("no list"), [2], peers=[ONE, TWO])
    told = asyncio.run(ask_each(connection, [ONE, TWO], "journals"))
    assert [answer for _, answer in told] == [[2]]
    assert connection.unanswered == {ONE.instance: "no list"}
    assert code_of(connection) == NotReachable.exit_code


def test_an_older_version_is_no_fault() -> None:
    """A missing procedure is not recorded as an error; a timeout is."""
    _, connection = bus_of(UnknownProcedure("no journals"), LightbusTimeout("1 s"), peers=[ONE, TWO])
    asyncio.run(ask_each(connection, [ONE, TWO], "journals"))
    assert [*connection.unanswered] == [TWO.instance]
    assert "did not answer internal.events.journals within " in connection.unanswered[TWO.instance]


def test_groups_on_the_bus() -> None:
    """Each group as each publisher reports it, sorted, with the publisher."""

    def group(api: str, name: str) -> dict[str, Any]:
        return {"api": api, "name": name}

    bus, connection = bus_of([group("shop", "mail"), group("auth", "shop")], [group("shop", "mail")], peers=[TWO, ONE])
    found = asyncio.run(groups_on_bus(connection, api="shop"))
    assert [(each["api"], each["name"], each["publisher"]) for each in found] == [
        ("auth", "shop", "shop"), ("shop", "mail", "auth"), ("shop", "mail", "shop"),
    ]  # fmt: skip
    assert found[1]["instance"] == ONE.instance
    assert bus.questions == [{"api": "shop", "after": [], "limit": PAGE}] * 2


def test_groups_are_asked_for_page_by_page() -> None:
    """The groups of a publisher with endless pages are left out, with a note; the others are shown."""

    def page(*names: str) -> list[Any]:
        return [{"api": "shop", "name": name} for name in names]

    full = page(*(f"{number:04}" for number in range(PAGE)))
    _, connection = bus_of(full, page("mail"), peers=[ONE])
    [(_, groups)] = asyncio.run(ask_for_groups(connection, [ONE], api="shop"))
    assert groups == full + page("mail")
    bus, connection = bus_of(full, full, page("mail"), peers=[ONE, TWO])
    assert asyncio.run(ask_for_groups(connection, [ONE, TWO])) == [(TWO, page("mail"))]
    assert "does not answer that: its list of groups has no end" in "".join(bus.notes)
    assert code_of(connection) == NotReachable.exit_code


def test_an_unknown_group() -> None:
    """The error lists the known ones."""
    assert str(no_such_group("mial", ["mail", "audit", "mail"])) == (
        "No publisher knows the group 'mial'. There are: audit, mail."
    )
    assert str(no_such_group("mail", [])).endswith("There are: none.")
