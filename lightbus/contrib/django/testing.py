"""For tests of a Django project: a mock in the place of the bus, or the project's worker in the test's process."""

from __future__ import annotations

from typing import Any, ClassVar

from ...path import BusPath
from ...testing import bus_mocker, memory_bus
from .project import connect, get_bus

__all__ = ["BusMockMixin", "MemoryBusMixin"]


class _OfProject:
    bus: ClassVar[BusPath | None] = None
    """Which bus; that of the project's bus module, if nothing else is said."""

    def _bus(self) -> BusPath:
        if self.bus is None:
            return get_bus()
        connect(self.bus.client)
        return self.bus


class BusMockMixin(_OfProject):
    """
    `class OrderTests(BusMockMixin, TestCase)`: `self.bus_mock` is what `bus_mocker` gives.

    What is fired on commit is, in a `TestCase`, fired at the end of `with self.captureOnCommitCallbacks(execute=True)`.
    """

    def setUp(self) -> None:
        """Put the mock in place, for this test."""
        test: Any = self
        self.bus_mock = test.enterContext(bus_mocker(self._bus()))
        super().setUp()  # type: ignore[misc]


class MemoryBusMixin(_OfProject):
    """
    `class OrderTests(MemoryBusMixin, TransactionTestCase)`: the project's worker runs, on a bus in memory.

    Handlers have connections of their own, which see what is committed: with a `TestCase` they would see nothing.
    `self.hub` has `wait_until_handled()`, `wait_for_event(...)`, and `create()` for other services.
    """

    def setUp(self) -> None:
        """Start the worker, for this test."""
        test: Any = self
        self.hub = test.enterContext(memory_bus(observe=True))
        self.hub.start(self.hub.attach(self._bus()))
        super().setUp()  # type: ignore[misc]
