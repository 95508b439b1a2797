"""The mocked bus, at the path that programs import it from."""

from __future__ import annotations

from ..testing import BusMocker, bus_mocker

__all__ = ["BusMocker", "bus_mocker"]
