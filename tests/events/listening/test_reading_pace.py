"""Published events are read no faster than the listeners handle them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from helpers import wait_until_async
from helpers.listeners import listener
from lightbus.events.listening import reading_pace as module
from lightbus.events.listening.listener_queue import ListenerQueue
from lightbus.events.listening.reading_pace import PORTION, ReadingPace


class Reader:
    """A reader of a publisher's events."""

    def __init__(self) -> None:
        self.is_paused = False
        self.reads = 0

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def read(self) -> bool:
        self.reads += 1
        return False


class Runner:
    """A running listener with this many waiting events."""

    def __init__(self, backlog: int = 0, *, takes_raw: bool = False) -> None:
        self.queue = ListenerQueue(replace(listener(lambda: None), takes_raw=takes_raw))
        self.queue.backlog = backlog


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reading wait for slow listeners for as long as the test takes."""
    monkeypatch.setattr(module, "MAX_PAUSE", 60.0)


@pytest.mark.usefixtures("patient")
def test_reading_pauses_after_a_portion() -> None:
    """No publisher is read further until the listener has caught up; then the next portion begins."""

    async def test() -> None:
        readers, runner = {"a": Reader(), "b": Reader()}, Runner(backlog=1)
        pace = ReadingPace(readers, [runner])
        for _ in range(2):
            pace.note_received(PORTION - 1)
            assert not readers["a"].is_paused
            pace.note_received(1)
            pace.note_received(5)
            assert all(reader.is_paused for reader in readers.values())
            pace.caught_up()
            assert readers["a"].is_paused  # another one has
            runner.queue.backlog = 0
            pace.caught_up()
            assert not any(reader.is_paused for reader in readers.values())
            runner.queue.backlog = 1
        pace.close()

    run(test)


@pytest.mark.usefixtures("patient")
def test_undecoded_events_are_read_in_rounds() -> None:
    """From the first such listener on; a listener that decodes events ends that, and after it the rounds resume."""

    async def test() -> None:
        reader, runners = Reader(), [Runner(takes_raw=True)]
        pace = ReadingPace({"a": reader}, runners)
        pace.note_received(1)
        assert reader.is_paused
        await wait_until_async(lambda: reader.reads >= 2)
        runners.append(Runner(backlog=1))
        pace.note_received(1)
        await wait_until_async(lambda: not reader.is_paused)
        reads = reader.reads
        pace.note_received(PORTION)
        assert reader.is_paused
        runners[1].queue.backlog = 0
        pace.caught_up()
        assert not reader.is_paused
        del runners[1]
        assert reader.reads == reads
        pace.note_received(1)
        await wait_until_async(lambda: reader.reads > reads)
        pace.close()
        reads = reader.reads
        assert not pace._rounds.are_on
        assert (reader.reads, reader.is_paused) == (reads, True)

    run(test)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("why", ["is_slow", "waits"])
def test_reading_does_not_wait_in_vain(why: str) -> None:
    """Not for a slow listener, nor for one that needs earlier events than it has."""

    async def test() -> None:
        reader, runner = Reader(), Runner(backlog=1)
        setattr(runner.queue, why, True)
        pace = ReadingPace({"a": reader}, [runner])
        pace.note_received(PORTION)
        pace.caught_up()
        assert not reader.is_paused
        pace.close()

    run(test)


def test_slow_listeners_are_marked() -> None:
    """A listener that has not caught up in time is not waited for any more, and reading continues."""

    async def test() -> None:
        reader, slow, quick = Reader(), Runner(backlog=1), Runner()
        pace = ReadingPace({"a": reader}, [slow, quick])
        pace.note_received(PORTION)
        await wait_until_async(lambda: not reader.is_paused)
        assert (slow.queue.is_slow, quick.queue.is_slow) == (True, False)
        pace.close()

    run(test)


@pytest.mark.usefixtures("patient")
def test_nothing_is_read_after_the_end() -> None:
    """Whatever is finished then."""

    async def test() -> None:
        reader, runner = Reader(), Runner()
        pace = ReadingPace({"a": reader}, [runner])
        pace.note_received(PORTION)
        pace.close()
        pace.caught_up()
        assert reader.is_paused

    run(test)


def test_nothing_is_read_in_rounds_without_listeners() -> None:
    """Once the last one was removed, what comes is read as it comes."""

    async def test() -> None:
        reader, runners = Reader(), [Runner(takes_raw=True), Runner(takes_raw=True)]
        pace = ReadingPace({"a": reader}, runners)
        pace.note_received(1)
        del runners[0]
        pace.listener_removed()
        await wait_until_async(lambda: reader.reads >= 2)
        assert reader.is_paused
        runners.clear()
        pace.listener_removed()
        await wait_until_async(lambda: not reader.is_paused)
        reads = reader.reads
        assert not pace._rounds.are_on
        assert (reader.reads, reader.is_paused) == (reads, False)
        runners.append(Runner(takes_raw=True))
        pace.note_received(1)
        await wait_until_async(lambda: reader.reads > reads)
        pace.close()

    run(test)
