"""The gate in front of bound sockets: admitted and refused peers, and reports of them."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from helpers import wait_until
from lightbus.adapters.zmq import gate as module
from lightbus.adapters.zmq.curve import KeySecurity
from lightbus.adapters.zmq.gate import FIRST_PAUSE, REASONS, Gate, reason_of
from lightbus.config.keys import BusKey

OURS, OTHER = BusKey.generate(), BusKey.generate()


def security(*keys: BusKey) -> KeySecurity:
    """Return the mode with these keys."""
    return KeySecurity(keys=keys, addresses=["127.0.0.1"])


class Place:
    """A bound ROUTER with a gate in front of it."""

    def __init__(
        self, mode: KeySecurity | None, *, limit: int | None = None, endpoint: str = "tcp://127.0.0.1:*"
    ) -> None:
        self.now = 100.0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        admitted = None if mode is None else mode.admitted
        self.gate = Gate(self.context, admitted, limit=limit, clock=lambda: self.now)
        self.router = self.context.socket(zmq.ROUTER)
        if mode is not None:
            mode.prepare_server(self.router)
        self.unwatch = self.gate.watch(self.router)
        self.router.set(zmq.HANDSHAKE_IVL, 300)
        self.router.bind(endpoint)
        self.endpoint = self.router.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._stack = ExitStack()
        self._strangers = self._stack.enter_context(zmq.Context())

    def knock(self, mode: KeySecurity | None) -> zmq.Socket[bytes]:
        """Connect once, from another context, with the key of a mode or none."""
        dealer = self._stack.enter_context(self._strangers.socket(zmq.DEALER))
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.RECONNECT_IVL, -1)
        dealer.set(zmq.IMMEDIATE, 1)
        if mode is not None:
            mode.prepare_client(dealer, "")
        dealer.connect(self.endpoint)
        return dealer

    @property
    def port(self) -> int:
        """The port, where it is TCP."""
        return int(self.endpoint.rpartition(":")[2])

    def close(self) -> None:
        self._stack.close()
        if not self.router.closed:
            self.unwatch()
            self.router.close(linger=0)
        self.gate.stop()
        self.context.destroy(linger=0)


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a socket that holders of one key may connect to."""
    made = Place(security(OURS))
    yield made
    made.close()


def test_a_holder_is_admitted(place: Place) -> None:
    """A peer with the key is admitted, and its messages carry the key's fingerprint."""
    place.knock(security(OURS)).send(b"hello")
    assert place.router.poll(5000)
    message = place.router.recv_multipart(copy=False)
    assert message[1].get("User-Id") == OURS.fingerprint
    assert (place.gate.counts["admitted"], place.gate.refused) == (1, 0)


def test_all_held_keys_are_accepted() -> None:
    """While a key is replaced, peers with the old one are admitted, too."""
    new = BusKey.generate(OURS.bus)
    place = Place(security(new, OURS))
    dealer = place._strangers.socket(zmq.DEALER)
    try:
        dealer.linger = 0
        security(OURS, new).prepare_client(dealer, new.fingerprint)
        dealer.connect(f"tcp://127.0.0.1:{place.port}")
        dealer.send(b"hello")
        assert place.router.poll(5000)
    finally:
        dealer.close()
        place.close()


@pytest.mark.parametrize(
    ("mode", "reasons"),
    [(security(OTHER), {"other_key"}), (None, {"no_key", "broken_off"})],
    ids=["another key", "no key"],
)
def test_others_are_refused(
    place: Place, mode: KeySecurity | None, reasons: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Peers with another key or none are refused; they are counted, and a log line says from where and why."""
    dealer = place.knock(mode)
    wait_until(lambda: caplog.records)
    assert place.gate.refused == 1
    assert set(place.gate.refusals) <= reasons
    assert sum(place.gate.refusals.values()) == 1
    assert not dealer.poll(50, zmq.POLLOUT)
    assert not place.router.poll(50)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("lightbus.security", "WARNING")
    assert re.fullmatch(
        r"refused 1 connections so far, the last from (127.0.0.1|a peer that was gone at once): it .*",
        record.getMessage(),
    )


def test_foreign_client_key_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Knowing our public key would not be enough: the client's own key must be derived from the bus key."""
    dealer = place._strangers.socket(zmq.DEALER)
    dealer.linger = 0
    security(OURS).prepare_client(dealer, "")
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.set(zmq.RECONNECT_IVL, -1)
    dealer.connect(f"tcp://127.0.0.1:{place.port}")
    wait_until(lambda: place.gate.counts["other_key"] == 1)
    wait_until(lambda: caplog.records)
    assert place.gate.counts["admitted"] == 0
    dealer.close()


def test_silence_is_refused_in_time(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that sends nothing is closed when the time for the handshake is over."""
    with socket.create_connection(("127.0.0.1", place.port)) as connection:
        connection.settimeout(60)
        while connection.recv(100):
            continue
    wait_until(lambda: place.gate.counts["too_slow"] == 1)
    wait_until(lambda: "it did not complete the handshake" in caplog.text)


def test_refusals_do_not_fill_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The first refusal is logged, and then one after each growing pause, with the total."""
    for number in range(1, 6):
        place.knock(security(OTHER))
        wait_until(lambda: place.gate.refused == number)  # noqa: B023 - called at once
    wait_until(lambda: caplog.records)
    place.now += FIRST_PAUSE
    place.knock(security(OTHER))
    wait_until(lambda: len(caplog.records) == 2)
    assert caplog.records[1].getMessage().startswith("refused 6 connections so far")
    place.now += FIRST_PAUSE
    place.knock(security(OTHER))
    wait_until(lambda: place.gate.refused == 7)
    place.now += FIRST_PAUSE
    place.knock(security(OTHER))
    wait_until(lambda: len(caplog.records) == 3)


def test_connections_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit new connections are turned away; existing ones stay."""
    place = Place(security(OURS), limit=3)
    try:
        holders = [place.knock(security(OURS)) for _ in range(3)]
        for holder in holders:
            holder.send(b"hello")
            assert place.router.poll(5000)
            place.router.recv_multipart()
        with socket.create_connection(("127.0.0.1", place.port)) as late:
            late.settimeout(60)
            assert b"" in (late.recv(100), late.recv(100))
        wait_until(lambda: place.gate.counts["too_many"] == 1)
        wait_until(lambda: "this process has as many connections open as it can" in caplog.text)
        for holder in holders:
            holder.send(b"still there")
            assert place.router.poll(5000)
            place.router.recv_multipart()
        holders[0].close()
        wait_until(lambda: place.gate.connections == 2)
        place.knock(security(OURS)).send(b"hello")
        assert place.router.poll(5000)
    finally:
        place.close()


def test_crowding_is_reported(place: Place) -> None:
    """Before connections are refused, there is a sentence about it with the remedy."""
    assert place.gate.crowding is None
    place.gate._limit = 4
    holders = [place.knock(security(OURS)) for _ in range(4)]
    wait_until(lambda: place.gate.connections == len(holders))
    crowding = place.gate.crowding
    assert crowding is not None
    assert crowding.startswith("It has 4 connections and room for 0 more; beyond that they are refused.")
    assert "ulimit -n" in crowding


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
@pytest.mark.parametrize("mode", [None, security(OURS)], ids=["no key", "key"])
def test_flood_of_connections_is_bounded(scheme: str, mode: KeySecurity | None, tmp_path: Path) -> None:
    """However fast they come, no more are accepted than there is room for, and others once there is room again."""
    place = Place(mode, limit=20, endpoint=f"ipc://{tmp_path}/r" if scheme == "ipc" else "tcp://127.0.0.1:*")
    floods: list[socket.socket] = []
    try:
        floods.append(_connected(place.endpoint))
        wait_until(lambda: place.gate.connections == 1)  # the gate has counted the connection
        before = len(os.listdir("/proc/self/fd"))
        floods += [_connected(place.endpoint) for _ in range(200)]
        assert len(os.listdir("/proc/self/fd")) <= before + len(floods) + 20
        wait_until(lambda: place.gate.counts["too_many"] >= 20)
        for each in floods:
            each.close()
        wait_until(lambda: place.gate.connections == 0)
        place.knock(mode).send(b"hello")
        assert place.router.poll(5000)
    finally:
        for each in floods:
            each.close()
        place.close()


def _connected(endpoint: str) -> socket.socket:
    if endpoint.startswith("ipc://"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(endpoint.removeprefix("ipc://"))
        return connection
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)))


def test_socket_rebinds_to_another_endpoint(place: Place) -> None:
    """The unbound endpoint is no longer used, and the new one is watched like the old one."""
    place.gate._limit = 3
    for _ in range(20):
        place.gate.before_unbind(place.router, place.endpoint)
        place.router.unbind(place.endpoint)
        place.endpoint = f"tcp://127.0.0.1:{place.router.bind_to_random_port('tcp://127.0.0.1')}"
    place.knock(security(OURS)).send(b"hello")
    assert place.router.poll(5000)


@pytest.mark.parametrize(
    ("event", "value", "reason"),
    [
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, "other_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, "other_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, "no_key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MALFORMED_COMMAND_HELLO, "malformed"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EAGAIN, "too_slow"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EPIPE, "broken_off"),
    ],
)
def test_handshake_failures_are_distinguished(event: int, value: int, reason: str) -> None:
    """As far as libzmq reports them."""
    assert reason_of(event, value) == reason
    assert REASONS[reason]


def test_context_has_one_gate(place: Place) -> None:
    """A second one cannot be created."""
    with pytest.raises(zmq.ZMQError, match="Address already in use"):
        Gate(place.context, {})


def test_without_a_gate_no_peer_is_admitted() -> None:
    """Not even a holder of the key."""
    mode = security(OURS)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        router.linger = dealer.linger = 0
        mode.prepare_server(router)
        mode.prepare_client(dealer, "")
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"hello")
        assert not router.poll(300)


def test_unwatched_socket_leaves_no_trace(place: Place) -> None:
    """The gate continues for other sockets."""
    place.unwatch()
    place.router.close(linger=0)
    wait_until(lambda: not place.gate._monitors)
    mode = security(OURS)
    router = place.context.socket(zmq.ROUTER)
    mode.prepare_server(router)
    unwatch = place.gate.watch(router)
    place.endpoint = f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
    place.knock(mode).send(b"hello")
    assert router.poll(5000)
    place.knock(security(OTHER))
    wait_until(lambda: place.gate.refused == 1)
    unwatch()
    router.close(linger=0)


def test_stop_ends_the_thread(place: Place) -> None:
    """Also with watched sockets, and if called twice."""
    assert "lightbus-gate" in {thread.name for thread in threading.enumerate()}
    place.gate.stop()
    place.gate.stop()
    assert "lightbus-gate" not in {thread.name for thread in threading.enumerate()}


def test_terminated_context_ends_the_thread() -> None:
    """If the context is terminated first, the thread ends by itself."""
    place = Place(security(OURS))
    place.router.close(linger=0)
    place._stack.close()
    place.gate._ring.close(linger=0)
    place.context.term()
    wait_until(lambda: not place.gate._thread.is_alive())
    place.gate.stop()


def test_gate_survives_an_internal_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged, and the next peer is admitted or refused."""
    faults = iter([RuntimeError("a fault")])

    def reason(event: int, value: int) -> str:
        for fault in faults:
            raise fault
        return reason_of(event, value)

    monkeypatch.setattr(module, "reason_of", reason)
    caplog.set_level(logging.ERROR, "lightbus.security")
    place.knock(security(OTHER))
    wait_until(lambda: "a fault" in caplog.text)
    place.knock(security(OURS)).send(b"hello")
    assert place.router.poll(5000)
