"""Publishers that are read in rounds: in turns, a portion at a time, while they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.events.listening import reading_rounds as module
from lightbus.events.listening.reading_rounds import PORTION, ReadingRounds

AT_A_TIME = 4
"""Messages that a reader reads before others have their turn."""


class Reader:
    """A publisher with messages of this many events: it reads until there are no more, or it is paused."""

    def __init__(self, *messages: int) -> None:
        self.messages = [*messages]
        self.rounds: ReadingRounds | None = None
        self.looks = 0
        self._is_paused = False

    def pause(self) -> None:
        self._is_paused = True

    def read(self) -> bool:
        self.looks += 1
        self._is_paused = False
        for _ in range(AT_A_TIME):
            if not self.messages or self._is_paused:
                break
            assert self.rounds is not None
            self.rounds.note_received(self.messages.pop(0))
        return bool(self.messages)


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


def test_a_flood_does_not_block_others_or_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader stops at the end of a portion; one with more continues after the others, and after the loop has run."""
    monkeypatch.setattr(module, "EVERY", 0.0)

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        left = []
        while readers["a"].messages:
            before = len(readers["a"].messages)
            await asyncio.sleep(0)
            left.append(before - len(readers["a"].messages))
        assert max(left) == 2
        assert not readers["b"].messages

    run(test, a=Reader(*[PORTION // 2] * 6), b=Reader(1))


def test_small_messages_of_one_publisher_do_not_wait_for_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher with more than is read at a time is read again as soon as the loop has run."""
    monkeypatch.setattr(module, "EVERY", 0.0)

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        await wait_until_async(lambda: readers["a"].looks)
        monkeypatch.setattr(module, "EVERY", 60.0)
        await wait_until_async(lambda: not readers["a"].messages)

    run(test, a=Reader(*[0] * 10 * AT_A_TIME))


def test_reader_that_fails_stops_no_other() -> None:
    """Its error goes to the loop's handler, and the next round begins as usual."""

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        readers["a"].rounds = None
        await wait_until_async(lambda: len(errors) >= 2 and not readers["b"].messages)

    run(test, a=Reader(1, 1, 1), b=Reader(1))


def test_publishers_join_and_leave() -> None:
    """A new one is read from the next round on, and one that has left no more."""

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        first, second = readers.pop("a"), Reader(1, 2)
        second.rounds = rounds
        readers["b"] = second
        await wait_until_async(lambda: not second.messages and second.looks >= 2)
        assert first.looks == 0

    run(test, a=Reader())


def test_rounds_are_started_once() -> None:
    """However often they are requested; and they can be started again."""

    async def test(readers: dict[str, Reader], rounds: ReadingRounds) -> None:
        rounds.begin()
        rounds.end()
        rounds.begin()
        await wait_until_async(lambda: readers["a"].looks == 3)

    run(test, a=Reader())
