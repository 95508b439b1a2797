"""The way of an event out: numbered, coalesced by topic, published; and the hand-off for those who cannot publish."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from enum import Enum, IntEnum
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import wait_until_async
from lightbus.adapters.sqlite.journal import Journal
from lightbus.core.partitions import partition_of
from lightbus.events.broadcast import FRAME_OVERHEAD, MAX_BYTES, MAX_RECORDS
from lightbus.events.event_record import EventIds, key_of, record_of
from lightbus.events.partition_turns import TURN_AFTER
from lightbus.events.publisher import Publisher
from lightbus.exceptions import DeformError, JournalError, LightbusTimeout, PayloadTooLarge
from lightbus.membership.context import Identity
from lightbus.message import EventMessage
from lightbus.service.api import Api, ApiRegistry, Event, Parameter
from lightbus.wire import codec, envelope
from lightbus.wire.envelope import PARTITIONS, Accepted, Error, Events, Fire, Head, Marker, Message, Record
from lightbus.wire.sizes import Receivers

ME = "a" * 16
MARKER = envelope.marker_topic(bytes(16))


class Auth(Api):
    user_registered = Event(["username", Parameter("age", int, default=0)], key="username")
    seen = Event(["what"])
    kept = Event(["what", "key"], key="key")
    unkeyed = Event(["what", "key"])
    loose = Event(["what"], delivery="best_effort")

    class Meta:
        name = "auth"
        version = 3


class Journals:
    """The journal of the publisher; `problem` is raised where it is asked for."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory / "00000000000000aa.sqlite")
        self.problem: JournalError | None = None

    def own(self) -> Journal:
        if self.problem is not None:
            raise self.problem
        return self.journal


class Out:
    """A publisher whose frames are kept."""

    def __init__(self, directory: Path, max_message_size: int = 64 * 1024 * 1024) -> None:
        self.journals = Journals(directory)
        self.first = self.journals.journal.head
        self.frames: list[tuple[bytes, Message]] = []
        self.sizes: list[int] = []
        self.awaited: list[tuple[Any, ...]] = []
        """Whose handling by all groups is waited for."""
        self.apis = ApiRegistry()
        self.apis.add(Auth())
        self.receivers = Receivers(max_message_size)
        self.publisher = Publisher(
            Identity(bus="b", service="s", process="p", instance=ME, host="h"),
            self.apis,
            self.send,
            self.journals,
            self.receivers,
            when_handled=lambda *asked: self.awaited.append(asked),
            on_subscription=lambda topic, subscribed: None,
            max_message_size=max_message_size,
        )

    def send(self, frame: bytes) -> None:
        topic, message = envelope.decode_published(frame)
        assert isinstance(message, (Events, Marker, Head))
        self.sizes.append(len(frame))
        self.frames.append((topic, message))

    def fire(self, count: int, size: int = 10, key: str | None = "k", event: str = "kept") -> list[int]:
        """Fire so many events from a plain thread's door, and return their sequences, counted from the first."""
        return [self._fire(size, key, event) for _ in range(count)]

    def _fire(self, size: int, key: str | None, event: str) -> int:
        declared = self.apis.get("auth").get_event(event if key is not None else "unkeyed")
        message = EventMessage(api_name="auth", event_name=declared.name, kwargs={"what": b"r" * size, "key": key})
        self.publisher.publish(message, declared)
        return int(message.native_id.rpartition("-")[2] or 0) - self.first if message.native_id else 0

    @property
    def records(self) -> dict[bytes, list[Any]]:
        """What was published, per topic, in order; sequences counted from the first."""
        found: dict[bytes, list[Any]] = defaultdict(list)
        for topic, message in self.frames:
            if isinstance(message, Events):
                assert (message.journal, message.publisher) == (self.journals.journal.id, ME)
                found[topic] += [[s - self.first, max(0, p - self.first), record] for s, p, record in message.records]
        return found

    async def hand_off(self, event: str = "seen", *, kwargs: Any = None, id: str = "id-1", **fields: Any) -> Message:
        """Have an event arrive from a process that does not publish; return the answer."""
        record = envelope.encode_record(Record(id, 1, 0.0, {"what": "it"} if kwargs is None else kwargs))
        values = {"target": ME, "api": "auth", "event": event, "left": 5.0, "key": None, "record": record, **fields}
        answers: list[Message] = []
        self.publisher.hand_off(Fire(**{"wait_for": "journal", **values}), answers.append)
        await wait_until_async(lambda: answers)
        return answers[0]

    def native_id(self, number: int) -> str:
        """Return the native id of the event of this number."""
        return f"{self.journals.journal.id}-{self.first + number}"


def run(test: Callable[[Out], Awaitable[None]], **kwargs: Any) -> None:
    """Run a test on a loop, with a publisher made on it."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            out = Out(Path(directory), **kwargs)
            try:
                await test(out)
            finally:
                out.journals.journal.close()

    asyncio.run(main())


def test_events_of_one_tick_share_a_message() -> None:
    """What is fired before the loop has its turn leaves in one frame, numbered, each with the one before it."""

    async def test(out: Out) -> None:
        assert out.fire(3) == [1, 2, 3]
        assert out.publisher.waiting == 3
        assert out.frames == []
        await asyncio.sleep(0)
        [(topic, message)] = out.frames
        assert topic == envelope.event_topic("auth", "kept", partition_of("k", PARTITIONS))
        assert isinstance(message, Events)
        assert [entry[:2] for entry in out.records[topic]] == [[1, 0], [2, 1], [3, 2]]
        assert (out.publisher.waiting, out.publisher.counts["published"]) == (0, 3)
        assert out.fire(1) == [4]
        await asyncio.sleep(0)
        assert out.records[topic][-1][:2] == [4, 3]

    run(test)


def test_one_commit_for_a_tick() -> None:
    """What tasks fire within one tick of the loop is stored by one commit, and each is told where its event is."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        messages = [EventMessage(api_name="auth", event_name="seen", kwargs={"what": n}) for n in range(100)]
        commits: list[int] = []
        append = out.journals.journal.append
        out.journals.journal.append = lambda events: commits.append(len(events)) or append(events)  # type: ignore
        await asyncio.gather(*(out.publisher.publish_async(message, event) for message in messages))
        assert commits == [100]
        assert [message.native_id for message in messages] == [out.native_id(n) for n in range(1, 101)]
        assert sum(map(len, out.records.values())) == 100

    run(test)


def commits_of(out: Out) -> list[int]:
    """Return where it is noted, from now on, how many events each commit stores."""
    commits: list[int] = []
    append = out.journals.journal.append
    out.journals.journal.append = lambda events: commits.append(len(events)) or append(events)  # type: ignore
    return commits


async def fire_in_turn(out: Out, count: int) -> list[str]:
    """Fire one event after another in a task, each when the one before is stored; return their native ids."""
    event = out.apis.get("auth").get_event("seen")
    messages = [EventMessage(api_name="auth", event_name="seen", kwargs={"what": n}) for n in range(count)]
    for message in messages:
        await out.publisher.publish_async(message, event)
    return [message.native_id for message in messages]


def test_one_after_another_is_stored_at_once() -> None:
    """A task that waits for each event waits for no others; the loop has its turn now and then, and order is kept."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 1)  # the journal is opened
        commits, turns = commits_of(out), 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        await asyncio.sleep(0)
        assert await fire_in_turn(out, 100) == [out.native_id(n) for n in range(2, 102)]
        other.cancel()
        assert commits == [1] * 100
        assert 5 <= turns < 100
        out.publisher.flush()
        sequences = sorted(entry[0] for entries in out.records.values() for entry in entries)
        assert sequences == list(range(1, 102))

    run(test)


def test_tasks_side_by_side_share_commits_again() -> None:
    """As soon as others fire as well, their events are stored together; only the first to fire goes on by itself."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 20)
        commits = commits_of(out)
        await asyncio.gather(*(fire_in_turn(out, 10) for _ in range(50)))
        assert commits == [1] * 10 + [49] * 10

    run(test)


def test_hand_offs_are_stored_at_once_or_together() -> None:
    """One by itself is answered before the loop goes on; many of a tick share a commit, and each has its answer."""

    async def test(out: Out) -> None:
        await out.hand_off(id="id-0")
        commits = commits_of(out)
        answers: list[Message] = []
        record = envelope.encode_record(Record("id-1", 1, 0.0, {"what": "it"}))
        out.publisher.hand_off(Fire(ME, "auth", "seen", 5.0, None, record, "journal"), answers.append)
        assert answers == [Accepted(out.native_id(2), ME)]
        await asyncio.gather(*(out.hand_off(id=f"id-{n}") for n in range(2, 12)))
        assert (commits, out.journals.journal.size[0]) == ([1, 1, 9], 12)

    run(test)


def test_a_commit_that_waits_for_the_disk_is_shared(tmp_path: Path) -> None:
    """With `durability: power` nothing is stored by itself that could be stored together with others."""

    async def test(out: Out) -> None:
        out.journals.journal.close()
        out.journals.journal = Journal(tmp_path / "00000000000000bb.sqlite", durability="power")
        await fire_in_turn(out, 1)
        commits = commits_of(out)
        await asyncio.gather(fire_in_turn(out, 2), fire_in_turn(out, 2))
        assert commits == [2, 2]

    run(test)


def test_what_cannot_be_stored_at_once() -> None:
    """Who fires, or hands off, reads why; it is counted, nothing is published, and the next event is stored."""

    async def test(out: Out) -> None:
        await fire_in_turn(out, 1)
        append = out.journals.journal.append

        def fail(events: Any) -> Any:
            raise JournalError("the disk is full")

        out.journals.journal.append = fail  # type: ignore[method-assign]
        with pytest.raises(JournalError, match="the disk is full"):
            await fire_in_turn(out, 1)
        assert await out.hand_off() == Error("journal_error", "the disk is full", False, {"elsewhere": True})
        assert out.publisher.counts["journal_errors"] == 2
        out.journals.journal.append = append  # type: ignore[method-assign]
        assert await fire_in_turn(out, 1) == [out.native_id(2)]
        out.publisher.flush()
        assert sum(map(len, out.records.values())) == 2

    run(test)


def test_what_is_not_stored_is_not_published() -> None:
    """Where the journal fails, whoever fires reads why, and so does who hands off, who may ask another publisher."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        message = EventMessage(api_name="auth", event_name="seen", kwargs={"what": 1})
        out.journals.problem = JournalError("the disk is full")
        with pytest.raises(JournalError, match="the disk is full"):
            await out.publisher.publish_async(message, event)
        with pytest.raises(JournalError, match="the disk is full"):
            out.publisher.publish(message, event)
        error = await out.hand_off()
        assert error == Error("journal_error", "the disk is full", False, {"elsewhere": True})
        assert (out.frames, out.publisher.waiting) == ([], 0)
        out.journals.problem = None
        await out.publisher.publish_async(message, event)
        assert message.native_id == out.native_id(1)

    run(test)


def test_best_effort_is_not_stored() -> None:
    """Of best effort an event is numbered and published, and no journal has it."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("loose")
        for n in range(3):
            message = EventMessage(api_name="auth", event_name="loose", kwargs={"what": n})
            assert out.publisher.publish(message, event) is None
            assert (message.native_id, message.publisher) == ("", ME)
        out.publisher.flush()
        assert {message.journal for _, message in out.frames if isinstance(message, Events)} == {""}
        assert out.journals.journal.size == (0, 0)

    run(test)


def test_an_idle_topic_tells_its_newest() -> None:
    """After half a second, then after ever longer pauses, a topic says which event is its newest."""

    async def test(out: Out) -> None:
        out.fire(2)
        out.publisher.flush()
        topic = out.frames[0][0]
        now = time.monotonic()
        for later, expected in ((0, 0), (1, 1), (1.1, 1), (3, 2), (100, 3)):
            out.publisher.tick(now + later)
            heads = [(to, message) for to, message in out.frames if isinstance(message, Head)]
            assert len(heads) == expected
        assert set(heads) == {(topic, Head(out.journals.journal.id, out.first + 2))}

    run(test)


def test_each_topic_has_its_own_predecessors() -> None:
    """A subscriber to one partition sees no gap where the numbers between went to another, or to another event."""

    async def test(out: Out) -> None:
        for key in ("one", "two", "one", "two"):
            out.fire(1, key=key)
        out.fire(1, key=None)
        out.fire(1, key="one")
        out.publisher.flush()
        one, two = (envelope.event_topic("auth", "kept", partition_of(key, PARTITIONS)) for key in ("one", "two"))
        assert [entry[:2] for entry in out.records[one]] == [[1, 0], [3, 1], [6, 3]]
        assert [entry[:2] for entry in out.records[two]] == [[2, 0], [4, 2]]

    run(test)


def test_a_key_decides_on_the_partition() -> None:
    """All events of a key go one way, so they stay in order."""

    async def test(out: Out) -> None:
        out.fire(100, key="customer-1")
        out.publisher.flush()
        assert list(out.records) == [envelope.event_topic("auth", "kept", partition_of("customer-1", PARTITIONS))]

    run(test)


def test_events_without_a_key_take_turns() -> None:
    """Each partition gets some in a row, so that they share messages, and all partitions get as many."""

    async def test(out: Out) -> None:
        out.fire(TURN_AFTER * PARTITIONS, key=None)
        out.publisher.flush()
        assert len(out.records) == PARTITIONS
        assert {len(entries) for entries in out.records.values()} == {TURN_AFTER}
        before = out.frames[-1][0]
        out.fire(1, key=None)
        out.publisher.flush()
        assert out.frames[-1][0] != before

    run(test)


def test_a_message_has_only_so_many_events() -> None:
    """More than MAX_RECORDS events of a topic are several messages, in order."""

    async def test(out: Out) -> None:
        out.fire(2 * MAX_RECORDS + 1)
        out.publisher.flush()
        lengths = [len(message.records) for _, message in out.frames if isinstance(message, Events)]
        assert lengths == [MAX_RECORDS, MAX_RECORDS, 1]
        [entries] = out.records.values()
        assert [entry[0] for entry in entries] == list(range(1, 2 * MAX_RECORDS + 2))

    run(test)


def test_a_message_has_only_so_many_bytes() -> None:
    """Large events share no message beyond MAX_BYTES; of one that is larger by itself only the number is published."""

    async def test(out: Out) -> None:
        out.fire(3, size=MAX_BYTES // 2 - 1000)
        out.fire(1, size=2 * MAX_BYTES)
        out.fire(1)
        out.publisher.flush()
        assert [len(message.records) for _, message in out.frames if isinstance(message, Events)] == [2, 1, 1]
        assert [type(message) for _, message in out.frames] == [Events, Events, Head, Events]

    run(test)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=40), st.integers(2048, 4096))
def test_no_message_is_over_the_limit(sizes: list[int], limit: int) -> None:
    """However events come together, no message is larger than a subscriber takes: it would drop the connection."""

    async def test(out: Out) -> None:
        for size in sizes:
            out.fire(1, size=size)
        out.publisher.flush()
        assert max(out.sizes) <= limit
        [entries] = out.records.values()
        assert [len(envelope.decode_record(entry[2]).kwargs["what"]) for entry in entries] == sizes

    run(test, max_message_size=limit)


def test_threads_append_at_once() -> None:
    """From whatever threads events come: numbers are used once, and each partition's leave in order without a gap."""
    count, threads = 2000, 4

    async def test(out: Out) -> None:
        given_: list[list[int]] = [[] for _ in range(threads)]

        def fire(number: int) -> None:
            for turn in range(count):
                given_[number] += out.fire(1, key=None if turn % 3 else f"key-{turn}")

        workers = [threading.Thread(target=fire, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        await wait_until_async(lambda: out.publisher.counts["published"] == count * threads, 30.0)
        for worker in workers:
            worker.join()
        assert sorted(chain(*given_)) == list(range(1, count * threads + 1))
        assert all(sequences == sorted(sequences) for sequences in given_)
        for entries in out.records.values():
            assert [previous for _, previous, _ in entries] == [0, *(sequence for sequence, _, _ in entries)][:-1]
            assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)
        assert sum(map(len, out.records.values())) == count * threads

    run(test)


# Firing here


def test_publishing_an_event_notes_where_it_is() -> None:
    """The fired message then says who holds it, and under which number; its record is what subscribers get."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("user_registered")
        message = EventMessage(
            api_name="auth", event_name="user_registered", kwargs={"username": "sally"}, id="x-1", published_at=1.5
        )
        out.publisher.publish(message, event)
        assert (message.native_id, message.publisher) == (out.native_id(1), ME)
        out.publisher.flush()
        [(topic, [[_, _, record]])] = out.records.items()
        assert topic == envelope.event_topic("auth", "user_registered", partition_of("sally", PARTITIONS))
        assert envelope.decode_record(record) == Record("x-1", 1, 1.5, {"username": "sally"})

    run(test)


def test_what_cannot_be_published_is_refused() -> None:
    """An event that is too large, or cannot be sent, is the error of whoever fires it, and takes no number."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        large = EventMessage(api_name="auth", event_name="seen", kwargs={"what": "x" * 3000})
        with pytest.raises(PayloadTooLarge, match=r"arguments of auth\.seen take 30\d\d bytes; .* have 3000"):
            out.publisher.publish(large, event)
        odd = EventMessage(api_name="auth", event_name="seen", kwargs={"what": object()})
        with pytest.raises(DeformError, match=r"arguments of auth\.seen cannot be sent: kwargs\.what is an object"):
            out.publisher.publish(odd, event)
        assert (out.journals.journal.size, out.publisher.waiting) == ((0, 0), 0)

    run(test, max_message_size=3000)


@pytest.mark.parametrize(
    ("key", "kwargs", "expected"),
    [
        ("username", {"username": "sally"}, "sally"),
        ("username", {"username": 7}, "7"),
        ("username", {"username": None}, None),
        ("username", {}, None),
        (None, {"username": "sally"}, None),
    ],
)
def test_the_key_of_an_event(key: str | None, kwargs: dict[str, Any], expected: str | None) -> None:
    """The key is the text of the argument that the event names; without it there is none."""
    assert key_of(Event(["username"], key=key), kwargs) == expected


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.LOW, "1"),
        (("b", "a"), "['a', 'b']"),
        ({"b", "a", "c"}, "['a', 'b', 'c']"),
        (frozenset({3, 1}), "['1', '3']"),
        (Point(1, 2), """["('x', 1)", "('y', 2)"]"""),
        ({"y": 2, "x": 1}, """["('x', 1)", "('y', 2)"]"""),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (bytearray(b"a"), "b'a'"),
        (True, "True"),
        (2**70, str(2**70)),
    ],
)
def test_the_key_is_that_of_the_wire(value: Any, expected: str) -> None:
    """Who fires an object and the publisher that is handed what was sent of it come to the same key."""
    event = Event(["what"], key="what")
    sent = codec.decode(codec.encode({"what": value}))
    assert key_of(event, {"what": value}) == key_of(event, sent) == expected


def test_an_unknown_event_has_no_key() -> None:
    """Of an event that is not declared here nothing is known."""
    assert key_of(None, {"username": "sally"}) is None


# Markers


def test_a_marker_tells_from_where_on_events_arrive() -> None:
    """What was fired before the marker's subscription goes out before it, and the marker names the last of it."""

    async def test(out: Out) -> None:
        out.fire(2)
        out.publisher.subscribed(MARKER, True)
        assert [type(message) for _, message in out.frames] == [Events, Marker]
        assert out.frames[-1] == (MARKER, Marker(out.journals.journal.id, out.first + 2))
        out.fire(1)
        await asyncio.sleep(0)
        assert [type(message) for _, message in out.frames] == [Events, Marker, Events]
        assert out.publisher.counts["markers"] == 1

    run(test)


def test_a_marker_comes_behind_what_was_fired() -> None:
    """An event that another thread fires while a marker is made comes behind it."""

    async def test(out: Out) -> None:
        send = out.publisher.broadcast._send
        late = iter([1])

        def send_and_fire(frame: bytes) -> None:
            send(frame)
            if next(late, None):
                out.fire(1)

        out.publisher.broadcast._send = send_and_fire
        out.fire(1)
        out.publisher.subscribed(MARKER, True)
        assert [type(message) for _, message in out.frames] == [Events, Marker]
        await asyncio.sleep(0)
        assert [entry[0] for entries in out.records.values() for entry in entries] == [1, 2]

    run(test)


@pytest.mark.parametrize(("topic", "subscribed"), [(MARKER, False), (b"auth\0", True), (b"", True)])
def test_other_subscriptions_are_not_answered(topic: bytes, subscribed: bool) -> None:
    """Only a subscription to a marker is answered; taking one back, or subscribing to events, is not."""

    async def test(out: Out) -> None:
        out.publisher.subscribed(topic, subscribed)
        assert out.frames == []

    run(test)


# Hand-off


def test_a_handed_off_event_is_published() -> None:
    """The answer says under which number; the record goes on, completed by what its sender left out."""

    async def test(out: Out) -> None:
        answer = await out.hand_off("user_registered", kwargs={"username": "sally"})
        assert answer == Accepted(out.native_id(1), ME)
        out.publisher.flush()
        [(topic, [[_, _, record]])] = out.records.items()
        assert topic == envelope.event_topic("auth", "user_registered", partition_of("sally", PARTITIONS))
        assert envelope.decode_record(record).kwargs == {"username": "sally", "age": 0}
        assert out.publisher.counts["handed_off"] == 1

    run(test)


def test_the_key_of_whoever_hands_off_counts() -> None:
    """A key that came along decides on the partition, and not the argument."""

    async def test(out: Out) -> None:
        await out.hand_off("user_registered", kwargs={"username": "sally"}, key="another")
        out.publisher.flush()
        assert list(out.records) == [
            envelope.event_topic("auth", "user_registered", partition_of("another", PARTITIONS))
        ]

    run(test)


@pytest.mark.parametrize(
    ("event", "fields", "code", "text"),
    [
        ("seen", {"api": "auht"}, "unknown_api", "Did you mean 'auth'?"),
        ("sene", {}, "event_not_found", "Did you mean 'seen'?"),
        ("seen", {"record": b"\xc1"}, "protocol_error", "cannot be decoded"),
        ("seen", {"kwargs": {"what": 1, "else": 2}}, "invalid_event_arguments", "has no parameter 'else'"),
        ("seen", {"kwargs": {}}, "invalid_event_arguments", "needs the argument 'what'"),
        ("user_registered", {"kwargs": {"username": "s", "age": "old"}}, "validation_error", "age is 'old'"),
        ("seen", {"kwargs": {"what": "x" * 8000}}, "payload_too_large", "arguments of auth.seen take 8"),
    ],
)
def test_what_is_handed_off_wrongly_is_refused(event: str, fields: dict[str, Any], code: str, text: str) -> None:
    """Whoever hands off reads what is wrong; nothing is published, and no other peer is asked."""

    async def test(out: Out) -> None:
        error = await out.hand_off(event, **fields)
        assert isinstance(error, Error)
        assert (error.code, error.started, error.details) == (code, False, {})
        assert text in error.message
        assert (out.journals.journal.size, out.publisher.counts["refused"]) == ((0, 0), 1)

    run(test, max_message_size=8000 + FRAME_OVERHEAD)


def test_an_event_for_another_instance_is_refused() -> None:
    """A restarted worker does not publish what was meant for its predecessor; another peer may be asked."""

    async def test(out: Out) -> None:
        error = await out.hand_off(target="f" * 16)
        assert isinstance(error, Error)
        assert (error.code, error.started, error.details) == ("peer_refused", False, {"elsewhere": True})

    run(test)


def test_a_repeated_hand_off_is_stored_once() -> None:
    """The same id again, in the same tick or later, is answered with where the first is, and not published again."""

    async def test(out: Out) -> None:
        first, again = await asyncio.gather(out.hand_off(), out.hand_off())
        later = await out.hand_off()
        other = await out.hand_off(id="id-2")
        assert [first, again, later, other] == [Accepted(out.native_id(n), ME) for n in (1, 1, 1, 2)]
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 2)
        assert out.publisher.counts["repeated"] == 2

    run(test)


def test_a_hand_off_that_waits_for_the_groups() -> None:
    """With `wait_for` "ack" the answer comes when every group has handled the event."""

    async def test(out: Out) -> None:
        waiting = asyncio.ensure_future(out.hand_off(wait_for="ack"))
        await wait_until_async(lambda: out.awaited)
        assert not waiting.done()
        [(topic, sequence, seconds, callback)] = out.awaited
        assert (topic[:2], sequence, seconds) == (("auth", "seen"), out.first + 1, 5.0)
        callback(None)
        assert await waiting == Accepted(out.native_id(1), ME)
        waiting = asyncio.ensure_future(out.hand_off(id="id-2", wait_for="ack"))
        await wait_until_async(lambda: len(out.awaited) == 2)
        out.awaited[1][3](LightbusTimeout("too many wait"))
        assert await waiting == Error("timeout", "too many wait", True, {})

    run(test)


def test_best_effort_is_answered_at_once() -> None:
    """What no journal holds is taken when it is queued."""

    async def test(out: Out) -> None:
        assert await out.hand_off("loose") == Accepted("", ME)

    run(test)


# Ids and records


def test_event_ids_are_unique() -> None:
    """Each thread gets other ids, and all begin with the instance that fires."""
    ids, made = EventIds(ME), [list[str]() for _ in range(4)]
    threads = [threading.Thread(target=lambda own=own: own.extend(ids.next() for _ in range(1000))) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = list(chain(*made))
    assert len(set(every)) == len(every) == 4000
    assert f"{ME}-1" in every
    assert all(each.startswith(f"{ME}-") for each in every)


def test_a_record_holds_the_event() -> None:
    """A message becomes the record that every receiver reads."""
    message = EventMessage(api_name="auth", event_name="seen", kwargs={"what": 1}, id="i", version=3, published_at=2.5)
    assert envelope.decode_record(record_of(message)) == Record("i", 3, 2.5, {"what": 1})


def test_events_wait_off_the_loop_for_a_program_that_locks_the_journal() -> None:
    """By every door: each is accepted and published in order once the other program is done, and the loop is free."""

    async def test(out: Out) -> None:
        loop, event = asyncio.get_running_loop(), out.apis.get("auth").get_event("kept")

        def message(what: str) -> EventMessage:
            return EventMessage(api_name="auth", event_name="kept", kwargs={"what": what, "key": "k"})

        out.fire(1)
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            doors = [
                loop.create_task(out.publisher.publish_async(message("async"), event)),
                loop.run_in_executor(None, out.publisher.publish, message("sync"), event),
                loop.run_in_executor(None, lambda: asyncio.run(out.publisher.publish_async(message("other"), event))),
                loop.create_task(out.hand_off("kept", kwargs={"what": "handed", "key": "k"})),
            ]
            await wait_until_async(lambda: out.publisher.batcher.is_storing_late)
            late = loop.create_task(out.publisher.publish_async(message("late"), event))
            done, _ = await asyncio.wait([*doors, late], timeout=0.1)
            assert done == set()
            outsider.execute("ROLLBACK")
        await asyncio.gather(*doors, late)
        await out.hand_off("kept", id="id-2", kwargs={"what": "afterwards", "key": "k"})
        await wait_until_async(lambda: sum(map(len, out.records.values())) == 7)
        [entries] = out.records.values()
        assert [entry[0] for entry in entries] == list(range(1, 8))
        assert [entry[1] for entry in entries] == list(range(7))

    run(test)


def test_a_program_that_never_ends_is_an_error_for_who_fires() -> None:
    """It is said what it is; what is fired afterwards is stored."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("kept")
        message = EventMessage(api_name="auth", event_name="kept", kwargs={"what": "x", "key": "k"})
        patiently = out.journals.journal.patiently
        out.journals.journal.patiently = lambda action: patiently(action, 0.05)  # type: ignore
        with contextlib.closing(sqlite3.connect(out.journals.journal.path, isolation_level=None)) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="It is locked by another program"):
                await out.publisher.publish_async(message, event)
            with pytest.raises(JournalError, match="It is locked by another program"):
                await asyncio.to_thread(out.publisher.publish, message, event)
        await out.publisher.publish_async(message, event)
        assert out.publisher.counts["stored"] == 1

    run(test)
