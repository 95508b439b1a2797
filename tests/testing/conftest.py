"""A bus with an API, and one in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lightbus
import lightbus.utilities.testing
from helpers.auth_api import AuthApi
from lightbus import BusPath
from lightbus.testing import MemoryBus


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API registered, which is never used on a network."""
    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


@pytest.fixture
def auth(hub: MemoryBus) -> BusPath:
    """Return a worker on it that serves `auth`."""
    auth = hub.create(service_name="auth")
    auth.client.register_api(AuthApi())
    hub.start(auth)
    return auth
