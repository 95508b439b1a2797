"""What a worker learns from joining peers: groups that receive its events, and schemas of its listeners' events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.listeners import listener
from helpers.waiting import others_ended
from lightbus.core.registry import Peer, PeerJoined, PeerLeft, PeerState, Source
from lightbus.engine import peer_learning as module
from lightbus.engine.peer_learning import PeerLearner
from lightbus.events.listening.group_pages import PAGE
from lightbus.exceptions import LightbusTimeout
from lightbus.membership.context import Identity
from lightbus.service.schema import Schema
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

OWN, OTHER = "0" * 16, "a" * 16


class FakeEngine:
    identity = Identity(bus="b", service="s", process="p", instance=OWN, host="here")


class FakeCoordinator:
    """Records groups."""

    def __init__(self) -> None:
        self.merged: list[tuple[Any, bool]] = []

    def merge(self, group: Any, *, is_near: bool) -> None:
        self.merged.append((group, is_near))


class Play:
    """A worker that publishes `shop` and learns; its requests are answered from `answers`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.answers: dict[str, Any] = {"groups": ["one", "two"], "schema": {"events": {}}}
        self.coordinator = FakeCoordinator()
        engine: Any = FakeEngine()
        coordinator: Any = self.coordinator
        monkeypatch.setattr(module, "ask", self._ask)
        monkeypatch.setattr(module, "group_of_wire", self._group)
        self.learner = PeerLearner(engine, coordinator, Schema(), lambda: {"shop"})

    async def _ask(self, engine: Any, peer: Peer, api: str, procedure: str, kwargs: Any) -> Any:
        self.asked.append((peer.instance, procedure, kwargs["api"]))
        answer = self.answers[procedure]
        if isinstance(answer, Exception):
            raise answer
        if "after" in kwargs and answer and isinstance(answer[0], dict):
            return [each for each in answer if [each["api"], each["name"]] > kwargs["after"]][: kwargs["limit"]]
        return answer

    def _group(self, value: Any, *, is_near: bool) -> Any:
        if not isinstance(value, str | dict):
            raise TypeError(value)
        return value


def peer(*apis: str, instance: str = OTHER, host: str = "there") -> Peer:
    made = Announcement(
        bus="b", instance=instance, service="x", process="p", host=host,
        apis=tuple(ApiInfo(name=name, events=("seen",)) for name in apis),
    )  # fmt: skip
    return Peer(announcement=made, state=PeerState.UP, source=Source.SEED, changed_at=0.0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Play], Awaitable[None]]], None]:
    def start(test: Callable[[Play], Awaitable[None]]) -> None:
        async def main() -> None:
            play = Play(monkeypatch)
            await test(play)
            play.learner.stop()
            await asyncio.sleep(0)

        asyncio.run(main())

    return start


@pytest.mark.parametrize(("host", "is_near"), [("here", True), ("there", False)])
def test_groups_are_learned_from_other_publishers(run: Any, host: str, is_near: bool) -> None:
    """From each publisher of the same API: its groups receive the events fired here, too."""

    async def test(play: Play) -> None:
        play.learner.observe([PeerJoined(peer("shop", "auth", host=host))])
        await wait_until_async(lambda: len(play.coordinator.merged) == 2)
        assert play.coordinator.merged == [("one", is_near), ("two", is_near)]
        assert play.asked == [(OTHER, "groups", "shop")]

    run(test)


def test_groups_are_learned_page_by_page(run: Any) -> None:
    """Thousands in one answer would block the other publisher for half a second."""

    async def test(play: Play) -> None:
        found = [{"api": "shop", "name": f"{number:05}"} for number in range(2 * PAGE + 1)]
        play.answers["groups"] = found
        play.learner.observe([PeerJoined(peer("shop", "auth"))])
        await wait_until_async(lambda: len(play.coordinator.merged) == len(found))
        assert [each["name"] for each, _ in play.coordinator.merged] == [each["name"] for each in found]
        assert play.asked == [(OTHER, "groups", "shop")] * 3

    run(test)


def test_other_peers_are_not_asked(run: Any) -> None:
    """Peers that publish other APIs, that have left, or that are ourselves."""

    async def test(play: Play) -> None:
        left = PeerLeft(peer("shop"), "has left")
        play.learner.observe([PeerJoined(peer("auth")), PeerJoined(peer("shop", instance=OWN)), left])
        await others_ended()
        assert play.asked == []

    run(test)


@pytest.mark.parametrize("answer", [LightbusTimeout("no answer"), [7], None])
def test_invalid_answers_are_ignored(run: Any, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An old peer, or one with an invalid answer, disturbs nothing."""
    caplog.set_level("DEBUG", "lightbus.worker")

    async def test(play: Play) -> None:
        play.answers["groups"] = answer
        play.learner.observe([PeerJoined(peer("shop"))])
        await wait_until_async(lambda: "does not report which groups it knows" in caplog.text)
        assert play.coordinator.merged == []

    run(test)


def test_listeners_that_do_not_fit_are_reported(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """By the schema of publishers that are known when the listener is added, or join later."""

    async def handle(message: Any, colour: str) -> None: ...

    async def test(play: Play) -> None:
        parameters = {"additionalProperties": False, "properties": {"size": {}}}
        play.answers["schema"] = {"events": {"seen": {"parameters": parameters}}}
        play.learner.add_listener(listener(handle), [])
        await others_ended()
        assert play.asked == []
        play.learner.observe([PeerJoined(peer("auth"))])
        await wait_until_async(lambda: "wants the argument 'colour'" in caplog.text)
        assert play.asked == [(OTHER, "schema", "auth")]

    run(test)


def test_no_request_after_the_end(run: Any) -> None:
    """Open requests are cancelled."""

    async def test(play: Play) -> None:
        play.learner.observe([PeerJoined(peer("shop"))])
        play.learner.stop()
        await others_ended()
        assert (play.asked, play.coordinator.merged) == ([], [])

    run(test)
