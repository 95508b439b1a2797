"""Buses of the tests of the client."""

from __future__ import annotations

import pytest

from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.testing import MemoryBus


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    """Return a bus with an API that no worker serves yet."""
    bus = hub.create(service_name="auth-service")
    bus.client.register_api(AuthApi())
    return bus


@pytest.fixture
def served(bus: BusPath) -> BusPath:
    """Return a bus with a worker in the background."""
    bus.client.start_in_background()
    return bus


@pytest.fixture
def caller(hub: MemoryBus) -> BusPath:
    """Return a bus that registers nothing."""
    return hub.create(service_name="caller")
