"""Test classes of a Django project: a mock of its bus, or its worker on a bus in memory."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

import lightbus
from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.contrib.django.testing import BusMockMixin, MemoryBusMixin


def project_bus() -> BusPath:
    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    return bus


def passes(case: type[unittest.TestCase]) -> unittest.TestResult:
    """Run the tests of a class, as Django's runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert (result.failures, result.errors) == ([], [])
    return result


def test_bus_is_mocked_for_each_test() -> None:
    """Mocks and calls of a test do not affect the next one; afterwards the bus is restored."""
    project = project_bus()

    class Orders(BusMockMixin, unittest.TestCase):
        bus = project

        def test_one(self) -> None:
            self.bus_mock.mock_rpc_call("auth.check_password", result=True)
            assert project.auth.check_password(username="ada", password="1234")
            self.bus_mock.assert_rpc_called("auth.check_password", times=1)

        def test_two(self) -> None:
            self.bus_mock.assert_rpc_not_called("auth.check_password")
            with pytest.raises(lightbus.testing.NotMocked):
                project.auth.check_password(username="ada", password="1234")

    before = project.client.exchange_engine()
    project.client.exchange_engine(before)
    assert passes(Orders).testsRun == 2
    assert project.client.exchange_engine(before) == before
    project.client.close()


def test_worker_runs_on_a_bus_in_memory() -> None:
    """Listeners of the project run, and are waited for; each test has a separate bus."""
    project, seen = project_bus(), list[str]()

    @project.client.on_start()
    def on_start() -> None:
        project.auth.user_registered.listen(lambda message, username: seen.append(username), listener_name="greet")

    class Shipping(MemoryBusMixin, unittest.TestCase):
        bus = project

        def test_one(self) -> None:
            project.auth.user_registered.fire(username="ada")
            self.hub.wait_until_handled()
            assert seen == ["ada"]

        def test_two(self) -> None:
            assert self.hub.create().auth.user_registered.history() == []

    assert passes(Shipping).testsRun == 2
    assert not project.client.is_worker
    project.client.close()


def test_without_a_bus_it_is_the_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is that of its bus module."""
    project = project_bus()
    asked: list[Any] = []

    def get_bus() -> BusPath:
        asked.append("the project's")
        return project

    monkeypatch.setattr("lightbus.contrib.django.testing.get_bus", get_bus)

    class Orders(BusMockMixin, unittest.TestCase):
        def test_one(self) -> None:
            self.bus_mock.mock_event_firing("auth.user_registered")
            project.auth.user_registered.fire(username="ada")
            self.bus_mock.assert_events_fired("auth.user_registered")

    assert (passes(Orders).testsRun, asked) == (1, ["the project's"])
    project.client.close()
