"""One call that a worker has taken: who asks, what is executed, and what has become of it so far."""

from __future__ import annotations

import asyncio
import os
import time
from typing import cast

from ..deadline import Deadline, ServedCall
from ..service.api import Procedure
from ..service.execution import Execution
from ..wire import envelope
from ..wire.envelope import Request

__all__ = ["SMALL", "Job"]

SMALL = 4096
"""Bytes of a request that waits as it was decoded. A larger one could take sixty times its bytes, if it is of lists."""


class Job:
    """
    One call. Touched from the node's loop, and by the thread that executes it.

    Args:
        routing_id: the connection that it came over.
        call_id: by which its caller knows it.
        request: what is asked for.
        procedure: what is executed.
        memory: bytes that its arguments take, about.
        marks: where it is found by its mark, once it has called somebody.

    """

    __slots__ = (
        "arguments",
        "arrived",
        "began",
        "call_id",
        "cancelled",
        "counted",
        "deadline",
        "execution",
        "failed",
        "frame",
        "holder",
        "in_user_code",
        "mark",
        "memory",
        "nested",
        "procedure",
        "request",
        "routing_id",
        "served",
        "task",
    )

    def __init__(
        self,
        routing_id: bytes,
        call_id: int,
        request: Request,
        procedure: Procedure,
        memory: int,
        marks: dict[str, Job],
    ) -> None:
        self.routing_id = routing_id
        self.call_id = call_id
        self.request = request
        self.procedure = procedure
        self.memory = memory
        self.frame = b""
        """What it came as, while it waits."""
        self.arrived = self.began = time.monotonic()
        """When it came in, and when it was last begun with: its start was ordered, its handler has its turn."""
        self.deadline = Deadline.in_seconds(request.left)
        self.holder: Job | None = None
        """The call here that waits for this one."""
        self.nested = 0
        """How many calls that it waits for are executed here."""
        self.mark = ""

        def make_mark() -> str:  # nobody can name a call of ours who was not told of it by a call that it made
            self.mark = f"{self.request.target}:{os.urandom(8).hex()}"
            marks[self.mark] = self
            return self.mark

        self.served = ServedCall(self.deadline, tuple(request.chain), make_mark)
        self.task: asyncio.Task[None] | None = None
        self.execution: Execution | None = None
        """What runs the user's code; None as long as that was not reached."""
        self.cancelled = False
        self.counted = False
        """Whether it holds one of the places."""
        self.in_user_code = False
        self.failed = False
        """Whether it is answered with an error."""
        self.arguments: bytes | None = None
        """What it was called with, where somebody watches."""

    @property
    def name(self) -> str:
        """What is called, for people."""
        return f"{self.request.api}.{self.request.procedure}"

    @property
    def is_internal(self) -> bool:
        """Whether it is a question about the worker itself."""
        return self.request.api.startswith("internal.")

    def wait_as(self, frame: bytes) -> None:
        """Be kept as what it came as, which takes less memory than what was made of it."""
        self.frame = frame
        if len(frame) > SMALL:
            self.request = self.request._replace(kwargs={})

    def wait_no_more(self) -> None:
        """Have the arguments again."""
        if len(self.frame) > SMALL:
            self.request = cast(Request, envelope.decode(self.frame)[1])
        self.frame = b""

    def interrupt(self) -> None:
        """Stop the handler, if it is `async def`, or as soon as it awaits something. Others cannot be stopped."""
        if self.task is not None:
            self.task.cancel()
        elif self.execution is not None:
            self.execution.cancel()
