"""What the code that serves a call inherits from it, besides the deadline: who waits for whom."""

from __future__ import annotations

import os
import socket
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..typing import InstanceId
from ..wire.announcement import new_instance_id

__all__ = ["MAX_CHAIN", "Identity", "current_chain"]

MAX_CHAIN = 32
"""Calls nested in each other beyond which somebody surely calls in a circle."""

current_chain: ContextVar[tuple[InstanceId, ...]] = ContextVar("lightbus_chain", default=())
"""The instances in which a call waits for the one being served here, outermost first; one may be there repeatedly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this process is on the bus. A fork is somebody else, and gets its own."""

    bus: str
    service: str
    process: str
    instance: InstanceId = field(default_factory=new_instance_id)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def __str__(self) -> str:
        return f"{self.service} {self.process} ({self.instance[:4]}… on {self.host})"
