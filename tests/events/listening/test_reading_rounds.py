"""Publishers that are read in rounds: each in its turn, a portion at a time, and those that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from helpers import wait_until_async
from lightbus.events.listening import reading_rounds as module
from lightbus.events.listening.reading_rounds import PORTION, ReadingRounds


class Reader:
    """A publisher with messages of so many events each: it reads until there are no more, or it is paused."""

    def __init__(self, *messages: int) -> None:
        self.messages = [*messages]
        self.rounds: ReadingRounds | None = None
        self.looks = 0
        self._is_paused = False

    def pause(self) -> None:
        self._is_paused = True

    def read(self) -> None:
        self.looks += 1
        self._is_paused = False
        while self.messages and not self._is_paused:
            assert self.rounds is not None
            self.rounds.note_received(self.messages.pop(0))


def run(test: Callable[[dict[str, Reader], ReadingRounds], Awaitable[None]], **readers: Reader) -> None:
    async def main() -> None:
        rounds = ReadingRounds(readers)
        for reader in readers.values():
            reader.rounds = rounds
        rounds.begin()
        await test(readers, rounds)
        rounds.end()
        assert not rounds.are_on

    asyncio.run(main())


def test_a_flood_leaves_the_loop_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader stops at the end of a portion and goes on after a turn of the loop; the next one follows it."""
    monkeypatch.setattr(module, "EVERY", 0.0)

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        left = []
        while readers["a"].messages:
            before = len(readers["a"].messages)
            await asyncio.sleep(0)
            left.append(before - len(readers["a"].messages))
            assert readers["a"].messages == [] or len(readers["b"].messages) == 1
        assert max(left) == 2
        await wait_until_async(lambda: not readers["b"].messages)

    run(test, a=Reader(*[PORTION // 2] * 6), b=Reader(1))


def test_publishers_come_and_go() -> None:
    """Who comes is read from the next round on, and who has gone no more."""

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        first, second = readers.pop("a"), Reader(1, 2)
        second.rounds = rounds
        readers["b"] = second
        await wait_until_async(lambda: not second.messages and second.looks >= 2)
        assert first.looks == 0

    run(test, a=Reader())


def test_rounds_are_begun_once() -> None:
    """However often that is asked; and they can be begun anew."""

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        rounds.begin()
        rounds.end()
        rounds.begin()
        await wait_until_async(lambda: readers["a"].looks == 3)

    run(test, a=Reader())
