"""The mocked bus, under its module path in Lightbus 1.x."""

from __future__ import annotations

from ..testing import BusMocker, bus_mocker

__all__ = ["BusMocker", "bus_mocker"]
