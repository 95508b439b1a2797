"""The identity of a process on the bus, and how deep its calls may be nested."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ..config.surroundings import host_name
from ..typing import InstanceId
from ..wire.announcement import new_instance_id

__all__ = ["MAX_CHAIN", "Identity"]

MAX_CHAIN = 32
"""Longest chain of calls that wait for each other. A longer one is a cycle, or its handlers should not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of this process on the bus. A fork gets its own."""

    bus: str
    service: str
    process: str
    instance: InstanceId = field(default_factory=new_instance_id)
    host: str = field(default_factory=host_name)
    pid: int = field(default_factory=os.getpid)

    def __str__(self) -> str:
        return f"{self.service} {self.process} ({self.instance[:4]}… on {self.host})"
