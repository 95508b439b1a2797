"""Requests to one publisher: repeated until they are answered, or not wanted any more."""

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


def test_a_request_is_repeated_under_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its present content; only the first answer is used."""
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


def test_an_unwanted_request_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and the caller is told that there is no answer."""
    monkeypatch.setattr(requests_module, "RETRY_AFTER", 0.0)
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        wanted = [Leave("auth", "a")]
        requests.ask(lambda: wanted.pop() if wanted else None, answers.append)
        assert answers == []
        requests.tick()
        assert (answers, side.heard()) == ([None], [Leave("auth", "a")])

    run(test)


def test_a_request_that_is_never_wanted_is_not_sent() -> None:
    """The caller is told at once, and no number is used."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: None, answers.append)
        requests.ask_with(lambda number: False, answers.append)
        assert (answers, side.said, len(requests._requests)) == ([None, None], [], 0)

    run(test)


def test_messages_of_the_publisher_reach_their_handlers() -> None:
    """An answer goes to its caller, once; an unsolicited message to its handler; any other is ignored."""
    answers: list[AnyMessage | None] = []

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), answers.append)
        [(number, _)] = side.said
        streams = Streams("auth", "a", 1, [], [])
        for message in (Acked([]), Acked([1]), streams, Drain()):
            side.reply(envelope.encode(message, number))
        assert (answers, side.unsolicited, side.not_handled) == ([Acked([])], [streams], [])

    run(test)


def test_unreadable_messages_are_recorded() -> None:
    """And later messages are read as if there had been none."""
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


def test_urgent_requests_do_not_wait_for_the_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener is blocked until they are answered."""
    monkeypatch.setattr(requests_module, "URGENT_RETRY_AFTER", 0.001)

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        requests.ask(lambda: Leave("auth", "a"), lambda answer: None, is_urgent=True)
        await wait_until_async(lambda: len(side.said) >= 3)
        requests.close()

    run(test)


def test_frames_wait_for_the_connection() -> None:
    """A message that cannot be sent yet is left to the socket."""

    async def test(side: PublisherSide, requests: PublisherRequests) -> None:
        side.is_up = False
        requests.send(Leave("auth", "a"))
        assert (len(side.later), side.said) == (1, [])

    run(test)


def test_all_callers_are_told_at_the_end() -> None:
    """There will be no answer, also to later requests; nothing more is sent."""
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
