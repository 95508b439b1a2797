"""A bus in memory whose worker relays the outbox of a project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command

from helpers.clients import AuthApi
from lightbus import BusPath
from lightbus.contrib import relay
from lightbus.contrib.django.project import connect
from lightbus.testing import MemoryBus, memory_bus


@pytest.fixture
def hub(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBus]:
    call_command("migrate", verbosity=0)
    monkeypatch.setattr(relay, "SLICE", 0.02)
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    connect(bus.client)
    return bus
