"""Parse requests: the name in the path, arguments, timeout, trace context, and where a stream begins."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from starlette.requests import Request

from ..exceptions import InvalidArguments
from ..web.bodies import TooLarge, read_body
from .cursor import CLOCK_TOLERANCE, Cursor
from .forms import read_object
from .problems import MAX_SECONDS, NOT_OPEN, TIMEOUT, Refusal

__all__ = ["arguments_of", "cursor_of", "names_of", "now_at", "options_of"]

JSON = "application/json"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*", re.ASCII)
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def names_of(request: Request) -> tuple[str, str]:
    """Return the API and the member in the path; `*` means every event. Raises Refusal for an invalid name."""
    api, member = request.path_params["api"], request.path_params["member"]
    if not _NAME.fullmatch(api) or not (member == "*" or _NAME.fullmatch(member)):
        raise Refusal(404, "not_found", NOT_OPEN)
    return api, member


async def arguments_of(request: Request, most: int) -> dict[str, Any]:
    """Return the arguments in a request's body of at most `most` bytes. Raises Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    try:
        body = await read_body(request, most)
    except TooLarge:
        raise Refusal(413, "too_large", f"A request's body has {most} bytes at most.", Connection="close") from None
    except TimeoutError:
        raise Refusal(408, "too_slow", "The request took too long to arrive.", Connection="close") from None
    except InvalidArguments as error:
        raise Refusal(400, "bad_request", str(error)) from None
    if body and not is_json:
        raise Refusal(415, "no_json", "Send the arguments as JSON: Content-Type: application/json.", Accept=JSON)
    try:
        return read_object(body)
    except ValueError as error:
        raise Refusal(400, "bad_request", f"The body is not a JSON object of arguments by name: {error}.") from None


def options_of(request: Request) -> dict[str, Any]:
    """Return the `bus_options` from a request's headers. Raises Refusal for an invalid timeout."""
    options: dict[str, Any] = {}
    if (given := request.headers.get(TIMEOUT)) is not None:
        options["timeout"] = _seconds(given)
    if _TRACE.fullmatch(trace := request.headers.get("traceparent", "")):
        options["trace"] = {"traceparent": trace}
    return options


def cursor_of(request: Request) -> Cursor | None:
    """Return where a stream begins; None for events from now on. Raises Refusal."""
    last, since = request.headers.get("last-event-id"), request.query_params.get("since")
    try:
        if last:
            return Cursor.read(last)
        return None if since is None else Cursor(since=_moment(since))
    except InvalidArguments as error:
        raise Refusal(400, "bad_request", str(error)) from None


def now_at(places: dict[str, int]) -> Cursor:
    """Return the cursor for events from now on, given the places up to which journals were read."""
    return Cursor(since=time.time() - CLOCK_TOLERANCE, places=dict(places))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise Refusal(
            400, "bad_request", f"{TIMEOUT} is {text!r:.50}. It is a number of seconds, {MAX_SECONDS:g} at most."
        )
    return seconds


def _moment(text: str) -> float:
    """Parse a time; return it in seconds since 1970."""
    if text == "0":
        return 0.0
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise InvalidArguments(
            f"since is {text!r:.50}. It is 0 for everything that is kept, or a date and time: 2026-01-31T12:00:00Z."
        ) from None
