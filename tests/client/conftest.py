"""Buses of the tests of the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lightbus
from helpers.clients import AuthApi
from lightbus import BusPath


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API, that nobody serves yet."""
    bus = lightbus.create(service_name="auth-service")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


@pytest.fixture
def served(bus: BusPath) -> BusPath:
    """Return a bus with a worker in the background."""
    bus.client.start_in_background()
    return bus


@pytest.fixture
def caller() -> Iterator[BusPath]:
    """Return a bus that registers nothing."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()
