"""A group that turns out to be older gets the events it missed, once, and without blocking the loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, run, store_ago
from helpers.publishing import Listens, Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.exceptions import JournalError
from lightbus.wire import envelope
from lightbus.wire.envelope import Record


def test_a_group_that_is_older_than_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It began too late here: the events that it missed are given to it, once, and to no other group."""

    async def test(publisher: Publishes) -> None:
        hub, now = publisher._hub, machine_time()
        journal = publisher.journals.own()
        records = [envelope.encode_record(Record(f"id-{n}", 1, 1.0, {"n": n})) for n in range(4)]
        for record, seconds in zip(records, (40, 30, 20, 10), strict=True):
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), record, 1.0))
        listens, other = Listens(hub, B), Listens(hub, C, service="mail")
        seen, others = await listens.listen("seen"), await other.listen("seen")
        group = publisher.coordinator.groups["auth", "shop-greeter"]
        append = journal.append

        def full(*_: Any) -> Any:
            raise JournalError("the disk is full")

        journal.append = full  # type: ignore[method-assign]
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 35))
        await wait_until_async(lambda: "missed cannot be delivered: the disk is full" in caplog.text)
        journal.append = append  # type: ignore[method-assign]
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 25))
        await wait_until_async(lambda: len(seen) == 2)
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 15))  # is known already
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 35))
        await wait_until_async(lambda: len(seen) == 3)
        assert sorted(message.kwargs["n"] for message in seen) == [1, 2, 3]
        assert publisher.coordinator.counts["given_late"] == 3
        await publisher.fire("seen", n=4)
        await wait_until_async(lambda: len(seen) == 4 and len(others) == 1)
        await wait_until_async(lambda: publisher.coordinator.progress.lag(group) == 0)
        await listens.stop()
        await other.stop()

    run(tmp_path, test)


def test_late_events_are_read_in_a_thread(tmp_path: Path) -> None:
    """However long the journal takes, other requests are served, and a still older group gets all its events."""

    async def test(publisher: Publishes) -> None:
        journal, now = publisher.journals.own(), machine_time()
        for seconds in (40, 30, 20):
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))
        directory, going_on, read_by = publisher.coordinator.directory, threading.Event(), set[int]()
        page = journal.page

        def slow(*args: Any, **options: Any) -> Any:
            read_by.add(threading.get_ident())
            assert going_on.wait(60)
            return page(*args, **options)

        journal.page = slow  # type: ignore[method-assign]
        directory.merge(KnownGroup("auth", "mail", ("seen",), now - 10, now, "d"))
        group = publisher.coordinator.groups["auth", "mail"]
        directory.merge(group.info._replace(created_at=now - 25))
        await wait_until_async(lambda: read_by)
        directory.merge(group.info._replace(created_at=now - 45))
        publisher.coordinator.tick(now + 100)
        [stored] = journal.groups.all()
        assert stored.created_at == pytest.approx(now - 10), "its journal does not say yet that it has been given all"
        going_on.set()
        await wait_until_async(lambda: publisher.coordinator.counts["given_late"] == 3)
        await wait_until_async(lambda: journal.groups.all()[0].created_at == pytest.approx(now - 45))
        assert threading.get_ident() not in read_by
        assert publisher.coordinator.progress.lag(group) == 3

    run(tmp_path, test)


def test_a_group_removed_during_late_delivery_stays_removed(tmp_path: Path) -> None:
    """The reader stops, and does not store the group again."""

    async def test(publisher: Publishes) -> None:
        journal, now = publisher.journals.own(), machine_time()
        store_ago(journal, 20, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))
        directory = publisher.coordinator.directory
        directory.merge(KnownGroup("auth", "mail", ("seen",), now - 10, now, "d"))
        directory.merge(publisher.coordinator.groups["auth", "mail"].info._replace(created_at=now - 25))
        assert directory.forget("auth", "mail")
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(tasks, timeout=60)
        assert (journal.groups.all(), publisher.coordinator.counts["given_late"]) == ([], 0)

    run(tmp_path, test)
