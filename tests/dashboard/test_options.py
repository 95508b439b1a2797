"""Tests of lightbus.dashboard.options: who is trusted, and the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus import InvalidConfiguration
from lightbus.dashboard.options import DashboardOptions, read_token


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
    """Where others can connect, or a proxy may stand between, everybody gives the token."""
    options = DashboardOptions(address=address, names=names)
    assert (options.is_local, options.trusts_own_user) == (is_local, trusts)


def test_each_start_has_a_token_of_its_own() -> None:
    """It is long, and not in what is logged of the options."""
    first, second = DashboardOptions(), DashboardOptions()
    assert first.token != second.token
    assert len(first.token) >= 32
    assert first.token not in repr(first)


def test_url() -> None:
    """An address of the sixth version stands in brackets."""
    assert DashboardOptions().url(8420) == "http://127.0.0.1:8420/"
    assert DashboardOptions(address="::1").url(1) == "http://[::1]:1/"


def test_token_is_read_from_a_file(tmp_path: Path) -> None:
    """The file holds it alone, and is its owner's."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o600)
    assert read_token(file) == "0123456789abcdef"


@pytest.mark.parametrize("content", ["", "short", "with a space in it, long", "ünicode-token-of-length"])
def test_no_token(tmp_path: Path, content: str) -> None:
    """What could be guessed, or no header can hold, is refused with how to make one."""
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(InvalidConfiguration, match=r"secrets\.token_urlsafe"):
        read_token(file)


def test_token_file_of_others(tmp_path: Path) -> None:
    """A file that others may read, or that is not there, is refused."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef")
    file.chmod(0o644)
    with pytest.raises(InvalidConfiguration, match="chmod 600"):
        read_token(file)
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read_token(tmp_path / "none")
