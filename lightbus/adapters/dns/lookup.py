"""Looking up the names of fixed peers: host names with any number of addresses, and SRV records (RFC 2782).

Each lookup has a thread of its own, because the resolver of the C library cannot be interrupted: if a name server
hangs, that thread hangs, and nobody waits for it. libzmq is only given addresses: it would look up names in the
thread that serves all connections of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...config.fields import SRV_SCHEME
from ...typing import Endpoint

__all__ = [
    "MAX_LOOKUPS",
    "DnsAnswer",
    "answer_of",
    "is_name",
    "lookup_remedy",
    "of_this_host",
    "record_of",
    "resolve",
]

MAX_LOOKUPS = 32
"""Most lookups of a process at a time, and so most threads that may hang."""

SRV_LIMIT = 10.0
"""Seconds for an SRV record; after them no further host of the record is looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """The result of a lookup: the endpoints, or the problem."""

    endpoints: tuple[Endpoint, ...] = ()
    problem: str = ""


_threads: list[threading.Thread] = []
"""The lookup threads. Any thread may append to it; in a forked child none of them is alive."""


def is_name(endpoint: Endpoint) -> bool:
    """Return whether the endpoint of a fixed peer must be looked up. The part before a `;` is an address of ours."""
    if endpoint.startswith(SRV_SCHEME):
        return True
    if not endpoint.startswith("tcp://") or ";" in endpoint:
        return False
    try:
        ipaddress.ip_address(_host_and_port(endpoint)[0].strip("[]"))
    except ValueError:
        return True
    return False


def of_this_host(endpoint: Endpoint, addresses: Sequence[str]) -> list[Endpoint]:
    """
    Return the endpoints that one on loopback stands for: the same port at our own addresses, where workers listen.

    The name of a host may lead to loopback on the host itself, as with `127.0.1.1` in the /etc/hosts of Debian. Our own
    addresses on loopback are left out: on a bus that stays there, another one is another peer.
    """
    if not endpoint.startswith("tcp://127."):
        return []
    port = _host_and_port(endpoint)[1]
    return [f"tcp://{each}:{port}" for each in addresses if ":" not in each and not each.startswith("127.")]


def record_of(endpoint: Endpoint) -> str:
    """Return the name of a fixed peer's SRV record: its name with `_lightbus._tcp.`, unless it begins with `_`."""
    name = endpoint.removeprefix(SRV_SCHEME)
    return name if name.startswith("_") else f"_lightbus._tcp.{name}"


def lookup_remedy(endpoint: Endpoint) -> str:
    """Return what to check if a name cannot be looked up."""
    if endpoint.startswith(SRV_SCHEME):
        question = f"dig SRV {record_of(endpoint)}"
    else:
        question = f"getent ahostsv4 {_host_and_port(endpoint)[0]}"
    return f"See what this host's name server says (`{question}`, /etc/resolv.conf), or name addresses."


def resolve(endpoint: Endpoint, on_done: Callable[[DnsAnswer], None]) -> bool:
    """
    Start to look up a name; `on_done` is called once, on the running loop, unless the loop is closed by then.

    Return False if `MAX_LOOKUPS` lookups are running already.
    """
    loop = asyncio.get_running_loop()
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    if len(_threads) >= MAX_LOOKUPS:
        return False

    def run() -> None:
        answer = answer_of(endpoint)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(on_done, answer)

    # A daemon thread: a process that ends does not wait for a name server.
    thread = threading.Thread(target=run, name="lightbus-lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system allows no further thread
        refused = DnsAnswer(problem=f"{error} (ulimit -u; TasksMax= of systemd; pids.max of a container)")
        loop.call_soon(on_done, refused)
    else:
        _threads.append(thread)
    return True


def answer_of(endpoint: Endpoint) -> DnsAnswer:
    """Look up a name, and wait for the result."""
    try:
        found = _by_record(record_of(endpoint)) if endpoint.startswith(SRV_SCHEME) else _by_host(endpoint)
    except Exception as error:  # whatever it is: without an answer the name would never be looked up again
        return DnsAnswer(problem=str(error) or type(error).__name__)
    return DnsAnswer(endpoints=found)


def _by_host(endpoint: Endpoint) -> tuple[Endpoint, ...]:
    host, port = _host_and_port(endpoint)
    return tuple(dict.fromkeys(_addresses(host, int(port))))


def _by_record(name: str) -> tuple[Endpoint, ...]:
    try:
        import dns.exception
        import dns.resolver
    except ImportError:
        raise LookupError("SRV records need the package dnspython: pip install 'lightbus[srv]'") from None
    until = time.monotonic() + SRV_LIMIT
    try:
        answer = dns.resolver.resolve(name, "SRV", lifetime=SRV_LIMIT, search=True)
    except dns.exception.DNSException as error:
        raise LookupError(str(error).rstrip(".")) from error
    found: dict[Endpoint, None] = {}
    problem: Exception = LookupError(f"{name} has no host that offers it")
    for record in sorted(answer, key=lambda each: int(each.priority)):
        host: str = record.target.to_text(omit_final_dot=True)  # "." means no host (RFC 2782)
        try:
            if host != "." and time.monotonic() < until:
                found.update(dict.fromkeys(_addresses(host, record.port)))
        except (OSError, UnicodeError) as error:
            problem = LookupError(f"{host}: {error}")
    if not found:
        raise problem
    return tuple(found)


def _addresses(host: str, port: int) -> Iterator[Endpoint]:
    for *_, address in socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM):
        yield f"tcp://{':'.join(map(str, address[:2]))}"


def _host_and_port(endpoint: Endpoint) -> tuple[str, str]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, port
