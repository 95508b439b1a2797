"""
The calls of a worker, for watchers (`lightbus tail --rpc`): recorded only while there is one.

Watching is a lease. Each question renews it and takes what came meanwhile; without questions it ends, and with the last
all its cost. Calls that arrive faster than they are fetched are counted and dropped. `now` is an argument.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, NamedTuple

from ..exceptions import DeformError, PeerBusy, ProtocolError
from ..wire import codec, envelope
from ..wire.envelope import AnyMessage, Error, Request, Result

__all__ = ["LEASE", "CallWatch", "WatchedCall"]

LEASE = 5.0
"""Seconds for which calls are recorded for a watcher that does not ask."""

MAX_WATCHERS = 8

MAX_CALLS = 1000
MAX_BYTES = 4 * 1024 * 1024
"""Calls, and bytes of their arguments and results, that are kept for each watcher: what a terminal can show."""

MAX_VALUE = 32 * 1024
"""Bytes of arguments, or of a result, beyond which only their number is reported."""


SHALLOW = 256
"""Bytes that no value has whose nesting could matter: each level takes one at least."""

NESTED = b"\x91" * 8
"""Nested arrays of one item each, as msgpack encodes them: more levels than a report has around a value."""

TOO_LARGE = b"\xc1"
"""Replaces arguments or an answer of more bytes: the one byte that msgpack does not use."""


class WatchedCall(NamedTuple):
    """A call that was answered. Arguments and answer are kept as bytes: they are read when they are asked for."""

    request: Request
    service: str
    """The caller's service."""
    at: float
    """When it arrived, in seconds since 1970."""
    seconds: float
    """From its arrival to its answer."""
    arguments: bytes
    frame: bytes
    """The answer as it was sent; empty where the caller gave up before."""
    number: int = 0
    """Counts the calls of one watch from 1, those that were not kept included."""
    kwargs_bytes: int = 0
    result_bytes: int = 0

    def cut(self) -> WatchedCall:
        """Return it without values that are too large to report; their bytes are counted."""
        arguments, frame = (each if len(each) <= MAX_VALUE else TOO_LARGE for each in (self.arguments, self.frame))
        kwargs_bytes, result_bytes = len(self.arguments), len(self.frame)
        return self._replace(arguments=arguments, frame=frame, kwargs_bytes=kwargs_bytes, result_bytes=result_bytes)

    def fields(self) -> dict[str, Any]:
        """Return it in the form of a report."""
        told: dict[str, Any] = {
            "number": self.number,
            "at": self.at,
            "seconds": self.seconds,
            "caller": self.request.caller,
            "caller_service": self.service,
            "api": self.request.api,
            "procedure": self.request.procedure,
            "kwargs": None,
            "kwargs_bytes": self.kwargs_bytes,
            "result": None,
            "result_bytes": self.result_bytes,
            "error": None,
            "message": None,
            "cut": [],
        }
        if _is_reportable(self.arguments):
            told["kwargs"] = codec.decode(self.arguments)
        else:
            told["cut"].append("kwargs")
        if not self.frame:
            return {**told, "error": "cancelled", "message": "its caller gave up"}
        answer: AnyMessage | None = None
        with contextlib.suppress(ProtocolError):  # it is left out
            answer = envelope.decode(self.frame)[1]
        if isinstance(answer, Error):
            return {**told, "error": str(answer.details.get("type", answer.code)), "message": answer.message}
        if isinstance(answer, Result):
            value = answer.value
            if len(self.frame) <= SHALLOW or _is_reportable(codec.encode(value)):
                return {**told, "result": value}
        told["cut"].append("result")
        return told


def _is_reportable(data: bytes) -> bool:
    """Return whether an encoded value may be part of a report: it exists, and is not nested too deeply."""
    if len(data) <= SHALLOW:
        return data != TOO_LARGE
    try:
        codec.encode(codec.decode(NESTED + data))
    except (DeformError, ProtocolError):
        return False
    return True


class _CallWatcher:
    """The recorded calls of one watcher."""

    __slots__ = ("calls", "noted", "size", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.noted = 0
        self.size = 0
        self.calls: deque[WatchedCall] = deque()


class CallWatch:
    """All watchers. Only touched from the node's loop."""

    def __init__(self) -> None:
        self.watchers: dict[str, _CallWatcher] = {}
        """The watchers by name, and those until just now: the server checks first whether there are any."""

    @property
    def is_on(self) -> bool:
        """Whether there is a watcher."""
        return bool(self.watchers)

    def arguments_of(self, request: Request) -> bytes | None:
        """Return the arguments of a call that begins, as they are before the handler has them; None: not watched."""
        if not self.watchers or request.api.startswith("internal."):
            return None
        try:
            return codec.encode(request.kwargs)
        except DeformError:
            return TOO_LARGE

    def note(self, now: float, call: WatchedCall) -> None:
        """Record a call, before it has a number, for each watcher; forget watchers that do not ask any more."""
        call = call.cut()
        size = len(call.arguments) + len(call.frame)
        for name, watcher in list(self.watchers.items()):
            if now > watcher.until:
                del self.watchers[name]
                continue
            watcher.noted += 1
            if len(watcher.calls) < MAX_CALLS and watcher.size + size <= MAX_BYTES:
                watcher.calls.append(call._replace(number=watcher.noted))
                watcher.size += size

    def take(self, now: float, name: str, after: int) -> dict[str, Any]:
        """
        Renew a watch, or begin one; return the `calls` behind a number, and the number `noted` by now.

        What is up to that number is forgotten: it has been received. Where `noted` is less than the caller has seen,
        its watch had ended, and this is a new one. Raises PeerBusy where too many watch.
        """
        for each, watcher in list(self.watchers.items()):
            if now > watcher.until and each != name:
                del self.watchers[each]
        if name not in self.watchers and len(self.watchers) >= MAX_WATCHERS:
            raise PeerBusy(f"{MAX_WATCHERS} others watch the calls of this worker already.")
        watcher = self.watchers.setdefault(name, _CallWatcher(now + LEASE))
        watcher.until = now + LEASE
        while watcher.calls and watcher.calls[0].number <= after:
            gone = watcher.calls.popleft()
            watcher.size -= len(gone.arguments) + len(gone.frame)
        return {"calls": [call.fields() for call in watcher.calls], "noted": watcher.noted}

    def end(self, name: str) -> None:
        """End a watch before its time."""
        self.watchers.pop(name, None)
