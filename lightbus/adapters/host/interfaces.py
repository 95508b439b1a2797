"""
Which of this host's IPv4 addresses the bus uses, why, and in which order it connects to a peer's addresses.

The choice is made by functions on a list of interfaces; only `list_interfaces` asks the operating system.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...exceptions import InvalidConfiguration, TransportError
from ...wire.announced_fields import MAX_ADDRESSES

__all__ = [
    "SKIPPED",
    "Interface",
    "InterfaceReport",
    "dial_order",
    "explain",
    "follow_addresses",
    "list_interfaces",
    "networks_of",
    "report",
    "same_subnet",
    "usable_addresses",
]

SKIPPED = {
    "docker*": "a bridge of Docker: no other host is behind it",
    "br-*": "a bridge of Docker: no other host is behind it",
    "veth*": "one end of a container's link",
    "virbr*": "a bridge for virtual machines",
    "vmenet*": "a bridge for virtual machines",
    "bridge*": "a bridge for virtual machines",
    "cni*": "a bridge of Kubernetes",
    "tun*": "a tunnel: multicast does not cross it",
    "utun*": "a tunnel: multicast does not cross it",
    "wg*": "a tunnel: multicast does not cross it",
    "awdl*": "Apple's direct wireless link",
    "llw*": "Apple's direct wireless link",
}
"""Interfaces that are not used unless named, with the reason."""

_SYSFS = Path("/sys/class/net")
_IFF_UP = 0x1  # netdevice(7)
_DOWN = {
    "down",
    "notpresent",
    "lowerlayerdown",
}  # RFC 2863 states in operstate; drivers without a state report "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """
    One network interface.

    Attributes:
        addresses: its IPv4 addresses with their prefix length, `"192.0.2.7/24"`.
        up: whether it is up, as far as the operating system knows; without meaning if there is no address.

    """

    name: str
    addresses: tuple[str, ...]
    up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReport:
    """One interface, whether the bus uses it, and why (or why not)."""

    name: str
    addresses: tuple[str, ...]
    used: bool
    reason: str

    def __str__(self) -> str:
        addresses = ", ".join(self.addresses) or "no IPv4 address"
        return f"{self.name} ({addresses}): {'used' if self.used else 'not used'}, {self.reason}"


def usable_addresses(wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """
    Return the IPv4 addresses to bind and announce: those of `wanted` (names or addresses), else the LAN's.

    Raises:
        InvalidConfiguration: this host has no such interface or address, or no usable address.
        TransportError: the operating system does not list the interfaces.

    """
    reports = explain(wanted)
    # Interfaces may share an address, as a bridge and the card below it do.
    addresses = dict.fromkeys(address for entry in reports if entry.used for address in entry.addresses)
    if not addresses:
        found = "; ".join(map(str, reports)) or "no interface at all"
        raise InvalidConfiguration(
            f"this host has no address for the bus to use: {found}. Name one: LIGHTBUS_INTERFACES"
        )
    return tuple(addresses)[:MAX_ADDRESSES]  # no announcement may carry more


def explain(wanted: Sequence[str] = ()) -> list[InterfaceReport]:
    """Return a report on each interface of this host. Raises what `usable_addresses` does."""
    return report(list_interfaces(), wanted)


def follow_addresses(before: Sequence[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """
    Return the addresses to use, given those used `before`: these stay while the host has them.

    An address whose cable is unplugged stays, too: the cable may be plugged in again. If no address is left, the result
    is `before`.
    """
    interfaces = list_interfaces()
    has = {_plain(address) for entry in interfaces for address in entry.addresses}
    there = [name for name in wanted if name in has or any(name == entry.name for entry in interfaces)]
    kept = [address for address in before if address in has]
    reports = report(interfaces, there) if there or not wanted else []
    new = [each for entry in reports if entry.used for each in entry.addresses if each not in before]
    return tuple(dict.fromkeys(kept + new))[:MAX_ADDRESSES] or tuple(before)


def networks_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return addresses of this host with their prefix length, `"192.0.2.7/24"`, as `dial_order` needs them."""
    used = set(addresses)
    return tuple(address for entry in list_interfaces() for address in entry.addresses if _plain(address) in used)


def report(interfaces: Iterable[Interface], wanted: Sequence[str] = ()) -> list[InterfaceReport]:
    """Report on each interface whether it is used; with `wanted` (names or addresses), only those are."""
    interfaces = list(interfaces)
    _check_wanted(interfaces, wanted)
    return [_judge_wanted(entry, set(wanted)) if wanted else _judge(entry) for entry in interfaces]


def same_subnet(address: str, network: str) -> bool:
    """Return whether `address` is in the network of `network`, `"192.0.2.7/24"`."""
    return ipaddress.ip_address(address) in ipaddress.ip_interface(network).network


def dial_order(addresses: Iterable[str], own: Sequence[str]) -> tuple[str, ...]:
    """Return a peer's addresses with those in one of our `own` networks first, in its own order otherwise."""
    return tuple(sorted(addresses, key=lambda address: not any(same_subnet(address, network) for network in own)))


def list_interfaces() -> list[Interface]:
    """Return the interfaces of the operating system, including those without an IPv4 address. Raises TransportError."""
    import ifaddr  # needs ctypes; imported in TCP modes only

    try:
        adapters = ifaddr.get_adapters(include_unconfigured=True)
    except OSError as error:
        raise TransportError(
            f"The interfaces of this host cannot be listed: {error}. Is the limit of open files (ulimit -n) too low? "
            "On Linux a process asks by AF_NETLINK, which RestrictAddressFamilies= of systemd has to allow."
        ) from error
    found = []
    for adapter in adapters:
        name = str(adapter.name)
        addresses = tuple(f"{ip.ip}/{ip.network_prefix}" for ip in adapter.ips if ip.is_IPv4)
        # The state is only read with an address: a container host has hundreds of interfaces, and this is called often.
        found.append(Interface(name=name, addresses=addresses, up=not addresses or _is_up(name, _SYSFS)))
    return found


def _is_up(name: str, sysfs: Path) -> bool:
    directory = sysfs / name.partition(":")[0]  # eth0:1 is an alias on eth0
    try:
        flags = int((directory / "flags").read_text(), 16)
        state = (directory / "operstate").read_text().strip()
    except (OSError, ValueError):
        return True  # macOS has no such files, and gives an interface that is down no IPv4 address
    return bool(flags & _IFF_UP) and state not in _DOWN


def _check_wanted(interfaces: Sequence[Interface], wanted: Sequence[str]) -> None:
    has = {entry.name for entry in interfaces} | {_plain(a) for entry in interfaces for a in entry.addresses}
    for name in wanted:
        if name not in has:
            listed = ", ".join(f"{entry.name} ({_plain(a)})" for entry in interfaces for a in entry.addresses)
            raise InvalidConfiguration(
                f"this host has no interface or address '{name}' (LIGHTBUS_INTERFACES); it has {listed or 'none'}"
            )


def _judge_wanted(entry: Interface, wanted: set[str]) -> InterfaceReport:
    addresses = tuple(map(_plain, entry.addresses))
    if entry.name not in wanted:
        named = tuple(address for address in addresses if address in wanted)
        if not named:
            return InterfaceReport(name=entry.name, addresses=addresses, used=False, reason="others are named")
        addresses = named
    if not addresses:
        return InterfaceReport(name=entry.name, addresses=(), used=False, reason="named, but it has no IPv4 address")
    return InterfaceReport(name=entry.name, addresses=addresses, used=True, reason="named")


def _judge(entry: Interface) -> InterfaceReport:
    addresses = tuple(map(_plain, entry.addresses))
    reason = _reason_to_skip(entry)
    return InterfaceReport(name=entry.name, addresses=addresses, used=not reason, reason=reason or "up, on a LAN")


def _reason_to_skip(entry: Interface) -> str:
    if not entry.addresses:
        return "it has no IPv4 address"
    if any(ipaddress.ip_address(_plain(address)).is_loopback for address in entry.addresses):
        return "loopback: no other host is behind it"
    if not entry.up:
        return "it is down"
    for pattern, reason in SKIPPED.items():
        if fnmatch.fnmatchcase(entry.name, pattern):
            return reason
    return ""


def _plain(address: str) -> str:
    return address.partition("/")[0]
