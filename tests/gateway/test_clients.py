"""Tests of lightbus.gateway.clients: the file of clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbus import InvalidConfiguration
from lightbus.gateway.access import Permission
from lightbus.gateway.clients import Client, Clients, read_clients


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    file = directory / "tokens"
    file.write_text(text, "utf-8")
    file.chmod(mode)
    return file


def test_clients_of_a_file(tmp_path: Path) -> None:
    """A line each, with spaces or tabs; some may do less than the gateway allows; comments are ignored."""
    file = written(
        tmp_path,
        "# who may ask\nshop\t0123456789abcdef\n\n viewer  fedcba9876543210 listen:shop.*\tcall:shop.price\n",
    )
    clients = read_clients(file)
    assert len(clients) == 2
    shop, viewer = clients.with_token("0123456789abcdef"), clients.with_token("fedcba9876543210")
    assert shop is not None
    assert viewer is not None
    assert (shop.name, viewer.name) == ("shop", "viewer")
    assert shop.may(Permission.FIRE, "shop", "ordered")
    assert viewer.may(Permission.CALL, "shop", "price")
    assert not viewer.may(Permission.FIRE, "shop", "ordered")
    assert "0123456789abcdef" not in repr(shop)


@pytest.mark.parametrize("token", ["", "0123456789abcde", "0123456789abcdef0", "shop", "\udcff", "None"])
def test_unknown_token_is_refused(token: str) -> None:
    """Any other token belongs to no client."""
    assert Clients([Client(name="shop", token="0123456789abcdef")]).with_token(token) is None
    assert Clients([]).with_token(token) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no client"),
        ("# nobody\n", "has no client"),
        ("shop\n", "Line 1 .*no token behind the name 'shop'"),
        ("shop short\n", "16 or more"),
        ("a 0123456789abcdef\nb 0123456789abcdef\n", "Line 2 .*of another line"),
        ("a 0123456789abcdef\na fedcba9876543210\n", "Line 2 .*of another line"),
        ("a 0123456789abcdef shop\n", "Line 1 .*allows nothing"),
    ],
)
def test_unclear_files_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    """The error names the line; it contains no token."""
    with pytest.raises(InvalidConfiguration, match=problem) as raised:
        read_clients(written(tmp_path, text))
    assert "0123456789abcdef" not in str(raised.value)


def test_file_readable_by_others_is_refused(tmp_path: Path) -> None:
    """Any user who can read it could use the tokens."""
    with pytest.raises(InvalidConfiguration, match="chmod 600"):
        read_clients(written(tmp_path, "shop 0123456789abcdef\n", mode=0o640))
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read_clients(tmp_path / "none")
