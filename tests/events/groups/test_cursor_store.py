"""Acknowledged positions are on disk before they are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError
from lightbus.wire.envelope import (
    Ack,
    Acked,
    Assign,
    Streams,
)


def test_a_journal_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An acknowledgement that cannot be stored is not answered, and is stored with the next successful one."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        change = journal.change

        def full(*_: Any) -> None:
            raise JournalError("the disk is full")

        journal.change = full  # type: ignore[method-assign]
        before = len(talk.heard)
        ack = Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]])
        publisher.handle(b"me", 1, ack)
        publisher.coordinator.cursors.save()
        assert (len(talk.heard), "Acknowledgements were not stored: the disk is full" in caplog.text) == (before, True)
        journal.change = change  # type: ignore[method-assign]
        publisher.coordinator.cursors.save()
        assert journal.cursors.of("auth", "shop") == {topic: head}

    run(tmp_path, test)


def test_a_group_is_removed_just_after_it_has_acknowledged(tmp_path: Path) -> None:
    """Its position is not stored any more: a new group of its name would miss events after a restart."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        ack = Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]])
        publisher.handle(b"me", 1, ack)
        publisher.coordinator.directory.forget("auth", "shop")
        publisher.coordinator.cursors.save()
        assert journal.cursors.of("auth", "shop") == {}

    run(tmp_path, test)


def test_one_journal_of_two_fails(tmp_path: Path) -> None:
    """The acknowledgement in the other one is stored; neither is answered before both are."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join(created_at=1.0)
        assert isinstance(assigned, Assign)
        own, other = publisher.journals.own(), Journal(tmp_path / "00000000000000ff.sqlite")
        topic = Topic("auth", "seen", 3)
        for journal in (own, other):
            journal.append([NewEvent(topic, b"r", 9.0)])
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        change = own.change

        def full(*_: Any) -> None:
            raise JournalError("the disk is full")

        own.change = full  # type: ignore[method-assign]
        positions = [[journal.id, "seen", 3, journal.head] for journal in (own, other)]
        await wait_until_async(lambda: isinstance(talk.heard[-1], Streams))
        publisher.handle(b"me", 1, Ack("auth", "shop", assigned.generation, positions))
        publisher.coordinator.cursors.save()
        assert (own.cursors.of("auth", "shop"), other.cursors.of("auth", "shop")) == ({}, {topic: other.head})
        own.change = change  # type: ignore[method-assign]
        answer = await talk.ask(Ack("auth", "shop", assigned.generation, positions))  # as consumers do
        assert (answer, own.cursors.of("auth", "shop")) == (Acked([]), {topic: own.head})
        assert not any(isinstance(each, Acked) for each in talk.heard[:-1])

    run(tmp_path, test)
