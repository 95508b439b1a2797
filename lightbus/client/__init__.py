"""`bus.client`: registering, calling, firing, listening, hooks, schedules, and the lifecycle in this process."""

from __future__ import annotations

from .bus_client import BusClient
from .engine_holder import EngineState

__all__ = ["BusClient", "EngineState"]
