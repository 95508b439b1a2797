"""For the tests of programs that use Lightbus: a mocked bus, and a bus in memory. Public: docs/testing.md."""

from __future__ import annotations

from ..adapters.memory.discovery import MemoryDiscovery, MemoryHub
from ..adapters.memory.network import MemoryNetwork
from ..adapters.memory.transport import MemoryTransport
from ..ports.discovery import Discovery
from .memory import MemoryBus, memory_bus
from .mock import BusMock, NotMocked
from .mocking import BusMocker, bus_mocker

__all__ = [
    "BusMock",
    "BusMocker",
    "Discovery",
    "MemoryBus",
    "MemoryDiscovery",
    "MemoryHub",
    "MemoryNetwork",
    "MemoryTransport",
    "NotMocked",
    "bus_mocker",
    "memory_bus",
]
