"""If members and their publisher have different records of a group, these are corrected."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, Talk, run
from helpers.publishing import Publishes
from lightbus.recurring import MOST_LINES
from lightbus.wire.envelope import (
    Ack,
    Assign,
    Beat,
    Error,
)


def test_a_beat_corrects_missed_messages(tmp_path: Path) -> None:
    """A lost ASSIGN or RELEASE, and a group that was removed and created again under its name."""

    async def test(publisher: Publishes) -> None:
        one, two = Talk(publisher, b"one"), Talk(publisher, b"two")
        first = await one.join(B)
        assert isinstance(first, Assign)
        await two.join(C)
        await wait_until_async(lambda: len(one.heard) == 2)
        asked_back = one.heard[-1]  # and say that it was lost
        assert isinstance(asked_back, Assign)
        names = [["auth", "shop"]]
        before = len(one.heard)
        publisher.handle(b"one", 0, Beat(names, [[first.generation, first.partitions]]))
        await wait_until_async(lambda: len(one.heard) == before + 2)
        assert one.heard[before][:5] == asked_back[:5]  # type: ignore[index]
        assert one.heard[before + 1] == Beat(names, [[0]])
        [group] = publisher.coordinator.groups.values()
        assert group.membership.held_by(C) == []
        state = [asked_back.generation, first.partitions]  # it has not finished yet
        assert await one.ask(Beat(names, [state])) == Beat(names, [[0]])
        assert group.membership.held_by(C) == []
        state = [asked_back.generation, asked_back.partitions]  # it has, and its RELEASE was lost
        assert await one.ask(Beat(names, [state])) == Beat(names, [[0]])
        assert group.membership.held_by(C) == sorted({*range(16)} - {*asked_back.partitions})
        assert await one.ask(Beat(names, [[0, []]])) == Beat(names, [[0]])  # it is about to join
        publisher.coordinator.directory.forget("auth", "shop")
        again = await one.join(B)
        assert isinstance(again, Assign)
        assert await one.ask(Beat(names, [[again.generation + 5, []]])) == Beat([], [])

    run(tmp_path, test)


def test_endless_joins_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Joins under ever new names of groups, members and programs are logged a limited number of times a minute."""
    caplog.set_level(logging.INFO, "lightbus.groups")

    async def test(publisher: Publishes) -> None:
        talks = Talk(publisher, b"one"), Talk(publisher, b"two")
        for number in range(5 * MOST_LINES):
            member = f"{number:016x}"
            await talks[number % 2].join(member, f"group-{number // 4}", digest=f"{number % 4}")
        assert publisher.coordinator.counts["mixed"] > 3 * MOST_LINES

    run(tmp_path, test)
    assert 2 * MOST_LINES <= len(caplog.records) <= 3 * MOST_LINES
    for text in ("Two different programs listen", "has joined again as"):
        assert any(text in line and line.endswith("held back for 60 s)") for line in caplog.messages)


def test_a_non_member_is_told_to_join(tmp_path: Path) -> None:
    """A restarted publisher knows no members; it answers a beat with a request to join."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        error = await talk.ask(Ack("auth", "shop", 1, []))
        assert isinstance(error, Error)
        assert (error.code, "join again" in error.message) == ("peer_refused", True)
        assert await talk.ask(Beat([["auth", "shop"]])) == Beat([])
        await talk.join()
        assert await talk.ask(Beat([["auth", "shop"], ["auth", "else"]])) == Beat([["auth", "shop"]], [[0]])

    run(tmp_path, test)
