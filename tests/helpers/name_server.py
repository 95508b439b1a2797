"""
A small name server (DNS over UDP) on loopback. A test changes its records at any time, and can make it hang.

`asked_here` has whatever looks up names in the test's own process ask it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

__all__ = ["NameServer"]


class NameServer:
    """
    What it says, and what it was asked.

    Attributes:
        hosts: the addresses of each name.
        services: for each name of an SRV record the hosts and ports.
        asked: the names that were asked for, in order.
        answers: while it is not set, nothing is answered: it hangs.

    """

    def __init__(self) -> None:
        self.hosts: dict[str, Sequence[str]] = {}
        self.services: dict[str, Sequence[tuple[str, int]]] = {}
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Answer whoever asks, until there comes an empty datagram."""
        with self._socket:
            while True:
                datagram, client = self._socket.recvfrom(4096)
                if not datagram:
                    return
                query = dns.message.from_wire(datagram)
                self.asked.append(query.question[0].name.to_text(omit_final_dot=True))
                if self.answers.is_set():
                    self._socket.sendto(self._answer(query), client)

    @contextmanager
    def asked_here(self) -> Iterator[None]:
        """Run in a thread, and make everything in this process that looks up names ask this server."""
        thread = threading.Thread(target=self.serve, name="name-server")
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self.port
        resolver.timeout = 0.2  # until it asks again
        before = dns.resolver.default_resolver
        dns.resolver.default_resolver = resolver
        dns.resolver.override_system_resolver(resolver)
        try:
            yield
        finally:
            self.hosts.clear()
            self.answers.set()  # whoever waits for it still is let go
            for lookup in threading.enumerate():
                if lookup.name == "lightbus-lookup":
                    lookup.join()
            dns.resolver.restore_system_resolver()
            dns.resolver.default_resolver = before
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", self.port))
            thread.join()

    def _answer(self, query: dns.message.Message) -> bytes:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        found = {
            "A": list(self.hosts.get(name, ())),
            "SRV": [f"0 0 {port} {host}." for host, port in self.services.get(name, ())],
        }
        records = found.get(question.rdtype.name, [])
        if records:
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", question.rdtype.name, *records))
        elif name not in self.hosts and name not in self.services:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()
