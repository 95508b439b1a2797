"""At which addresses sockets can join the multicast group, and whether they are still in it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lightbus.adapters.mdns.multicast_group import MDNS_GROUP, can_join, has_left, taking_part

HERE, NOT_HERE = "127.0.0.1", "192.0.2.99"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Return a socket that listens at any address, and is in the group on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("", 0))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership())
        yield made


def membership() -> bytes:
    return socket.inet_aton(MDNS_GROUP) + socket.inet_aton(HERE)


def test_addresses_that_take_part() -> None:
    """Those of other hosts are left out; if none is left, the reason is raised."""
    assert taking_part([NOT_HERE, HERE]) == [HERE]
    for addresses in ([NOT_HERE], []):
        with pytest.raises(OSError, match=r"No such device|no address to use|assign requested address"):
            taking_part(addresses)
    assert [can_join(each) for each in ([NOT_HERE, HERE], [NOT_HERE], [])] == [True, False, False]


def test_membership_that_was_lost(listening: socket.socket) -> None:
    """It is noticed once, as it is there again then; an address that is not there now is no loss."""
    assert not has_left([listening], [HERE, NOT_HERE])
    listening.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, membership())
    assert has_left([listening], [NOT_HERE, HERE])
    assert not has_left([listening], [HERE, NOT_HERE])


def test_sockets_that_only_send() -> None:
    """They are bound to an address of ours, and in no group; nor is one that was closed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.bind((HERE, 0))
        assert not has_left([sending], [HERE])
    assert not has_left([sending], [HERE])
