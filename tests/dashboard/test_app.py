"""Tests of lightbus.dashboard.app: the handler of each path."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import ClientDisconnect

from helpers import wait_until_async
from helpers.asgi import Answer
from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.cli.support.connection import Connection
from lightbus.dashboard import app as application
from lightbus.dashboard import questions, watcher
from lightbus.dashboard.app import Dashboard
from lightbus.dashboard.options import DashboardOptions
from lightbus.dashboard.viewer import PageViewer
from lightbus.engine.binding import Binding
from lightbus.testing import MemoryBus
from lightbus.wire import envelope
from lightbus.wire.messages import Request

Ask = Callable[..., Awaitable[Answer]]
Use = Callable[[Dashboard, Ask], Awaitable[Any]]


@pytest.fixture
def opened(on_bus: Any, connect: Any, asks_async: Any) -> Callable[..., Any]:
    """Return a function that runs a coroutine with a dashboard, and with requests that have the token."""

    def run(use: Use, **given: Any) -> Any:
        options = DashboardOptions(**given)

        async def main(bus: Connection) -> Any:
            dashboard = Dashboard(bus, options)

            async def ask(path: str, value: Any = None, **more: Any) -> Answer:
                if value is not None:
                    more |= {"method": "POST", "body": json.dumps(value).encode(), "content_type": "application/json"}
                answer: Answer = await asks_async(dashboard.app, path, authorization=f"Bearer {options.token}", **more)
                return answer

            try:
                return await use(dashboard, ask)
            finally:
                await dashboard.close()

        return on_bus(main)

    return run


def test_questions_are_answered(shop: BusPath, opened: Any) -> None:
    """Single requests of a page; an invalid number is ignored."""
    shop.auth.user_registered(username="ada")

    async def use(dashboard: Dashboard, ask: Ask) -> list[Any]:
        paths = (
            "about",
            "describe?name=auth",
            "history?name=auth.*&start=nan&stop=x",
            "oldest",
            "dead",
            "fate?native_id=x",
        )
        return [json.loads((await ask(f"/api/{path}")).body) for path in paths]

    about, described, history, oldest, dead, fate = opened(use)
    assert about["actions"] is False
    assert described["api"] == "auth"
    assert [each["kwargs"]["username"] for each in history["events"]] == ["ada"]
    assert len(oldest["oldest"]) == 1
    assert (dead["dead"], fate["stored"], fate["why"]) == ([], False, {})


def test_reason_of_a_waiting_event_is_returned(
    shop: BusPath, hub: MemoryBus, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits, if its group makes no progress."""
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    monkeypatch.setattr(watcher, "CHECKS", {})
    monkeypatch.setattr(questions, "event_states", fate_of(["shop-greet", "shop-count"]))
    monkeypatch.setattr(application, "why_waiting", lambda view, waiting: dict.fromkeys(waiting, "it hangs"))

    async def use(dashboard: Dashboard, ask: Ask) -> Any:
        with dashboard.watcher.looking():
            await dashboard.watcher.round_after(0)
            return json.loads((await ask("/api/fate?native_id=x")).body)["why"]

    assert opened(use) == {"shop-greet": "it hangs"}


def fate_of(groups: list[str]) -> Callable[..., Awaitable[Any]]:
    """Return event states: the first group has to handle the event, the others have."""

    async def event_states(bus: Connection, native_id: str) -> Any:
        return {"stored": True, "groups": {each: "acked" if index else "waiting" for index, each in enumerate(groups)}}

    return event_states


def test_pages_are_streamed(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each while it is open; viewers of one page get the same values."""
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    monkeypatch.setattr(watcher, "CHECKS", {})

    async def use(dashboard: Dashboard, ask: Ask) -> list[Any]:
        first, second = (dashboard._rounds("overview", "") for _ in range(2))
        told = [json.loads(await anext(first)), json.loads(await anext(first)), json.loads(await anext(second))]
        assert dashboard.watcher.is_watching
        dashboard.end_streams()
        assert [each async for each in first] == []
        return told

    told = opened(use)
    assert [each["totals"]["processes"] for each in told] == [1, 1, 1]
    assert told[0]["number"] < told[1]["number"] <= told[2]["number"]


def test_several_streams_are_merged(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value has the number of its stream; an invalid stream, or too many, are refused."""
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    monkeypatch.setattr(watcher, "CHECKS", {})
    paths = ["/api/stream/service?name=shop", "/api/events?pattern=auth.*&text=", "/api/stream/groups?name="]

    async def use(dashboard: Dashboard, ask: Ask) -> list[Answer]:
        def all_told(body: bytes) -> bool:
            return all(b"event: %d\n" % number in body for number in range(len(paths)))

        told = await ask(several(paths), enough=all_told)
        assert dashboard._streams == 0
        wrong = [["/api/dead"], ["/api/stream/nothing"], ["/api/streams?of=x"], ["//["], [], paths * 10]
        return [told, *[await ask(several(each)) for each in wrong]]

    told, *refused = opened(use)
    parts = dict(re.findall(r"event: (\d)\ndata: (.*)\n", told.body.decode()))
    assert json.loads(parts["0"])["service"] == "shop"
    assert json.loads(parts["1"])["events"] == []
    assert len(json.loads(parts["2"])["groups"]) == 1
    assert [each.status for each in refused] == [404, 404, 404, 404, 400, 400]


def several(paths: list[str]) -> str:
    """Return the path of these merged streams."""
    return f"/api/streams?{urlencode([('of', each) for each in paths])}"


def test_live_events_are_streamed(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of the stream on; the end of the dashboard ends it."""
    monkeypatch.setattr(application, "EVERY", 0.02)
    monkeypatch.setattr(application, "HEARTBEAT", 0.05)

    async def use(dashboard: Dashboard, ask: Ask) -> list[Any]:
        stream = dashboard._portions(application.PageViewer("auth.*", ""))
        told = json.loads(await anext(stream))["events"]
        while not told:
            await asyncio.to_thread(shop.auth.user_registered, username="ada")
            told = json.loads(await anext(stream))["events"]
        dashboard.end_streams()
        assert [each async for each in stream if not json.loads(each)["events"]] == []
        return [each["name"] for each in told]

    assert opened(use)[0] == "auth.user_registered"


def test_unknown_paths(shop: BusPath, opened: Any) -> None:
    """An unknown page, action and path; and actions that are not allowed."""

    async def use(dashboard: Dashboard, ask: Ask) -> list[int]:
        asked = [
            ask("/api/stream/nothing"),
            ask("/api/actions/nothing", {}),
            ask("/nothing"),
            ask("/api/actions/call", {}),
        ]
        return [(await each).status for each in asked]

    assert opened(use) == [404, 400, 404, 403]


def test_errors_are_returned(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """To the page, with a status and a text; unexpected ones are also logged."""

    async def breaks(*_: Any) -> Any:
        raise KeyError("nobody thought of it")

    async def use(dashboard: Dashboard, ask: Ask) -> list[Answer]:
        monkeypatch.setattr(application.questions, "oldest_events", breaks)
        call = {"api": "auth", "procedure": "check_password", "arguments": {}}
        wrong = [ask("/api/actions/call", {"api": 1}), ask("/api/describe?name=aut"), ask("/api/oldest")]
        return [await ask("/api/actions/call", call), *[await each for each in wrong]]

    called, *wrong = opened(use, actions=True)
    assert (called.status, json.loads(called.body)["error"]) == (200, "validation_error")
    assert [each.status for each in wrong] == [400, 502, 500]
    assert "see the log of `lightbus dashboard`" in json.loads(wrong[-1].body)["message"]
    assert "nobody thought of it" in caplog.text


def test_wrong_token_is_logged_once(shop: BusPath, opened: Any, caplog: pytest.LogCaptureFixture) -> None:
    """So that it is noticed if somebody tries some; but not each, which would fill the log."""

    async def use(dashboard: Dashboard, ask: Ask) -> None:
        for guess in ("one", "two", dashboard.options.token):
            await ask("/login", method="POST", body=f"token={guess}".encode())

    opened(use)
    assert [each.getMessage() for each in caplog.records if each.name == "lightbus.dashboard"] == [
        "A wrong token was given by 127.0.0.1"
    ]


def test_form_with_the_token_is_bounded(shop: BusPath, opened: Any) -> None:
    """Anybody may send it: a large one is taken for a wrong token, and not even taken apart."""

    async def use(dashboard: Dashboard, ask: Ask) -> list[str]:
        form = f"token={dashboard.options.token}&".encode()
        answers = [await ask("/login", method="POST", body=form + b"a=%41&" * count) for count in (10, 1000)]
        return [each.headers["location"] for each in answers]

    assert opened(use) == ["/", "/login?again#again"]


def test_open_pages_are_bounded(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, until another one is closed."""
    monkeypatch.setattr(application, "MAX_STREAMS", 1)

    async def values() -> AsyncIterator[bytes]:
        yield b"1"

    async def gone(*_: Any) -> Any:
        raise OSError("who asked is gone")

    async def use(dashboard: Dashboard, ask: Ask) -> list[int]:
        # Two at once, of which the first has not begun when the second one asks.
        opened_at_once = [dashboard._open(values()) for _ in range(2)]
        with pytest.raises(ClientDisconnect):
            await opened_at_once[0]({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)  # not begun
        later = dashboard._open(values())
        return [each.status_code for each in (*opened_at_once, later, dashboard._open(values()))]

    assert opened(use) == [200, 503, 200, 503]


class Meter:
    """Counts the messages that a service's workers receive, by kind, and the connections that they keep."""

    def __init__(self, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived: Counter[str] = Counter()
        self._bindings: set[Binding] = set()
        plain = Binding._on_message

        def counting(binding: Binding, routing_id: bytes, frame: bytes, waited: float | None = None) -> None:
            if binding.identity.service == service:
                self._bindings.add(binding)
                self.arrived[_kind(envelope.decode(frame)[1])] += 1
            plain(binding, routing_id, frame, waited)

        monkeypatch.setattr(Binding, "_on_message", counting)

    def connected(self) -> int:
        """Return the number of connected engines."""
        return sum(len(binding.introductions.engines) for binding in self._bindings)

    async def during(self, use: Callable[[], Awaitable[Any]]) -> Counter[str]:
        """Return the messages received during an action."""
        before = self.arrived.copy()
        await use()
        return self.arrived - before


def _kind(message: Any) -> str:
    """Return the kind of a message, and the API of a call: users' connections may be made again on a busy machine."""
    return f"call of {message.api}" if isinstance(message, Request) else type(message).__name__


def test_workers_have_no_cost_without_viewers(hub: MemoryBus, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same work a worker gets the same messages, before a page was open and after it was closed."""
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    monkeypatch.setattr(watcher, "LEASE", 0.05)
    meter = Meter("shop", monkeypatch)
    shop, caller = hub.create(service_name="shop"), hub.create(service_name="caller")
    shop.client.register_api(AuthApi())
    hub.start(shop)

    async def work() -> None:
        for _ in range(50):
            await caller.auth.check_password.call_async(username="ada", password="secret")
            await caller.auth.user_registered.fire_async(username="ada")

    async def use(dashboard: Dashboard, ask: Ask) -> None:
        await work()  # whoever is new is introduced
        await dashboard._bus.settle()
        await wait_until_async(lambda: meter.connected() == 2)  # the caller, and the dashboard
        alone, connected = await meter.during(work), meter.connected()
        with dashboard.watcher.looking(), dashboard.events.viewing(PageViewer("", "")):
            await wait_until_async(lambda: meter.arrived["Join"])
            number = (await dashboard.watcher.round_after(1)).number

            async def work_and_be_seen() -> None:
                await work()
                await dashboard.watcher.round_after(number + 1)

            watched = await meter.during(work_and_be_seen)
            assert meter.connected() == connected  # for the events, too: no further client
        await wait_until_async(lambda: not dashboard.watcher.is_watching and not dashboard.events.is_listening)
        assert meter.connected() == connected
        asked = watched.keys() - alone.keys()
        assert asked >= {"call of internal.peer", "call of internal.events"}
        after = await meter.during(work)
        for _ in range(10):  # on a busy machine the worker may read now what it was sent before
            if not asked & after.keys():
                break
            after = await meter.during(work)
        assert not asked & after.keys()
        assert after["Fire"] == alone["Fire"] == watched["Fire"] == 50

    opened(use)
    caller.client.close()
