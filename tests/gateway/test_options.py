"""Tests of lightbus.gateway.options: options, and where a new token is allowed."""

from __future__ import annotations

import pytest

from lightbus import InvalidConfiguration
from lightbus.gateway.access import Permission, Rules
from lightbus.gateway.clients import Client, Clients
from lightbus.gateway.options import GatewayOptions, check_origin, clients_of_this_start


def test_both_have_to_allow_it() -> None:
    """The gateway, and the client's own line: neither opens what the other has closed."""
    client = Client(name="a", token="0" * 16, rules=Rules.read(["shop.price", "auth.login"]))
    options = GatewayOptions(rules=Rules.read(["shop.*"]), clients=Clients([client]))
    asked = [("shop", "price"), ("shop", "secret"), ("auth", "login")]
    assert [options.allow(client, Permission.CALL, *each) for each in asked] == [True, False, False]


def test_a_new_token_on_this_host_only() -> None:
    """If other hosts can connect, clients must be named in a file."""
    first, second = (clients_of_this_start("127.0.0.1").only.token for _ in range(2))
    assert first != second
    for address in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(InvalidConfiguration, match="--token-file"):
            clients_of_this_start(address)


def test_origins_are_written_as_browsers_do() -> None:
    """As browsers write them."""
    assert check_origin("HTTPS://Shop.example/") == "https://shop.example"
    assert check_origin("http://127.0.0.1:3000") == "http://127.0.0.1:3000"
    for text in ("*", "null", "shop.example", "https://", "https://*.example", "https://a/b", "ftp://a"):
        with pytest.raises(InvalidConfiguration, match="is not an origin"):
            check_origin(text)
