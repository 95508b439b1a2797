"""The name of the host and the home of the user, including unusual and missing ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lightbus.config import surroundings
from lightbus.config.surroundings import (
    MAX_HOST_NAME,
    NO_HOME,
    expand_home,
    home_directory,
    host_name,
    make_private,
    shorten_name,
)
from lightbus.exceptions import InvalidConfiguration


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("web-1", "web-1"),
        ("Web-1.example.com", "Web-1.example.com"),
        ("büro", "büro"),
        ("my host/\n", "my-host"),
        (os.fsdecode(b"b\xfcro"), "b-ro"),
        ("..", None),
        ("", None),
        ("(none)", "none"),
    ],
)
def test_host_name_is_printable_and_never_empty(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: str | None
) -> None:
    """What can be printed stays; a host without a name is called so, the same each time."""
    monkeypatch.setattr(socket, "gethostname", lambda: given)
    name = host_name()
    assert name == host_name()
    assert name.isprintable()
    if expected is None:
        assert name.startswith("unnamed")
    else:
        assert name == expected


@pytest.mark.parametrize("given", ["h" * 64, "h" * 255, "ü" * 64])
def test_long_host_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """64 bytes are the most; two long names that begin alike stay apart."""
    monkeypatch.setattr(socket, "gethostname", lambda: given)
    name = host_name()
    assert len(name.encode()) <= MAX_HOST_NAME
    if len(given.encode()) > MAX_HOST_NAME:
        monkeypatch.setattr(socket, "gethostname", lambda: given + "x")
        assert host_name() != name


@pytest.mark.parametrize("limit", range(1, 20))
def test_shortened_name_fits(limit: int) -> None:
    """However little room there is."""
    assert 0 < len(shorten_name("a-long-name-of-ü-host", limit).encode()) <= limit


def test_home_is_home(tmp_path: Path) -> None:
    """HOME is used if it belongs to this user."""
    assert home_directory({"HOME": str(tmp_path)}) == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_home_of_another_user(tmp_path: Path) -> None:
    """What `sudo` leaves there is not written to: our own home is in the list of users."""
    os.chown(tmp_path, 12345, 12345)
    assert home_directory({"HOME": str(tmp_path)}) == Path("/root")


@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_unknown_user_has_no_home(monkeypatch: pytest.MonkeyPatch, home: dict[str, str]) -> None:
    """A user without an entry in the user database has no home unless HOME names one."""
    monkeypatch.setattr(surroundings, "_home_of_user", lambda: None)
    assert home_directory(home) == NO_HOME
    assert not NO_HOME.exists()


def test_no_home_is_made() -> None:
    """Not even for root: no other process would find files there, and no one requested it."""
    with pytest.raises(NotADirectoryError):
        make_private(NO_HOME / ".local" / "share")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("~", "/home/sally"), ("~/a/b", "/home/sally/a/b"), ("a/~", "a/~"), ("", "."), ("/~/a", "/~/a"), ("~root", None)],
)
def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, given: str, expected: str | None) -> None:
    """A `~` stands for the home that is used without one, too, and `~name` for that of another user."""
    monkeypatch.setattr(surroundings, "home_directory", lambda: Path("/home/sally"))
    assert expand_home(given) == Path(expected or os.path.expanduser(given))


@pytest.mark.parametrize(
    ("given", "problem"),
    [("~/a", "this user has no home directory. Write the whole path, or set HOME"), ("~no-one/a", "no user 'no-one'")],
)
def test_no_home_to_expand(monkeypatch: pytest.MonkeyPatch, given: str, problem: str) -> None:
    """A path with an unknown home is refused, and no file of that name is made."""
    monkeypatch.setattr(surroundings, "home_directory", lambda: NO_HOME)
    with pytest.raises(InvalidConfiguration, match=problem):
        expand_home(given)


def test_directories_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """All that are made are this user's alone; those that are there stay as they are; a file is no directory."""
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    before = os.umask(0)
    try:
        make_private(there / "a" / "b")
        make_private(there / "a" / "b")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (there, there / "a", there / "a" / "b")]
    assert modes == [0o755, 0o700, 0o700]
    (there / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_private(there / "file")
    with pytest.raises(OSError, match="file"):
        make_private(there / "file" / "a")
