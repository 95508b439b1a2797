from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import ifaddr
import pytest

from lightbus.adapters.host import interfaces
from lightbus.adapters.host.interfaces import (
    Interface,
    InterfaceReport,
    dial_order,
    explain,
    follow_addresses,
    list_interfaces,
    networks_of,
    report,
    same_subnet,
    usable_addresses,
)
from lightbus.exceptions import InvalidConfiguration, TransportError
from lightbus.wire.announced_fields import MAX_ADDRESSES

LO = Interface(name="lo", addresses=("127.0.0.1/8",))
ETH0 = Interface(name="eth0", addresses=("192.0.2.7/24", "198.51.100.7/16"))
WLAN = Interface(name="wlan0", addresses=("203.0.113.7/24",))
DOWN = Interface(name="eth1", addresses=("192.0.2.8/24",), up=False)
BARE = Interface(name="eth2", addresses=())
DOCKER = Interface(name="docker0", addresses=("172.17.0.1/16",))
HOST = [LO, ETH0, WLAN, DOWN, BARE, DOCKER]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process the interfaces of HOST."""
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: list(HOST))


def used(reports: list[InterfaceReport]) -> list[str]:
    return [address for entry in reports if entry.used for address in entry.addresses]


@pytest.mark.parametrize(
    ("interface", "is_used", "reason"),
    [
        (ETH0, True, "up, on a LAN"),
        (LO, False, "loopback: no other host is behind it"),
        (DOWN, False, "it is down"),
        (BARE, False, "it has no IPv4 address"),
        (DOCKER, False, "a bridge of Docker: no other host is behind it"),
        (Interface(name="br-0123456789ab", addresses=("172.18.0.1/16",)), False, "a bridge of Docker"),
        (Interface(name="br0", addresses=("192.0.2.7/24",)), True, "up, on a LAN"),
        (Interface(name="veth12", addresses=("169.254.1.1/16",)), False, "one end of a container's link"),
        (Interface(name="virbr0", addresses=("192.168.122.1/24",)), False, "a bridge for virtual machines"),
        (Interface(name="cni0", addresses=("10.42.0.1/24",)), False, "a bridge of Kubernetes"),
        (Interface(name="tun0", addresses=("10.8.0.2/24",)), False, "a tunnel"),
        (Interface(name="wg0", addresses=("10.9.0.2/24",)), False, "a tunnel"),
        (Interface(name="utun3", addresses=("10.9.0.2/24",)), False, "a tunnel"),
    ],
    ids=lambda value: value.name if isinstance(value, Interface) else "",
)
def test_interface_is_used_if_it_is_up_and_leads_to_a_lan(interface: Interface, is_used: bool, reason: str) -> None:
    """An interface is used if it is up and leads to a LAN; the reason is in the report."""
    (judged,) = report([interface])

    assert judged.used is is_used
    assert judged.reason.startswith(reason)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], ["192.0.2.7", "198.51.100.7", "203.0.113.7"]),
        (["lo"], ["127.0.0.1"]),
        (["127.0.0.1"], ["127.0.0.1"]),
        (["docker0", "eth0"], ["192.0.2.7", "198.51.100.7", "172.17.0.1"]),
        (["198.51.100.7"], ["198.51.100.7"]),
        (["eth1"], ["192.0.2.8"]),
        (["eth2"], []),
    ],
)
def test_only_named_interfaces_are_used_where_some_are_named(wanted: list[str], expected: list[str]) -> None:
    """Those named, by name or address, are used in any case, and no others."""
    assert used(report(HOST, wanted)) == expected


def test_unknown_address_is_refused_with_existing_ones() -> None:
    """A name or address that this host does not have is a wrong setting; the message lists the existing ones."""
    with pytest.raises(InvalidConfiguration) as raised:
        report([LO, ETH0], ["10.0.0.1"])

    assert str(raised.value) == (
        "this host has no interface or address '10.0.0.1' (LIGHTBUS_INTERFACES); "
        "it has lo (127.0.0.1), eth0 (192.0.2.7), eth0 (198.51.100.7)"
    )


@pytest.mark.usefixtures("host")
def test_usable_addresses_are_those_of_the_report() -> None:
    """The process uses the addresses that the report says."""
    assert usable_addresses() == ("192.0.2.7", "198.51.100.7", "203.0.113.7")
    assert usable_addresses(["lo"]) == ("127.0.0.1",)
    assert [entry.name for entry in explain()] == ["lo", "eth0", "wlan0", "eth1", "eth2", "docker0"]


@pytest.mark.usefixtures("host")
def test_networks_are_the_usable_addresses_with_their_prefix() -> None:
    """The own networks are the usable addresses with their prefix lengths."""
    assert networks_of(usable_addresses()) == ("192.0.2.7/24", "198.51.100.7/16", "203.0.113.7/24")
    assert networks_of(["127.0.0.1", "192.0.2.99"]) == ("127.0.0.1/8",)


@pytest.mark.parametrize(
    ("now", "before", "wanted", "expected"),
    [
        ([LO, ETH0], ["192.0.2.7", "198.51.100.7"], [], ("192.0.2.7", "198.51.100.7")),
        ([LO, WLAN, ETH0], ["192.0.2.7", "198.51.100.7"], [], ("192.0.2.7", "198.51.100.7", "203.0.113.7")),
        ([LO, WLAN, DOCKER], ["192.0.2.7"], [], ("203.0.113.7",)),
        ([LO, WLAN, DOWN], ["192.0.2.8"], [], ("192.0.2.8", "203.0.113.7")),
        ([LO, BARE, DOCKER], ["192.0.2.7"], [], ("192.0.2.7",)),
        ([LO, WLAN, ETH0], ["203.0.113.7"], ["wlan0"], ("203.0.113.7",)),
        ([LO, ETH0], ["203.0.113.7"], ["wlan0"], ("203.0.113.7",)),
        ([LO, ETH0], ["192.0.2.7"], ["eth0", "wlan0"], ("192.0.2.7", "198.51.100.7")),
    ],
    ids=["same", "more", "others", "cable out", "none left", "named", "named and gone", "one of two named"],
)
def test_addresses_are_followed(
    monkeypatch: pytest.MonkeyPatch, now: list[Interface], before: list[str], wanted: list[str], expected: tuple[str]
) -> None:
    """New addresses are used, removed ones are not; an unplugged cable, or no address left, changes nothing."""
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: now)
    assert follow_addresses(before, wanted) == expected


def test_no_usable_address_is_refused_with_the_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says for each interface why it is not used, and what to set."""
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: [LO, BARE])

    with pytest.raises(InvalidConfiguration) as raised:
        usable_addresses()

    assert str(raised.value) == (
        "this host has no address for the bus to use: lo (127.0.0.1): not used, loopback: no other host is behind "
        "it; eth2 (no IPv4 address): not used, it has no IPv4 address. Name one: LIGHTBUS_INTERFACES"
    )


def test_an_address_of_two_interfaces_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a bridge and the card below it: nobody can listen at an address twice."""
    bridge = Interface(name="vmbr0", addresses=("192.0.2.7/32", "203.0.113.7/24"))
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: [ETH0, WLAN, bridge])
    assert usable_addresses() == ("192.0.2.7", "198.51.100.7", "203.0.113.7")
    assert usable_addresses(["eth0", "vmbr0"]) == ("192.0.2.7", "198.51.100.7", "203.0.113.7")
    assert follow_addresses(["192.0.2.7"]) == ("192.0.2.7", "198.51.100.7", "203.0.113.7")


def test_interfaces_that_may_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a unit of systemd without AF_NETLINK: one error says what the system answered, and what to allow."""

    def refused(**_: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(ifaddr, "get_adapters", refused)
    with pytest.raises(TransportError, match=r"cannot be listed: .*Address family.*RestrictAddressFamilies"):
        usable_addresses()


def test_no_more_addresses_than_can_be_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with very many addresses uses as many as an announcement may carry."""
    many = Interface(name="eth0", addresses=tuple(f"192.0.2.{n}/24" for n in range(1, 30)))
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: [many])

    assert len(usable_addresses()) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("address", "network", "expected"),
    [
        ("192.0.2.200", "192.0.2.7/24", True),
        ("192.0.3.7", "192.0.2.7/24", False),
        ("192.0.3.7", "192.0.2.7/16", True),
        ("192.0.2.129", "192.0.2.7/25", False),
        ("2001:db8::7", "192.0.2.7/24", False),
    ],
)
def test_subnet_is_decided_by_the_prefix_length(address: str, network: str, expected: bool) -> None:
    """An address is in the subnet that the prefix length says."""
    assert same_subnet(address, network) is expected


def test_dial_order_puts_the_same_subnet_first() -> None:
    """A peer's addresses in a network of ours come first; the peer's own order holds otherwise."""
    order = dial_order(("10.0.0.1", "198.51.3.3", "172.17.0.1", "192.0.2.200"), ("192.0.2.7/24", "198.51.100.7/16"))

    assert order == ("198.51.3.3", "192.0.2.200", "10.0.0.1", "172.17.0.1")


@pytest.mark.parametrize(
    ("flags", "state", "expected"),
    [
        ("0x1003", "up", True),
        ("0x9", "unknown", True),
        ("0x1002", "up", False),
        ("0x1003", "down", False),
        ("0x1003", "lowerlayerdown", False),
        ("garbage", "up", True),
    ],
)
def test_up_or_down_is_read_from_sysfs(tmp_path: Path, flags: str, state: str, expected: bool) -> None:
    """Flags and state decide together, for an alias too; where they cannot be read, an interface counts as up."""
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "flags").write_text(f"{flags}\n")
    (tmp_path / "eth0" / "operstate").write_text(f"{state}\n")

    assert interfaces._is_up("eth0", tmp_path) is expected
    assert interfaces._is_up("eth0:1", tmp_path) is expected
    assert interfaces._is_up("en0", tmp_path)


def test_this_host_has_a_loopback_interface() -> None:
    """The operating system's own list has at least the loopback address, which is up."""
    found = [entry for entry in list_interfaces() if "127.0.0.1/8" in entry.addresses]

    assert [entry.up for entry in found] == [True]
