"""Following calls and acknowledgements: what is told twice, lost, forgotten or too much, by a scripted peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from helpers import wait_until_async
from lightbus.cli.support import acks, calls
from lightbus.cli.support.acks import Ack, AckFollower
from lightbus.cli.support.calls import CallFollower
from lightbus.cli.support.connection import SERVICE, Connection
from lightbus.core.peers import Peer, PeerState, Source
from lightbus.exceptions import LightbusTimeout, UnknownProcedure
from lightbus.message import EventMessage
from lightbus.wire.announcement import Announcement

Answer = dict[str, Any] | Exception


def peer(service: str = "auth") -> Peer:
    """Return a worker."""
    announcement = Announcement(bus="b", instance="0" * 16, service=service, process="one", host="h", apis=())
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0, heard_at=0.0)


class Bus:
    """Stands in for a `Connection`: one peer, whose answers are given, the last one again and again."""

    def __init__(self, *answers: Answer, service: str = "auth") -> None:
        self.answers = [*answers]
        self.peers = [peer(service)]
        self.questions: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.ended = 0
        self.client = self.engine = self.identity = self.output = self
        self.instance = "1" * 16

    def known(self) -> list[Peer]:
        return self.peers

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def ask(self, peer: Peer, procedure: str, **question: Any) -> Any:
        self.questions.append(question)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def told(self, peer: Peer, procedure: str, **question: Any) -> None:
        assert procedure == "end_watch"
        self.ended += 1

    async def call_rpc_remote(self, api: str, procedure: str, question: dict[str, Any], options: dict[str, Any]) -> Any:
        return await self.ask(self.peers[0], procedure, **question)


def told(*numbers: int, noted: int | None = None) -> dict[str, Any]:
    """Return what a worker answers: calls with these numbers."""
    return {"calls": [{"number": number} for number in numbers], "noted": noted or max(numbers, default=0)}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ASK_EVERY", 0.0)
    monkeypatch.setattr(acks, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(acks, "FIRST_PAUSE", 0.0)


def followed(bus: Bus, is_over: Callable[[], bool]) -> tuple[list[int], list[int]]:
    """Follow the calls until something is so; return the numbers of those shown, and how many were dropped."""
    shown: list[int] = []
    dropped: list[int] = []

    async def main() -> None:
        follower = CallFollower(
            cast("Connection", bus), lambda _, call: shown.append(call["number"]), lambda _, n: dropped.append(n)
        )
        await follower.begin()
        await wait_until_async(is_over)
        await follower.end()

    asyncio.run(main())
    return shown, dropped


@pytest.mark.parametrize(
    ("answers", "shown", "dropped"),
    [
        ([told(), told(1, 2), told(3), told(noted=3)], [1, 2, 3], []),
        ([told(), LightbusTimeout("busy"), told(1), told(noted=1)], [1], []),
        ([told(), told(1, 2, noted=9), told(10), told(noted=10)], [1, 2, 10], [7]),
        ([told(), told(3, 4), told(noted=4)], [3, 4], [2]),
        ([told(), told(1, 2), told(1), told(noted=1)], [1, 2, 1], []),  # it had forgotten us: a new watch
    ],
)
def test_numbers(answers: list[Answer], shown: list[int], dropped: list[int]) -> None:
    """Each call is shown once, and how many numbers are missing; the number of the last one is given back."""
    bus = Bus(*answers)
    count = len(answers)
    assert followed(bus, lambda: len(bus.questions) > count) == (shown, dropped)
    assert bus.questions[-1]["after"] == shown[-1]
    assert bus.ended == 1


def test_workers_that_do_not_tell() -> None:
    """An older worker is not asked again, and that is said; other commands are not asked at all."""
    bus = Bus(UnknownProcedure("no watch_calls"))
    assert followed(bus, lambda: bool(bus.notes)) == ([], [])
    assert "does not tell of its calls: no watch_calls" in bus.notes[0]
    bus = Bus(told(1), service=SERVICE)
    assert followed(bus, lambda: True) == ([], [])
    assert bus.questions == []


# Acknowledgements


def event(number: int) -> EventMessage:
    """Return an event that is kept; number 0 is of best effort."""
    return EventMessage(
        api_name="auth", event_name="seen", native_id=f"j-{number}" if number else "", publisher="0" * 16
    )


def acknowledged(bus: Bus, *messages: EventMessage) -> tuple[list[tuple[str, str, str]], bool]:
    """Ask about events until none is pending, or the answers are used up; return the acks, and whether it settled."""
    found: list[Ack] = []

    async def main() -> bool:
        follower = AckFollower(cast("Connection", bus), found.append)
        for message in messages:
            follower.add(message)
        count = len(bus.answers)
        settling = asyncio.get_running_loop().create_task(follower.settle(60.0))
        await wait_until_async(lambda: settling.done() or len(bus.questions) > count)
        settled = settling.done()
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await follower.end()
        return settled

    settled = asyncio.run(main())
    return [(ack.message.native_id, ack.group, ack.status) for ack in found], settled


def test_acknowledgements_are_told_once() -> None:
    """Each group is told once; an event is asked about until no group has it to handle."""
    bus = Bus(
        {"j-1": {"shop": "waiting", "mail": "acked"}},
        LightbusTimeout("busy"),
        {"j-1": {"shop": "waiting", "mail": "acked"}},
        {"j-1": {"shop": "dead", "mail": "acked"}},
    )
    assert acknowledged(bus, event(1)) == ([("j-1", "mail", "acked"), ("j-1", "shop", "dead")], True)


def test_what_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody acknowledges an event of best effort; one that is not kept any more is given up; of many, the oldest."""
    assert acknowledged(Bus({}), event(0)) == ([], True)
    assert acknowledged(Bus({}), event(1)) == ([], True)
    monkeypatch.setattr(acks, "MAX_PENDING", 1)
    bus = Bus({"j-1": {"shop": "acked"}, "j-2": {"shop": "acked"}})
    assert acknowledged(bus, event(1), event(2)) == ([("j-2", "shop", "acked")], True)


def test_a_group_that_is_away() -> None:
    """An event that a group does not handle stays pending."""
    bus = Bus({"j-1": {"shop": "waiting"}})
    assert acknowledged(bus, event(1)) == ([], False)
