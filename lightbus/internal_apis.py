"""What workers tell of themselves by events, by the name of its module in Lightbus 1.x."""

from __future__ import annotations

from .plugins.metrics import MetricsApi
from .plugins.state import StateApi

__all__ = ["LightbusMetricsApi", "LightbusStateApi"]

LightbusMetricsApi = MetricsApi
LightbusStateApi = StateApi
