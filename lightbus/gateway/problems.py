"""What went wrong, as answers say it: problem details (RFC 9457) with the right status."""

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

__all__ = ["MAX_SECONDS", "NOT_OPEN", "TIMEOUT", "Refusal", "is_of_the_bus", "problem", "problem_of"]

TIMEOUT = "Lightbus-Timeout"
"""The header with the seconds that a request may take."""

MAX_SECONDS = 60.0
"""Seconds that a request may take."""

NOT_OPEN = "Nothing of this name is open here: it is misspelt, or no --allow of the gateway names it."
"""Said of what is not there and of what may not be used: the same, so that nobody learns which."""

NEEDS_OTHERS = "What this needs of other services failed ({}); the log of `lightbus gateway` says how."
"""Said where a handler raised an error of the bus, as when it called another service in vain."""

_OURS = LightbusException.__module__ + "."

RETRY_AFTER = 1
"""Seconds after which it is worth asking again where nobody is there, or everybody is busy."""


class Refusal(Exception):
    """
    A request that is not served.

    Attributes:
        status: of the answer.
        code: says in one word what it is about.
        headers: of the answer.

    """

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Response:
        """Return it as an answer."""
        return problem(self.status, self.code, str(self), self.headers)


_STATUS: tuple[tuple[type[LightbusException], int], ...] = (
    (PayloadTooLarge, 413),
    (InvalidArguments, 422),
    (UnknownProcedure, 404),
    (EventNotFound, 404),
    (NotReachable, 503),  # nobody is there, or all are busy: some of these are timeouts, too
    (EventBackendUnreachable, 503),
    (LightbusShutdownInProgress, 503),
    (LightbusTimeout, 504),
    (PeerLost, 502),
    (ProtocolError, 502),
)

_WORDS = {
    404: "There is no such procedure or event at the moment.",
    500: "This went wrong; the log of `lightbus gateway` says how.",
    502: "The worker that did it was lost. It may or may not have been done.",
    503: "Nobody can do it at the moment: who serves it is not there, or too busy. Nothing was done.",
    504: f"It was not answered in time, and may or may not have been done. The time is the header {TIMEOUT}, "
    f"{MAX_SECONDS:g} at most.",
}
"""What is said of trouble within the bus: its own words name hosts, processes and files, which no client is to know."""


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that says what went wrong."""
    told: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "error": code}
    body = json.dumps(told, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, headers, media_type="application/problem+json")


def problem_of(error: LightbusException) -> Response:
    """
    Return the answer for an error of the bus.

    Of a handler's error it has the words, and no traceback; of wrong arguments what is wrong with them; neither with
    the process and host that say so. What else happens within the bus is told in words of ours.
    """
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
    if isinstance(error, LightbusWorkerError) and error.args:
        kind = error.remote_type.removeprefix(_OURS)
        return problem(status, error.code, NEEDS_OTHERS.format(kind) if is_of_the_bus(error) else _own_words(error))
    if isinstance(error, InvalidArguments):
        is_of_the_result = str(error).startswith("The result of ")  # those of the call were right
        return problem(500 if is_of_the_result else status, error.code, _own_words(error))
    return problem(status, error.code, _WORDS.get(status, str(error)), headers)


def is_of_the_bus(error: LightbusException) -> bool:
    """
    Return whether an error is about the bus, and no fault of who asks nor the handler's: the log has its words.

    What a handler was told by the bus itself, as when it called another service in vain, is about the bus, too.
    """
    if isinstance(error, LightbusWorkerError):
        return error.remote_type.startswith(_OURS)
    return not isinstance(error, InvalidArguments)


def _own_words(error: LightbusException) -> str:
    """Return what is wrong, without who says so."""
    text = str(error.args[0]) if error.args else str(error)
    for who in ("raised by", "says", "says the schema of"):
        text = text.removesuffix(f" ({who} {error.peer})")
    return text.replace(error.peer, "the worker") if error.peer else text
