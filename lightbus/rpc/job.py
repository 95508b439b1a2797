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
"""Bytes of a request that waits as it was decoded. A larger one could take sixty times its bytes, if it is of lists."""


class Job:
    """
    One call. Touched from the node's loop, and by the thread that executes it.

    What most calls do without is a default of the class: there is less to set for each.

    Args:
        routing_id: the connection that it came over.
        call_id: by which its caller knows it.
        request: the request.
        callee: the procedure to execute.
        memory: bytes that its arguments take, about.
        marks: the index by which it is found by its mark, once it has made a call itself.
        now: when it came in.

    """

    queued_frame = b""
    """What it came as, while it waits."""
    parent: Job | None = None
    """The call here that waits for this one."""
    nested = 0
    """How many calls that it waits for are executed here."""
    mark = ""
    task: asyncio.Task[None] | None = None
    execution: Execution | None = None
    """What runs the user's code; None as long as that was not reached."""
    cancelled = False
    has_place = False
    """Whether it holds one of the places."""
    in_user_code = False
    failed = False
    """Whether it is answered with an error."""
    arguments: bytes | None = None
    """Its arguments, if there is a watcher."""
    ended: float | None = None
    """When its handler was done with it, where it had a thread, or was executed at once."""
    cpu_seconds = 0.0
    """Seconds of processor time that its thread used for it."""
    loop_woken_at: float | None = None
    """When that thread woke the loop to report it."""
    answered_by_thread = False
    """Whether that thread has sent the answer, or tried to."""

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
        """When it came in, and when it was last begun with: its start was ordered, its handler has its turn."""
        self.served = ServedCall(deadline, tuple(request.chain), self._make_mark)
        self._marks = marks

    def _make_mark(self) -> str:
        # Nobody can name a call of ours who was not told of it by a call that it made. Threads of its handler may ask
        # at the same time: the first one's counts, so that the call can be found by no other when it has ended.
        mark: str = self.__dict__.setdefault("mark", f"{self.request.target}:{os.urandom(8).hex()}")
        self._marks[mark] = self
        if self.served.deadline is None:
            self._marks.pop(mark, None)  # it was answered meanwhile: the code that would have removed it has run
        return mark

    @property
    def name(self) -> str:
        """The name of the procedure, for people."""
        return f"{self.request.api}.{self.request.procedure}"

    def keep_encoded(self, frame: bytes) -> None:
        """Be kept as what it came as, which takes less memory than what was made of it."""
        self.queued_frame = frame
        if len(frame) > MAX_DECODED_BYTES:
            self.request = self.request._replace(kwargs={})

    def decode_again(self) -> None:
        """Have the arguments again."""
        if len(self.queued_frame) > MAX_DECODED_BYTES:
            self.request = cast(Request, envelope.decode(self.queued_frame)[1])
        self.queued_frame = b""

    def interrupt(self) -> None:
        """Stop the handler, if it is `async def`, or as soon as it awaits something. Others cannot be stopped."""
        if self.task is not None:
            self.task.cancel()
        elif self.execution is not None:
            self.execution.cancel()
