"""The operating systems that the bus runs on."""

from __future__ import annotations

import pytest

from lightbus.adapters.host.platform import check_platform
from lightbus.exceptions import UnsupportedUse


def test_unsupported_platform_is_refused_with_where_to_run_instead() -> None:
    """Linux and macOS are supported; elsewhere the error says where to run it instead."""
    check_platform("linux")
    check_platform("darwin")
    with pytest.raises(UnsupportedUse, match="this is 'win32'; on Windows run it in WSL 2"):
        check_platform("win32")
