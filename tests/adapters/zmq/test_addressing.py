"""Endpoints of peers and of this process: files in mode host, ports and addresses in the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from helpers import wait_until_async
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq import addressing as module
from lightbus.adapters.zmq.addressing import HostAddressing, TcpAddressing, TcpSockets
from lightbus.adapters.zmq.bound_sockets import PublishingSocket, Router
from lightbus.adapters.zmq.security import InsecureSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.exceptions import TransportError
from lightbus.ports.transport import MOST_ENDPOINTS
from lightbus.wire.announcement import Announcement

INSTANCE = "0123456789abcdef"
HERE = ("127.0.0.1",)

ON_HOST = Announcement(bus="b", instance=INSTANCE, service="shop", process="p", host="h")
TCP = replace(ON_HOST, addresses=("192.0.2.7", "2001:db8::7"), rpc_port=5000, event_port=5001)


class Sockets:
    """A router and a publisher, with records of their binds."""

    def __init__(self) -> None:
        self.transport = ZmqTransport(InsecureSecurity(bus="b", addresses=HERE))
        self.router: Router = self.transport.router(lambda routing_id, frame: None)
        self.publisher: PublishingSocket = self.transport.publisher(lambda prefix, subscribed: None)

    def bound(self, addresses: tuple[str, ...] = HERE, rpc_port: int = 0, event_port: int = 0) -> TcpSockets:
        """Bind them."""
        addressing = TcpAddressing(addresses, rpc_port=rpc_port, event_port=event_port)
        return addressing.listen(INSTANCE, self.router, self.publisher)


def run(scenario: Callable[[Sockets], Awaitable[None]]) -> None:
    """Run a scenario with sockets, which are closed in the end."""

    async def main() -> None:
        sockets = Sockets()
        try:
            await scenario(sockets)
        finally:
            sockets.router.close()
            sockets.publisher.close()
            sockets.transport.close()

    asyncio.run(main())


def is_free(address: str, port: int) -> bool:
    """Return whether no process listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) != 0


# Endpoints of peers


@pytest.mark.parametrize(
    ("in_mode_host", "peer", "expected"),
    [(True, ON_HOST, True), (True, TCP, False), (False, ON_HOST, False), (False, TCP, True)],
)
def test_reachable_peers_per_mode(tmp_path: Path, in_mode_host: bool, peer: Announcement, expected: bool) -> None:
    """Files in mode host, ports in the others: never both."""
    addressing = HostAddressing(Places.only(tmp_path)) if in_mode_host else TcpAddressing(HERE)
    assert addressing.can_reach(peer) is expected


def test_tcp_endpoints_put_own_networks_first() -> None:
    """Each address is a separate endpoint, IPv6 in brackets, and those of our own networks come first."""
    addressing = TcpAddressing(HERE)
    assert addressing.endpoints(TCP, 0) == ("tcp://192.0.2.7:5000", "tcp://[2001:db8::7]:5000")
    near = replace(TCP, addresses=("192.0.2.7", "127.0.0.5"))
    assert addressing.endpoints(near, 0) == ("tcp://127.0.0.5:5000", "tcp://192.0.2.7:5000")


def test_many_addresses_take_turns() -> None:
    """A limited number is tried at a time; after each failure the next ones."""
    many = replace(TCP, addresses=tuple(f"192.0.2.{number}" for number in range(1, 7)))
    tried = [TcpAddressing(HERE).endpoints(many, failures) for failures in range(3)]
    assert [len(each) for each in tried] == [MOST_ENDPOINTS] * 3
    assert {endpoint for each in tried[:2] for endpoint in each} == {f"tcp://192.0.2.{n}:5000" for n in range(1, 7)}
    assert tried[0] != tried[1]


def test_events_are_at_the_address_that_answered() -> None:
    """Whatever other addresses the peer announces."""
    addressing = TcpAddressing(HERE)
    for endpoint, event in [
        ("tcp://192.0.2.9:5000", "tcp://192.0.2.9:5001"),
        ("tcp://[2001:db8::9]:5000", "tcp://[2001:db8::9]:5001"),
    ]:
        assert addressing.answered(TCP, endpoint) == (endpoint, event)


def test_file_endpoints_start_with_one(tmp_path: Path) -> None:
    """One of its files is enough at first; events are beside it, and without a file there is no endpoint."""
    places = Places.only(tmp_path)
    addressing = HostAddressing(places)
    assert addressing.endpoints(ON_HOST, 0) == ()
    assert addressing.is_gone(ON_HOST)
    (tmp_path / f"{INSTANCE}.rpc").touch()
    (endpoint,) = addressing.endpoints(ON_HOST, 0)
    assert endpoint == f"ipc://{tmp_path}/{INSTANCE}.rpc"
    assert addressing.answered(ON_HOST, endpoint) == (endpoint, f"ipc://{tmp_path}/{INSTANCE}.pub")


def test_removed_file_is_replaced_by_another(tmp_path: Path) -> None:
    """A connection outlives its file: further ones use an existing file."""
    (tmp_path / f"{INSTANCE}.rpc").touch()
    endpoint, event = HostAddressing(Places.only(tmp_path)).answered(ON_HOST, f"ipc:///gone/{INSTANCE}.rpc")
    assert (endpoint, event) == (f"ipc://{tmp_path}/{INSTANCE}.rpc", f"ipc://{tmp_path}/{INSTANCE}.pub")


@pytest.mark.parametrize("in_mode_host", [True, False])
def test_fixed_peer_without_scheme_is_tcp_in_all_modes(tmp_path: Path, in_mode_host: bool) -> None:
    """`host:port` means TCP in all modes; an endpoint with a scheme is used unchanged."""
    addressing = HostAddressing(Places.only(tmp_path)) if in_mode_host else TcpAddressing(HERE)
    assert addressing.fixed_peer("auth.example:5570") == "tcp://auth.example:5570"
    assert addressing.fixed_peer("[fe80::1%eth0]:1") == "tcp://[fe80::1%eth0]:1"
    for written in ("tcp://10.0.0.7:5570", "ipc:///run/auth", "srv+lightbus://auth.example"):
        assert addressing.fixed_peer(written) == written


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", True), ("192.0.2.7", False)])
def test_refusal_is_certain_on_this_host_only(address: str, expected: bool) -> None:
    """At our own addresses a refusal proves that no process listens; elsewhere a cable may be unplugged."""
    assert TcpAddressing(HERE).is_certain(f"tcp://{address}:5000") is expected


# Our own sockets


def test_free_ports_are_chosen() -> None:
    """Ports that are not fixed are any free ones, and are returned."""

    async def scenario(sockets: Sockets) -> None:
        endpoints = sockets.bound().endpoints
        assert endpoints.addresses == HERE
        assert endpoints.rpc == f"tcp://127.0.0.1:{endpoints.rpc_port}"
        assert endpoints.event == f"tcp://127.0.0.1:{endpoints.event_port}"
        for port in (endpoints.rpc_port, endpoints.event_port):
            socket.create_connection(("127.0.0.1", port)).close()

    run(scenario)


def test_fixed_port_is_used_or_named_in_the_error() -> None:
    """If the fixed port is taken, the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        async def scenario(sockets: Sockets) -> None:
            with pytest.raises(TransportError, match=f"Cannot listen at tcp://127.0.0.1:{port}"):
                sockets.bound(rpc_port=port)

        run(scenario)


def test_worker_listens_at_new_addresses_of_its_host(caplog: pytest.LogCaptureFixture) -> None:
    """At the same ports, as far as possible."""

    async def scenario(sockets: Sockets) -> None:
        pair = sockets.bound()
        ports = pair.endpoints.rpc_port, pair.endpoints.event_port

        def taken() -> set[str]:
            return {f"127.0.0.{n}" for n in (1, 2, 3) for port in ports if not is_free(f"127.0.0.{n}", port)}

        pair.move(("127.0.0.1", "127.0.0.2"))
        assert pair.endpoints.addresses == ("127.0.0.1", "127.0.0.2")
        assert taken() == {"127.0.0.1", "127.0.0.2"}
        pair.move(("127.0.0.2",))
        assert (pair.endpoints.addresses, pair.endpoints.rpc) == (("127.0.0.2",), f"tcp://127.0.0.2:{ports[0]}")
        assert taken() == {"127.0.0.1", "127.0.0.2"}
        with socket.create_server(("127.0.0.3", ports[1])):
            pair.move(("127.0.0.2", "127.0.0.3"))
            assert pair.endpoints.addresses == ("127.0.0.2",)
            await wait_until_async(lambda: is_free("127.0.0.3", ports[0]))
        assert (
            "not reachable at the new address 127.0.0.3, but still at its other ones: Cannot listen at" in caplog.text
        )

    run(scenario)


def test_one_port_at_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is free at some addresses only is released, and another one tried, a bounded number of times."""
    monkeypatch.setattr(module, "PORT_ATTEMPTS", 3)

    async def scenario(sockets: Sockets) -> None:
        taken: list[str] = []
        bind = sockets.router.bind

        def watched(endpoint: str) -> str:
            taken.append(endpoint)
            return bind(endpoint)

        monkeypatch.setattr(sockets.router, "bind", watched)
        # The same address twice: binding the second one always fails.
        with pytest.raises(TransportError, match=r"No port is free at any of 127\.0\.0\.1, 127\.0\.0\.1\. The last"):
            sockets.bound(("127.0.0.1", "127.0.0.1"))
        assert len(taken) == 2 * 3
        # libzmq gives them back in its own time.
        await wait_until_async(lambda: all(is_free("127.0.0.1", int(each.rpartition(":")[2])) for each in taken))

    run(scenario)


def test_ports_do_not_depend_on_the_process_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers with the host's network are all process 1: more of them than attempts find ports."""
    monkeypatch.setattr(module.os, "getpid", lambda: 1)
    tried: list[int] = []

    class Taken:
        """All ports that were tried before are in use."""

        def bind(self, endpoint: str) -> str:
            port = int(endpoint.rpartition(":")[2])
            if port in tried:
                raise TransportError("in use")
            return endpoint

        def unbind(self, endpoint: str) -> None:
            raise AssertionError

    for _ in range(2 * module.PORT_ATTEMPTS):
        tried.append(module._bind_all(cast("Any", Taken()), ("127.0.0.1", "127.0.0.2"), 0))
