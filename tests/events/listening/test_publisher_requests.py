"""What is said to one publisher: sent again until it is answered, or not wanted any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from helpers import wait_until_async
from helpers.publisher_side import PublisherSide
from lightbus.events.listening import requests as requests_module
from lightbus.events.listening.publisher_requests import PublisherRequests
from lightbus.exceptions import ProtocolError
from lightbus.wire import envelope
from lightbus.wire.envelope import Acked, AnyMessage, Drain, Leave, Streams


def run(test: Callable[[PublisherSide, PublisherRequests], Awaitable[None]]) -> None:
    async def main() -> None:
        side = PublisherSide()
        await test(side, side.requests())

    asyncio.run(main())


def test_a_question_is_sent_again_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is right by then; the first answer is taken, and no other."""
    monkeypatch.setattr(requests_module, "RETRY_AFTER", 0.0)
    answers: list[AnyMessage | None] = []
    names = iter("abc")

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", next(names)), answers.append)
        requests.tick()
        (number, first), (again, second) = side.said
        assert (number, first, second) == (again, Leave("auth", "a"), Leave("auth", "b"))
        assert requests.answered(number, Acked([]))
        assert not requests.answered(number, Acked([1]))
        requests.tick()
        assert (answers, len(side.said)) == ([Acked([])], 2)

    run(test)


def test_what_is_not_wanted_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and who asked is told that there is no answer."""
    monkeypatch.setattr(requests_module, "RETRY_AFTER", 0.0)
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        wanted = [Leave("auth", "a")]
        requests.ask(lambda: wanted.pop() if wanted else None, answers.append)
        assert answers == []
        requests.tick()
        assert (answers, side.heard()) == ([None], [Leave("auth", "a")])

    run(test)


def test_what_is_not_wanted_at_all_is_not_asked() -> None:
    """Who asked is told at once, and no number is used up."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: None, answers.append)
        requests.ask_with(lambda number: False, answers.append)
        assert (answers, side.said, len(requests._requests)) == ([None, None], [], 0)

    run(test)


def test_what_the_publisher_says_finds_its_way() -> None:
    """An answer to who asked, once; what was not asked to who takes such messages; of anything else nothing happens."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), answers.append)
        [(number, _)] = side.said
        streams = Streams("auth", "a", 1, [], [])
        for message in (Acked([]), Acked([1]), streams, Drain()):
            side.reply(envelope.encode(message, number))
        assert (answers, side.unsolicited, side.not_handled) == ([Acked([])], [streams], [])

    run(test)


def test_what_cannot_be_read_or_handled_is_noted() -> None:
    """And what comes next is read as if there had not been any."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), lambda answer: 1 // 0)
        requests.ask(lambda: Leave("auth", "b"), answers.append)
        (first, _), (second, _) = side.said
        side.reply(b"nothing")
        side.reply(envelope.encode(Acked([]), first))
        side.reply(envelope.encode(Acked([]), second))
        (unread, error), (unhandled, reason) = side.not_handled
        assert (unread, type(error), unhandled, type(reason)) == (None, ProtocolError, Acked([]), ZeroDivisionError)
        assert answers == [Acked([])]

    run(test)


def test_urgent_questions_do_not_wait_for_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener is blocked until they are answered."""
    monkeypatch.setattr(requests_module, "URGENT_RETRY_AFTER", 0.001)

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), lambda answer: None, is_urgent=True)
        await wait_until_async(lambda: len(side.said) >= 3)
        requests.close()

    run(test)


def test_frames_wait_for_the_connection() -> None:
    """What cannot be sent yet is left to the socket."""

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        side.is_up = False
        requests.send(Leave("auth", "a"))
        assert (len(side.later), side.said) == (1, [])

    run(test)


def test_everybody_is_told_at_the_end() -> None:
    """There will be no answer, also to what is asked later; nothing more is sent."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), answers.append)
        side.heard()
        requests.close()
        assert answers == [None]
        requests.ask(lambda: Leave("auth", "b"), answers.append)
        requests.send(Leave("auth", "c"))
        assert (answers, side.heard()) == ([None, None], [])

    run(test)
