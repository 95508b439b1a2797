"""Single requests of a page, to a worker in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import Api, BusPath, Event, LightbusException, LightbusTimeout, OnError, Parameter
from lightbus.cli.support import publishers
from lightbus.cli.support.connection import Connection
from lightbus.core.peers import Peer
from lightbus.dashboard import questions
from lightbus.dashboard.actions import ACTIONS
from lightbus.engine import events_api
from lightbus.testing import MemoryBus
from lightbus.wire.plain import TOO_DEEP


class DeepApi(Api):
    stored = Event([Parameter("value", Any)])

    class Meta:
        name = "deep"


class OtherAuthApi(Api):
    class Meta:
        name = "auth"

    def check_password(self, username: str) -> bool:
        return True


def test_an_api_is_described(shop: BusPath, on_bus: Any) -> None:
    """With its procedures, events and schemas, and its peers."""
    told = on_bus(lambda bus: questions.describe_api(bus, "auth"))
    [form] = told["forms"]
    assert {each["name"] for each in form["procedures"]} == {"check_password", "fail"}
    assert [each["name"] for each in form["events"]] == ["user_registered"]
    assert form["procedures"][0]["parameters"]["properties"].keys() == {"username", "password"}
    assert [each["service"] for each in told["peers"]] == ["shop"]


def test_a_form_of_an_api_that_cannot_be_described(
    hub: MemoryBus, shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are described, with the reason; if none can be, that is an error."""
    other = hub.create(service_name="other")
    other.client.register_api(OtherAuthApi())
    hub.start(other)
    ask, silent = Connection.ask, {"other"}

    async def asked(bus: Connection, peer: Peer, procedure: str, **question: Any) -> Any:
        if peer.announcement.service in silent:
            raise LightbusTimeout(f"{peer.announcement.service} is silent")
        return await ask(bus, peer, procedure, **question)

    monkeypatch.setattr(Connection, "ask", asked)
    told = on_bus(lambda bus: questions.describe_api(bus, "auth"))
    assert told["mixed"]
    assert [each["peers"][0]["service"] for each in told["forms"]] == ["shop"]
    assert told["missing"] == ["other is silent"]
    silent.add("shop")
    with pytest.raises(LightbusTimeout, match="is silent"):
        on_bus(lambda bus: questions.describe_api(bus, "auth"))


def test_another_peer_describes_an_api(
    hub: MemoryBus, shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one does not answer, another one that serves the same form."""
    other = hub.create(service_name="shop")
    other.client.register_api(AuthApi())
    hub.start(other)
    ask = Connection.ask
    asked: list[str] = []

    async def once_silent(bus: Connection, peer: Peer, procedure: str, **question: Any) -> Any:
        asked.append(peer.instance)
        if peer.instance == asked[0]:
            raise LightbusTimeout("the first is silent")
        return await ask(bus, peer, procedure, **question)

    monkeypatch.setattr(Connection, "ask", once_silent)
    told = on_bus(lambda bus: questions.describe_api(bus, "auth"))
    assert (len(told["forms"]), told["missing"], len(told["peers"])) == (1, [], 2)


def test_a_schema_does_not_replace_the_description(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the form was checked; a schema may have any other parts."""
    ask = Connection.ask

    async def asked(bus: Connection, peer: Peer, procedure: str, **question: Any) -> Any:
        answer = await ask(bus, peer, procedure, **question)
        if procedure == "schema":
            answer["rpcs"]["fail"] |= {"signature": 5, "doc": {}, "response": 7}
        return answer

    monkeypatch.setattr(Connection, "ask", asked)
    [form] = on_bus(lambda bus: questions.describe_api(bus, "auth"))["forms"]
    [fail] = [each for each in form["procedures"] if each["name"] == "fail"]
    assert (type(fail["signature"]), type(fail["doc"]), fail["response"]) == (str, str, 7)


def test_an_unknown_api(shop: BusPath, on_bus: Any) -> None:
    """The error lists the known ones."""
    with pytest.raises(LightbusException, match="auth"):
        on_bus(lambda bus: questions.describe_api(bus, "aut"))


def test_the_state_of_an_event(hub: MemoryBus, shop: BusPath, on_bus: Any) -> None:
    """It is acknowledged, or a dead letter, or not stored anywhere."""
    good, bad = (shop.auth.user_registered(username=name).native_id for name in ("ada", "eve"))
    hub.wait_until_handled()

    async def fates(bus: Connection) -> Any:
        return await asyncio.gather(*(questions.event_states(bus, each) for each in (good, bad, "nowhere-1")))

    told = on_bus(fates)
    assert [each["groups"] for each in told] == [{"shop-greet": "acked"}, {"shop-greet": "dead"}, {}]
    assert [each["stored"] for each in told] == [True, True, False]


@pytest.mark.parametrize("native_id", ["a\0", "", "nowhere-1"])
def test_an_invalid_native_id(shop: BusPath, on_bus: Any, native_id: str) -> None:
    """No worker is asked, so that none is reported as failing."""

    async def main(bus: Connection) -> Any:
        await bus.discover_all()
        return await questions.event_states(bus, native_id), bus.unanswered

    assert on_bus(main) == ({"stored": False, "groups": {}, "silent": []}, {})


def test_latest_dead_letters_are_first_and_the_rest_is_counted(
    hub: MemoryBus, shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a group or of all; those above the limit are counted."""
    for age in (1, 2, 3):
        shop.auth.user_registered(username="eve", age=age)
    hub.wait_until_handled()
    told = on_bus(lambda bus: questions.dead_letters(bus, "shop-greet"))
    assert (len(told["dead"]), told["more"]) == (3, 0)
    assert {each["publisher"] for each in told["dead"]} == {"shop"}
    died = [each["died_at"] for each in told["dead"]]
    assert died == sorted(died, reverse=True)
    assert on_bus(lambda bus: questions.dead_letters(bus, "another"))["dead"] == []
    monkeypatch.setattr(questions, "MAX_SHOWN", 2)
    told = on_bus(lambda bus: questions.dead_letters(bus, ""))
    assert (len(told["dead"]), told["more"]) == (2, 1)


def test_deeply_nested_events_do_not_hide_the_others(hub: MemoryBus, on_bus: Any) -> None:
    """In the history and among dead letters: a sentence stands in place of their arguments."""
    worker = hub.create(service_name="deep")
    worker.client.register_api(DeepApi())

    def fail(message: Any, value: Any) -> None:
        raise ValueError("no")

    worker.deep.stored.listen(fail, listener_name="fail", on_error=OnError.RETRY, max_deliveries=1)
    hub.start(worker)
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    for value in ("before", deep, "behind"):
        worker.deep.stored.fire(value=value)
    hub.wait_until_handled()

    async def main(bus: Connection) -> list[Any]:
        found = await questions.history(bus, "deep.*", None, None), await questions.dead_letters(bus, "")
        return [
            sorted(str(each["kwargs"]) for each in [*part.get("events", ()), *part.get("dead", ())]) for part in found
        ]

    shown = sorted(map(str, ({"value": "before"}, TOO_DEEP, {"value": "behind"})))
    assert on_bus(main) == [shown, shown]
    assert len(worker.deep.stored.history()) == 3


def test_dead_letters_are_read_page_by_page(
    hub: MemoryBus, shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are shown, however few fit in one answer of a worker; those that are not read are counted, too."""
    for age in range(5):
        shop.auth.user_registered(username="eve", age=age)
    hub.wait_until_handled()
    monkeypatch.setattr(events_api, "MAX_HISTORY", 1)
    told = on_bus(lambda bus: questions.dead_letters(bus, ""))
    assert (len(told["dead"]), told["more"]) == (5, 0)
    monkeypatch.setattr(questions, "MAX_SHOWN", 2)
    for group, found in (("", (2, 3)), ("shop-greet", (2, 3)), ("another", (0, 0))):
        told = on_bus(lambda bus, group=group: questions.dead_letters(bus, group))
        assert (len(told["dead"]), told["more"]) == found
        assert [each["kwargs"]["age"] for each in told["dead"]] == [4, 3][: found[0]]  # the latest, not the first read


def test_publishers_that_do_not_answer_are_named(shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would look as if there were no dead letters, and no stored events."""
    event = shop.auth.user_registered(username="ada").native_id

    async def fails(*given: Any, **more: Any) -> Any:
        raise LightbusException("no room")

    async def ask(bus: Connection) -> list[list[str]]:
        await bus.discover_all()
        asked = (
            questions.dead_letters(bus, ""),
            questions.history(bus, "auth.*", None, None),
            questions.event_states(bus, event),
            ACTIONS["remove-group"](bus, {"api": "auth", "group": "unknown"}),
        )
        return [answer["silent"] for answer in await asyncio.gather(*asked)]

    assert on_bus(ask) == [[], [], [], []]
    monkeypatch.setattr(publishers, "_ask", fails)
    [[dead], [past], [state], [group]] = on_bus(ask)
    assert dead == past == state == group
    assert dead.startswith("shop ")


def test_history_is_read_by_name_api_and_time(shop: BusPath, on_bus: Any) -> None:
    """By name or for a whole API, oldest first, in a time span; nothing for an unpublished API."""
    for name in ("ada", "grace"):
        shop.auth.user_registered(username=name)

    def names(name: str, start: float | None = None, stop: float | None = None) -> list[str]:
        told = on_bus(lambda bus: questions.history(bus, name, start, stop))
        return [each["kwargs"]["username"] for each in told["events"]]

    assert names("auth.user_registered") == names("auth.*") == ["ada", "grace"]
    assert names("auth.*", stop=1.0) == names("shop.opened") == names("") == []


def test_who_does_not_answer_is_named(
    hub: MemoryBus, shop: BusPath, on_bus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where events and dead letters are missing: otherwise it would look as if there were none."""
    mail = hub.create(service_name="mail")
    mail.client.register_api(DeepApi())
    hub.start(mail)

    async def silent(bus: Connection) -> list[Any]:
        dead = await questions.dead_letters(bus, "")
        return [
            dead["silent"],
            *[(await questions.history(bus, api, None, None))["silent"] for api in ("auth.*", "deep.*")],
        ]

    assert on_bus(silent) == [[], [], []]
    true = publishers._ask

    async def asked(bus: Connection, peer: Peer, procedure: str, kwargs: Any) -> Any:
        if peer.announcement.service == "mail":
            raise LightbusTimeout("busy")
        return await true(bus, peer, procedure, kwargs)

    monkeypatch.setattr(publishers, "_ask", asked)
    name = str(mail.client.engine.identity.instance)[:4]
    assert [[each.split("…")[0] for each in part] for part in on_bus(silent)] == [
        [f"mail {name}"],
        [],
        [f"mail {name}"],
    ]


def test_oldest_event_of_each_journal_is_dated(shop: BusPath, on_bus: Any) -> None:
    """The time at which it was fired."""
    first = shop.auth.user_registered(username="ada")
    shop.auth.user_registered(username="grace")
    wait_until(lambda: len(shop.auth.user_registered.history()) == 2)
    told = on_bus(questions.oldest_events)["oldest"]
    assert [*told.values()] == [pytest.approx(first.published_at)]


def test_our_own_commands_are_not_asked(shop: BusPath, on_bus: Any) -> None:
    """Workers are those of services."""

    async def services(bus: Connection) -> list[str]:
        return [peer.announcement.service for peer in questions.workers(bus)]

    assert on_bus(services) == ["shop"]
