"""A bus is mocked within a `with` or a decorated test, and restored afterwards."""

from __future__ import annotations

import asyncio
import inspect
import unittest

import pytest

import lightbus
import lightbus.utilities.testing
from lightbus import BusPath
from lightbus.client import EngineState
from lightbus.testing import BusMock, BusMocker, bus_mocker


def test_decorator_gives_the_mock(bus: BusPath) -> None:
    """A decorated test gets the mock first; what else it takes is seen by a test runner, and goes through."""

    @bus_mocker(bus)
    def test(mock: BusMock, one: int, *, two: int) -> int:
        mock.mock_rpc_call("geo.add", result=lambda a, b: a + b)
        return int(bus.geo.add(a=one, b=two))

    @bus_mocker(bus, require_mocking=False)
    async def test_async(mock: BusMock) -> list[str]:
        await bus.geo.find.call_async()
        return mock.rpc_names_called

    assert test(one=1, two=2) == 3  # type: ignore[call-arg]
    assert list(inspect.signature(test).parameters) == ["one", "two"]
    assert asyncio.run(test_async()) == ["geo.find"]  # type: ignore[call-arg, arg-type]


def test_decorator_in_a_test_case(bus: BusPath) -> None:
    """In a unittest.TestCase the mock comes after `self`; each run has a new one."""

    class Case(unittest.TestCase):
        @bus_mocker(bus)
        def test(self, mock: BusMock) -> None:
            mock.mock_rpc_call("geo.find", result="Rome")
            assert bus.geo.find() == "Rome"
            mock.assert_rpc_called("geo.find", times=1)

    for _ in range(2):
        result = unittest.TestResult()
        Case("test").run(result)
        assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_bus_is_as_before_after_the_mock(bus: BusPath) -> None:
    """The bus is restored, also after an exception, and if it was closed meanwhile."""
    before = bus.client.exchange_engine()
    with pytest.raises(ZeroDivisionError), bus_mocker(bus):
        raise ZeroDivisionError
    with bus_mocker(bus, require_mocking=False):
        bus.geo.find()
        bus.client.close()
        with pytest.raises(lightbus.BusAlreadyClosed, match="closed"):
            bus.geo.find()
    assert bus.client.exchange_engine() == before == EngineState()


def test_outer_mock_continues_after_the_inner_one(bus: BusPath) -> None:
    """The inner mock is independent, and the outer one is active again after it."""
    mocker = BusMocker(bus)
    with mocker as outer:
        outer.mock_rpc_call("geo.find", result="outer")
        with mocker as inner:
            inner.mock_rpc_call("geo.find", result="inner")
            assert bus.geo.find() == "inner"
        assert bus.geo.find() == "outer"
    outer.assert_rpc_called("geo.find", times=1)


def test_mocker_is_importable_by_its_path_of_1x() -> None:
    """The mocker is importable from its module in Lightbus 1.x."""
    assert lightbus.utilities.testing.BusMocker is lightbus.utilities.testing.bus_mocker is BusMocker
