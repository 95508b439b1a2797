"""Tests of lightbus.dashboard.options: trusted users, and the token."""

from __future__ import annotations

import pytest

from lightbus.dashboard.options import DashboardOptions


@pytest.mark.parametrize(
    ("address", "names", "is_local", "trusts"),
    [
        ("127.0.0.1", (), True, True),
        ("localhost", (), True, True),
        ("::1", (), True, True),
        ("127.0.0.1", ("bus.example",), True, False),
        ("0.0.0.0", (), False, False),
        ("192.0.2.1", (), False, False),
    ],
)
def test_own_user_is_trusted_on_this_host_only(
    address: str, names: tuple[str, ...], is_local: bool, trusts: bool
) -> None:
    """If others can connect, or there may be a proxy, everyone needs the token."""
    options = DashboardOptions(address=address, names=names)
    assert (options.is_local, options.trusts_own_user) == (is_local, trusts)


def test_each_start_has_a_new_token() -> None:
    """It is long, and not in the logged options."""
    first, second = DashboardOptions(), DashboardOptions()
    assert first.token != second.token
    assert len(first.token) >= 32
    assert first.token not in repr(first)


def test_ipv6_address_is_written_in_brackets() -> None:
    """An IPv6 address in a URL has brackets."""
    assert DashboardOptions().url(8420) == "http://127.0.0.1:8420/"
    assert DashboardOptions(address="::1").url(1) == "http://[::1]:1/"
