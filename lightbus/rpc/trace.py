"""
The calls of a worker, for watchers (`lightbus tail --rpc`): recorded only while there is a watcher.

A watch is a lease. Each request renews it and fetches the calls recorded since the last one; without requests it
expires, and without watchers nothing is recorded. Calls that arrive faster than they are fetched are counted and
dropped. `now` is an argument.
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
"""Seconds after which a watch expires that is not renewed."""

MAX_WATCHERS = 8

MAX_CALLS = 1000
MAX_BYTES = 4 * 1024 * 1024
"""Calls, and bytes of their arguments and results, kept for each watcher: as much as a terminal can show."""

MAX_VALUE = 32 * 1024
"""Largest arguments, or result, in bytes, that are reported; of larger ones only the size is."""


SHALLOW = 256
"""Encoded values up to this many bytes need no check of their nesting: each level takes at least one byte."""

NESTED = b"\x91" * 8
"""Nested msgpack arrays of one item each: more levels than a report has around a value."""

TOO_LARGE = b"\xc1"
"""Replaces arguments or an answer larger than MAX_VALUE: the one byte that msgpack does not use."""


class WatchedCall(NamedTuple):
    """A call that was answered. Arguments and answer are kept encoded, and decoded when a watcher fetches them."""

    request: Request
    service: str
    """The caller's service."""
    at: float
    """When the request arrived, in seconds since 1970."""
    seconds: float
    """Time from the request's arrival to its answer."""
    arguments: bytes
    frame: bytes
    """The answer as it was sent; empty if the caller gave up before."""
    number: int = 0
    """The number of the call in one watch, from 1; dropped calls have numbers, too."""
    kwargs_bytes: int = 0
    result_bytes: int = 0

    def cut(self) -> WatchedCall:
        """Return a copy without values that are too large to report, and with the sizes of all values."""
        arguments, frame = (each if len(each) <= MAX_VALUE else TOO_LARGE for each in (self.arguments, self.frame))
        kwargs_bytes, result_bytes = len(self.arguments), len(self.frame)
        return self._replace(arguments=arguments, frame=frame, kwargs_bytes=kwargs_bytes, result_bytes=result_bytes)

    def fields(self) -> dict[str, Any]:
        """Return the call as the fields of a report."""
        fields: dict[str, Any] = {
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
            fields["kwargs"] = codec.decode(self.arguments)
        else:
            fields["cut"].append("kwargs")
        if not self.frame:
            return {**fields, "error": "cancelled", "message": "its caller gave up"}
        answer: AnyMessage | None = None
        with contextlib.suppress(ProtocolError):  # the answer is left out of the report
            answer = envelope.decode(self.frame)[1]
        if isinstance(answer, Error):
            return {**fields, "error": str(answer.details.get("type", answer.code)), "message": answer.message}
        if isinstance(answer, Result):
            value = answer.value
            if len(self.frame) <= SHALLOW or _is_reportable(codec.encode(value)):
                return {**fields, "result": value}
        fields["cut"].append("result")
        return fields


def _is_reportable(data: bytes) -> bool:
    """Return whether an encoded value may be part of a report: not cut, and not nested too deeply."""
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
    """All watchers. Only used from the node's loop."""

    def __init__(self) -> None:
        self.watchers: dict[str, _CallWatcher] = {}
        """The watchers by name, including those that have just expired. Empty in the usual case."""

    @property
    def is_on(self) -> bool:
        """Whether there is a watcher."""
        return bool(self.watchers)

    def arguments_of(self, request: Request) -> bytes | None:
        """Return the encoded arguments of a call, before its handler can change them; None if nobody watches."""
        if not self.watchers or request.api.startswith("internal."):
            return None
        try:
            return codec.encode(request.kwargs)
        except DeformError:
            return TOO_LARGE

    def note(self, now: float, call: WatchedCall) -> None:
        """Record a call for each watcher, and number it; remove expired watchers."""
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
        Renew a watch, or begin one; return the `calls` with numbers above `after`, and the latest number, `noted`.

        Calls up to `after` have been received, and are dropped. If `noted` is less than a number that the watcher has
        seen, its watch had expired, and this is a new one. Raises PeerBusy if there are too many watchers.
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
        """End a watch before it expires."""
        self.watchers.pop(name, None)
