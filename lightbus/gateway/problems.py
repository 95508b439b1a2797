"""Error responses: problem details (RFC 9457) with the matching status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from ..exceptions import (
    EventBackendUnreachable,
    EventNotFound,
    InvalidArguments,
    LightbusException,
    LightbusShutdownInProgress,
    LightbusTimeout,
    LightbusWorkerError,
    NotReachable,
    PayloadTooLarge,
    PeerLost,
    ProtocolError,
    UnknownProcedure,
)

__all__ = ["MAX_SECONDS", "NOT_OPEN", "TIMEOUT", "Refusal", "is_bus_error", "problem", "problem_of"]

TIMEOUT = "Lightbus-Timeout"
"""The header with the timeout of a request, in seconds."""

MAX_SECONDS = 60.0
"""The longest timeout of a request, in seconds."""

NOT_OPEN = "Nothing of this name is open here: it is misspelt, or no --allow of the gateway names it."
"""The text both for an unknown and for a forbidden name: the same, so that clients cannot tell them apart."""

NEEDS_OTHERS = "What this needs of other services failed ({}); the log of `lightbus gateway` says how."
"""The text where a handler raised an error of the bus, as when its own call of another service failed."""

_OURS = LightbusException.__module__ + "."

RETRY_AFTER = 1
"""Seconds after which to retry where no peer is reachable, or all are busy."""


class Refusal(Exception):
    """
    A request is refused.

    Attributes:
        status: the status of the answer.
        code: the reason in one word.
        headers: further headers of the answer.

    """

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Response:
        """Return the problem response."""
        return problem(self.status, self.code, str(self), self.headers)


_STATUS: tuple[tuple[type[LightbusException], int], ...] = (
    (PayloadTooLarge, 413),
    (InvalidArguments, 422),
    (UnknownProcedure, 404),
    (EventNotFound, 404),
    (NotReachable, 503),  # before LightbusTimeout: some of these are timeouts, too
    (EventBackendUnreachable, 503),
    (LightbusShutdownInProgress, 503),
    (LightbusTimeout, 504),
    (PeerLost, 502),
    (ProtocolError, 502),
)

_WORDS = {
    404: "There is no such procedure or event at the moment.",
    500: "The request failed; see the log of `lightbus gateway`.",
    502: "The worker that did it was lost. It may or may not have been done.",
    503: "No worker can do it at the moment: none is reachable, or all are too busy. Nothing was done.",
    504: f"It was not answered in time, and may or may not have been done. Set the time by the header {TIMEOUT}, "
    f"{MAX_SECONDS:g} at most.",
}
"""The texts for errors within the bus, whose own texts name hosts, processes and files, which clients must not see."""


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem response."""
    fields: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "error": code}
    body = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, headers, media_type="application/problem+json")


def problem_of(error: LightbusException) -> Response:
    """
    Return the problem response for an error of the bus.

    It has the text of a handler's error without the traceback, and what is wrong with arguments; both without the
    process and host of the worker. For all other errors within the bus it has a fixed text.
    """
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
    if isinstance(error, LightbusWorkerError) and error.args:
        kind = error.remote_type.removeprefix(_OURS)
        return problem(status, error.code, NEEDS_OTHERS.format(kind) if is_bus_error(error) else _public_text(error))
    if isinstance(error, InvalidArguments):
        is_of_the_result = str(error).startswith("The result of ")  # the arguments of the call were valid
        return problem(500 if is_of_the_result else status, error.code, _public_text(error))
    return problem(status, error.code, _WORDS.get(status, str(error)), headers)


def is_bus_error(error: LightbusException) -> bool:
    """
    Return whether an error is the bus's, and neither the client's nor the handler's: then its text is logged.

    An error of the bus that a handler passed on, as when its own call of another service failed, is the bus's, too.
    """
    if isinstance(error, LightbusWorkerError):
        return error.remote_type.startswith(_OURS)
    return not isinstance(error, InvalidArguments)


def _public_text(error: LightbusException) -> str:
    """Return the text of an error, without the peer that it names."""
    text = str(error.args[0]) if error.args else str(error)
    for who in ("raised by", "says", "says the schema of"):
        text = text.removesuffix(f" ({who} {error.peer})")
    return text.replace(error.peer, "the worker") if error.peer else text
