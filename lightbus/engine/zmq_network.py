"""Makes ZeroMQ's transport from the settings. Imported only where it is used: a bus in memory does not need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..adapters.host.places import Places
from ..adapters.zmq.addressing import TcpAddressing
from ..adapters.zmq.security import HostSecurity, InsecureSecurity, Security
from ..adapters.zmq.transport import ZmqTransport, versions
from ..config import Config
from ..config.settings import NetworkSettings
from ..ports.transport import Addressing, Transport

__all__ = ["host_transport", "tcp_addressing", "tcp_transport", "versions"]


def host_transport(network: NetworkSettings, places: Places) -> Transport:
    """Return the transport of mode host."""
    return _transport(network, HostSecurity(places=places))


def tcp_transport(
    config: Config, bus: str, addresses: tuple[str, ...], addressing: Callable[[], Addressing]
) -> Transport:
    """Return the transport of the other modes, at these addresses. Raises InvalidConfiguration."""
    security: Security
    if config.security.mode == "bus_key":
        from ..adapters.zmq.curve import KeySecurity

        security = KeySecurity(keys=config.security.keys, addresses=addresses)
    else:
        security = InsecureSecurity(bus=bus, addresses=addresses)
    return _transport(config.network, security, addressing)


def tcp_addressing(
    network: NetworkSettings, addresses: Sequence[str], follow: Callable[[Sequence[str]], tuple[str, ...]]
) -> Addressing:
    """Return the addressing of the modes that use addresses and ports."""
    return TcpAddressing(addresses, follow, rpc_port=network.rpc_port, event_port=network.event_port)


def _transport(
    network: NetworkSettings, security: Security, addressing: Callable[[], Addressing] | None = None
) -> Transport:
    return ZmqTransport(
        security,
        addressing,
        max_message_size=network.max_message_size,
        heartbeat_interval=network.heartbeat_interval,
        heartbeat_timeout=network.heartbeat_timeout,
    )
