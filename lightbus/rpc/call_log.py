"""The log of answered calls: statistics of each procedure, and the calls themselves for watchers."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..wire.envelope import Request
from .callee import Callee
from .job import Job
from .statistics import OTHERS, Usage
from .trace import CallWatch, WatchedCall

__all__ = ["CallLog"]

MAX_CALLERS = 4096
"""Calling processes whose service name is cached."""


class CallLog:
    """
    Counts calls by procedure, calling service and outcome, and shows them to watchers. Only used from the node's loop.

    Args:
        service_of: returns the service of a calling instance, or None; called once for each instance that it knows.

    """

    def __init__(self, service_of: Callable[[str], str | None]) -> None:
        self.usage: dict[tuple[str, str], Usage] = {}
        """The counters by (API, procedure); calls of `internal.` APIs are not counted."""
        self.watch = CallWatch()
        """The watchers of calls; calls of `internal.` APIs are not shown to them."""
        self._services: dict[str, str] = {}
        self._service_of = service_of

    def note_usage(self, job: Job) -> None:
        """Count a call that was answered."""
        callee = job.callee
        if callee.is_internal:
            return
        usage = callee.usage or self._usage_of(callee)
        caller = job.request.caller
        service = self._services.get(caller) or self._look_up(caller)
        usage.note((job.ended or time.monotonic()) - job.arrived, service, failed=job.failed)

    def _usage_of(self, callee: Callee) -> Usage:
        key = callee.procedure.api_name, callee.procedure.name
        usage = callee.usage = self.usage.setdefault(key, Usage())
        return usage

    def show(self, request: Request, arrived: float, arguments: bytes, frame: bytes) -> None:
        """Record a call for watchers, with its answer; `frame` is empty if the caller gave up."""
        now = time.monotonic()
        service = self._services.get(request.caller) or self._look_up(request.caller)
        took = now - arrived
        self.watch.note(now, WatchedCall(request, service, time.time() - took, took, arguments, frame))

    def _look_up(self, caller: str) -> str:
        service = self._service_of(caller)
        if service is None:
            return OTHERS
        if len(self._services) >= MAX_CALLERS:
            self._services.clear()
        self._services[caller] = service
        return service
