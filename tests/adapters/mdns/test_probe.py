"""The probe whether multicast works, on loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest

from lightbus.adapters.mdns import probe
from lightbus.adapters.mdns.probe import multicast_problem, port_problem


def test_multicast_comes_back() -> None:
    """A packet sent on loopback is received there."""
    assert port_problem() is None
    assert asyncio.run(multicast_problem("127.0.0.1", 10.0)) is None


def test_probe_ends_in_time_without_its_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here only other packets are received."""
    monkeypatch.setattr(probe, "_question", lambda name: b"something else")
    assert (
        asyncio.run(multicast_problem("127.0.0.1", 0.05)) == "the packet that was sent did not come back within 0.05 s"
    )


def test_foreign_address_cannot_multicast() -> None:
    """An address that is not ours takes no part in multicast; the reason is the system's error."""
    problem = asyncio.run(multicast_problem("192.0.2.1", 1.0))
    assert problem is not None
    assert "No such device" in problem or "requested address" in problem


def test_unshared_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another program holds exclusively is a problem that both functions report."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        monkeypatch.setattr(probe, "MDNS_PORT", holder.getsockname()[1])
        assert "Address already in use" in str(port_problem())
        assert "Address already in use" in str(asyncio.run(multicast_problem("127.0.0.1", 1.0)))
