"""The responder of `lightbus bench`: a separate service that answers calls, and counts the events it has handled."""

from __future__ import annotations

import lightbus
from lightbus.config import Config

__all__ = ["API", "EVENTS_API", "BenchEventsApi", "responder"]

API = "internal.bench"
EVENTS_API = "internal.bench_events"

_RUNS = 100
"""The most runs whose counts are kept."""


class BenchEventsApi(lightbus.Api):
    """Events that are fired to be measured."""

    fired = lightbus.Event([lightbus.Parameter("run", str), lightbus.Parameter("payload", bytes)])

    class Meta:
        name = EVENTS_API
        internal = True


class BenchApi(lightbus.Api):
    """Calls that are made to be measured."""

    class Meta:
        name = API
        internal = True

    def __init__(self) -> None:
        self._handled: dict[str, int] = {}

    async def echo(self, payload: bytes) -> bytes:
        """Return the payload."""
        return payload

    async def handled(self, run: str) -> int:
        """Return how many events of a run were handled here."""
        return self._handled.get(run, 0)

    async def _count(self, event_message: lightbus.EventMessage, run: str, payload: bytes) -> None:
        self._handled[run] = self._handled.get(run, 0) + 1
        while len(self._handled) > _RUNS:
            del self._handled[next(iter(self._handled))]


def responder(config: Config, service: str) -> lightbus.BusPath:
    """Return the bus of a responder, to be run as a worker."""
    bus = lightbus.create(config, service_name=service)
    api = BenchApi()
    bus.client.register_api(api)
    bus.client.listen_for_event(EVENTS_API, "fired", api._count, listener_name="count")
    return bus
