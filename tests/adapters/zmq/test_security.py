from __future__ import annotations

import logging
from pathlib import Path

import pytest
import zmq

from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity, InsecureSecurity, Security
from lightbus.exceptions import InvalidConfiguration

HOST = HostSecurity(places=Places.only(Path("/run/user/1000/lightbus/demo")))
INSECURE = InsecureSecurity(bus="demo", addresses=("192.0.2.7",))


@pytest.mark.parametrize("mode", [HOST, INSECURE], ids=lambda mode: mode.mode)
def test_modes_without_keys_leave_sockets_plain(mode: Security) -> None:
    """Without keys, sockets of both sides use ZMTP's NULL mechanism."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as client:
        mode.prepare_server(server)
        mode.prepare_client(client, "fingerprint")

        assert [server.get(zmq.MECHANISM), client.get(zmq.MECHANISM)] == [zmq.NULL, zmq.NULL]


def test_mode_host_says_how_to_open_the_lan() -> None:
    """The start-up line of mode host says where the sockets are, and which command opens the LAN."""
    assert (HOST.mode, HOST.level) == ("host", logging.INFO)
    assert HOST.describe() == (
        "no key: this bus stays on this host (ipc sockets in /run/user/1000/lightbus/demo, other users are kept out by "
        "the file system); one key on each host opens it to the LAN: lightbus keys init"
    )


def test_mode_insecure_warns() -> None:
    """The start line is a warning that says who can do what, and how to prevent it."""
    assert (INSECURE.mode, INSECURE.level) == ("insecure", logging.WARNING)
    assert INSECURE.describe() == (
        "security is 'insecure': whoever reaches 192.0.2.7 can call and fire everything on the bus 'demo', and read it "
        "on the way; unset LIGHTBUS_SECURITY to keep the bus on this host"
    )


def test_mode_insecure_wants_a_bus_and_an_address() -> None:
    """Nobody loses protection by omitting a setting."""
    with pytest.raises(InvalidConfiguration, match="set LIGHTBUS_BUS"):
        InsecureSecurity(bus="", addresses=("127.0.0.1",))
    with pytest.raises(InvalidConfiguration, match="set LIGHTBUS_INTERFACES"):
        InsecureSecurity(bus="demo", addresses=())
