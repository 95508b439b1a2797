"""The client, API and event of a path, for code that fires the event later."""

from __future__ import annotations

import pytest

import lightbus
from helpers.clients import AuthApi
from lightbus.contrib.paths import client_of, place_of


def test_path_of_an_event() -> None:
    """The API, which may have dots in its name, the event, and the client."""
    bus = lightbus.create(service_name="auth")
    bus.client.register_api(AuthApi())
    assert place_of(bus.auth.user_registered) == ("auth", "user_registered")
    assert place_of(bus.shop.orders.placed) == ("shop.orders", "placed")
    assert client_of(bus.auth.user_registered) is bus.client
    bus.client.close()


@pytest.mark.parametrize("what", ["auth.user_registered", None, 12])
def test_invalid_path(what: object) -> None:
    """Any other object is refused, with the valid form."""
    with pytest.raises(lightbus.UsageError, match=r"the path of an event, as bus\.store\.order_placed, and not"):
        place_of(what)


def test_the_bus_itself_is_no_event() -> None:
    """Nor is an API."""
    bus = lightbus.create(service_name="auth")
    for path in (bus, bus.auth):
        with pytest.raises(lightbus.UsageError, match="It takes the path of an event"):
            place_of(path)
    bus.client.close()
