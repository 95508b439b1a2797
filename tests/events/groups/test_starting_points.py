"""Starting points of groups and listeners: an event id, or a time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import A, B, C, Talk, run
from helpers.publishing import Publishes
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError
from lightbus.wire import envelope
from lightbus.wire.envelope import (
    Assign,
    Open,
    Streams,
)


def test_an_unknown_starting_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, with a group and without; ids and native ids of stored events are found."""

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        record = journal.record(journal.head)
        assert record is not None
        talk = Talk(publisher)
        for number, since in enumerate((envelope.decode_record(record).id, f"{journal.id}-{journal.head}", "0", "$")):
            await talk.join(group=f"group {number}", events=["other"], since=since)
            await talk.ask(Open("auth", "", 0, list(range(16)), ["other"], since))
        assert caplog.records == []
        for since in (f"{A}-17", f"{journal.id}-17"):
            await talk.join(group=since, since=since)
            await talk.ask(Open("auth", "", 0, list(range(16)), ["seen"], since))
        assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
            f"A listener asks for the events of auth since {A}-17",
            f"A listener asks for the events of auth since {journal.id}-17",
        ]

    run(tmp_path, test)


FAR = 2**62


def test_a_group_that_begins_beyond_the_head(tmp_path: Path) -> None:
    """The native id of an event that does not exist yet counts as the newest one."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        await talk.join(since=f"{publisher.journals.own().id}-{FAR}")
        for n in range(40):
            await publisher.fire("seen", n=n)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 40

    run(tmp_path, test)


def test_an_event_id_is_searched_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any number of events: once for all requests, and others are answered in the meantime."""

    async def test(publisher: Publishes) -> None:
        for n in range(5):
            await publisher.fire("seen", n=n)
        journal = publisher.journals.own()
        id = next(
            envelope.decode_record(entry.record).id
            for _, entry in journal.history.latest("auth", "seen")
            if envelope.decode_record(entry.record).kwargs == {"n": 2}
        )
        find, proceed, found = journal.history.find, threading.Event(), []

        def slow(*arguments: Any) -> Any:
            assert proceed.wait(60)
            found.append(find(*arguments))
            return found[-1]

        monkeypatch.setattr(journal.history, "find", slow)
        one, two, other = (Talk(publisher, name) for name in (b"one", b"two", b"other"))
        asked = [
            asyncio.ensure_future(one.join(B, group="one", since=id)),
            asyncio.ensure_future(two.ask(Open("auth", "", 0, list(range(16)), ["seen"], id))),
        ]
        assert isinstance(await other.join(C, group="other"), Assign)
        assert not any(each.done() for each in asked)
        proceed.set()
        await asyncio.gather(*asked)
        assert isinstance(one.heard[0], Assign)
        assert len(found) == 1
        group = publisher.coordinator.groups["auth", "one"]
        assert publisher.coordinator.progress.lag(group) == 2

    run(tmp_path, test)


def test_a_starting_time_is_searched_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered in the meantime; for an existing group nothing is searched."""

    async def test(publisher: Publishes) -> None:
        journal, topic = publisher.journals.own(), Topic("auth", "seen", 1)
        journal.append([NewEvent(topic, b"r", at) for at in (100.0, 200.0, 300.0)])
        position_before, proceed, looked = journal.history.position_before, threading.Event(), []

        def slow(*arguments: Any) -> int:
            assert proceed.wait(60)
            looked.append(threading.get_ident())
            return position_before(*arguments)

        monkeypatch.setattr(journal.history, "position_before", slow)
        one, two, other = (Talk(publisher, name) for name in (b"one", b"two", b"other"))
        asked = [
            asyncio.ensure_future(one.join(B, group="one", since=150.0)),
            asyncio.ensure_future(two.ask(Open("auth", "", 0, list(range(16)), ["seen"], 250))),
        ]
        assert isinstance(await other.join(C, group="other"), Assign)
        assert not any(each.done() for each in asked)
        proceed.set()
        _, streams = await asyncio.gather(*asked)
        assert isinstance(streams, Streams)
        first, second, third = (entry.sequence for _, entry in journal.history.latest("auth", "seen"))
        assert streams.streams == [[journal.id, "seen", 1, second, third, 0]]
        assert publisher.coordinator.groups["auth", "one"].cursors[journal.id].acked == {topic: first}
        assert isinstance(await one.join(B, group="one", since=150.0), Assign)
        assert (len(looked), threading.get_ident() in looked) == (2, False)

    run(tmp_path, test)


def test_an_unreadable_journal_is_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No request is answered with a wrong starting point; the reason is logged once."""

    async def test(publisher: Publishes) -> None:
        journal, talk = publisher.journals.own(), Talk(publisher)
        journal.append([NewEvent(Topic("auth", "seen", 1), b"r", at) for at in (100.0, 200.0)])
        tried = []

        def fails(*_: Any) -> int:
            tried.append(1)
            raise JournalError("the disk is broken")

        with monkeypatch.context() as broken:
            broken.setattr(journal.history, "position_before", fails)
            asked = asyncio.ensure_future(talk.join(since=150.0))
            again = asyncio.ensure_future(Talk(publisher, b"again").join(C, since=150.0))
            await wait_until_async(lambda: len(tried) == 2 and "the disk is broken" in caplog.text)
            assert not asked.done()
            again.cancel()
        assert isinstance(await Talk(publisher, b"third").join(A, since=150.0), Assign)
        asked.cancel()
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 1
        assert caplog.text.count("cannot be found: the disk is broken") == 1

    run(tmp_path, test)
