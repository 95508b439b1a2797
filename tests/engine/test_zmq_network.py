"""Tests of lightbus.engine.zmq_network: each mode has its transport, whose own tests are in tests/adapters/zmq."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightbus.adapters.host.places import Places
from lightbus.config import load_config
from lightbus.config.keys import BusKey
from lightbus.engine.zmq_network import host_transport, tcp_addressing, tcp_transport

INSECURE = {"security": {"mode": "insecure"}, "bus": {"name": "b"}, "network": {"interfaces": ["127.0.0.1"]}}
HERE = ("127.0.0.1",)


def test_sockets_of_mode_host_are_files(tmp_path: Path) -> None:
    """In mode host, sockets are files."""
    transport = host_transport(load_config({}).network, Places.only(tmp_path))
    security: Any = transport.security
    assert security.mode == "host"
    transport.close()


@pytest.mark.parametrize("mode", ["insecure", "bus_key"])
def test_modes_of_the_network(mode: str) -> None:
    """Without a key and with one."""
    config = load_config({"security": {"bus_key": BusKey.generate().text}} if mode == "bus_key" else INSECURE)
    transport = tcp_transport(config, "b", HERE, lambda: tcp_addressing(config.network, HERE, tuple))
    security: Any = transport.security
    assert security.mode == mode
    transport.close()


def test_addresses_in_use_are_reported() -> None:
    """The present ones."""
    assert tcp_addressing(load_config(INSECURE).network, HERE, tuple).addresses == HERE
