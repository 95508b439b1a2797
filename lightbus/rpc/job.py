"""One call that a worker has accepted: its request, its procedure, and its state."""

from __future__ import annotations

import asyncio
import os
from typing import cast

from ..deadline import LONGEST, Deadline, ServedCall
from ..service.execution import Execution
from ..wire import envelope
from ..wire.envelope import Request
from .callee import Callee

__all__ = ["MAX_DECODED_BYTES", "Job"]

MAX_DECODED_BYTES = 4096
"""Largest request, in bytes, that is queued decoded. Lists, decoded, can take sixty times the bytes of their frame."""


class Job:
    """
    One call. Used from the node's loop, and by the thread that executes the handler.

    Attributes that most calls never set are class defaults, which keeps `__init__` cheap.

    Args:
        routing_id: the connection that the request came over.
        call_id: the id that the caller gave the call.
        request: the decoded request.
        callee: the procedure to execute.
        memory: bytes of memory that the arguments take, approximately.
        marks: the index of calls by mark; this call is added when it first makes a call itself.
        now: when the request arrived.

    """

    queued_frame = b""
    """The encoded request, kept while the call is queued."""
    parent: Job | None = None
    """The call in this process that waits for this one."""
    nested = 0
    """How many calls that this one waits for are being executed in this process."""
    mark = ""
    """Identifies this call in the chains of calls that its handler makes; empty until the first of them."""
    task: asyncio.Task[None] | None = None
    execution: Execution | None = None
    """Runs the user's code; None before that."""
    cancelled = False
    has_place = False
    """Whether the call counts towards the concurrency limit."""
    in_user_code = False
    failed = False
    """Whether the answer is an error."""
    arguments: bytes | None = None
    """The encoded arguments, kept only if somebody watches calls."""
    ended: float | None = None
    """When the handler ended; set where it ran in a thread, or without a task."""
    cpu_seconds = 0.0
    """Seconds of processor time that the thread used for the call."""
    loop_woken_at: float | None = None
    """When the thread woke the loop to report the end of the call."""
    answered_by_thread = False
    """Whether the thread has sent the answer, or tried to."""

    def __init__(
        self,
        routing_id: bytes,
        call_id: int,
        request: Request,
        callee: Callee,
        memory: int,
        marks: dict[str, Job],
        now: float,
    ) -> None:
        self.routing_id = routing_id
        self.call_id = call_id
        self.request = request
        self.callee = callee
        self.memory = memory
        left = request.left if request.left < LONGEST else LONGEST
        self.deadline = deadline = Deadline(now + left, left)
        self.arrived = self.began = now
        """When the request arrived; and when the call was started, later overwritten with when its handler began."""
        self.served = ServedCall(deadline, tuple(request.chain), self._make_mark)
        self._marks = marks

    def _make_mark(self) -> str:
        # The random part makes the mark unguessable: only peers that this call has called can name it. Threads of the
        # handler may get here at the same time: the first mark is kept, so that no second one outlives the call.
        mark: str = self.__dict__.setdefault("mark", f"{self.request.target}:{os.urandom(8).hex()}")
        self._marks[mark] = self
        if self.served.deadline is None:
            self._marks.pop(mark, None)  # the call has just been answered: the code that removes marks has already run
        return mark

    @property
    def name(self) -> str:
        """The name of the procedure, for people."""
        return f"{self.request.api}.{self.request.procedure}"

    def keep_encoded(self, frame: bytes) -> None:
        """Keep the encoded request while the call is queued; drop large decoded arguments, which take more memory."""
        self.queued_frame = frame
        if len(frame) > MAX_DECODED_BYTES:
            self.request = self.request._replace(kwargs={})

    def decode_again(self) -> None:
        """Decode the arguments again from the stored frame, and drop the frame."""
        if len(self.queued_frame) > MAX_DECODED_BYTES:
            self.request = cast(Request, envelope.decode(self.queued_frame)[1])
        self.queued_frame = b""

    def interrupt(self) -> None:
        """Cancel the task of the call, or what its thread awaits on the loop. A running `def` function goes on."""
        if self.task is not None:
            self.task.cancel()
        elif self.execution is not None:
            self.execution.cancel()
