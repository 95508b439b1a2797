"""Listeners whose arguments never fit: reported at the start, with the argument and similar names."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from lightbus.core.peers import Peer, PeerState, Source
from lightbus.events.listening.listener_schema_check import ListenerSchemaCheck
from lightbus.exceptions import PeerUnreachable
from lightbus.listener import Listener
from lightbus.message import EventMessage
from lightbus.service.api import Api, Event, Parameter
from lightbus.service.parameters import WildcardParameter
from lightbus.service.schema import Schema
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo


class Shop(Api):
    registered = Event([Parameter("username", str), Parameter("e_mail", str)])
    anything = Event([WildcardParameter()])

    class Meta:
        name = "shop"


def schema() -> Schema:
    made = Schema()
    made.add_api(Shop())
    return made


SCHEMA = schema().get_api_schema("shop")


def peer(digest: str = "1" * 12) -> Peer:
    """Return a peer that publishes the events of the shop, in a schema with this digest."""
    info = ApiInfo(name="shop", procedures=(), events=("registered",), digest=digest)
    announcement = Announcement(bus="b", instance="a" * 16, service="shop", process="p", host="h", apis=(info,))
    return Peer(announcement=announcement, state=PeerState.UP, source=Source.SEED, changed_at=0.0)


def listener(function: Callable[..., Any], *events: str, api: str = "shop") -> Listener:
    return Listener(api=api, events=events or ("registered",), name="greeter", function=function)


def check(schema: Schema, *listeners: Listener, peers: list[Peer] | None = None, told: Any = SCHEMA) -> int:
    """Have listeners checked twice; return how often a peer was asked for its schema."""
    asked: list[str] = []

    async def ask(peer: Peer, api: str) -> Any:
        asked.append(api)
        if isinstance(told, Exception):
            raise told
        return told

    async def main() -> None:
        fitting = ListenerSchemaCheck(schema, ask)
        for _ in range(2):
            await fitting.check(listeners, [peer()] if peers is None else peers)

    asyncio.run(main())
    return len(asked)


def wrong(message: EventMessage, username: str, email: str) -> None: ...


@pytest.mark.parametrize("known", ["registered", "loaded", "told"])
def test_a_listener_that_can_never_fit(known: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the schema comes from, one warning names the argument, similar names, and the consequence."""
    here = schema() if known == "registered" else Schema()
    if known == "loaded":
        here.add_foreign("shop", SCHEMA)
    assert check(here, listener(wrong)) == (known == "told")
    [warning] = caplog.messages
    where = "shop p (aaaa) at h" if known == "told" else "this process"
    assert warning.startswith("The listener greeter wants the argument 'email', and shop.registered of ")
    assert where.split()[0] in warning
    assert "Did you mean 'e_mail'? It has: username, e_mail." in warning
    assert "a dead letter (lightbus dead list)" in warning


def test_listeners_that_may_fit(caplog: pytest.LogCaptureFixture) -> None:
    """No warning if arguments have defaults, if the event takes any arguments, and for other APIs."""
    check(
        Schema(),
        listener(lambda message, username, email="?": None),
        listener(wrong, "anything"),
        listener(wrong, "not_there"),
        listener(wrong, api="another"),
    )
    assert caplog.messages == []
    check(Schema(), listener(wrong, "*"))
    assert len(caplog.messages) == 1


def test_a_decorator_may_pass_other_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """The warning says that this is possible."""

    @functools.wraps(wrong)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        wrong(*args, email="s@x", **kwargs)

    check(Schema(), listener(wrapper))
    assert "Unless a decorator gives it" in caplog.text


@pytest.mark.parametrize("told", [None, 5, {}, {"events": 5}, {"events": {"registered": {}}}, PeerUnreachable("away")])
def test_a_peer_without_a_useful_answer(told: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A foreign answer may be anything, or none."""
    check(Schema(), listener(wrong), told=told)
    assert caplog.messages == []


def test_peers_with_one_schema_are_asked_once() -> None:
    """However many publish it."""
    assert check(Schema(), listener(wrong), peers=[peer(), peer(), peer("2" * 12)]) == 2


def test_a_peer_is_asked_once_however_many_listeners_wait() -> None:
    """Of a hundred listeners that start at once, none repeats a pending request."""
    asked: list[str] = []

    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()

        async def ask(peer: Peer, api: str) -> Any:
            asked.append(api)
            return await answer

        fitting = ListenerSchemaCheck(Schema(), ask)
        checks = [asyncio.create_task(fitting.check([listener(wrong)], [peer()])) for _ in range(100)]
        await asyncio.sleep(0)
        answer.set_result(SCHEMA)
        await asyncio.gather(*checks)

    asyncio.run(main())
    assert asked == ["shop"]


def test_a_peer_that_did_not_answer_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """Everyone who waited for the answer continues, and later ones ask again."""
    asked: list[str] = []

    async def ask(peer: Peer, api: str) -> Any:
        asked.append(api)
        await asyncio.sleep(0)
        if len(asked) == 1:
            raise PeerUnreachable("It does not answer.")
        return SCHEMA

    async def main() -> None:
        fitting = ListenerSchemaCheck(Schema(), ask)
        await asyncio.gather(*(fitting.check([listener(wrong)], [peer()]) for _ in range(3)))
        assert not caplog.records
        await fitting.check([listener(wrong)], [peer()])

    asyncio.run(main())
    assert asked == ["shop", "shop"]
    assert "wants the argument 'email'" in caplog.text


def test_a_listener_that_ends_during_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """Another one that waits for the same answer gets it."""

    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        fitting = ListenerSchemaCheck(Schema(), lambda _peer, _api: answer)
        first, second = (asyncio.ensure_future(fitting.check([listener(wrong)], [peer()])) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        answer.set_result(SCHEMA)
        await second

    asyncio.run(main())
    assert "email" in caplog.text
