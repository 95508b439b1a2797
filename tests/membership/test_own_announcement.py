"""The announcement of a process, before and after it is ready."""

from __future__ import annotations

from dataclasses import replace

from lightbus.membership.context import Identity
from lightbus.membership.own_announcement import OwnAnnouncement
from lightbus.wire.announcement import Announcement
from lightbus.wire.api_info import ApiInfo

OTHER = "a" * 16


def made() -> OwnAnnouncement:
    """Return the announcement of a process of the service shop."""
    return OwnAnnouncement(Identity(bus="b", service="shop", process="p"), max_message_size=1000)


def test_a_client_announces_nothing() -> None:
    """It introduces itself by name, and says which messages it accepts."""
    hello = made().hello(OTHER, "digest")
    assert (hello.bus, hello.target, hello.service, hello.process) == ("b", OTHER, "shop", "p")
    assert (hello.peers_digest, hello.announcement, hello.max_message_size) == ("digest", None, 1000)


def test_apis_are_announced_once_they_are_public() -> None:
    """A peer that finds a worker before it is ready sees no API; then all are announced, also in HELLO."""
    own = made()
    own.become(replace(own.current, rpc_port=4711, event_port=4712, addresses=("127.0.0.1",)))
    own.change_apis([ApiInfo(name="auth", procedures=("check",))])
    assert (own.advertised.apis, own.advertised.rpc_port) == ((), 4711)
    assert own.hello("", "").announcement is None
    own.publish()
    assert own.advertised.api_names == ("auth",)
    said = own.hello("", "").announcement
    assert said is not None
    assert Announcement.from_wire(said) == own.advertised


def test_a_worker_moves() -> None:
    """The rest of its announcement does not change."""
    own = made()
    own.become(replace(own.current, rpc_port=4711, event_port=4712, addresses=("127.0.0.1",)))
    own.move(addresses=("10.0.0.1",))
    assert (own.current.addresses, own.current.rpc_port, own.current.directory) == (("10.0.0.1",), 4711, "")
    own = made()
    own.move(directory="/run/bus")
    assert (own.current.addresses, own.current.directory, own.current.service) == ((), "/run/bus", "shop")
    assert not own.is_public
