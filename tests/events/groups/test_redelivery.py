"""Events that are redelivered, or delivered late, go to one group, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, Talk, run
from helpers.publishing import Listens, Publishes
from lightbus.exceptions import JournalError


def test_a_dead_letter_is_kept_if_it_cannot_be_stored_again(tmp_path: Path) -> None:
    """It is removed only when it is stored again, and it is stored once."""

    async def test(publisher: Publishes) -> None:
        await Talk(publisher).join()
        await publisher.fire("seen", n=1)
        journal, coordinator = publisher.journals.own(), publisher.coordinator
        [(topic, head)] = journal.topics.of("auth").items()
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


@pytest.mark.parametrize("listens_to", [None, "gone"])
def test_a_dead_letter_that_nobody_would_get_stays(tmp_path: Path, listens_to: str | None) -> None:
    """Its group was removed, or listens to another event now: it can be retried once that gets it again."""

    async def test(publisher: Publishes) -> None:
        journal, redelivery = publisher.journals.own(), publisher.coordinator.redelivery
        await publisher.fire("seen", n=1)
        [(topic, head)] = journal.topics.of("auth").items()
        journal.dead_letters.add("shop", topic, head, 5, "x", 1.0)
        if listens_to is not None:
            await Talk(publisher, b"another").join(events=[listens_to])
        assert not redelivery.retry_dead("shop", journal.id, head)
        assert (journal.dead_letters.count(), journal.size[0]) == (1, 1)
        await Talk(publisher).join()
        assert redelivery.retry_dead("shop", journal.id, head)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 1

    run(tmp_path, test)


def test_a_dead_letter_is_redelivered(tmp_path: Path) -> None:
    """To its group and to no other; it can also be dropped."""

    async def test(publisher: Publishes) -> None:
        hub = publisher._hub
        listens, other = Listens(hub, B), Listens(hub, C, service="mail")
        seen, others = await listens.listen("seen"), await other.listen("seen")
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: seen and others)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        journal.dead_letters.add("shop-greeter", topic, head, 5, "x", 1.0)
        assert not publisher.coordinator.redelivery.retry_dead("shop-greeter", journal.id, head + 1)
        assert publisher.coordinator.redelivery.retry_dead("shop-greeter", journal.id, head)
        await wait_until_async(lambda: len(seen) == 2)
        assert (seen[1].event_name, seen[1].id, len(others)) == ("seen", seen[0].id, 1)
        assert any(each.only_group for each in journal.topics.of("auth"))
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
