"""The publisher's side of groups: what it answers whom, what it stores first, and that no stranger harms it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import wait_until_async
from helpers.publishing import Hub, Listens, Publishes
from lightbus.adapters.host.machine_time import machine_time
from lightbus.adapters.sqlite.journal import Group, Journal, NewEvent, Topic
from lightbus.events import ack_waiters, group_directory, member_requests
from lightbus.events.coordinator import Coordinator
from lightbus.events.group_directory import LOOK_FIRST
from lightbus.events.group_state import AGAIN, MARGIN
from lightbus.exceptions import JournalError, LightbusTimeout
from lightbus.service.api import Api, Event
from lightbus.wire import envelope
from lightbus.wire.envelope import (
    Ack,
    Acked,
    Assign,
    Beat,
    Bury,
    Error,
    Fetch,
    Join,
    Leave,
    Message,
    Open,
    Page,
    Record,
    Release,
    Request,
    Start,
    Started,
    Streams,
)
from lightbus.wire.sizes import Receivers

A, B, C = "a" * 16, "b" * 16, "c" * 16


class Auth(Api):
    seen = Event(["n"])
    gone = Event(["n"])

    class Meta:
        name = "auth"


class Talk:
    """Somebody who speaks with a publisher in frames."""

    def __init__(self, publisher: Publishes, routing_id: bytes = b"me") -> None:
        self.heard: list[Message] = []
        self.routing_id = routing_id
        self._publisher = publisher
        publisher._dealers[routing_id] = self  # type: ignore[assignment]

    def arrive(self, frame: bytes) -> None:
        """Take in an answer."""
        self.heard.append(envelope.decode(frame)[1])

    async def ask(self, message: Message) -> Message:
        """Say something, and return the answer."""
        before = len(self.heard)
        assert self._publisher.coordinator.handle(self.routing_id, 1, message)
        await wait_until_async(lambda: len(self.heard) > before)
        return self.heard[-1]

    async def join(self, member: str = B, group: str = "shop", **fields: Any) -> Message:
        """Join a group."""
        now = time.time()
        values = {
            "target": A, "api": "auth", "group": group, "events": ["seen"], "member": member, "host": "h",
            "presence": b"\xfe" + member.encode(), "created_at": now, "clock": now, "digest": "d", "since": None,
            "positions": [],
        }  # fmt: skip
        return await self.ask(Join(**{**values, **fields}))


def store_ago(journal: Journal, seconds: float, *events: NewEvent) -> None:
    """Store events as if that had been so many seconds ago."""
    journal.time = lambda: machine_time() - seconds + journal.offset  # type: ignore[method-assign]
    journal.append(events)
    del journal.time


def run(path: Path, test: Callable[[Publishes], Awaitable[None]], **options: Any) -> None:
    """Run a test with a publisher."""

    async def main() -> None:
        publisher = Hub().publish(A, path / "a", Auth(), **options)
        try:
            await test(publisher)
        finally:
            publisher.close()

    asyncio.run(main())


def test_a_member_and_its_acknowledgements(tmp_path: Path) -> None:
    """Joining, opening, fetching, acknowledging, leaving; what was acknowledged is stored when it is answered."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        assert (assigned.partitions, assigned.events) == (list(range(16)), ["seen"])
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        opened = await talk.ask(Open("auth", "shop", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        [[name, event, partition, cursor, head, doubtful]] = opened.streams
        assert (name, event, cursor, head, doubtful) == (journal.id, "seen", 0, journal.head, 0)
        page = await talk.ask(Fetch("auth", name, "seen", partition, 0, 10))
        assert isinstance(page, Page)
        assert [row[0] for row in page.records] == [journal.head]
        ack = Ack("auth", "shop", assigned.generation, [[name, "seen", partition, journal.head]])
        assert await talk.ask(ack) == Acked([])
        assert journal.cursors("auth", "shop") == {Topic("auth", "seen", partition): journal.head}
        assert journal.held("auth", "shop") == dict.fromkeys(range(16), journal.epoch)
        assert await talk.ask(Leave("auth", "shop")) == Acked([])
        assert journal.held("auth", "shop") == {}

    run(tmp_path, test)


def test_an_older_generation_is_refused(tmp_path: Path) -> None:
    """What is said of an assignment that is over counts for nothing; the refusal names the partition."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        first = await talk.join()
        await talk.join()
        await publisher.fire("seen", n=1)
        assert isinstance(first, Assign)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        place = (journal.id, "seen", topic.partition)
        assert await talk.ask(Ack("auth", "shop", first.generation, [[*place, head]])) == Acked([topic.partition])
        assert await talk.ask(Start("auth", "shop", first.generation, *place, head, 2)) == Started(0)
        assert await talk.ask(Bury("auth", "shop", first.generation, *place, head, 5, "x")) == Acked([topic.partition])
        assert (journal.cursors("auth", "shop"), journal.dead_letters.all()) == ({}, [])

    run(tmp_path, test)


def test_what_is_said_twice_counts_once(tmp_path: Path) -> None:
    """A START or BURY whose answer was lost is answered as it was; the next delivery is another matter."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        place = ("auth", "shop", assigned.generation, journal.id, "seen", topic.partition, head)
        for call_id in (1, 2, 2, 2, 3):
            publisher.coordinator.handle(b"me", call_id, Start(*place, 1))
        await wait_until_async(lambda: len(talk.heard) == 6)
        assert [each.deliveries for each in talk.heard[1:] if isinstance(each, Started)] == [1, 2, 2, 2, 3]
        for _ in range(2):
            assert await talk.ask(Bury(*place, 3, "failed")) == Acked([])
        assert [(dead.sequence, dead.deliveries) for dead in journal.dead_letters.all()] == [(head, 3)]
        assert publisher.coordinator.counts["buried"] == 1

    run(tmp_path, test)


def test_a_beat_mends_what_was_missed(tmp_path: Path) -> None:
    """An ASSIGN or RELEASE that was lost, and a group that was removed and is there again under its name."""

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
        publisher.coordinator.handle(b"one", 0, Beat(names, [[first.generation, first.partitions]]))
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


def test_who_opens_what_it_does_not_have(tmp_path: Path) -> None:
    """Is told of the partitions that it has, and of no others."""

    async def test(publisher: Publishes) -> None:
        one, two = Talk(publisher, b"one"), Talk(publisher, b"two")
        await one.join(B)
        second = await two.join(C)
        assert isinstance(second, Assign)
        opened = await two.ask(Open("auth", "shop", second.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert opened.partitions == []

    run(tmp_path, test)


def test_who_is_no_member_is_told_to_join(tmp_path: Path) -> None:
    """A publisher that was started anew knows nobody; a beat says so as well."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        error = await talk.ask(Ack("auth", "shop", 1, []))
        assert isinstance(error, Error)
        assert (error.code, "join again" in error.message) == ("peer_refused", True)
        assert await talk.ask(Beat([["auth", "shop"]])) == Beat([])
        await talk.join()
        assert await talk.ask(Beat([["auth", "shop"], ["auth", "else"]])) == Beat([["auth", "shop"]], [[0]])

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


def test_calls_are_none_of_its_business(tmp_path: Path) -> None:
    """Messages that no consumer sends are left to others."""

    async def test(publisher: Publishes) -> None:
        request = Request(A, "auth", "x", 1.0, B, [], None, 0, {})
        assert not publisher.coordinator.handle(b"me", 1, request)

    run(tmp_path, test)


def test_clocks(tmp_path: Path) -> None:
    """A group's creation by another host's clock is put right, in favour of the group; a future one is now."""

    async def test(publisher: Publishes) -> None:
        now = time.time()
        talk = Talk(publisher)
        await talk.join(group="near", created_at=now - 100, clock=now)
        await talk.join(group="far", host="other", created_at=now + 200, clock=now + 300)
        await talk.join(group="future", created_at=now + 500, clock=now)
        groups = {name: group.info.created_at for (_, name), group in publisher.coordinator.groups.items()}
        assert groups["near"] == pytest.approx(machine_time() - 100, abs=0.5)
        assert groups["far"] == pytest.approx(machine_time() - 100, abs=0.5)
        far = publisher.coordinator.groups["auth", "far"]
        assert far.owed_since == far.info.created_at - MARGIN
        assert groups["future"] == pytest.approx(machine_time(), abs=0.5)

    run(tmp_path, test)


def test_a_group_learned_late_is_owed_by_time(tmp_path: Path) -> None:
    """A publisher that hears of a group only now owes it what it has published since the group was created."""

    async def test(publisher: Publishes) -> None:
        journal = publisher.shelf.own()
        for n, seconds in enumerate((40.0, 30.0, 20.0)):  # whatever the clock said
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), b"r%d" % n, 1e9 * (3 - n)))
        now = machine_time()
        publisher.coordinator.directory.merge(Group("auth", "mail", ("seen",), now - 35, now, "d"))
        publisher.coordinator.directory.merge(Group("else", "mail", ("seen",), now - 35, now, "d"))  # no API of ours
        group = publisher.coordinator.groups["auth", "mail"]
        assert publisher.coordinator.progress.lag(group) == 2
        publisher.coordinator.directory.merge(group.info._replace(created_at=now - 45))
        assert publisher.coordinator.groups["auth", "mail"].info.created_at == now - 45
        assert set(publisher.coordinator.groups) == {("auth", "mail")}

    run(tmp_path, test)


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


def test_an_event_to_begin_with_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, with a group and without; ids and native ids of what is there are found, whatever its event."""

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
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
            f"Somebody wants the events of auth since {A}-17",
            f"Somebody wants the events of auth since {journal.id}-17",
        ]

    run(tmp_path, test)


@pytest.mark.parametrize(("since", "late"), [(None, 2), ("$", 2), ("0", 0)])
def test_an_earlier_member_that_joins_late(tmp_path: Path, since: str | None, late: int) -> None:
    """What was fired between the starts of two members is owed, whichever joins first; unless all was, anyway."""

    async def test(publisher: Publishes) -> None:
        now = time.time()
        journal = publisher.shelf.own()
        for seconds in (40, 30, 20):
            store_ago(journal, seconds, NewEvent(Topic("auth", "seen", 1), b"r", 1.0))
        await Talk(publisher, b"one").join(B, created_at=now - 10, since=since)
        await Talk(publisher, b"two").join(C, created_at=now - 35, since=since)
        assert publisher.coordinator.counts["given_late"] == late
        group = publisher.coordinator.groups["auth", "shop"]
        assert group.info.created_at == pytest.approx(machine_time() - 35, abs=2.0)
        await Talk(publisher, b"one").join(B, created_at=now - 35, since=since)
        assert publisher.coordinator.progress.lag(group) == (3 if since == "0" else 2)

    run(tmp_path, test)


def test_a_publisher_that_was_away_forgets_nobody_at_once(tmp_path: Path) -> None:
    """While it was down it saw no member: before a group is forgotten it has the time to come."""

    async def test(publisher: Publishes) -> None:
        now = machine_time()
        publisher.coordinator.directory.merge(Group("auth", "mail", ("seen",), 1.0, now - 100 * 86_400, "d"))
        month = 30 * 86_400.0
        assert publisher.coordinator.directory.expired(now, month) == []
        assert [info.name for info in publisher.coordinator.directory.expired(now + LOOK_FIRST + 1, month)] == ["mail"]
        await Talk(publisher).join(group="mail")
        assert publisher.coordinator.directory.expired(now + LOOK_FIRST + 1, month) == []

    run(tmp_path, test)


def test_another_event_of_a_group(tmp_path: Path) -> None:
    """An event that a listener names for the first time is owed from then on."""

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


def test_two_programs_under_one_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are served, and said to be two."""

    async def test(publisher: Publishes) -> None:
        await Talk(publisher, b"one").join(B, digest="one")
        await Talk(publisher, b"two").join(C, digest="two")
        assert publisher.coordinator.counts["mixed"] == 1
        assert "Two different programs listen under the group shop of auth" in caplog.text

    run(tmp_path, test)


def test_a_journal_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An acknowledgement that cannot be stored is not answered, and stored with the next one that can be."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join()
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        save = journal.save

        def full(**_: Any) -> None:
            raise JournalError("the disk is full")

        journal.save = full  # type: ignore[method-assign]
        before = len(talk.heard)
        ack = Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]])
        publisher.coordinator.handle(b"me", 1, ack)
        publisher.coordinator.cursors.save()
        assert (len(talk.heard), "Acknowledgements were not stored: the disk is full" in caplog.text) == (before, True)
        journal.save = save  # type: ignore[method-assign]
        publisher.coordinator.cursors.save()
        assert journal.cursors("auth", "shop") == {topic: head}

    run(tmp_path, test)


@pytest.mark.parametrize("how", ["leaves", "is gone"])
def test_a_full_disk_while_a_member_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Its partitions are the other one's at once; who has what is stored as soon as there is room."""

    async def test(publisher: Publishes) -> None:
        one, two = Talk(publisher, b"one"), Talk(publisher, b"two")
        await one.join(B)
        journal = publisher.shelf.own()
        save, save_group = journal.save, journal.save_group

        def full(*_: Any, **__: Any) -> None:
            raise JournalError("the disk is full")

        journal.save = journal.save_group = full  # type: ignore[method-assign, assignment]
        await two.join(C)
        if how == "leaves":
            publisher.coordinator.handle(b"one", 9, Leave("auth", "shop"))
        else:
            publisher.coordinator.subscribed(b"\xfe" + B.encode(), False)
        await wait_until_async(lambda: two.heard and getattr(two.heard[-1], "partitions", None) == list(range(16)))
        assert caplog.text.count("Who is in which group was not stored, and is tried again: the disk is full") == 1
        journal.save, journal.save_group = save, save_group  # type: ignore[method-assign]
        publisher.coordinator.tick(time.monotonic())
        assert set(journal.held("auth", "shop")) == set(range(16))

    run(tmp_path, test)


def test_when_all_have_handled(tmp_path: Path) -> None:
    """Whoever waits for an event's groups is told when the last has acknowledged it; at once where there is none."""

    async def test(publisher: Publishes) -> None:
        told: list[int] = []
        message = await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        publisher.coordinator.when_handled(topic, head, 5.0, lambda error: told.append(1))
        assert told == [1]
        talk = Talk(publisher)
        assigned = await talk.join(since="0")
        assert isinstance(assigned, Assign)
        publisher.coordinator.when_handled(topic, head, 5.0, lambda error: told.append(2))
        assert told == [1]
        await talk.ask(Ack("auth", "shop", assigned.generation, [[journal.id, "seen", topic.partition, head]]))
        assert told == [1, 2]
        assert message.native_id == f"{journal.id}-{head}"

    run(tmp_path, test)


def test_waiters_are_forgotten_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At their deadline they are forgotten; more than so many are told at once, which is counted, and logged once."""
    monkeypatch.setattr(ack_waiters, "MAX_WAITERS", 2)

    async def test(publisher: Publishes) -> None:
        told: list[object] = []
        await Talk(publisher).join()
        await publisher.fire("seen", n=1)
        coordinator = publisher.coordinator
        [(topic, head)] = publisher.shelf.own().topics("auth").items()
        for seconds in (1.0, 60.0, 60.0, 60.0):
            coordinator.when_handled(topic, head, seconds, told.append)
        assert [type(each) for each in told] == [LightbusTimeout, LightbusTimeout]
        assert coordinator.counts["unwatched"] == 2
        assert caplog.text.count("callers wait until their events are handled") == 1
        coordinator.tick(time.monotonic() + 2.0)
        coordinator.when_handled(topic, head, 60.0, told.append)
        assert len(told) == 2
        coordinator.directory.forget("auth", "shop")
        assert told[2:] == [None, None]

    run(tmp_path, test)


def test_names_of_events_are_bounded_in_bytes(tmp_path: Path) -> None:
    """A group of too many long names is refused, whether new or known; it stays what it was."""

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


def test_groups_on_disk_are_served_whatever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for them was accepted: the bounds are for who comes new."""
    monkeypatch.setattr(group_directory, "MAX_GROUPS", 1)

    async def test(publisher: Publishes) -> None:
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        for name in ("one", "two"):
            other.save_group(Group("auth", name, ("x" * 300_000,), machine_time(), machine_time(), "d"))
        publisher.shelf.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        assert set(publisher.coordinator.groups) == {("auth", "one"), ("auth", "two")}
        assert isinstance(await Talk(publisher).join(group="three"), Error)

    run(tmp_path, test)


def test_an_adopted_journal(tmp_path: Path) -> None:
    """Its groups are known from then on, those of ours are owed what is in it, and members are told of it."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join(created_at=time.time() - 20)
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        store_ago(other, 30, NewEvent(Topic("auth", "seen", 3), b"old", 9.0))
        store_ago(other, 10, NewEvent(Topic("auth", "seen", 3), b"new", 1.0))
        other.save_group(Group("auth", "mail", ("seen",), machine_time() - 40, machine_time(), "d"))
        publisher.shelf.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "mail"]) == 2
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 1
        await wait_until_async(lambda: isinstance(talk.heard[-1], Streams))
        assert [row[:3] for row in talk.heard[-1].streams] == [[other.id, "seen", 3]]  # type: ignore[union-attr]
        publisher.coordinator.directory.journal_removed(other)
        assert publisher.coordinator.progress.owed(other, Topic("auth", "seen", 3)) == {}

    run(tmp_path, test)


def test_a_group_that_only_an_adopted_journal_knows(tmp_path: Path) -> None:
    """It is owed what is in ours too, and is on record there when the adopted one is gone."""

    async def test(publisher: Publishes) -> None:
        await publisher.fire("seen", n=1)
        other = Journal(tmp_path / "00000000000000ff.sqlite")
        other.append([NewEvent(Topic("auth", "seen", 3), b"new", 9.0)])
        for name, created_at in (("mail", machine_time() - 100), ("late", machine_time())):
            other.save_group(Group("auth", name, ("seen",), created_at, machine_time(), "d"))
        publisher.shelf.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        groups = publisher.coordinator.groups
        # The stored cursors of the adopted one are none: there, everything is owed.
        assert [publisher.coordinator.progress.lag(groups["auth", name]) for name in ("mail", "late")] == [2, 1]
        [(topic, _)] = publisher.shelf.own().topics("auth").items()
        assert publisher.coordinator.progress.owed(publisher.shelf.own(), topic).keys() == {"mail", "late"}
        talk = Talk(publisher)
        assigned = await talk.join(group="mail", created_at=1.0)
        assert isinstance(assigned, Assign)
        opened = await talk.ask(Open("auth", "mail", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert {row[0] for row in opened.streams} == {other.id, publisher.shelf.own().id}
        publisher.coordinator.directory.journal_removed(other)  # and is closed a moment later
        assert publisher.coordinator.progress.lag(groups["auth", "mail"]) == 1
        assert {group.name for group in publisher.shelf.own().groups()} == {"mail", "late"}

    run(tmp_path, test)


def test_one_journal_of_two_fails(tmp_path: Path) -> None:
    """What was acknowledged in the other is stored; neither is answered before both are."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join(created_at=1.0)
        assert isinstance(assigned, Assign)
        own, other = publisher.shelf.own(), Journal(tmp_path / "00000000000000ff.sqlite")
        topic = Topic("auth", "seen", 3)
        for journal in (own, other):
            journal.append([NewEvent(topic, b"r", 9.0)])
        publisher.shelf.adopted.append(other)
        publisher.coordinator.directory.journal_added(other)
        save = own.save

        def full(**_: Any) -> None:
            raise JournalError("the disk is full")

        own.save = full  # type: ignore[method-assign]
        positions = [[journal.id, "seen", 3, journal.head] for journal in (own, other)]
        await wait_until_async(lambda: isinstance(talk.heard[-1], Streams))
        publisher.coordinator.handle(b"me", 1, Ack("auth", "shop", assigned.generation, positions))
        publisher.coordinator.cursors.save()
        assert (own.cursors("auth", "shop"), other.cursors("auth", "shop")) == ({}, {topic: other.head})
        own.save = save  # type: ignore[method-assign]
        answer = await talk.ask(Ack("auth", "shop", assigned.generation, positions))  # as consumers do
        assert (answer, own.cursors("auth", "shop")) == (Acked([]), {topic: own.head})
        assert not any(isinstance(each, Acked) for each in talk.heard[:-1])

    run(tmp_path, test)


def test_an_event_that_retention_deleted_while_it_was_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to set aside; the group goes on, and the log says why it is not among the dead."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assigned = await talk.join(created_at=1.0)
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        journal.retention.trim(min_age=9.0, max_events=0, max_bytes=0, owed={})
        bury = Bury("auth", "shop", assigned.generation, journal.id, "seen", topic.partition, head, 5, "ValueError")
        assert await talk.ask(bury) == Acked([])
        assert (journal.dead_letters.all(), journal.cursors("auth", "shop")) == ([], {topic: head})
        assert "was deleted by retention before it was set aside for the group shop" in caplog.text

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


def test_what_was_held_is_doubtful_after_a_restart(tmp_path: Path) -> None:
    """A member that had a partition when its publisher ended may have begun something, unless it says otherwise."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join()
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        [(topic, head)] = journal.topics("auth").items()
        again = Coordinator(publisher.identity, publisher.apis, publisher.shelf, publisher._reply, Receivers(2**26))
        group = again.groups["auth", "shop"]
        assert group.cursors[journal.id].standing(topic, head).doubtful == head
        again.cursors.adopt_reported(group, [[journal.id, "seen", topic.partition, 0]])
        assert group.cursors[journal.id].standing(topic, head).doubtful == 0

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
        assert any(AGAIN in each.event for each in journal.topics("auth"))
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


def test_groups_are_forgotten(tmp_path: Path) -> None:
    """One that is removed is kept for no more; one without members that was not seen for long is named for that."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await talk.join()
        assert publisher.coordinator.directory.expired(machine_time() + 100, 10) == []  # it has a member
        await talk.ask(Leave("auth", "shop"))
        assert [info.name for info in publisher.coordinator.directory.expired(machine_time() + 100, 10)] == ["shop"]
        assert publisher.coordinator.directory.forget("auth", "shop")
        assert not publisher.coordinator.directory.forget("auth", "shop")
        assert publisher.shelf.own().groups() == []

    run(tmp_path, test)


def test_what_retention_takes_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the remedies."""

    async def test(publisher: Publishes) -> None:
        publisher.coordinator.directory.lost("shop", "auth", "seen", 7)
        assert publisher.coordinator.counts["trimmed_unread"] == 7
        assert (
            "7 events of auth.seen were deleted that the group shop had not handled. Raise journal.max" in caplog.text
        )

    run(tmp_path, test)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
rows = st.lists(anything, max_size=4)
HOSTILE = st.one_of(
    st.builds(
        Join, st.sampled_from([A, C, ""]), st.sampled_from(["auth", "x"]), st.sampled_from(["shop", "", "x"]), rows,
        st.text(max_size=5), st.text(max_size=5), st.binary(max_size=20), st.floats(), st.floats(), st.text(max_size=5),
        anything, rows, st.integers(),
    ),
    st.builds(Open, st.just("auth"), st.sampled_from(["shop", ""]), st.integers(0, 9), rows, rows, anything),
    st.builds(
        Fetch, st.just("auth"), st.text(max_size=5), st.just("seen"), st.integers(), st.integers(), st.integers(),
        st.integers(),
    ),
    st.builds(Ack, st.just("auth"), st.just("shop"), st.integers(0, 9), rows),
    st.builds(
        Start, st.just("auth"), st.just("shop"), st.integers(0, 9), st.text(max_size=5), st.just("seen"),
        st.integers(0, 20), st.integers(), st.integers(),
    ),
    st.builds(
        Bury, st.just("auth"), st.just("shop"), st.integers(0, 9), st.text(max_size=5), st.just("seen"),
        st.integers(0, 20), st.integers(), st.integers(), st.text(max_size=5),
    ),
    st.builds(Release, st.just("auth"), st.just("shop"), st.integers(0, 9), rows),
    st.builds(Leave, st.just("auth"), st.just("shop")),
    st.builds(Beat, rows, rows),
)  # fmt: skip


@given(messages=st.lists(HOSTILE, max_size=8))
def test_whatever_strangers_send_is_answered_and_harms_nobody(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message]
) -> None:
    """Fields of any content give an answer or none; an honest member is served all the same."""

    async def test(publisher: Publishes) -> None:
        honest, stranger = Talk(publisher, b"honest"), Talk(publisher, b"stranger")
        assigned = await honest.join(B, group="mine")
        assert isinstance(assigned, Assign)
        await publisher.fire("seen", n=1)
        await stranger.join(C, group="shop")
        for message in messages:
            publisher.coordinator.handle(b"stranger", 1, message)
            await asyncio.sleep(0)
        publisher.coordinator.tick(time.monotonic())
        publisher.coordinator.cursors.save()
        opened = await honest.ask(Open("auth", "mine", assigned.generation, list(range(16)), ["seen"], "$"))
        assert isinstance(opened, Streams)
        assert len(opened.streams) == 1

    run(tmp_path_factory.mktemp("hostile"), test)


FAR = 2**62


def test_nothing_beyond_the_head_is_believed(tmp_path: Path) -> None:
    """Whoever says to have handled what is not there yet is mistaken; its group is given what is fired later."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        journal = publisher.shelf.own()
        everywhere = [[journal.id, event, p, FAR] for p in range(16) for event in ("seen", "unheard")]
        assigned = await talk.join(positions=everywhere)
        assert isinstance(assigned, Assign)
        ack = await talk.ask(Ack("auth", "shop", assigned.generation, everywhere))
        assert ack == Acked(list(range(16)))
        for partition in range(16):
            where = (assigned.generation, journal.id, "seen", partition, FAR)
            assert await talk.ask(Start("auth", "shop", *where, 1)) == Started(0)
            assert await talk.ask(Bury("auth", "shop", *where, 1, "E")) == Acked([partition])
        assert publisher.coordinator.counts["unbelieved"] == 64
        await publisher.fire("seen", n=2)
        group = publisher.coordinator.groups["auth", "shop"]
        assert publisher.coordinator.progress.lag(group) == 1

    run(tmp_path, test)


def test_a_group_that_begins_beyond_the_head(tmp_path: Path) -> None:
    """The native id of an event that is not there yet is that of the newest one at most."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        await talk.join(since=f"{publisher.shelf.own().id}-{FAR}")
        for n in range(40):
            await publisher.fire("seen", n=n)
        assert publisher.coordinator.progress.lag(publisher.coordinator.groups["auth", "shop"]) == 40

    run(tmp_path, test)


def test_a_group_that_cannot_begin_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its beginning fails it has begun nowhere; questions about the others are answered, and it may try again."""

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        await publisher.fire("seen", n=1)
        with monkeypatch.context() as broken:
            broken.setattr(publisher.coordinator.directory, "_begin", lambda *args: 1 / 0)
            answer = await talk.join()
        assert isinstance(answer, Error)
        assert (answer.code, publisher.coordinator.groups) == ("protocol_error", {})
        assert publisher.coordinator.guard.total == 1
        assert isinstance(await talk.join(), Assign)

    run(tmp_path, test)


def test_groups_and_members_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names come from outside, and are kept on disk."""
    monkeypatch.setattr(group_directory, "MAX_GROUPS", 2)
    monkeypatch.setattr(member_requests, "MAX_MEMBERS", 2)

    async def test(publisher: Publishes) -> None:
        talk = Talk(publisher)
        assert [type(await talk.join(group=group)) for group in ("one", "two", "three", "one")] == [
            Assign, Assign, Error, Assign,
        ]  # fmt: skip
        assert {type(await talk.join(member=member * 16, group="one")) for member in "bc"} == {Assign}
        refused = await talk.join(member="d" * 16, group="one")
        assert isinstance(refused, Error)
        assert refused.code == "peer_busy"


def test_an_event_is_looked_for_by_its_id_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: once for all who want to begin with it, and others are answered meanwhile."""

    async def test(publisher: Publishes) -> None:
        for n in range(5):
            await publisher.fire("seen", n=n)
        journal = publisher.shelf.own()
        id = next(
            envelope.decode_record(entry.record).id
            for _, entry in journal.history("auth", "seen")
            if envelope.decode_record(entry.record).kwargs == {"n": 2}
        )
        find, go_on, found = journal.find, threading.Event(), []

        def slow(*arguments: Any) -> Any:
            assert go_on.wait(30.0)
            found.append(find(*arguments))
            return found[-1]

        monkeypatch.setattr(journal, "find", slow)
        one, two, other = (Talk(publisher, name) for name in (b"one", b"two", b"other"))
        asked = [
            asyncio.ensure_future(one.join(B, group="one", since=id)),
            asyncio.ensure_future(two.ask(Open("auth", "", 0, list(range(16)), ["seen"], id))),
        ]
        assert isinstance(await other.join(C, group="other"), Assign)
        assert not any(each.done() for each in asked)
        go_on.set()
        await asyncio.gather(*asked)
        assert isinstance(one.heard[0], Assign)
        assert len(found) == 1
        group = publisher.coordinator.groups["auth", "one"]
        assert publisher.coordinator.progress.lag(group) == 2

    run(tmp_path, test)
