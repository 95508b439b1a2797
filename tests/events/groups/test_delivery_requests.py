"""Reports of members about events count for the partitions that they hold, and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import wait_until_async
from helpers.group_talk import Auth, Talk, run
from helpers.publishing import Publishes
from lightbus.wire.envelope import (
    Ack,
    Acked,
    Assign,
    Reject,
    Start,
    Started,
)

D = "d" * 16


def test_an_older_generation_is_refused(tmp_path: Path) -> None:
    """Reports under a former assignment have no effect; the refusal names the partition."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        first = await talk.join()
        await talk.join()
        await publisher.fire("seen", n=1)
        assert isinstance(first, Assign)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        place = (journal.id, "seen", topic.partition)
        assert await talk.ask(Ack("auth", "shop", first.generation, [[*place, head]])) == Acked([topic.partition])
        assert await talk.ask(Start("auth", "shop", first.generation, *place, head, 2)) == Started(0)
        assert await talk.ask(Reject("auth", "shop", first.generation, *place, head, 5, "x")) == Acked(
            [topic.partition]
        )
        assert (journal.cursors.of("auth", "shop"), journal.dead_letters.all()) == ({}, [])

    run(tmp_path, test)


def test_repeated_reports_count_once(tmp_path: Path) -> None:
    """A START or REJECT whose answer was lost gets the same answer; the next delivery counts again."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        place = ("auth", "shop", assigned.generation, journal.id, "seen", topic.partition, head)
        for call_id in (1, 2, 2, 2, 3):
            publisher.handle(b"me", call_id, Start(*place, 1))
        await wait_until_async(lambda: len(talk.heard) == 6)
        assert [each.deliveries for each in talk.heard[1:] if isinstance(each, Started)] == [1, 2, 2, 2, 3]
        for _ in range(2):
            assert await talk.ask(Reject(*place, 3, "failed")) == Acked([])
        assert [(dead.sequence, dead.deliveries) for dead in journal.dead_letters.all()] == [(head, 3)]
        assert publisher.coordinator.counts["dead_lettered"] == 1

    run(tmp_path, test)


def test_a_start_counts_once_for_the_adopter_of_the_journal(tmp_path: Path) -> None:
    """If the first publisher died before its answer, the member repeats the request with the same number."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal, hub = publisher.journals.own(), publisher._hub
        [(topic, head)] = journal.topics.of("auth").items()
        place = (journal.id, "seen", topic.partition, head)
        publisher.handle(b"me", 7, Start("auth", "shop", assigned.generation, *place, 2))
        await wait_until_async(lambda: talk.heard[-1] == Started(2))
        publisher.close()
        other = hub.publish(D, tmp_path / "other", Auth(), journal="0000000000000002")
        try:
            other.adopt(tmp_path / "a", journal.id)
            again = Talk(other)
            joined = await again.join(target=D)
            assert isinstance(joined, Assign)
            for call_id in (7, 7, 8):
                other.handle(b"me", call_id, Start("auth", "shop", joined.generation, *place, 2))
            await wait_until_async(lambda: len(again.heard) == 4)
            assert again.heard[1:] == [Started(2), Started(2), Started(3)]
        finally:
            other.close()

    run(tmp_path, test)


def test_an_event_deleted_by_retention_during_its_delivery(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It cannot become a dead letter; the group continues, and the log says why it is not among them."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join(created_at=1.0)
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        journal.retention.trim(min_age=9.0, max_events=0, max_bytes=0, cursors={})
        reject = Reject("auth", "shop", assigned.generation, journal.id, "seen", topic.partition, head, 5, "ValueError")
        assert await talk.ask(reject) == Acked([])
        assert (journal.dead_letters.all(), journal.cursors.of("auth", "shop")) == ([], {topic: head})
        assert "was deleted by retention before it became a dead letter for the group shop" in caplog.text

    run(tmp_path, test)


@pytest.mark.parametrize("sequence", [0, 2**62])
@pytest.mark.parametrize("event", ["seen", "gone", "never"])
def test_a_report_about_an_unknown_event(
    tmp_path: Path, event: str, sequence: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused like one of another member: nothing is counted, made a dead letter, or acknowledged."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join(events=["seen", "gone", "never"])
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [topic] = journal.topics.of("auth")
        place = ("auth", "shop", assigned.generation, journal.id, event, topic.partition, sequence)
        assert await talk.ask(Start(*place, 2)) == Started(0)
        assert await talk.ask(Reject(*place, 5, "x")) == Acked([topic.partition])
        assert (journal.deliveries.failing("shop"), journal.dead_letters.all(), caplog.records) == ({}, [], [])

    run(tmp_path, test)
