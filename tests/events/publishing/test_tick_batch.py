"""Events fired within one tick are grouped by topic, and each caller is told the outcome of its event."""

from __future__ import annotations

import asyncio

from lightbus.adapters.sqlite.journal import Run, Stored
from lightbus.adapters.sqlite.rows import MAX_APART
from lightbus.adapters.sqlite.topic import Topic
from lightbus.events.publishing.tick_batch import TickBatch
from lightbus.exceptions import JournalError
from lightbus.message import EventMessage

ONE, TWO = Topic("auth", "seen", 1), Topic("auth", "seen", 2)


def ignore(topic: Topic, outcome: Stored | JournalError) -> None:
    """Ignore the outcome."""


def test_consecutive_events_of_a_topic_are_a_run() -> None:
    """Another topic ends it, and so do a handed-off event, and one with another time."""
    batch = TickBatch()
    assert batch.is_small
    batch.add(b"1", ONE, b"a", 1.0, "", ignore)
    assert batch.is_small
    first, far = 1.0 + MAX_APART / 2, 1.0 - 2 * MAX_APART
    for topic, name, record, at, id in [
        (b"1", ONE, b"b", first, ""),
        (b"2", TWO, b"c", 1.0, ""),
        (b"1", ONE, b"d", 1.0, ""),
        (b"1", ONE, b"e", far, ""),
        (b"1", ONE, b"f", far, "id-1"),
        (b"1", ONE, b"g", far, ""),
    ]:
        batch.add({b"1": b"1", b"2": b"2"}[topic], name, record, at, id, ignore)
        assert not batch.is_small
    assert batch.runs == [
        Run(ONE, 1.0, [b"a", b"b"]), Run(TWO, 1.0, [b"c"]), Run(ONE, 1.0, [b"d"]), Run(ONE, far, [b"e"]),
        Run(ONE, far, [b"f"], "id-1"), Run(ONE, far, [b"g"]),
    ]  # fmt: skip
    assert batch.topics == [b"1", b"2", b"1", b"1", b"1", b"1"]


def test_each_caller_gets_the_place_of_its_event() -> None:
    """By its message, by its future, by a callback; a caller that no longer waits is ignored."""

    async def main() -> None:
        batch, loop = TickBatch(), asyncio.get_running_loop()
        message = EventMessage(api_name="auth", event_name="seen")
        futures = [loop.create_future() for _ in range(3)]
        told: list[tuple[Topic, Stored | JournalError]] = []
        futures[2].cancel()
        batch.add(b"1", ONE, b"a", 1.0, "", (message, futures[0]))
        batch.add(b"1", ONE, b"b", 1.0, "", futures[1])
        batch.add(b"1", ONE, b"c", 1.0, "", futures[2])
        batch.add(b"2", TWO, b"d", 1.0, "id-1", lambda topic, outcome: told.append((topic, outcome)))
        batch.resolve("j", [Stored(5, 2), Stored(1, 0, is_new=False)])
        assert (message.native_id, futures[0].done(), futures[1].result()) == ("j-5", True, Stored(6, 5))
        assert told == [(TWO, Stored(1, 0, is_new=False))]

    asyncio.run(main())


def test_each_caller_gets_the_error() -> None:
    """All events of a commit share its error."""

    async def main() -> None:
        batch, error, loop = TickBatch(), JournalError("a full disk"), asyncio.get_running_loop()
        message = EventMessage(api_name="auth", event_name="seen")
        futures = [loop.create_future() for _ in range(2)]
        told: list[Stored | JournalError] = []
        batch.add(b"1", ONE, b"a", 1.0, "", (message, futures[0]))
        batch.add(b"1", ONE, b"b", 1.0, "", futures[1])
        batch.add(b"2", TWO, b"c", 1.0, "", lambda topic, outcome: told.append(outcome))
        batch.fail(error)
        assert [future.exception() for future in futures] == [error, error]
        assert (message.native_id, told) == ("", [error])

    asyncio.run(main())
