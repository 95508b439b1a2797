"""Where the names of fixed peers lead: host names with any number of addresses, and SRV records (RFC 2782).

Each lookup has a thread of its own, for the resolver of the C library cannot be told to stop: where a name server
hangs, that thread does, and nobody waits for it. libzmq is given addresses only, as it would look names up in the
thread that serves all connections of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...config.fields import SRV_SCHEME
from ...typing import Endpoint

__all__ = ["MAX_LOOKUPS", "DnsAnswer", "answer_of", "is_name", "lookup_remedy", "record_of", "resolve"]

MAX_LOOKUPS = 32
"""Lookups of a process at a time: as many threads may hang."""

SRV_LIMIT = 10.0
"""Seconds that a name server has for an SRV record; no further host is looked up after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """What became of a lookup: where the name leads, or why it leads nowhere."""

    endpoints: tuple[Endpoint, ...] = ()
    problem: str = ""


_threads: list[threading.Thread] = []
"""Those that run. Appended to by any thread; in a forked child none of them is alive."""


def is_name(endpoint: Endpoint) -> bool:
    """Return whether it has to be looked up where a fixed peer is. Before a `;` stands an address of ours."""
    if endpoint.startswith(SRV_SCHEME):
        return True
    if not endpoint.startswith("tcp://") or ";" in endpoint:
        return False
    try:
        ipaddress.ip_address(_host_and_port(endpoint)[0].strip("[]"))
    except ValueError:
        return True
    return False


def record_of(endpoint: Endpoint) -> str:
    """Return the name of the SRV record that a fixed peer is: `_lightbus._tcp.` and its name, unless that has both."""
    name = endpoint.removeprefix(SRV_SCHEME)
    return name if name.startswith("_") else f"_lightbus._tcp.{name}"


def lookup_remedy(endpoint: Endpoint) -> str:
    """Return what to look at where a name leads nowhere."""
    if endpoint.startswith(SRV_SCHEME):
        question = f"dig SRV {record_of(endpoint)}"
    else:
        question = f"getent ahostsv4 {_host_and_port(endpoint)[0]}"
    return f"See what this host's name server says (`{question}`, /etc/resolv.conf), or name addresses."


def resolve(endpoint: Endpoint, on_done: Callable[[DnsAnswer], None]) -> bool:
    """
    Begin to look up where a name leads; `on_done` is called once, on the running loop, unless that is closed by then.

    Return False where so many lookups hang already that there is no room for one more.
    """
    loop = asyncio.get_running_loop()
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    if len(_threads) >= MAX_LOOKUPS:
        return False

    def run() -> None:
        answer = answer_of(endpoint)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(on_done, answer)

    # A daemon: a process that ends does not wait for a name server.
    thread = threading.Thread(target=run, name="lightbus-lookup", daemon=True)
    thread.start()
    _threads.append(thread)
    return True


def answer_of(endpoint: Endpoint) -> DnsAnswer:
    """Look up where a name leads, and wait for it."""
    try:
        found = _by_record(record_of(endpoint)) if endpoint.startswith(SRV_SCHEME) else _by_host(endpoint)
    except (OSError, UnicodeError, LookupError) as error:  # UnicodeError: no name server could know such a name
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
        host: str = record.target.to_text(omit_final_dot=True)  # "." where there is none (RFC 2782)
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
