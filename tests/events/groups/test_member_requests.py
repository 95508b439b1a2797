"""Requests to join groups, and their answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.group_talk import B, C, Talk, run
from helpers.publishing import Publishes
from lightbus.events.groups import group_directory, member_requests
from lightbus.wire.envelope import (
    Assign,
    Error,
    Fetch,
    Open,
    Streams,
)


def test_a_member_that_opens_foreign_partitions(tmp_path: Path) -> None:
    """It gets its own partitions in the answer, and no others."""

    async def test(publisher: Publishes) -> None:
        one, two = Talk(publisher, b"one"), Talk(publisher, b"two")
        await one.join(B)
        second = await two.join(C)
        assert isinstance(second, Assign)
        opened = await two.ask(Open("auth", "shop", second.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert opened.partitions == []

    run(tmp_path, test)


def test_joining_elsewhere_is_refused(tmp_path: Path) -> None:
    """Another instance, and an API that is not published here, are refused with the reason."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        for fields, code in (({"target": C}, "peer_refused"), ({"api": "else"}, "unknown_api")):
            error = await talk.join(**fields)
            assert isinstance(error, Error)
            assert error.code == code
        error = await talk.ask(Fetch("auth", "0" * 16, "seen", 0, 0, 10))
        assert isinstance(error, Error)
        assert "does not serve the journal" in error.message
        assert publisher.coordinator.groups == {}

    run(tmp_path, test)


def test_groups_and_members_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names come from other processes, and are stored on disk."""
    monkeypatch.setattr(group_directory, "MAX_GROUPS", 2)
    monkeypatch.setattr(member_requests, "MAX_MEMBERS", 2)

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assert [type(await talk.join(group=group)) for group in ("one", "two", "three", "one")] == [
            Assign, Assign, Error, Assign,
        ]  # fmt: skip
        connections = {member: Talk(publisher, member.encode()) for member in "bcd"}
        assert {type(await connections[each].join(member=each * 16, group="one")) for each in "bc"} == {Assign}
        refused = await connections["d"].join(member="d" * 16, group="one")
        assert isinstance(refused, Error)
        assert refused.code == "peer_busy"


def test_a_connection_has_one_member_in_a_group(tmp_path: Path) -> None:
    """After several joins, only the last member counts: the others hold nothing, and are not waited for."""

    async def test(publisher: Publishes) -> None:
        honest, liar = Talk(publisher, b"honest"), Talk(publisher, b"liar")
        await honest.join(B)
        for n in range(50):
            await liar.join(f"{n:016x}")
        await liar.join(C, group="mail")  # another group is another matter
        group = publisher.coordinator.groups["auth", "shop"]
        assert {*group.connections} == {*group.membership.members} == {B, f"{49:016x}"}

    run(tmp_path, test)
