"""The gateway's application: its routes and their handlers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..cli.support.connection import Connection
from ..exceptions import EventNotFound, LightbusException, UnknownProcedure, did_you_mean
from ..recurring import RecurringLog
from .access import Permission
from .clients import Client
from .document import Documents
from .forms import value_form
from .guard import GatewayGuard
from .members import Member, find_member, names_on
from .options import GatewayOptions
from .problems import NOT_OPEN, Refusal, is_bus_error, problem, problem_of
from .requests import arguments_of, cursor_of, names_of, now_at, options_of
from .streaming import Streaming

__all__ = ["Gateway"]

logger = logging.getLogger("lightbus.gateway")

ASSETS = Path(__file__).parent / "assets"

MAX_AT_ONCE, MAX_OF_ONE = 250, 200
"""
The most calls and events in progress at the same time, of all clients and of one: each holds its arguments in memory.

One client alone, whose calls take long or whose bodies arrive slowly, leaves room for the others.
"""

NO_PATH = "There is nothing here. A procedure or an event is at /api/API/NAME; /openapi.json names those that are open."
WRONG_METHOD = (
    "POST calls a procedure or fires an event, GET streams an event; the header Allow names the methods of this path."
)

WATCH_AFTER = 0.05
"""Seconds after which a call in progress is cancelled if its HTTP client disconnects."""


class Gateway:
    """
    The gateway of one bus.

    Attributes:
        under_way: the number of calls and events not answered yet, by the name of the client.

    Args:
        bus: the client of the bus that calls and fires.
        options: the access rules, the clients and the address.

    """

    def __init__(self, bus: Connection, options: GatewayOptions) -> None:
        self.options = options
        self.streaming = Streaming(bus, lambda api: options.rules.allow_some(Permission.LISTEN, api))
        self._bus = bus
        self._documents = Documents(bus, options)
        self._log = RecurringLog(logger)
        self.under_way: Counter[str] = Counter()
        routes = [
            Route("/api/{api}/{member}", self._answered(self._member), methods=["GET", "POST"]),
            Route("/openapi.json", self._answered(self._describe)),
            Route("/", _file("index.html")),
            *(Route(f"/{name}", _file(name)) for name in ("page.js", "page.css")),
        ]
        refused: dict[Any, Any] = {HTTPException: _refused}
        served = Starlette(routes=routes, exception_handlers=refused)
        served.router.redirect_slashes = False  # a path with a slash too many is not found
        self.app: ASGIApp = GatewayGuard(served, options)

    def end_streams(self) -> None:
        """End the streams, so that the server can stop."""
        self.streaming.closing.set()

    async def close(self) -> None:
        """End the streams, and close the client that listens to events."""
        self.end_streams()
        await self.streaming.close()

    # Requests

    async def _member(self, request: Request) -> Response:
        api, name = names_of(request)
        return await (self._post if request.method == "POST" else self._get)(request, api, name)

    async def _post(self, request: Request, api: str, name: str) -> Response:
        """Call a procedure, or fire an event."""
        self._check(request, (Permission.CALL, Permission.FIRE), api, name)
        options = options_of(request)
        with self._request_slot(_client_of(request).name):
            arguments = await arguments_of(request, self.options.max_body)
            kind = await find_member(self._bus, api, name)
            permission = Permission.FIRE if kind is Member.EVENT else Permission.CALL
            self._check(request, (permission,), api, name)
            if kind is Member.UNKNOWN or name == "*":
                raise Refusal(
                    404, UnknownProcedure.code, self._unknown(request, (Permission.CALL, Permission.FIRE), api, name)
                )
            if kind is Member.EVENT:
                return await self._fire(request, api, name, arguments, options)
            called = self._bus.client.call_rpc_remote(api, name, arguments, options)
            return Response(value_form(await _until_disconnect(request, called)), media_type="application/json")

    async def _fire(
        self, request: Request, api: str, event: str, arguments: dict[str, Any], options: dict[str, Any]
    ) -> Response:
        message = await self._bus.client.fire_event(api, event, arguments, options)
        fired = {"id": message.id, "native_id": message.native_id}
        # 202: without a publisher the event waits in the outbox of this host.
        return Response(value_form(fired), 200 if message.publisher else 202, media_type="application/json")

    async def _get(self, request: Request, api: str, name: str) -> Response:
        """Stream events."""
        self._check(request, (Permission.LISTEN,), api, name)
        cursor = cursor_of(request)
        kind = await find_member(self._bus, api, name)
        if kind is Member.UNKNOWN:
            raise Refusal(404, EventNotFound.code, self._unknown(request, (Permission.LISTEN,), api, name))
        if kind is Member.PROCEDURE:
            raise Refusal(405, "no_event", f"{api}.{name} is no event: it is called by POST.", Allow="POST")
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        client = _client_of(request)
        reader = await self.streaming.join(client.name, api, name)
        stream: Any = self.streaming.answer(client.name, reader, cursor or now_at(reader.places))
        return stream

    async def _describe(self, request: Request) -> Response:
        """Return the OpenAPI document of the members that this client may use."""
        return Response(value_form(await self._documents.of(_client_of(request))), media_type="application/json")

    # Checks

    def _check(self, request: Request, permissions: tuple[Permission, ...], api: str, name: str) -> None:
        """Raise Refusal if none of the permissions is granted: 404 for what no rule opens, so that it stays hidden."""
        client = _client_of(request)
        if any(self.options.allow(client, permission, api, name) for permission in permissions):
            return
        if any(self.options.rules.allow(permission, api, name) for permission in permissions):
            raise Refusal(403, "not_allowed", f"{client.name} may not do that with {api}.{name}.")
        raise Refusal(404, "not_found", NOT_OPEN)

    def _unknown(self, request: Request, permissions: tuple[Permission, ...], api: str, name: str) -> str:
        """Return the error text for an unknown member, with near names among those that this client may use."""
        client = _client_of(request)
        open_to_it = [
            each
            for each in names_on(self._bus, api)
            if any(self.options.allow(client, permission, api, each) for permission in permissions)
        ]
        return f"The API {api} has no {name} at the moment.{did_you_mean(name, open_to_it)}"

    @contextlib.contextmanager
    def _request_slot(self, client: str) -> Iterator[None]:
        if self.under_way[client] >= MAX_OF_ONE:
            text = f"{MAX_OF_ONE} requests of this client are under way already."
            raise Refusal(429, "too_many", text, Retry_After="1")
        if self.under_way.total() >= MAX_AT_ONCE:
            raise Refusal(503, "busy", f"{MAX_AT_ONCE} requests are under way already.", Retry_After="1")
        self.under_way[client] += 1
        try:
            yield
        finally:
            self.under_way[client] -= 1

    def _answered(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that turns the exceptions of `handler` into problem responses."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Refusal as refusal:
                if refusal.status in (429, 503):  # it is the gateway that is at its limits
                    who = _client_of(request).name
                    self._log.log(
                        (refusal.code, who), logging.WARNING, "A request of client %s is refused: %s", who, refusal
                    )
                return refusal.answer()
            except LightbusException as error:
                if is_bus_error(error):
                    self._log.log(error.code, logging.WARNING, "A request to %s failed: %s", request.url.path, error)
                return problem_of(error)
            except Exception:
                logger.exception("A request to %s failed", request.url.path)
                return problem(500, "failed", "The request failed; see the log of `lightbus gateway`.")

        return answer


async def _until_disconnect(request: Request, called: Awaitable[Any]) -> Any:
    """
    Await a call and return its result. If the HTTP client disconnects before, the call is cancelled.

    The task that watches for that starts only after WATCH_AFTER: most calls are answered before, and need none.
    """
    calling = asyncio.current_task()
    assert calling is not None  # a request is handled in a task
    watch = _DisconnectWatch(request, calling)
    timer = asyncio.get_running_loop().call_later(WATCH_AFTER, watch.begin)
    before = calling.cancelling()
    try:
        return await called
    except asyncio.CancelledError:
        if watch.is_gone and calling.uncancel() <= before:
            raise Refusal(408, "gone", "The client disconnected.") from None  # nobody receives it
        raise
    finally:
        timer.cancel()
        await watch.end()


class _DisconnectWatch:
    """Cancels a task when the client of its request disconnects."""

    def __init__(self, request: Request, calling: asyncio.Task[Any]) -> None:
        self.is_gone = False
        self._request = request
        self._calling = calling
        self._watching: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._watching = asyncio.ensure_future(self._wait())

    async def end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._calling.cancel()


def _client_of(request: Request) -> Client:
    client: Client = request.scope["state"]["client"]
    return client


async def _refused(request: Request, error: HTTPException) -> Response:
    """Answer a request without a route, with the usual status."""
    status = HTTPStatus(error.status_code)
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "refused")
    detail = {404: NO_PATH, 405: WRONG_METHOD}.get(status, status.description or status.phrase)
    return problem(status, code, detail, error.headers)


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return FileResponse(ASSETS / name)

    return answer
