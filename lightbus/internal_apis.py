"""The events by which workers report on themselves, under the name of their module in Lightbus 1.x."""

from __future__ import annotations

from .plugins.metrics import MetricsApi
from .plugins.state import StateApi

__all__ = ["LightbusMetricsApi", "LightbusStateApi"]

LightbusMetricsApi = MetricsApi
LightbusStateApi = StateApi
