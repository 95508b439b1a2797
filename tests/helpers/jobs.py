"""Calls as a worker has accepted them, without a worker: for tests of their handling."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from lightbus.config import ApiSettings
from lightbus.rpc.callee import Callee
from lightbus.rpc.job import Job
from lightbus.service.api import Api
from lightbus.wire import envelope
from lightbus.wire.envelope import Request

__all__ = ["CALLER", "ME", "Point", "Worked", "frame_of", "job_of", "request_of"]

ME, CALLER = "a" * 16, "c" * 16


@dataclass
class Point:
    """A value that is a dict on the wire."""

    x: int


class Worked(Api):
    """Handlers of both kinds."""

    class Meta:
        name = "work"

    async def echo(self, value: Any = None) -> Any:
        """Return the argument, on the loop."""
        return value

    def echo_in_thread(self, value: Any = None) -> Any:
        """Return the argument, in a thread."""
        return value

    async def promise(self, value: Any = None) -> int:
        """Return the argument, although an integer is annotated."""
        return value  # type: ignore[no-any-return]

    async def typed(self, point: Point) -> str:
        """Return the type of the argument."""
        return type(point).__name__

    async def fail(self, value: Any = None) -> None:
        """Raise the argument."""
        raise value


def request_of(procedure: str = "echo", api: str = "work", **fields: Any) -> Request:
    """Return a request; fields of the envelope may be given."""
    plain = {
        "target": ME, "api": api, "procedure": procedure, "left": 5.0, "caller": CALLER,
        "chain": [], "trace": None, "stall_count": 0, "kwargs": {},
    }  # fmt: skip
    return Request(**{**plain, **fields})


def job_of(
    procedure: str = "echo",
    *,
    api: str = "work",
    memory: int = 1,
    call_id: int = 1,
    marks: dict[str, Job] | None = None,
    settings: ApiSettings | None = None,
    **fields: Any,
) -> Job:
    """Return a call of `Worked`, whose API may have another name on the wire."""
    request = request_of(procedure, api, **fields)
    worked = Worked()
    callee = Callee(worked, replace(worked.procedures[procedure], api_name=api), settings or ApiSettings())
    return Job(b"somebody", call_id, request, callee, memory, {} if marks is None else marks, time.monotonic())


def frame_of(job: Job) -> bytes:
    """Return the frame of a call."""
    return envelope.encode(job.request, job.call_id)
