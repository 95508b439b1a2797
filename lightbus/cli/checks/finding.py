"""The input and the output of a check: CheckContext and Finding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ...wire.announcement import Announcement
from ..commands.peers import PeerReport
from ..support.connection import Connection

__all__ = ["Check", "CheckContext", "Finding", "Level"]


class Level(IntEnum):
    """The severity of a finding. The worst one is the exit code."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    What a check found (`text`), and what to do about it (`remedy`; empty if nothing).

    Its subjects are given beside the text: instances (`about`), services, and a group; `is_deserted` if the group has
    events and no process that handles them.
    """

    level: Level
    check: str
    text: str
    remedy: str = ""
    about: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    group: str = ""
    is_deserted: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {"level": self.level.name.lower(), "check": self.check, "text": self.text, "remedy": self.remedy}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """The input of all checks: the bus, and the reports of all its known peers."""

    bus: Connection
    reports: list[PeerReport]

    @property
    def live(self) -> list[PeerReport]:
        """The peers that answered."""
        return [report for report in self.reports if report.rtt is not None]

    @property
    def silent(self) -> list[Announcement]:
        """The peers that are running and did not answer."""
        return [each.peer.announcement for each in self.reports if each.is_silent]

    @property
    def on_host_only(self) -> bool:
        """Whether this bus stays on this host."""
        return not self.bus.client.engine.network.addresses

    @property
    def backend(self) -> str:
        """The discovery backend: `"mdns"`, `"none"`, or one of another package."""
        return self.bus.client.config.discovery.backend


Check = Callable[[CheckContext], AsyncIterator[Finding]]
