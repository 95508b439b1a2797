"""Starts services of the shop, and their dashboard."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import Process, Processes

__all__ = ["EVERYBODY", "PROGRAMS", "Shop"]

PROGRAMS = Path(__file__).parent / "programs"

EVERYBODY = ("customers", "orders", "stock", "warehouse", "mail", "web")


class Shop:
    """A shop whose services are processes, and its dashboard; `every` is the time between two orders in seconds."""

    def __init__(self, processes: Processes, *, every: float = 0.2) -> None:
        self._processes = processes
        self._every = every

    def __call__(self, *services: str, actions: bool = True) -> str:
        """Start them; return the address of the dashboard, once all are ready."""
        started = [self.start(service) for service in services]
        more = ("--allow-actions",) if actions else ()
        dashboard = self._processes.lightbus("dashboard", "--port", "0", "--json", *more)
        for each in started:
            each.wait_for_line("Ready")
        line = dashboard.wait_for_line(r"^\{.*\}$")
        return str(json.loads(line[0])["url"])

    def start(self, service: str) -> Process:
        """Start one service."""
        environment = {"EVERY": str(self._every), "SERVICE": service}
        return self._processes.worker("shop", "--service-name", service, cwd=PROGRAMS, env=environment)
