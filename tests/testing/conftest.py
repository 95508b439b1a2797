"""
A bus with an API, and one in memory.

pytest imports this file with the first ones, before `tests/conftest.py` has said where bytecode is kept: so the package
is imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lightbus import BusPath
    from lightbus.testing import MemoryBus


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API registered, which is never used on a network."""
    import lightbus
    from helpers.auth_api import AuthApi

    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


@pytest.fixture
def auth(hub: MemoryBus) -> BusPath:
    """Return a worker on it that serves `auth`."""
    from helpers.auth_api import AuthApi

    auth = hub.create(service_name="auth")
    auth.client.register_api(AuthApi())
    hub.start(auth)
    return auth
