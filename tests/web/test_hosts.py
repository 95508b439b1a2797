"""Tests of lightbus.web.hosts: accepted host names, and local addresses."""

from __future__ import annotations

import os

import pytest

from lightbus.exceptions import InvalidConfiguration
from lightbus.web import hosts
from lightbus.web.hosts import HostNames, check_host_name, host_of, is_local, url_of


def test_host_is_compared_in_lower_case_without_port() -> None:
    """Names are compared in small letters, without the port."""
    given = ["Localhost:1", "[::1]:80", "a.b", "a:123456", "a/b", "", "a b", "a\r\nb"]
    assert [host_of(each) for each in given] == ["localhost", "[::1]", "a.b", None, None, None, None, None]


def test_own_given_and_numeric_hosts_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of this host, given names, and addresses, which cannot be rebound."""
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "Workshop")
    names = HostNames(["Bus.example"])
    assert all(map(names.has, ["localhost:1", "WORKSHOP", "bus.example:443", "192.0.2.7:80", "[::1]"]))
    assert not any(map(names.has, ["evil.example", "localhost.evil.example", "", "127.0.0.1@evil", "x:y"]))


@pytest.mark.parametrize("name", ["http://bus.example", "bus.example:80", "bus.example/x", "b us", "", "*.example"])
def test_invalid_host_name_is_refused(name: str) -> None:
    """The error says how to write it; a valid name or address is returned unchanged."""
    assert [check_host_name(each) for each in ("Bus.example", "192.0.2.7", "[::1]")] == [
        "Bus.example",
        "192.0.2.7",
        "[::1]",
    ]
    with pytest.raises(InvalidConfiguration, match=r"write it as bus\.example"):
        check_host_name(name)


def test_names_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new addresses take no memory, and are accepted; refused names are never remembered."""
    monkeypatch.setattr(hosts, "MAX_SEEN", 3)
    names = HostNames([])
    for _ in range(2):
        assert all(names.has(f"192.0.2.{number}") for number in range(10))
        assert not any(names.has(f"evil-{number}.example") for number in range(10))
    assert len(names._seen) == 3


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("x", False)],
)
def test_only_loopback_is_local(address: str, local: bool) -> None:
    """Loopback, and nothing that others reach."""
    assert is_local(address) is local


def test_url_has_brackets_for_ipv6_and_the_name_for_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 addresses are in brackets; for a wildcard address the URL has the name of this host."""
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "workshop")
    assert url_of("::1", 1) == "http://[::1]:1/"
    assert url_of("0.0.0.0", 80) == "http://workshop:80/"


@pytest.mark.parametrize("name", ["", "(none)", "b\u00fcro", os.fsdecode(b"b\xfcro")])
def test_url_of_a_host_whose_name_cannot_stand_in_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A host without a name, or with one in another alphabet, is named as it is from itself."""
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: name)
    assert url_of("0.0.0.0", 80) == "http://localhost:80/"
