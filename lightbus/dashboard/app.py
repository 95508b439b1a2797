"""The application: the handler of each path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ..cli.support.connection import Connection
from ..exceptions import InvalidArguments, LightbusException
from ..recurring import RecurringLog
from ..web.bodies import TooLarge, read_body
from ..web.live_events import LiveEvents
from . import questions
from .actions import ACTIONS
from .answers import Ending, encoded, event_stream, json_answer, read_object
from .guard import AccessGuard, admit
from .merging import merged
from .options import DashboardOptions
from .pages import PAGES, View, why_waiting
from .round import Round
from .viewer import EVERY, PageViewer
from .watcher import Watcher, interval

__all__ = ["Dashboard"]

logger = logging.getLogger("lightbus.dashboard")

ASSETS = Path(__file__).parent / "assets"

HEARTBEAT = 10.0
"""Seconds after which a stream without news sends its latest value again, as a heartbeat."""

PAGES_PATH, EVENTS_PATH = "/api/stream/", "/api/events"
"""The paths of streams: the first is followed by the name of the page."""

MAX_ASKED = 300
"""The most characters of a name or a filter in a request."""

MAX_STREAMS = 50
"""The most pages that are open at the same time."""

MAX_TOGETHER = 20
"""The most streams that share one connection: the different pages in a browser's windows."""

MAX_FORM = 4096
"""The most bytes of the form with the token. Anybody may send it, and a megabyte takes most of a second to parse."""

RouteHandler = Callable[[Request], Awaitable[Response]]

T = TypeVar("T")


class Dashboard:
    """
    The dashboard of one bus.

    Args:
        bus: the connection to the bus.
        options: the address, the token, and which actions are allowed.

    """

    def __init__(self, bus: Connection, options: DashboardOptions) -> None:
        self.options = options
        self.watcher = Watcher(bus)
        self.events = LiveEvents(bus, name="dashboard")
        self._bus = bus
        self._refused = RecurringLog(logger)
        self._streams = 0
        self._closing = asyncio.Event()
        self._made: dict[tuple[str, str], tuple[int, int, bytes]] = {}
        self.app: ASGIApp = AccessGuard(Starlette(routes=self._routes()), options)

    def _routes(self) -> list[Route | Mount]:
        asked: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "/api/describe": lambda request: questions.describe_api(self._bus, _query(request, "name")),
            "/api/dead": lambda request: questions.dead_letters(self._bus, _query(request, "group")),
            "/api/fate": self._event_states,
            "/api/oldest": lambda request: questions.oldest_events(self._bus),
            "/api/history": self._history,
        }
        return [
            Route("/", _file("index.html")),
            Route("/login", _file("login.html")),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/api/about", self._about),
            Route(PAGES_PATH + "{page}", self._stream),
            Route(EVENTS_PATH, self._live_events),
            Route("/api/streams", self._merged_streams),
            *(Route(path, partial(_answered, question)) for path, question in asked.items()),
            Route("/api/actions/{action}", partial(_answered, self._act), methods=["POST"]),
            Mount("/assets", StaticFiles(directory=ASSETS)),
        ]

    def end_streams(self) -> None:
        """End the streams of open pages, so that the server can stop."""
        self._closing.set()

    async def close(self) -> None:
        """Stop the requests to the bus, and the listeners to events."""
        self.end_streams()
        await self.watcher.close()
        await self.events.close()

    # Single requests

    async def _log_in(self, request: Request) -> Response:
        try:
            given = parse_qs((await read_body(request, MAX_FORM)).decode(errors="replace"))
        except (TooLarge, TimeoutError, InvalidArguments):
            given = {}
        admitted = admit(request, self.options, given.get("token", [""])[0].strip())
        if admitted is None:
            address = request.client.host if request.client else "an unknown address"
            self._refused.log(address, logging.WARNING, "A wrong token was given by %s", address)
        return admitted or Response(status_code=303, headers={"Location": "/login?again#again"})

    async def _about(self, request: Request) -> Response:
        from ..__about__ import version

        about = {"bus": self._bus.name, "where": self._bus.where, "actions": self.options.actions, "version": version()}
        return json_answer(about)

    async def _event_states(self, request: Request) -> Any:
        states = await questions.event_states(self._bus, _query(request, "native_id"))
        waiting = {group for group, state in states["groups"].items() if state == "waiting"}
        now, watcher = self.watcher.now, self.watcher
        view = None if now is None else View(now, watcher.before, watcher.series, watcher.findings)
        return {**states, "why": {} if view is None else why_waiting(view, waiting)}

    async def _history(self, request: Request) -> Any:
        times = (_number(request, "start"), _number(request, "stop"))
        return await questions.history(self._bus, _query(request, "name"), *times)

    async def _act(self, request: Request) -> Any:
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            raise InvalidArguments("There is no such action.")
        if not self.options.actions:
            raise PermissionError("This dashboard is read-only. To permit actions: lightbus dashboard --allow-actions")
        return await action(self._bus, await read_object(request))

    # Streams

    async def _stream(self, request: Request) -> Response:
        if request.path_params["page"] not in PAGES:
            return json_answer({"message": "There is no such page."}, 404)
        return self._open(_unnamed(self._values(request.url.path, dict(request.query_params))))

    async def _live_events(self, request: Request) -> Response:
        return self._open(_unnamed(self._values(request.url.path, dict(request.query_params))))

    async def _merged_streams(self, request: Request) -> Response:
        """Open the streams of several paths (`of`) as one: each value is an event, named by the index of its path."""
        asked = [each.partition("?") for each in request.query_params.getlist("of")]
        if not 0 < len(asked) <= MAX_TOGETHER:
            return json_answer({"message": f"'of' names 1 to {MAX_TOGETHER} streams."}, 400)
        if not all(self._is_stream(path) for path, _, _ in asked):
            return json_answer({"message": "There is no such stream."}, 404)
        return self._open(merged([self._values(path, dict(parse_qsl(query))) for path, _, query in asked]))

    def _is_stream(self, path: str) -> bool:
        return path == EVENTS_PATH or (path.startswith(PAGES_PATH) and path.removeprefix(PAGES_PATH) in PAGES)

    def _values(self, path: str, asked: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """Return the values of the stream of a path, without starting it."""
        given = {name: value[:MAX_ASKED] for name, value in asked.items()}
        if path == EVENTS_PATH:
            return self._portions(PageViewer(given.get("pattern", ""), given.get("text", "")))
        return self._rounds(path.removeprefix(PAGES_PATH), given.get("name", ""))

    def _open(self, values: AsyncIterator[tuple[str, bytes]]) -> Any:
        if self._streams >= MAX_STREAMS:
            return json_answer({"message": f"{MAX_STREAMS} pages are open already. Close some."}, 503)
        self._streams += 1  # now, not when a stream starts: several are opened before any starts
        return Ending(event_stream(_closed_at_end(values)), self._stream_closed)

    def _stream_closed(self) -> None:
        self._streams -= 1

    async def _rounds(self, page: str, name: str) -> AsyncGenerator[bytes, None]:
        latest: Round | None = None
        with self.watcher.looking():
            while not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        latest = await self._wait_unless_closing(
                            self.watcher.round_after(-1 if latest is None else latest.number)
                        )
                if not self._closing.is_set() and latest is not None:
                    yield self._contents(page, name, latest)

    async def _wait_unless_closing(self, awaitable: Awaitable[T]) -> T:
        """Return the result of an awaitable; raise TimeoutError if the dashboard closes first."""
        awaited, ended = asyncio.ensure_future(awaitable), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait([awaited, ended], return_when=asyncio.FIRST_COMPLETED)
            if not awaited.done():
                raise TimeoutError
            return awaited.result()
        finally:
            awaited.cancel()
            ended.cancel()

    def _contents(self, page: str, name: str, now: Round) -> bytes:
        """Return a page's contents in the latest round, made once for all viewers."""
        watcher = self.watcher
        stamp = now.number, id(watcher.findings)
        made = self._made.get((page, name))
        if made is None or made[:2] != stamp:
            view = View(now, watcher.before, watcher.series, watcher.findings, name=name)
            common = {"number": now.number, "clock": now.clock, "examined": watcher.examined}
            common["every"] = interval(len(now.reports))
            if len(self._made) > MAX_STREAMS:
                self._made.clear()
            made = self._made[page, name] = (*stamp, encoded({**common, **PAGES[page](view)}))
        return made[2]

    async def _portions(self, viewer: PageViewer) -> AsyncGenerator[bytes, None]:
        with self.events.viewing(viewer):
            quiet = 0.0
            yield encoded({"events": [], "passed_over": 0})
            while not self._closing.is_set():
                await asyncio.sleep(EVERY)
                portion = viewer.take()
                quiet += EVERY
                if portion["events"] or quiet >= HEARTBEAT:
                    quiet = 0.0
                    yield encoded(portion)


async def _unnamed(values: AsyncGenerator[bytes, None]) -> AsyncIterator[tuple[str, bytes]]:
    async with contextlib.aclosing(values):
        async for value in values:
            yield "", value


async def _closed_at_end(values: AsyncIterator[tuple[str, bytes]]) -> AsyncIterator[tuple[str, bytes]]:
    async with contextlib.aclosing(values):  # type: ignore[type-var]
        async for value in values:
            yield value


async def _answered(question: Callable[[Request], Awaitable[Any]], request: Request) -> Response:
    """Respond with the result of a question, or with its error."""
    try:
        return json_answer(await question(request))
    except TooLarge:
        return json_answer({"message": "The request is too large."}, 413)
    except LightbusException as error:  # some are timeouts, too
        status = 400 if isinstance(error, InvalidArguments) else 502
        return json_answer({"error": error.code, "message": str(error)}, status)
    except TimeoutError:
        return json_answer({"message": "The request took too long to arrive."}, 408)
    except PermissionError as error:
        return json_answer({"message": str(error)}, 403)
    except Exception:
        logger.exception("A request to %s failed.", request.url.path)
        return json_answer({"message": "The request failed; see the log of `lightbus dashboard`."}, 500)


def _file(name: str) -> RouteHandler:
    async def answer(request: Request) -> Response:
        return FileResponse(ASSETS / name)

    return answer


def _query(request: Request, name: str) -> str:
    return str(request.query_params.get(name, ""))[:MAX_ASKED]


def _number(request: Request, name: str) -> float | None:
    try:
        number = float(request.query_params[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None
