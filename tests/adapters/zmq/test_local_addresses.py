"""The addresses of a process: changes seen by two checks count, and the operating system is asked rarely."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lightbus.adapters.zmq import local_addresses as module
from lightbus.adapters.zmq.local_addresses import LOOK_EVERY, LocalAddresses
from lightbus.exceptions import TransportError

HOME, AWAY = ("127.0.0.1",), ("192.0.2.9",)


class Host:
    """Has the addresses that the test sets, and counts requests."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = HOME
        self.looks = 0

    def look(self, before: Sequence[str]) -> tuple[str, ...]:
        self.looks += 1
        return self.addresses


def test_address_change_counts_when_seen_twice() -> None:
    """A change seen once may be temporary; seen twice it counts, and is reported once."""
    host = Host()
    here = LocalAddresses(HOME, host.look)
    assert not here.have_changed(0.0)
    for at, seen, expected in [(1, AWAY, False), (2, HOME, False), (3, AWAY, False), (4, AWAY, True), (5, AWAY, False)]:
        host.addresses = seen
        assert here.have_changed(at * LOOK_EVERY) is expected
    assert here.addresses == AWAY


def test_addresses_stay_if_the_host_cannot_be_asked() -> None:
    """For example while no descriptor is free; afterwards checks continue."""
    host = Host()

    def fail(before: Sequence[str]) -> tuple[str, ...]:
        if host.looks == 0:
            host.looks = 1
            raise TransportError("The interfaces of this host cannot be listed: too many open files")
        return host.look(before)

    here, host.addresses = LocalAddresses(HOME, fail), AWAY
    assert [here.have_changed(at * LOOK_EVERY) for at in (1, 2, 3)] == [False, False, True]


def test_networks_are_unknown_if_the_host_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """They only decide which peers are tried first; and they are known again once it can."""
    here = LocalAddresses(HOME)
    assert here.networks == ("127.0.0.1/8",)

    def fail(addresses: Sequence[str]) -> tuple[str, ...]:
        raise TransportError("The interfaces of this host cannot be listed: too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(module, "networks_of", fail)
        assert here.networks == ()
    assert here.networks == ("127.0.0.1/8",)


def test_address_checks_are_rare() -> None:
    """Every two seconds, and never in mode host."""
    host = Host()
    here = LocalAddresses(HOME, host.look)
    for tenth in range(int(20 * LOOK_EVERY)):
        here.have_changed(tenth / 10)
    assert host.looks == 2
    assert not LocalAddresses(look=host.look).have_changed(0.0)
    assert host.looks == 2


def test_networks_follow_from_the_addresses() -> None:
    """Our networks are those of our addresses; without addresses there are none."""
    assert LocalAddresses(HOME).networks == ("127.0.0.1/8",)
    assert LocalAddresses().networks == ()
