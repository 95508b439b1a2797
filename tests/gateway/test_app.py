"""Tests of lightbus.gateway.app: the handler of each path."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.asgi import Answer
from lightbus import BusPath
from lightbus.gateway import app as application
from lightbus.gateway import members
from lightbus.gateway.clients import Client, Clients
from lightbus.testing import MemoryBus

from .conftest import ONLY_LISTENS, TOKEN, Asked


def told(answer: Any) -> Any:
    return json.loads(answer.body)


def test_call_takes_an_object_and_returns_any_value(shop: BusPath, opened: Any) -> None:
    """The arguments are an object, the result is any value."""

    async def use(asked: Asked) -> Any:
        return [await asked.ask("/api/shop/price", {"product": "lamp"}), await asked.ask("/api/shop/price", {})]

    right, wrong = opened(use)
    assert (right.status, right.headers["content-type"], told(right)) == (200, "application/json", 40)
    assert (wrong.status, told(wrong)["error"]) == (422, "validation_error")


def test_refusal_of_arguments_names_no_peer(shop: BusPath, opened: Any) -> None:
    """Neither the worker's refusal, nor later that by the gateway's copy of the schema, names the peer."""

    async def use(asked: Asked) -> Any:
        given = [("/api/shop/price", {"product": 5}), ("/api/shop/ordered", {"product": 5})]
        return [(await asked.ask(*each)) for each in given for _ in range(2)]

    answers = opened(use)
    assert [each.status for each in answers] == [422] * 4
    for each in answers:
        assert 'product is 5, but it is not of type "string".' in told(each)["detail"]
        assert not {"says", "host"} & {*told(each)["detail"].replace("(", "").split()}


def test_events_are_fired(shop: BusPath, opened: Any) -> None:
    """The answer has the event's place; unknown arguments are refused."""

    async def use(asked: Asked) -> Any:
        paths = [("/api/shop/ordered", {"product": "lamp"}), ("/api/shop/ordered", {"price": 1}), ("/api/shop/*", {})]
        return [await asked.ask(*each) for each in paths]

    right, wrong, all_of_them = opened(use, "shop.*")
    assert right.status == 200
    assert told(right)["native_id"]
    assert wrong.status == 422
    assert all_of_them.status == 404
    assert [each.kwargs["product"] for each in shop.shop.ordered.history()] == ["lamp"]


def test_closed_names_look_like_unknown_names(shop: BusPath, opened: Any) -> None:
    """The answer for a name that is not open equals that for an unknown name, with every method."""

    async def use(asked: Asked) -> Any:
        paths = ["shop/secret", "shop.other/do", "internal.peer/info", "no/thing", "shop/prices"]
        asked_of = [asked.ask(f"/api/{path}", {}) for path in paths] + [asked.ask(f"/api/{path}") for path in paths]
        return [await each for each in asked_of]

    answers = opened(use)
    assert {(each.status, each.body) for each in answers} == {(404, answers[0].body)}


def test_near_names_are_only_those_the_client_may_use(shop: BusPath, opened: Any) -> None:
    """Near names are suggested only among those that this client may use."""

    async def use(asked: Asked) -> Any:
        return [
            await asked.ask("/api/shop/prise", {}),
            await asked.ask("/api/shop/orderd"),
            await asked.ask("/api/shop/prise", {}, token=ONLY_LISTENS),
            await asked.ask("/api/shop/secrets", {}),
        ]

    rules = ("call:shop.pri*", "listen:shop.orde*", "call:shop.secrets")
    called, listened, may_not, hidden = opened(use, *rules)
    assert (called.status, told(called)["error"]) == (404, "unknown_procedure")
    assert told(called)["detail"] == "The API shop has no prise at the moment. Did you mean 'price'?"
    assert told(listened)["detail"] == "The API shop has no orderd at the moment. Did you mean 'ordered'?"
    assert may_not.status == 403
    assert told(hidden)["detail"] == "The API shop has no secrets at the moment."


def test_unknown_path_and_method(shop: BusPath, opened: Any) -> None:
    """The answer says how to send a request."""

    async def use(asked: Asked) -> Any:
        return [await asked.ask("/shop/price"), await asked.ask("/api/shop/price", method="PUT")]

    path, method = opened(use)
    assert (path.status, told(path)["error"], "/api/API/NAME" in told(path)["detail"]) == (404, "not_found", True)
    assert (method.status, told(method)["error"], "POST calls" in told(method)["detail"]) == (
        405,
        "method_not_allowed",
        True,
    )
    assert "POST" in method.headers["allow"]


def test_percent_encoded_names_are_refused(shop: BusPath, opened: Any) -> None:
    """A proxy in front may have rules about paths: no name is served that it would read as another one."""

    async def use(asked: Asked) -> Any:
        given = {"product": "lamp"}
        ways = ("/api/shop/price", "/api/shop%2fprice", "/api/shop/%70rice", "/api/%73hop/price", "/%61pi/shop/price")
        return [(await asked.ask(path, given)).status for path in ways]

    assert opened(use) == [200, 404, 404, 404, 404]


def test_client_without_permission_gets_403(shop: BusPath, opened: Any) -> None:
    """A client is told that it may not use a name that others may use."""

    async def use(asked: Asked) -> Any:
        return [
            await asked.ask("/api/shop/price", {"product": "lamp"}, token=ONLY_LISTENS),
            await asked.ask("/api/shop/ordered", {"product": "lamp"}, token=ONLY_LISTENS),
            await asked.ask("/api/shop/ordered", token=ONLY_LISTENS, method="HEAD"),
            await asked.ask("/api/shop/secret", {}, token=ONLY_LISTENS),
        ]

    assert [each.status for each in opened(use)] == [403, 403, 200, 404]


def test_call_permission_does_not_allow_firing(shop: BusPath, opened: Any) -> None:
    """If one of them is open, the other one is not."""

    async def use(asked: Asked) -> Any:
        return [(await asked.ask(f"/api/shop/{name}", {"product": "x"})).status for name in ("price", "ordered")]

    assert opened(use, "call:shop.*") == [200, 404]
    assert opened(use, "fire:shop.*") == [404, 200]
    assert opened(use, "listen:shop.*") == [404, 404]


def test_unknown_names_are_refused(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown member; an API without a worker; a stream of a procedure; an unknown path, and method."""
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.1)

    async def use(asked: Asked) -> Any:
        return [
            await asked.ask("/api/shop/nothing", {}),
            await asked.ask("/api/shop/nothing"),
            await asked.ask("/api/gone/do", {}),
            await asked.ask("/api/gone/done"),
            await asked.ask("/api/shop/price"),
            await asked.ask("/api/shop/price", method="DELETE"),
            await asked.ask("/api/shop"),
            await asked.ask("/nothing"),
        ]

    answers = opened(use, "shop.*", "gone.*")
    assert [each.status for each in answers] == [404, 404, 503, 503, 405, 405, 404, 404]
    assert {each.headers["content-type"] for each in answers} == {"application/problem+json"}
    assert answers[2].headers["retry-after"] == "1"
    assert not any(b"memory-" in each.body for each in answers)  # the name of the bus
    assert answers[4].headers["allow"] == "POST"
    assert "GET" in answers[5].headers["allow"]


def test_handler_error_and_timeout_have_their_status(shop: BusPath, opened: Any) -> None:
    """A handler's, and the end of the time."""

    async def use(asked: Asked) -> Any:
        return [
            await asked.ask("/api/shop/price", {"product": "air"}),
            await asked.ask("/api/shop/wait", {"seconds": 60}, lightbus_timeout="0.05"),
            await asked.ask("/api/shop/wait", {"seconds": 0}, lightbus_timeout="soon"),
        ]

    failed, late, wrong = opened(use)
    assert (failed.status, late.status, wrong.status) == (500, 504, 400)
    assert told(failed)["detail"] == "shop.price raised ValueError: air is free"
    assert "Traceback" not in failed.body.decode()
    assert "Lightbus-Timeout" in told(late)["detail"]


def test_unexpected_errors(
    shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are logged, and not in the answer."""

    async def breaks(*_: Any) -> Any:
        raise KeyError("a word of the inside")

    monkeypatch.setattr(application, "find_member", breaks)

    async def use(asked: Asked) -> Any:
        return await asked.ask("/api/shop/price", {})

    answer = opened(use)
    assert answer.status == 500
    assert "inside" not in answer.body.decode()
    assert "a word of the inside" in caplog.text


def test_disconnecting_cancels_the_call(hub: MemoryBus, shop: BusPath, opened: Any) -> None:
    """The worker does not continue a call whose client has disconnected."""

    async def use(asked: Asked) -> None:
        gone = asyncio.Event()
        asking = asyncio.create_task(asked.ask("/api/shop/wait", {"seconds": 600}, gone=gone))
        assert shop.client.worker is not None
        server = shop.client.worker.parts.server
        await wait_until_async(lambda: server.running > 0)
        gone.set()
        assert (await asking).status == 408, "it was given up, and did not end by its own time"
        await wait_until_async(lambda: server.running == 0)

    opened(use)


def test_a_quick_call_is_not_watched() -> None:
    """The connection is watched only during long calls; other cancellations are passed on."""

    class Request:
        asked = 0

        async def receive(self) -> dict[str, Any]:
            self.asked += 1
            return await asyncio.Future()

    async def quick() -> int:
        await asyncio.sleep(0)
        return 7

    async def fails() -> None:
        raise KeyError("its own")

    async def main() -> None:
        request: Any = Request()
        assert await application._until_disconnect(request, quick()) == 7
        with pytest.raises(KeyError):
            await application._until_disconnect(request, fails())
        assert request.asked == 0
        slow = asyncio.create_task(application._until_disconnect(request, asyncio.Event().wait()))
        await wait_until_async(lambda: request.asked == 1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_requests_at_the_same_time_are_bounded(
    shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A request over the limit is refused with Retry-After, which is logged once, and served later."""
    monkeypatch.setattr(application, "MAX_AT_ONCE", 1)

    async def use(asked: Asked) -> Any:
        gone = asyncio.Event()
        first = asyncio.create_task(asked.ask("/api/shop/wait", {"seconds": 600}, gone=gone))
        await wait_until_async(lambda: asked.gateway.under_way.total() == 1)
        second, _ = [await asked.ask("/api/shop/price", {"product": "lamp"}) for _ in range(2)]
        gone.set()
        await first
        return second, await asked.ask("/api/shop/price", {"product": "lamp"})

    second, third = opened(use)
    assert (second.status, second.headers["retry-after"], third.status) == (503, "1", 200)
    assert [record.getMessage() for record in caplog.records] == [
        "A request of client shop is refused: 1 requests are under way already."
    ]


def test_one_client_leaves_room_for_others(shop: BusPath, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests over its own limit are refused, and another client's are served meanwhile."""
    monkeypatch.setattr(application, "MAX_OF_ONE", 1)
    clients = Clients([Client(name="shop", token=TOKEN), Client(name="other", token="the-token-of-another")])

    async def use(asked: Asked) -> list[Answer]:
        gone = asyncio.Event()
        first = asyncio.create_task(asked.ask("/api/shop/wait", {"seconds": 600}, gone=gone))
        await wait_until_async(lambda: asked.gateway.under_way["shop"] == 1)
        tokens = TOKEN, "the-token-of-another"
        answers = [await asked.ask("/api/shop/price", {"product": "lamp"}, token=token) for token in tokens]
        gone.set()
        await first
        return [*answers, await asked.ask("/api/shop/price", {"product": "lamp"})]

    refused, *served = opened(use, clients=clients)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert b"of this client" in refused.body
    assert [each.status for each in served] == [200, 200]


def test_stream_begins_now_at_the_start_or_behind_a_cursor(shop: BusPath, opened: Any) -> None:
    """For one event, or all open ones; from now on, from the beginning, or after a cursor."""
    shop.shop.ordered.fire(product="before")

    async def use(asked: Asked) -> Any:
        whole = await asked.ask("/api/shop/ordered?since=0", enough=lambda body: b"before" in body)
        last = whole.body.rpartition(b"id: ")[2].split()[0].decode()
        await shop.shop.ordered.fire_async(product="lamp")
        rest = await asked.ask("/api/shop/ordered", last_event_id=last, enough=lambda body: b"lamp" in body)
        wrong = await asked.ask("/api/shop/ordered", last_event_id="nonsense")
        return whole, rest, wrong

    whole, rest, wrong = opened(use)
    assert (whole.status, whole.headers["content-type"]) == (200, "text/event-stream")
    assert whole.headers["cache-control"] == "no-store"
    assert b"before" not in rest.body
    assert wrong.status == 400


def test_all_events_require_a_rule_for_all(shop: BusPath, opened: Any) -> None:
    """A rule for some of them is not enough."""

    async def use(asked: Asked) -> int:
        return (await asked.ask("/api/shop/*", method="HEAD")).status

    assert opened(use, "listen:shop.ordered") == 404
    assert opened(use, "listen:shop.*") == 200


def test_the_page_and_the_document(shop: BusPath, opened: Any) -> None:
    """The page is served to everyone, and loads nothing from other sites; the document needs a token."""

    async def use(asked: Asked) -> Any:
        page = [await asked.ask(f"/{name}", token="") for name in ("", "page.js", "page.css")]
        return page, await asked.ask("/openapi.json"), await asked.ask("/openapi.json", token="")

    page, document, closed = opened(use)
    assert [each.status for each in page] == [200, 200, 200]
    assert not any(b"http://" in each.body or b"https://" in each.body for each in page)
    assert "/shop/price" in told(document)["paths"]
    assert closed.status == 401
