"""Groups are created, learned, limited and removed, and begin in each journal whose events they get."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.group_talk import B, C, Talk, run, store_ago
from helpers.publishing import Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.groups import group_directory
from lightbus.events.groups.coordinator import Coordinator
from lightbus.events.groups.group_directory import LOOK_FIRST
from lightbus.events.groups.starting_points import StartingPoints
from lightbus.exceptions import JournalError
from lightbus.wire.envelope import (
    Assign,
    Error,
    Leave,
    Open,
    Streams,
)
from lightbus.wire.sizes import Receivers


def test_a_group_learned_late_gets_events_by_time(tmp_path: Path) -> None:
    """A publisher that learns a group late gives it all events since the group was created."""

    async def test(publisher: Publishes) -> None:
        journal = publisher.journals.own()
        for n, seconds in enumerate((40.0, 30.0, 20.0)):  # whatever the clock said
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), b"r%d" % n, 1e9 * (3 - n)))
        now = machine_time()
        publisher.coordinator.directory.merge(KnownGroup("auth", "mail", ("seen",), now - 35, now, "d"))
        # no API of ours:
        publisher.coordinator.directory.merge(KnownGroup("else", "mail", ("seen",), now - 35, now, "d"))
        group = publisher.coordinator.groups["auth", "mail"]
        assert publisher.coordinator.progress.lag(group) == 2
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 45))
        assert publisher.coordinator.groups["auth", "mail"].info.created_at == now - 45
        assert set(publisher.coordinator.groups) == {("auth", "mail")}

    run(tmp_path, test)


@pytest.mark.parametrize(("since", "late"), [(None, 2), ("$", 2), ("0", 0)])
def test_an_earlier_member_that_joins_late(tmp_path: Path, since: str | None, late: int) -> None:
    """Events between the starts of two members are delivered, whichever joins first."""

    async def test(publisher: Publishes) -> None:
        now = time.time()
        journal = publisher.journals.own()
        for seconds in (40, 30, 20):
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))
        await Talk(publisher, b"one").join(B, created_at=now - 10, since=since)
        await Talk(publisher, b"two").join(C, created_at=now - 35, since=since)
        await wait_until_async(lambda: publisher.coordinator.counts["given_late"] == late)
        group = publisher.coordinator.groups["auth", "shop"]
        assert group.info.created_at == pytest.approx(machine_time() - 35, abs=2.0)
        await Talk(publisher, b"one").join(B, created_at=now - 35, since=since)
        assert publisher.coordinator.progress.lag(group) == (3 if since == "0" else 2)

    run(tmp_path, test)


def test_a_restarted_publisher_keeps_groups_for_a_while(tmp_path: Path) -> None:
    """It saw no member while it was down: members have time to join before a group is removed."""

    async def test(publisher: Publishes) -> None:
        now = machine_time()
        publisher.coordinator.directory.merge(KnownGroup("auth", "mail", ("seen",), 1.0, now - 100 * 86_400, "d"))
        month = 30 * 86_400.0
        assert publisher.coordinator.directory.expired(now, month) == []
        assert [info.name for info in publisher.coordinator.directory.expired(now + LOOK_FIRST + 1, month)] == ["mail"]
        await Talk(publisher).join(group="mail")
        assert publisher.coordinator.directory.expired(now + LOOK_FIRST + 1, month) == []

    run(tmp_path, test)


def test_another_event_of_a_group(tmp_path: Path) -> None:
    """An event name that a listener adds is delivered from then on."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join()
        await publisher.fire("gone", n=1)
        await publisher.fire("seen", n=2)
        await talk.join(events=["gone", "seen"])
        group = publisher.coordinator.groups["auth", "shop"]
        assert group.info.events == ("gone", "seen")
        assert publisher.coordinator.progress.lag(group) == 1

    run(tmp_path, test)


@pytest.mark.parametrize(("before", "after", "lag"), [(["*"], ["seen"], 1), (["seen"], ["*"], 1), (["*"], ["*"], 2)])
def test_events_of_a_group_that_asks_for_others_are_kept(
    tmp_path: Path, before: list[str], after: list[str], lag: int
) -> None:
    """A group keeps the events that it gets before and after the change, also of topics it has handled nothing of."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join(events=before)
        await publisher.fire("gone", n=1)
        await publisher.fire("seen", n=2)
        await talk.ask(Leave("auth", "shop"))
        await talk.join(events=after)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == lag

    run(tmp_path, test)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_journal_that_cannot_be_read_now_is_served_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, which: int
) -> None:
    """Wherever it fails: until then all groups go on in the other journals, and then they get its events."""
    other = Journal(tmp_path / "00000000000000ff.sqlite")
    store_ago(other, 20.0, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))
    tries: list[Journal] = []

    async def test(publisher: Publishes) -> None:
        talks = [Talk(publisher, name.encode()) for name in ("mail", "shop")]
        for talk in talks:
            await talk.join(group=talk.routing_id.decode(), created_at=time.time() - 40)

        def reader(journal: Journal) -> Any:
            tries.append(journal)
            if tries.count(other) == which:
                raise JournalError("it is locked")
            return read(journal)

        read = Journal.reader
        monkeypatch.setattr(Journal, "reader", reader)
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        assert "it is locked" in caplog.text
        await publisher.fire("seen", n=1)
        for talk in talks:
            assigned = await talk.join(group=(name := talk.routing_id.decode()))
            assert isinstance(assigned, Assign)
            question = Open("auth", name, assigned.generation, assigned.partitions, ["seen"], None, 0)
            assert isinstance(await talk.ask(question), Streams)
        monkeypatch.undo()
        publisher.coordinator.tick(time.monotonic())
        for talk in talks:
            group = publisher.coordinator.groups["auth", talk.routing_id.decode()]
            assert publisher.coordinator.progress.lag(group) == 2

    run(tmp_path, test)


def test_starting_point_that_cannot_be_found_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for again with the journal: events of before the group are not for it."""
    other = Journal(tmp_path / "00000000000000ff.sqlite")
    store_ago(other, 3600.0, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))

    def locked(*_: Any) -> None:
        raise JournalError("it is locked")

    async def test(publisher: Publishes) -> None:
        await Talk(publisher).join()
        directory = publisher.coordinator.directory
        publisher.journals.adopted.append(other)
        with monkeypatch.context() as patched:
            patched.setattr(StartingPoints, "resolve", locked)
            directory.journal_added(other)
        assert not directory.serves(other)
        publisher.coordinator.tick(time.monotonic())
        assert directory.serves(other)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 0

    run(tmp_path, test)


def test_a_group_is_also_removed_from_a_journal_that_is_not_served_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be there again, and keep events, as soon as the journal can be read."""
    other = Journal(tmp_path / "00000000000000ff.sqlite")
    other.groups.save(KnownGroup("auth", "shop", ("seen",), machine_time(), machine_time(), "d"))

    async def test(publisher: Publishes) -> None:
        await Talk(publisher).join()
        with monkeypatch.context() as locked:

            def reader(journal: Journal) -> Any:
                raise JournalError("it is locked")

            locked.setattr(Journal, "reader", reader)
            publisher.journals.adopted.append(other)
            publisher.coordinator.directory.journal_added(other)
        assert publisher.coordinator.directory.forget("auth", "shop")
        publisher.coordinator.tick(time.monotonic())
        assert publisher.coordinator.directory.serves(other)
        assert publisher.coordinator.groups == {}

    run(tmp_path, test)


def test_a_group_that_cannot_begin_in_all_journals_begins_in_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is stored: it may ask for other events the next time."""
    other = Journal(tmp_path / "00000000000000ff.sqlite")

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        other.append([NewEvent(Topic("auth", "seen", 1), b"r", 1.0)])
        other.close()
        answer = await Talk(publisher).join()
        assert isinstance(answer, Error)
        publisher.coordinator.cursors.save()
        assert publisher.journals.own().cursors.of("auth", "shop") == {}

    run(tmp_path, test)


def test_two_programs_under_one_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are served, and reported as two."""

    async def test(publisher: Publishes) -> None:
        await Talk(publisher, b"one").join(B, digest="one")
        await Talk(publisher, b"two").join(C, digest="two")
        assert publisher.coordinator.counts["mixed"] == 1
        assert "Two different programs listen under the group shop of auth" in caplog.text

    run(tmp_path, test)


def test_event_names_are_bounded_in_bytes(tmp_path: Path) -> None:
    """A group with too many long names is refused, whether new or known; the known one is unchanged."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        long = [f"{number:04}" + "x" * 1000 for number in range(300)]
        assert isinstance(await talk.join(events=["seen"]), Assign)
        for group in ("shop", "other"):
            refused = await talk.join(group=group, member=C, events=long)
            assert isinstance(refused, Error)
            assert (refused.code, "Share the events out" in refused.message) == ("peer_busy", True)
        assert list(publisher.coordinator.groups) == [("auth", "shop")]
        assert publisher.coordinator.groups["auth", "shop"].info.events == ("seen",)
        assert isinstance(await talk.join(group="other", events=long[:200]), Assign)

    run(tmp_path, test)


def test_groups_on_disk_are_always_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were accepted before: the limits apply to new groups."""
    monkeypatch.setattr(group_directory, "MAX_GROUPS", 1)

    async def test(publisher: Publishes) -> None:
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        for name in ("one", "two"):
            other.groups.save(KnownGroup("auth", name, ("x" * 300_000,), machine_time(), machine_time(), "d"))
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        assert set(publisher.coordinator.groups) == {("auth", "one"), ("auth", "two")}
        assert isinstance(await Talk(publisher).join(group="three"), Error)

    run(tmp_path, test)


def test_an_adopted_journal(tmp_path: Path) -> None:
    """Its groups are known from then on, our groups get its events, and members are notified."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join(created_at=time.time() - 20)
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        store_ago(other, 30, NewEvent(Topic("auth", "seen", 3), b"old", 9.0))
        store_ago(other, 10, NewEvent(Topic("auth", "seen", 3), b"new", 1.0))
        other.groups.save(KnownGroup("auth", "mail", ("seen",), machine_time() - 40, machine_time(), "d"))
        publisher.journals.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "mail"]) == 2
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 1
        await wait_until_async(lambda: isinstance(talk.heard[-1], Streams))
        assert [row[:3] for row in talk.heard[-1].streams] == [[other.id, "seen", 3]]  # type: ignore[union-attr]
        publisher.coordinator.directory.journal_removed(other)
        assert publisher.coordinator.progress.cursors_of(other, Topic("auth", "seen", 3)) == {}

    run(tmp_path, test)


def test_held_partitions_are_possibly_delivered_after_a_restart(tmp_path: Path) -> None:
    """A member that held a partition when its publisher ended may have begun an event, unless it reports otherwise."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join()
        await publisher.fire("seen", n=1)
        journal = publisher.journals.own()
        [(topic, head)] = journal.topics.of("auth").items()
        again = Coordinator(
            publisher.identity, publisher.apis, publisher.journals, publisher._reply, publisher.handle, Receivers(2**26)
        )
        group = again.groups["auth", "shop"]
        assert group.cursors[journal.id].standing(topic, head).possibly_delivered == head
        again.cursors.adopt_reported(group, [[journal.id, "seen", topic.partition, 0]])
        assert group.cursors[journal.id].standing(topic, head).possibly_delivered == 0

    run(tmp_path, test)


def test_groups_are_removed(tmp_path: Path) -> None:
    """A removed group keeps no events; a group without members for long is reported for removal."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join()
        assert publisher.coordinator.directory.expired(machine_time() + 100, 10) == []  # it has a member
        await talk.ask(Leave("auth", "shop"))
        assert [info.name for info in publisher.coordinator.directory.expired(machine_time() + 100, 10)] == ["shop"]
        assert publisher.coordinator.directory.forget("auth", "shop")
        assert not publisher.coordinator.directory.forget("auth", "shop")
        assert publisher.journals.own().groups.all() == []

    run(tmp_path, test)


def test_events_lost_by_retention_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the remedies; once for each event and group, and counted each time."""

    async def test(publisher: Publishes) -> None:
        for count in (7, 8):
            publisher.coordinator.directory.lost("shop", "auth", "seen", count)
        assert publisher.coordinator.counts["trimmed_unread"] == 15
        assert caplog.text.count("events of auth.seen were deleted that the group shop had not handled") == 1
        assert (
            "7 events of auth.seen were deleted that the group shop had not handled. Raise journal.max" in caplog.text
        )

    run(tmp_path, test)


def test_a_group_that_cannot_begin_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure it has begun nowhere; requests about others are answered, and it may try again."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        with monkeypatch.context() as broken:
            broken.setattr(publisher.coordinator.directory, "_begin", lambda *args: 1 / 0)
            answer = await talk.join()
        assert isinstance(answer, Error)
        assert (answer.code, publisher.coordinator.groups) == ("protocol_error", {})
        assert publisher.guard.total == 1
        assert isinstance(await talk.join(), Assign)

    run(tmp_path, test)
