"""The operating systems that the bus runs on."""

from __future__ import annotations

import sys

from ...exceptions import UnsupportedUse

__all__ = ["check_platform"]


def check_platform(platform: str = sys.platform) -> None:
    """Raise UnsupportedUse unless this is Linux or macOS: unix sockets, fork and flock are required."""
    if platform not in ("linux", "darwin"):
        raise UnsupportedUse(
            f"Lightbus runs on Linux and macOS, and this is '{platform}'; on Windows run it in WSL 2 or in a container"
        )
