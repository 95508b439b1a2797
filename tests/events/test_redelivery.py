"""What one group is given again or late, it alone is given, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, run, store_ago
from helpers.publishing import Listens, Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.journal import NewEvent, Topic
from lightbus.exceptions import JournalError
from lightbus.wire import envelope
from lightbus.wire.envelope import (
    Record,
)


def test_a_group_that_is_older_than_was_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It began too late here: what it was passed over for is given to it, once, and to nobody else."""

    async def test(publisher: Publishes) -> None:
        hub, now = publisher._hub, machine_time()
        journal = publisher.shelf.own()
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
        assert "is not given what it missed: the disk is full" in caplog.text
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


def test_a_dead_letter_is_not_lost_when_it_cannot_be_stored(tmp_path: Path) -> None:
    """What is to be given again is taken out only once it is stored anew, and is stored once."""

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        journal, coordinator = publisher.shelf.own(), publisher.coordinator
        [(topic, head)] = journal.topics("auth").items()
        journal.dead_letters.add("shop", topic, head, 5, "x", 1.0)
        append, take = journal.append, journal.dead_letters.remove

        def full(*_: Any) -> Any:
            raise JournalError("the disk is full")

        journal.append = full  # type: ignore[method-assign]
        with pytest.raises(JournalError):
            coordinator.redelivery.retry_dead("shop", journal.id, head)
        assert len(journal.dead_letters.all()) == 1
        journal.append, journal.dead_letters.remove = append, full  # type: ignore[method-assign]
        with pytest.raises(JournalError):
            coordinator.redelivery.retry_dead("shop", journal.id, head)
        journal.dead_letters.remove = take  # type: ignore[method-assign]
        assert coordinator.redelivery.retry_dead("shop", journal.id, head)
        assert (len(journal.dead_letters.all()), journal.size[0]) == (0, 2)

    run(tmp_path, test)


def test_a_dead_letter_is_given_again(tmp_path: Path) -> None:
    """To its group and to no other; it can be dropped as well."""

    async def test(publisher: Publishes) -> None:
        hub = publisher._hub
        listens, other = Listens(hub, B), Listens(hub, C, service="mail")
        seen, others = await listens.listen("seen"), await other.listen("seen")
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: seen and others)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        journal.dead_letters.add("shop-greeter", topic, head, 5, "x", 1.0)
        assert not publisher.coordinator.redelivery.retry_dead("shop-greeter", journal.id, head + 1)
        assert publisher.coordinator.redelivery.retry_dead("shop-greeter", journal.id, head)
        await wait_until_async(lambda: len(seen) == 2)
        assert (seen[1].event_name, seen[1].id, len(others)) == ("seen", seen[0].id, 1)
        assert any(each.only_group for each in journal.topics("auth"))
        await asyncio.gather(*(publisher.fire("seen", n=n) for n in range(17)))  # two of them are in one partition
        await wait_until_async(lambda: len(others) == 18 and len(seen) == 19)
        for count, each in enumerate(others[1:], start=20):
            sequence = int(each.native_id.rpartition("-")[2])
            journal.dead_letters.add("shop-greeter", topic, sequence, 5, "x", 1.0)
            assert publisher.coordinator.redelivery.retry_dead("shop-greeter", journal.id, sequence)
            await wait_until_async(lambda count=count: len(seen) == count)  # type: ignore[misc]
        journal.dead_letters.add("shop-greeter", topic, head, 5, "x", 1.0)
        assert publisher.coordinator.redelivery.drop_dead("shop-greeter", journal.id, head) is not None
        assert publisher.coordinator.redelivery.drop_dead("shop-greeter", "0" * 16, head) is None
        await listens.stop()
        await other.stop()

    run(tmp_path, test)
