"""Requests to a web server of a test."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Mapping

__all__ = ["ask", "free_port", "is_open"]


def ask(
    url: str, data: bytes | None = None, method: str | None = None, *, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Return the status and the body of an answer, for any status."""
    try:
        request = urllib.request.Request(url, data, dict(headers or {}), method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def free_port() -> int:
    """Return a TCP port of this host that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    """Return whether a process listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
