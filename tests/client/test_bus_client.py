"""The client as a whole."""

from __future__ import annotations

import pytest

import lightbus
from lightbus import BusPath


def test_context_manager(bus: BusPath) -> None:
    """A client closes itself at the end of a `with` block."""
    with bus.client as client:
        assert client is bus.client
    with pytest.raises(lightbus.BusAlreadyClosed):
        bus.auth.check_password(username="sally", password="secret")


def test_names_of_the_process(bus: BusPath) -> None:
    """Service and process names are those of the settings, with their placeholders filled in, once."""
    assert bus.client.service_name == "auth-service"
    other = lightbus.create(service_name="shop-{random4}", process_name="p{pid}")
    assert len(other.client.service_name) == len("shop-") + 4
    assert other.client.service_name == other.client.service_name
    other.client.close()
