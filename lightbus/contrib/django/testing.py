"""For tests of a Django project: a mock of the bus, or the project's worker in the test's process."""

from __future__ import annotations

from typing import Any, ClassVar

from ...path import BusPath
from ...testing import bus_mocker, memory_bus
from .project import connect, get_bus

__all__ = ["BusMockMixin", "MemoryBusMixin"]


class _OfProject:
    bus: ClassVar[BusPath | None] = None
    """The bus to test; by default that of the project's bus module."""

    def _bus(self) -> BusPath:
        if self.bus is None:
            return get_bus()
        connect(self.bus.client)
        return self.bus


class BusMockMixin(_OfProject):
    """
    `class OrderTests(BusMockMixin, TestCase)`: `self.bus_mock` is the mock that `bus_mocker` makes.

    In a `TestCase`, events fired on commit are fired at the end of `with self.captureOnCommitCallbacks(execute=True)`.
    """

    def setUp(self) -> None:
        """Install the mock for this test."""
        test: Any = self
        self.bus_mock = test.enterContext(bus_mocker(self._bus()))
        super().setUp()  # type: ignore[misc]


class MemoryBusMixin(_OfProject):
    """
    `class OrderTests(MemoryBusMixin, TransactionTestCase)`: the project's worker runs, on a bus in memory.

    Handlers have their own connections, which see committed data only: with a `TestCase` they would see none.
    `self.hub` has `wait_until_handled()`, `wait_for_event(...)`, and `create()` for other services.
    """

    def setUp(self) -> None:
        """Start the worker, for this test."""
        test: Any = self
        self.hub = test.enterContext(memory_bus(observe=True))
        self.hub.start(self.hub.attach(self._bus()))
        super().setUp()  # type: ignore[misc]
