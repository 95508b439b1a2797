"""Tests of lightbus.dashboard.same_user: the user of a connection."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from lightbus.dashboard.same_user import is_of_own_user, owner_in

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:20E4 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1
   1: 0100007F:C350 0100007F:20E4 06 00000000:00000000 00:00000000 00000000     0        0 0
   2: 0100007F:C350 0100007F:20E4 01 00000000:00000000 00:00000000 00000000  1001        0 2
   3: 0100007F:20E4 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a little-endian machine")
def test_owner_of_the_client_end() -> None:
    """The user is that of the client's end, while it is connected; not ours, nor that of a former connection."""
    assert owner_in(TABLE.splitlines(), ("127.0.0.1", 50000), ("127.0.0.1", 8420)) == 1001
    assert owner_in(TABLE.splitlines(), ("127.0.0.1", 50001), ("127.0.0.1", 8420)) is None


@linux
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_own_connection_is_recognised(address: str) -> None:
    """A connection of this process is this user's; an unknown one is no one's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this host has no {address}")
    with listening, socket.create_connection(listening.getsockname()[:2]) as client:
        accepted, place = listening.accept()
        with accepted:
            server = listening.getsockname()[:2]
            assert is_of_own_user(place[:2], server)
            assert is_of_own_user(client.getsockname()[:2], server)
            assert not is_of_own_user((address, 1), server)


@linux
def test_another_users_connection_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same connection, if we were another user."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        assert not is_of_own_user(client.getsockname(), listening.getsockname())


def test_remote_connection_is_not_ours() -> None:
    """Nothing is known of other hosts."""
    assert not is_of_own_user(("192.0.2.7", 1), ("192.0.2.1", 8420))
