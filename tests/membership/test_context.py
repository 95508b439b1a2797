"""The identity of a process on the bus."""

from __future__ import annotations

import os
import re
import socket

from lightbus.membership.context import Identity


def test_an_identity_is_new_each_time() -> None:
    """Two processes with one name, or one before and after a restart, are distinguished."""
    one, other = (Identity(bus="b", service="auth", process="p") for _ in range(2))
    assert one.instance != other.instance
    assert re.fullmatch("[0-9a-f]{16}", one.instance)
    assert (one.host, one.pid) == (socket.gethostname(), os.getpid())


def test_an_identity_in_a_log_line() -> None:
    """It is the service, the process and the beginning of the instance id."""
    identity = Identity(bus="b", service="auth", process="calm-otter", instance="4f2a001122334455", host="web-1")
    assert str(identity) == "auth calm-otter (4f2a… on web-1)"
