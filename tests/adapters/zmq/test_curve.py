"""Mode bus_key: the derived keys, and how sockets are prepared with them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.curve import KeySecurity
from lightbus.adapters.zmq.security import HostSecurity, InsecureSecurity, Security
from lightbus.config.keys import BusKey
from lightbus.exceptions import InvalidConfiguration, PeerRefused, UnsupportedUse

HOST = HostSecurity(places=Places.only(Path("/run/user/1000/lightbus/demo")))
INSECURE = InsecureSecurity(bus="demo", addresses=("192.0.2.7",))
KEY = BusKey(bus="0123456789abcdef", secret=bytes(range(32)))
SERVER_PUBLIC = b"a)-KFJT>.Qx2M2N4wdz7mG0[W<Q]gn.s9F0y!zM4"
CLIENT_PUBLIC = b"+}7iOd=9PX00Zl:vLJU171]IHcMG*3o/2{!kdiVQ"
NEXT = BusKey(bus=KEY.bus, secret=bytes(range(1, 33)))


def keyed(*keys: BusKey) -> KeySecurity:
    """Return the mode with these keys."""
    return KeySecurity(keys=keys or [KEY], addresses=["192.0.2.7"])


class Options:
    """Replaces a socket: libzmq does not return its keys."""

    def __init__(self) -> None:
        self.options: dict[int, Any] = {}

    def set(self, option: int, value: Any) -> None:
        self.options[option] = value


def test_key_derivation_is_stable() -> None:
    """Every version derives the same pairs from a key, or its holders could not communicate."""
    pairs = keyed()._pairs[KEY.fingerprint]
    assert [pairs.server_public, pairs.client_public] == [SERVER_PUBLIC, CLIENT_PUBLIC]
    assert zmq.curve_public(pairs.server_secret) == pairs.server_public
    assert zmq.curve_public(pairs.client_secret) == pairs.client_public


def test_derived_pairs_differ() -> None:
    """The two sides of a key, and any two keys, have different pairs."""
    pairs = keyed(KEY, NEXT)._pairs
    secrets = {secret for each in pairs.values() for secret in (each.server_secret, each.client_secret)}
    assert len(secrets) == 4
    assert not secrets & {z85.encode(KEY.secret), z85.encode(NEXT.secret)}


def test_a_keyed_socket_asks_the_gate() -> None:
    """A bound socket uses the first key and the gate's domain; without a gate no peer is admitted."""
    mode = keyed(NEXT, KEY)
    server = Options()
    mode.prepare_server(server)
    assert server.options == {
        zmq.CURVE_SERVER: 1,
        zmq.CURVE_SECRETKEY: mode._pairs[NEXT.fingerprint].server_secret,
        zmq.ZAP_DOMAIN: b"lightbus",
        zmq.ZAP_ENFORCE_DOMAIN: 1,
    }


@pytest.mark.parametrize(("peer", "key"), [("", NEXT), (NEXT.fingerprint, NEXT), (KEY.fingerprint, KEY)])
def test_a_keyed_socket_speaks_the_peers_key(peer: str, key: BusKey) -> None:
    """Of our keys, it uses the peer's; if that is unknown, our first."""
    mode = keyed(NEXT, KEY)
    pairs = mode._pairs[key.fingerprint]
    client = Options()
    mode.prepare_client(client, peer)
    assert client.options == {
        zmq.CURVE_SERVERKEY: pairs.server_public,
        zmq.CURVE_PUBLICKEY: pairs.client_public,
        zmq.CURVE_SECRETKEY: pairs.client_secret,
    }


def test_peer_with_another_key_is_refused() -> None:
    """The refusal names both keys, by their fingerprints."""
    with pytest.raises(PeerRefused, match=f"it has the key 1234, and ours is {KEY.fingerprint}"):
        keyed().prepare_client(Options(), "1234")


def test_holders_of_all_keys_are_admitted() -> None:
    """By the public key of the client side."""
    mode = keyed(NEXT, KEY)
    assert mode.fingerprints == (NEXT.fingerprint, KEY.fingerprint)
    assert mode.admitted == {z85.decode(pairs.client_public): name for name, pairs in mode._pairs.items()}
    assert (HOST.admitted, INSECURE.admitted) == (None, None)


def test_mode_bus_key_says_who_gets_in() -> None:
    """The start-up line names the key and the addresses, and no secret."""
    assert (keyed().mode, keyed().level) == ("bus_key", logging.INFO)
    assert keyed(KEY, NEXT).describe() == (
        f"encrypted, and only for holders of the key {KEY.fingerprint} (or {NEXT.fingerprint}): at 192.0.2.7; to bring "
        "the key to another host: lightbus keys show"
    )
    pairs = keyed()._pairs[KEY.fingerprint]
    assert pairs.server_secret.decode() not in f"{keyed()!r} {pairs!r}"


@pytest.mark.parametrize("mode", [HOST, INSECURE, keyed()], ids=lambda mode: mode.mode)
def test_every_mode_explains_a_refusal(mode: Security) -> None:
    """As the end of a sentence, with what to do."""
    assert mode.refusal.startswith("it ")
    assert re.search("lightbus keys|LIGHTBUS_", mode.refusal)


def test_mode_bus_key_wants_an_address() -> None:
    """Without an address it cannot listen."""
    with pytest.raises(InvalidConfiguration, match="set LIGHTBUS_INTERFACES"):
        KeySecurity(keys=[KEY], addresses=[])


def test_a_libzmq_without_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If libzmq cannot encrypt, the bus does not start, and the message says which one to install."""
    monkeypatch.setattr(zmq, "has", lambda capability: False)
    with pytest.raises(UnsupportedUse, match="built without it; install pyzmq from its wheels"):
        keyed()
